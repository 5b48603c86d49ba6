//! The `spec` of every kind. Fields, types and defaults are those of the same kind in
//! `projectcalico.org/v3`; what is ours says so.

pub mod as_number;
pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod duration;
pub mod host_endpoint;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam_configuration;
pub mod mesh_configuration;
pub mod namespace;
pub mod network_set;
pub mod node;
pub mod order;
pub mod policy;
pub mod policy_port;
pub mod policy_rule;
pub mod secret;
pub mod tier;
pub mod workload_endpoint;

pub use as_number::AsNumber;
pub use bgp_configuration::BgpConfigurationSpec;
pub use bgp_filter::BgpFilterSpec;
pub use bgp_peer::BgpPeerSpec;
pub use duration::GoDuration;
pub use host_endpoint::HostEndpointSpec;
pub use ip_pool::{AllowedUse, AssignmentMode, IpPoolSpec, VxlanMode};
pub use ip_reservation::IpReservationSpec;
pub use ipam_configuration::IpamConfigurationSpec;
pub use mesh_configuration::{
    Encryption, EndpointToHostAction, HostPort, LiveConnections, MeshConfigurationSpec, Mtu,
    PostQuantum, RedirectToPeer,
};
pub use namespace::NamespaceSpec;
pub use network_set::NetworkSetSpec;
pub use node::{NodeBgp, NodeSpec, NodeStatus};
pub use order::Order;
pub use policy::{PolicySpec, PolicyType, StagedAction};
pub use policy_port::PolicyPort;
pub use policy_rule::{Action, EntityRule, IcmpFields, Rule};
pub use secret::SecretSpec;
pub use tier::{TierAction, TierSpec};
pub use workload_endpoint::WorkloadEndpointSpec;
