//! `BGPConfiguration`: what is so for BGP on all nodes (`default`), or on one (`node.NAME`).

use serde::{Deserialize, Serialize};

use super::as_number::AsNumber;
use super::bgp_peer::BgpPassword;
use super::duration::GoDuration;
use crate::Cidr;

/// Where connections are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BindMode {
    /// At all addresses.
    #[default]
    None,
    /// At the node's own underlay addresses.
    NodeIP,
}

/// A prefix that every node announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceBlock {
    /// The prefix.
    pub cidr: Cidr,
}

/// A name for a community.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCommunity {
    /// Its name.
    pub name: String,
    /// The community: `64512:100` or `64512:1:100`.
    pub value: String,
}

/// What goes with announced routes inside a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixAdvertisement {
    /// The prefix.
    pub cidr: Cidr,
    /// Communities, or their names.
    pub communities: Vec<String>,
}

/// Ours: the AS number of some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeAsNumber {
    /// Which nodes, by their labels.
    pub node_selector: String,
    /// Their AS number.
    pub as_number: AsNumber,
}

/// Specification of a `BGPConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpConfigurationSpec {
    /// Whether every node peers with every other; by default where there are few. `default` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// AS number of nodes that have no other, 64512 by default. `default` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Ours: AS numbers by node label, before `asNumber`; the first that matches. `default` only.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "nodeASNumbers"
    )]
    pub node_as_numbers: Vec<NodeAsNumber>,
    /// Prefixes that every node announces. `default` only.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "serviceClusterIPs"
    )]
    pub service_cluster_ips: Vec<ServiceBlock>,
    /// As `serviceClusterIPs`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "serviceExternalIPs"
    )]
    pub service_external_ips: Vec<ServiceBlock>,
    /// As `serviceClusterIPs`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "serviceLoadBalancerIPs"
    )]
    pub service_load_balancer_ips: Vec<ServiceBlock>,
    /// TCP port, 179 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Where connections are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Names of communities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<NamedCommunity>,
    /// Communities of announced routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// What nodes of the mesh sign with. `default` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// How long nodes of the mesh keep each other's routes over a restart, 120s by default. `default` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// Ours: silence that ends a session, 9s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<GoDuration>,
}

impl BgpConfigurationSpec {
    /// Prefixes that every node announces.
    pub fn service_blocks(&self) -> impl Iterator<Item = Cidr> {
        let all = self.service_cluster_ips.iter();
        let all = all.chain(&self.service_external_ips);
        all.chain(&self.service_load_balancer_ips).map(|b| b.cidr)
    }
}
