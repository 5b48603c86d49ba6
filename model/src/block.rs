//! The IPAM records that the store keeps: blocks and handles. The `ipam` crate owns their rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// Version of the stored form.
pub const FORMAT: u32 = 1;

/// A block: a slice of a pool, the node it is affine to, and every address in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// [`FORMAT`].
    pub version: u32,
    /// The slice.
    pub cidr: Cidr,
    /// Node whose workloads it is for; `None` once released with addresses still borrowed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who has what, by place in the block.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<u32, Allocation>,
    /// Freed addresses that rest: place to the time of release, milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cooldown: BTreeMap<u32, u64>,
    /// When the block last became empty, milliseconds since the epoch; it goes back after a grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<u64>,
}

/// One address handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// The handle that holds it.
    pub handle: String,
    /// Node that uses it; differs from the block's when borrowed.
    pub node: String,
}

/// What a handle holds. Written in the same transaction as the blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handle {
    /// [`FORMAT`].
    pub version: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Node that uses them.
    pub node: String,
    /// Namespace of the workload; empty for a tunnel address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The blocks that the addresses lie in, in the order of the addresses.
    pub blocks: Vec<Cidr>,
}

/// What other nodes need to know of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// Node it is affine to.
    pub node: Option<std::sync::Arc<str>>,
    /// Addresses handed out.
    pub used: u32,
    /// Addresses used on another node than the block's.
    pub borrowed: Vec<(IpAddr, std::sync::Arc<str>)>,
}
