//! The store as one consistent value: what calculation reads.
//!
//! ```text
//!  listing ─from_list─► Snapshot ◄─apply─ event of the watch ──advance(revision)
//!               replace ─►   ▲
//!                            └─echo─ own transaction, as soon as it is committed
//! ```
//!
//! The daemon applies its own writes before the watch brings them, so that an ADD need not wait for
//! it. The watch delivers in the order of revisions; `revision` says how far it has come. A key that
//! changed past that point is *pending* with the revision of its newest change, deletions included,
//! and an event that is not newer is ignored. [`Snapshot::advance`] forgets what the watch has passed.
//! So in any order, doubled or early, the same events end in the same snapshot.

mod apply;
mod changed;
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
use crate::object::Resource;
use crate::resources::{
    IpPoolSpec, IpReservationSpec, IpamConfigurationSpec, MeshConfigurationSpec, NamespaceSpec,
    NodeSpec, WorkloadEndpointSpec,
};
use crate::{Cidr, Metadata};

/// Everything that is known of the mesh at one revision.
///
/// Written by its one owner through [`Snapshot::apply`]; a value that does not decode stands in
/// `rejected` and what it replaced is gone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every event up to here has been applied; single keys may be newer.
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
    /// Keys that changed past `revision`, with the revision of their newest change.
    pending: BTreeMap<Box<str>, Revision>,
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
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
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
}

impl Snapshot {
    /// Labels of a namespace; none when it has no object.
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
