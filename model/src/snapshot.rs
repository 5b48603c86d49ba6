//! The store as one consistent value: what calculation reads.
//!
//! ```text
//!  follower of the store ──apply──► Snapshot ◄──echo── own write, as soon as it is committed
//!  (each key in order)   ──listed──►
//! ```
//!
//! The daemon applies its own writes before the watch brings them, so that an ADD need not wait for
//! it. A key with such a write ignores what the watch still tells from before, until the watch has
//! caught up with it.

mod apply;
mod changed;
mod echo;
mod entry;
mod intern;

#[cfg(test)]
mod tests;

pub use changed::Changed;
use intern::Interner;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::block::BlockSummary;
use crate::kv::Revision;
use crate::object::{ObjectId, Resource};
use crate::resources::workload_endpoint::EndpointPort;
use crate::resources::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, Encryption, HostEndpointSpec, IpPoolSpec,
    IpReservationSpec, IpamConfigurationSpec, MeshConfigurationSpec, NamespaceSpec, NetworkSetSpec,
    NodeSpec, PolicySpec, SecretSpec, TierSpec, WorkloadEndpointSpec,
};
use crate::{Cidr, Kind, Metadata};

/// Everything that is known of the mesh at one revision.
///
/// Written by its one owner through [`Snapshot::apply`]; a value that does not decode stands in
/// `rejected`, and the last one that did goes on until the key is readable again or deleted.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The newest revision applied.
    pub revision: Revision,
    /// Nodes by name.
    pub nodes: BTreeMap<Arc<str>, Resource<NodeSpec>>,
    /// Pools by name.
    pub pools: BTreeMap<String, Resource<IpPoolSpec>>,
    /// Reservations by name.
    pub reservations: BTreeMap<String, Resource<IpReservationSpec>>,
    /// The IPAM configuration, or its defaults.
    pub ipam: IpamConfigurationSpec,
    /// The mesh configuration, or its defaults.
    pub mesh: MeshConfigurationSpec,
    /// BGP configurations by name: `default` and `node.NAME`.
    pub bgp_configurations: BTreeMap<String, Resource<BgpConfigurationSpec>>,
    /// BGP peers by name.
    pub bgp_peers: BTreeMap<Arc<str>, Resource<BgpPeerSpec>>,
    /// BGP filters by name.
    pub bgp_filters: BTreeMap<String, Resource<BgpFilterSpec>>,
    /// Secrets by name.
    pub secrets: BTreeMap<Arc<str>, Resource<SecretSpec>>,
    /// Tiers by name.
    pub tiers: BTreeMap<String, Resource<TierSpec>>,
    /// Policies of all four kinds.
    pub policies: BTreeMap<ObjectId, Resource<PolicySpec>>,
    /// Network sets of both kinds.
    pub network_sets: BTreeMap<ObjectId, Resource<NetworkSetSpec>>,
    /// Host endpoints by name.
    pub host_endpoints: BTreeMap<String, Resource<HostEndpointSpec>>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Resource<NamespaceSpec>>,
    /// Endpoints of this node, whole.
    pub local_endpoints: BTreeMap<EndpointKey, Resource<WorkloadEndpointSpec>>,
    /// Endpoints of other nodes, as much as is needed of them.
    pub remote_endpoints: BTreeMap<EndpointKey, RemoteEndpoint>,
    /// Blocks.
    pub blocks: BTreeMap<Cidr, BlockSummary>,
    /// Stored values that do not decode or validate, by key.
    pub rejected: BTreeMap<String, Rejected>,
    /// What keeps events in order and entries small.
    pub bookkeeping: Bookkeeping,
}

/// What a snapshot needs beside its contents.
#[derive(Clone, Debug, Default)]
pub struct Bookkeeping {
    echoes: echo::Echoes,
    interner: Interner,
}

/// Namespace and name of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// Namespace, shared among its endpoints.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Box<str>,
}

/// What is kept of another node's endpoint; everything repeated is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEndpoint {
    /// Node that hosts it.
    pub node: Arc<str>,
    /// Addresses.
    pub ips: Box<[IpAddr]>,
    /// Labels, those that every workload has by itself among them.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Named ports.
    pub ports: Arc<[EndpointPort]>,
    /// What its workload is called, as [`WorkloadEndpointSpec::called`] has it.
    pub workload: Box<str>,
}

/// A stored value that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rejected {
    /// Kind, or `Block`.
    pub kind: String,
    /// Name as the key gives it.
    pub name: String,
    /// Why.
    pub message: String,
    /// What was read before it goes on. Not so after a start over it: then nobody knows what it said.
    #[serde(default)]
    pub standing: bool,
}

impl Snapshot {
    /// Values that routes, tunnels or links hang on and of which nothing was ever read. What is
    /// computed without them lacks what they would add, so it is no reason to take anything away.
    pub fn unknown(&self) -> impl Iterator<Item = &Rejected> {
        let matters = |r: &&Rejected| {
            let kinds = [
                "BGPConfiguration",
                "BGPFilter",
                "BGPPeer",
                "Block",
                "IPPool",
                "MeshConfiguration",
                "Node",
                "Secret",
                "WorkloadEndpoint",
            ];
            !r.standing && kinds.contains(&r.kind.as_str())
        };
        self.rejected.values().filter(matters)
    }

    /// Whether nothing was ever read of the mesh configuration that the store has: its fields here are
    /// defaults, and may say the opposite of what an operator wants.
    pub fn lacks_mesh(&self) -> bool {
        self.unknown().any(|r| r.kind == "MeshConfiguration")
    }

    /// Whether nothing was ever read of a BGP configuration that the store has: it may forbid what its
    /// defaults ask for.
    pub fn lacks_bgp(&self) -> bool {
        let mut rejected = self.rejected.values();
        rejected.any(|r| !r.standing && r.kind == "BGPConfiguration")
    }

    /// Values of policy of which nothing was ever read. Any of them may forbid what the others allow, so no
    /// endpoint is open on the strength of the others alone.
    pub fn unknown_policy(&self) -> impl Iterator<Item = &Rejected> {
        let rejected = self.rejected.values();
        rejected.filter(|r| {
            let kind = r.kind.parse::<Kind>();
            !r.standing && kind.is_ok_and(Kind::belongs_to_policy)
        })
    }

    /// Node-to-node encryption in force. What was never read may ask for all there is.
    pub fn encryption(&self) -> Encryption {
        match self.lacks_mesh() {
            true => Encryption::Required,
            false => self.mesh.encryption,
        }
    }

    /// Labels that the object of a namespace has; none when it has no object.
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        self.namespaces
            .get(name)
            .map(|n| n.metadata.labels.clone())
            .unwrap_or_default()
    }

    /// Metadata of a node.
    pub fn node_metadata(&self, name: &str) -> Option<&Metadata> {
        self.nodes.get(name).map(|n| &n.metadata)
    }
}
