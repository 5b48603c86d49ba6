//! Requests and answers of the daemon's socket: HTTP/1.1 with JSON bodies.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/doctor` | [`Doctor`] |
//! | `GET /v1/diff` | the plan that the next reconcile would apply, a JSON list of operations |
//! | `GET /v1/tunnels` | [`TunnelsShow`] |
//! | `POST /v1/tunnels/rotate` | [`Rotated`]: this node's key begins to change |
//! | `GET /v1/explain[?source=&destination=&protocol=&port=&sourcePort=&icmpType=&icmpCode=&all=]` | [`Explanation`] |
//! | `GET /v1/bgp/peers` | [`BgpPeersShow`] |
//! | `GET /v1/bgp/routes[?prefix=&peer=&advertised=&after=]` | [`BgpRoutesShow`], some thousand at a time; with `advertised=true`, what peers were told |
//! | `GET /v1/flows[?denied=&staged=&since=&follow=]` | [`Flow`] lines, by their start; `?follow=true`: as they begin and end, without end, and [`FlowsMissed`] lines |
//! | `GET /v1/policy[?endpoint=&namespace=]` | [`PolicyShow`] |
//! | `POST /v1/policy/impact` with a list of resources | [`PolicyImpact`] |
//! | `GET /v1/resources/{plural}[?namespace=&labelSelector=]` | `List` of resources; `?watch=true`: [`WatchEvent`] lines |
//! | `GET /v1/resources/{plural}/[{namespace}/]{name}` | the resource |
//! | `PUT /v1/resources/{plural}/[{namespace}/]{name}` | [`Applied`]; `?dryRun=true` changes nothing |
//! | `DELETE /v1/resources/{plural}/[{namespace}/]{name}` | [`Applied`] |
//! | `GET /v1/ipam[?blocks=true]` | [`IpamShow`] |
//! | `GET /v1/ipam/addresses/{ip}` | [`AddressShow`] |
//! | `GET /v1/ipam/check` | [`IpamCheck`] |
//! | `POST /v1/ipam/release` with [`Release`] | [`Released`] |
//! | `POST /v1/datastore/accept` | releases a snapshot held back by the blast-radius guard |
//! | `POST /v1/cni/{add,del,check,status,gc}` with [`cni::Request`] | [`cni::AddResult`], or nothing |
//!
//! An answer of 400 and above carries [`ErrorBody`].

mod bgp;
pub mod cni;
mod explain;
mod flows;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use bgp::{BfdState, BgpPeerShow, BgpPeersShow, BgpRouteShow, BgpRoutesShow, BgpState};
pub use explain::{
    ExplainAt, ExplainCheck, ExplainDecision, ExplainEnd, ExplainKind, ExplainPacket, ExplainPath,
    ExplainPorts, ExplainRoute, ExplainStaged, ExplainStep, ExplainVerdict, Explanation,
};
pub use flows::{
    Flow, FlowBy, FlowChange, FlowEnd, FlowStaged, FlowVerdict, FlowsMissed, PolicyImpact,
    PolicyRuleShow, PolicyShow, Reporter, RuleCount,
};

use crate::Cidr;
use crate::resources::Encryption;
use crate::snapshot::Rejected;
use crate::state::Problem;

/// Body of every failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What is wrong, with object, field, value and mend.
    pub error: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
}

/// How this node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Workloads can be served.
    pub ready: bool,
    /// The kernel was reconciled with a complete snapshot.
    pub in_sync: bool,
    /// Revision of the snapshot in force.
    pub revision: i64,
    /// Node-to-node encryption in force.
    pub encryption: Encryption,
    /// Each subsystem.
    pub subsystems: Vec<Subsystem>,
    /// Stored values that were skipped.
    pub rejected: Vec<Rejected>,
    /// Kernel objects found changed by others and repaired, newest first.
    pub drift: Vec<Drift>,
    /// What keeps parts of the mesh from working.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// MTU of workload interfaces, bytes.
    #[serde(default)]
    pub workload_mtu: u32,
    /// Version of the daemon.
    #[serde(default)]
    pub version: String,
    /// What the blast-radius guard holds back: what would be removed, and the mend. Left out when it holds nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub held: String,
}

/// A subsystem of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsystem {
    /// `datastore`, `ipam`, `links`, `tunnels`, `routes`, `nat`, `bgp`.
    pub name: String,
    /// How it is.
    pub state: Health,
    /// Last error, or what it does.
    pub message: String,
}

/// Health of a subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Works.
    Ok,
    /// Works in part, or from older knowledge.
    Degraded,
    /// Does not work.
    Failed,
}

/// A kernel object that differed from what was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The object, such as `route 10.0.0.0/26 dev eth0`.
    pub object: String,
    /// What was found: `missing`, `changed` or `unexpected`.
    pub found: String,
    /// When, RFC 3339.
    pub at: String,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The object, such as `IPPool/default`.
    pub object: String,
    /// What was done.
    pub action: Action,
    /// Revision of the write; of the object when unchanged.
    pub revision: i64,
    /// What stood before, for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// What stands after, for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Created,
    /// It changed.
    Configured,
    /// It stood already.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// One line of `get --watch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`; `SYNCED` once after what stood at the start.
    #[serde(rename = "type")]
    pub event: String,
    /// The resource; metadata only when deleted.
    pub object: serde_json::Value,
}

/// How each other node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelsShow {
    /// Nodes by name.
    pub tunnels: Vec<TunnelShow>,
    /// Bytes between workloads of different nodes that left this one in clear, since encryption is preferred;
    /// null: nobody counts, as without encryption, where all is in clear.
    pub clear_text_bytes: Option<u64>,
    /// Bytes that would have, and were dropped since encryption is required; null: nobody counts.
    #[serde(default)]
    pub clear_text_dropped_bytes: Option<u64>,
}

/// A change of this node's key that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The new key.
    pub public_key: String,
    /// It is used so many seconds after other nodes can have learnt of it.
    pub used_after_seconds: u64,
}

/// How another node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelShow {
    /// The node.
    pub node: String,
    /// By which path.
    pub path: NodePath,
    /// Whether sessions of the encrypted tunnel are safe from a quantum computer, too; null: it is no peer
    /// there, or that is not wanted.
    #[serde(default)]
    pub post_quantum: Option<bool>,
    /// Age of the last handshake; null: none was completed.
    pub last_handshake_seconds: Option<u64>,
    /// Bytes received from it by the encrypted tunnel; null: it is no peer there.
    pub rx_bytes: Option<u64>,
    /// Bytes sent to it by the encrypted tunnel; null: it is no peer there.
    pub tx_bytes: Option<u64>,
    /// Largest packet that goes there whole, bytes; 0 when none does.
    pub mtu: u32,
    /// Where its end of the encrypted tunnel is; null: it is no peer there.
    pub endpoint: Option<SocketAddr>,
}

/// By which path packets go to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePath {
    /// In clear, by the network.
    Direct,
    /// In clear, in VXLAN.
    Vxlan,
    /// Encrypted.
    WireGuard,
    /// None: it may not be reached in clear, and there is no tunnel to it.
    Barred,
}

/// Use of the pools, and of the blocks when asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IpamShow {
    /// Pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolUse>,
    /// Blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockUse>,
}

/// Use of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUse {
    /// Name of the pool.
    #[serde(default)]
    pub name: String,
    /// Range.
    pub cidr: Cidr,
    /// Addresses in it, saturating at 2^64-1.
    pub capacity: u64,
    /// Addresses handed out.
    pub used: u64,
    /// Blocks claimed.
    pub blocks: u64,
}

/// Use of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockUse {
    /// Range.
    pub cidr: Cidr,
    /// Node that claims it; empty when none.
    pub node: String,
    /// Addresses handed out.
    pub used: u64,
    /// Addresses that are neither handed out nor resting.
    pub free: u64,
}

/// State of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressState {
    /// Nobody's.
    Free,
    /// Handed out.
    Used,
    /// Freed and resting.
    Cooldown,
    /// Covered by an `IPReservation`.
    Reserved,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressShow {
    /// The address.
    pub ip: IpAddr,
    /// Its state.
    pub state: AddressState,
    /// Handle that holds it; empty when none.
    #[serde(default)]
    pub handle: String,
    /// Node that uses it.
    #[serde(default)]
    pub node: String,
    /// Namespace of the workload.
    #[serde(default)]
    pub namespace: String,
    /// Name of the workload.
    #[serde(default)]
    pub name: String,
}

/// What is wrong with the address records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamCheck {
    /// Nothing is.
    pub clean: bool,
    /// What is.
    pub problems: Vec<IpamProblem>,
}

/// One inconsistency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamProblem {
    /// What sort.
    pub kind: String,
    /// The key or address concerned.
    pub object: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What to release; exactly one is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// One address.
    Ip(IpAddr),
    /// All addresses of a handle.
    Handle(String),
    /// All addresses and blocks of a node that is deleted.
    Node(String),
}

/// What was released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Blocks.
    pub blocks: Vec<Cidr>,
}

/// What `doctor` found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Doctor {
    /// Each check.
    pub checks: Vec<DoctorCheck>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorCheck {
    /// What was looked at.
    pub name: String,
    /// What it is.
    pub state: Health,
    /// What was found.
    pub message: String,
    /// What to do; empty when nothing.
    #[serde(default)]
    pub fix: String,
}
