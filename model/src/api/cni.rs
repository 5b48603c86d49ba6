//! What the CNI plugin and the daemon tell each other.
//!
//! The plugin checks the form of its configuration and environment; the daemon decides.
//!
//! A refusal reaches the runtime as the CNI error code that its HTTP status stands for:
//!
//! | status | code | for |
//! |---|---|---|
//! | 400, 422 | 7 invalid network configuration | a pool that does not exist, an address outside the pools |
//! | 404 | 3 container unknown | CHECK of what was never added, a network namespace that is not there |
//! | 409 | 101 | an address that another has, CHECK that found something different |
//! | 429, 503, 504, or `retryable` | 11 try again later | not ready, datastore away, no address free now |
//! | other | 100 | the daemon's own fault |
//!
//! STATUS has codes of its own: 500 is 51 (no ADD can be served, and standing workloads may
//! suffer), any other refusal is 50 (no ADD can be served).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Cidr;
use crate::kernel::Mac;

/// One attachment, for any verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Name of the CNI network.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`: path of the network namespace.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `K8S_POD_NAMESPACE`, else `default`.
    pub namespace: String,
    /// `K8S_POD_NAME`, else the container id.
    pub name: String,
    /// Whether the workload is a Kubernetes pod (`K8S_POD_NAME` was given).
    pub kubernetes: bool,
    /// `args.cni.labels`.
    pub labels: BTreeMap<String, String>,
    /// Addresses asked for: `args.cni.ips`, `runtimeConfig.ips`, `IP` of `CNI_ARGS`.
    pub ips: Vec<IpAddr>,
    /// `runtimeConfig.mac` or `MAC` of `CNI_ARGS`.
    pub mac: Option<Mac>,
    /// Pools, by name or prefix, that IPv4 addresses may come from; empty for any.
    pub ipv4_pools: Vec<String>,
    /// As `ipv4_pools`, for IPv6.
    pub ipv6_pools: Vec<String>,
    /// Address kept by workload identity across containers (`args.cni.sticky: true`).
    pub sticky: bool,
    /// `cni.dev/valid-attachments` of GC: what the runtime still has.
    pub valid_attachments: Vec<Attachment>,
    /// `prevResult` of CHECK, in the shape of [`AddResult`].
    pub previous: Option<AddResult>,
}

/// A container and interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// Container id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Interface name.
    pub ifname: String,
}

/// What ADD made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddResult {
    /// Interface on the host.
    pub host_interface: String,
    /// Its MAC address.
    pub host_mac: Option<Mac>,
    /// Interface in the workload.
    pub interface: String,
    /// Its MAC address.
    pub mac: Option<Mac>,
    /// Path of the workload's network namespace.
    pub sandbox: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Addresses, /32 and /128.
    pub ips: Vec<Cidr>,
    /// Default gateways, one a family.
    pub gateways: Vec<IpAddr>,
}
