//! `IPPool`: a range that workload addresses come from.

use serde::{Deserialize, Serialize};

use crate::{Cidr, Family};

/// Where VXLAN carries traffic to addresses of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VxlanMode {
    /// Plain routes only.
    #[default]
    Never,
    /// Between all nodes.
    Always,
    /// Only between nodes that share no subnet.
    CrossSubnet,
}

/// What addresses of a pool may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AllowedUse {
    /// Interfaces of workloads.
    Workload,
    /// Tunnel devices of nodes.
    Tunnel,
}

/// Whether the pool is used without being asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AssignmentMode {
    /// Any request may be served from it.
    #[default]
    Automatic,
    /// Only requests that name it.
    Manual,
}

/// Specification of an `IPPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpPoolSpec {
    /// The range.
    pub cidr: Cidr,
    /// Prefix length of the blocks that nodes claim; 26 for IPv4 and 122 for IPv6 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Where VXLAN is used.
    #[serde(default)]
    pub vxlan_mode: VxlanMode,
    /// Masquerade traffic that leaves the pools.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nat_outgoing: bool,
    /// Hand out nothing from here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Nodes that may claim blocks; `all()` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Namespaces whose workloads may use the pool; `all()` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// `[Workload, Tunnel]` by default.
    #[serde(default = "all_uses")]
    pub allowed_uses: Vec<AllowedUse>,
    /// Used without being named.
    #[serde(default)]
    pub assignment_mode: AssignmentMode,
    /// Do not announce the pool's blocks by BGP.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        rename = "disableBGPExport"
    )]
    pub disable_bgp_export: bool,
}

fn all_uses() -> Vec<AllowedUse> {
    vec![AllowedUse::Workload, AllowedUse::Tunnel]
}

impl IpPoolSpec {
    /// A pool with every default.
    pub fn new(cidr: Cidr) -> IpPoolSpec {
        IpPoolSpec {
            cidr,
            block_size: None,
            vxlan_mode: VxlanMode::default(),
            nat_outgoing: false,
            disabled: false,
            node_selector: None,
            namespace_selector: None,
            allowed_uses: all_uses(),
            assignment_mode: AssignmentMode::default(),
            disable_bgp_export: false,
        }
    }

    /// Prefix length of blocks, default applied.
    pub fn block_len(&self) -> u8 {
        self.block_size.unwrap_or(match self.cidr.family() {
            Family::V4 => 26,
            Family::V6 => 122,
        })
    }
}
