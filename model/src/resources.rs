//! The `spec` of every kind. Fields, types and defaults are those of the same kind in
//! `projectcalico.org/v3`; what is ours says so.

pub mod as_number;
pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod duration;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam_configuration;
pub mod mesh_configuration;
pub mod namespace;
pub mod node;
pub mod secret;
pub mod workload_endpoint;

pub use as_number::AsNumber;
pub use bgp_configuration::BgpConfigurationSpec;
pub use bgp_filter::BgpFilterSpec;
pub use bgp_peer::BgpPeerSpec;
pub use duration::GoDuration;
pub use ip_pool::{AllowedUse, AssignmentMode, IpPoolSpec, VxlanMode};
pub use ip_reservation::IpReservationSpec;
pub use ipam_configuration::IpamConfigurationSpec;
pub use mesh_configuration::{
    Encryption, EndpointToHostAction, MeshConfigurationSpec, Mtu, PostQuantum,
};
pub use namespace::NamespaceSpec;
pub use node::{NodeBgp, NodeSpec, NodeStatus};
pub use secret::SecretSpec;
pub use workload_endpoint::WorkloadEndpointSpec;
