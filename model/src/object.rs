//! A resource of any kind.

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::meta::Metadata;
use crate::resources::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, HostEndpointSpec, IpPoolSpec,
    IpReservationSpec, IpamConfigurationSpec, MeshConfigurationSpec, NamespaceSpec, NetworkSetSpec,
    NodeSpec, PolicySpec, SecretSpec, TierSpec, WorkloadEndpointSpec,
};

/// The API version that we write.
pub const API_VERSION: &str = "routerd/v1";

/// Metadata and specification of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource<S> {
    /// Name, labels and so on.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
}

impl<S> Resource<S> {
    /// A global resource.
    pub fn named(name: impl Into<String>, spec: S) -> Resource<S> {
        Resource {
            metadata: Metadata::named(name),
            spec,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
}

/// A resource of any kind; encodes as `{"kind": …, "metadata": …, "spec": …}`.
///
/// [`crate::manifest`] adds and checks `apiVersion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Object {
    /// A host.
    #[serde(with = "with_status")]
    Node(Resource<NodeSpec>),
    /// A range of addresses.
    IPPool(Resource<IpPoolSpec>),
    /// Addresses never handed out.
    IPReservation(Resource<IpReservationSpec>),
    /// How addresses are handed out.
    IPAMConfiguration(Resource<IpamConfigurationSpec>),
    /// Mesh-wide settings.
    MeshConfiguration(Resource<MeshConfigurationSpec>),
    /// A workload's interface.
    WorkloadEndpoint(Resource<WorkloadEndpointSpec>),
    /// Labels of a namespace.
    Namespace(Resource<NamespaceSpec>),
    /// What is so for BGP on all nodes, or on one.
    BGPConfiguration(Resource<BgpConfigurationSpec>),
    /// Whom some nodes peer with.
    BGPPeer(Resource<BgpPeerSpec>),
    /// Rules for routes.
    BGPFilter(Resource<BgpFilterSpec>),
    /// Values that are used and never shown.
    Secret(Resource<SecretSpec>),
    /// A group of policies that are asked together.
    Tier(Resource<TierSpec>),
    /// Who may talk to whom, in all namespaces and on hosts.
    GlobalNetworkPolicy(Resource<PolicySpec>),
    /// Who may talk to whom, in one namespace.
    NetworkPolicy(Resource<PolicySpec>),
    /// A global policy to try out: it is never enforced.
    StagedGlobalNetworkPolicy(Resource<PolicySpec>),
    /// A policy of one namespace to try out: it is never enforced.
    StagedNetworkPolicy(Resource<PolicySpec>),
    /// Addresses with labels that rules select.
    GlobalNetworkSet(Resource<NetworkSetSpec>),
    /// Addresses with labels that rules select, in one namespace.
    NetworkSet(Resource<NetworkSetSpec>),
    /// Interfaces of a host that policies apply to.
    HostEndpoint(Resource<HostEndpointSpec>),
}

/// A node with its `status`, which the specification carries along in memory.
mod with_status {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Resource;
    use crate::Metadata;
    use crate::resources::{NodeSpec, NodeStatus};

    #[derive(Serialize)]
    struct Written<'a> {
        metadata: &'a Metadata,
        spec: &'a NodeSpec,
        #[serde(skip_serializing_if = "NodeStatus::is_empty")]
        status: &'a NodeStatus,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read {
        metadata: Metadata,
        spec: NodeSpec,
        #[serde(default)]
        status: NodeStatus,
    }

    pub(super) fn serialize<S: Serializer>(
        node: &Resource<NodeSpec>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let Resource { metadata, spec } = node;
        let status = &spec.status;
        let written = Written {
            metadata,
            spec,
            status,
        };
        written.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Resource<NodeSpec>, D::Error> {
        let Read {
            metadata,
            mut spec,
            status,
        } = Read::deserialize(d)?;
        spec.status = status;
        Ok(Resource { metadata, spec })
    }
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Node(_) => Kind::Node,
            Object::IPPool(_) => Kind::IPPool,
            Object::IPReservation(_) => Kind::IPReservation,
            Object::IPAMConfiguration(_) => Kind::IPAMConfiguration,
            Object::MeshConfiguration(_) => Kind::MeshConfiguration,
            Object::WorkloadEndpoint(_) => Kind::WorkloadEndpoint,
            Object::Namespace(_) => Kind::Namespace,
            Object::BGPConfiguration(_) => Kind::BGPConfiguration,
            Object::BGPPeer(_) => Kind::BGPPeer,
            Object::BGPFilter(_) => Kind::BGPFilter,
            Object::Secret(_) => Kind::Secret,
            Object::Tier(_) => Kind::Tier,
            Object::GlobalNetworkPolicy(_) => Kind::GlobalNetworkPolicy,
            Object::NetworkPolicy(_) => Kind::NetworkPolicy,
            Object::StagedGlobalNetworkPolicy(_) => Kind::StagedGlobalNetworkPolicy,
            Object::StagedNetworkPolicy(_) => Kind::StagedNetworkPolicy,
            Object::GlobalNetworkSet(_) => Kind::GlobalNetworkSet,
            Object::NetworkSet(_) => Kind::NetworkSet,
            Object::HostEndpoint(_) => Kind::HostEndpoint,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Object::Node(r) => &r.metadata,
            Object::IPPool(r) => &r.metadata,
            Object::IPReservation(r) => &r.metadata,
            Object::IPAMConfiguration(r) => &r.metadata,
            Object::MeshConfiguration(r) => &r.metadata,
            Object::WorkloadEndpoint(r) => &r.metadata,
            Object::Namespace(r) => &r.metadata,
            Object::BGPConfiguration(r) => &r.metadata,
            Object::BGPPeer(r) => &r.metadata,
            Object::BGPFilter(r) => &r.metadata,
            Object::Secret(r) => &r.metadata,
            Object::Tier(r) => &r.metadata,
            Object::GlobalNetworkPolicy(r)
            | Object::NetworkPolicy(r)
            | Object::StagedGlobalNetworkPolicy(r)
            | Object::StagedNetworkPolicy(r) => &r.metadata,
            Object::GlobalNetworkSet(r) | Object::NetworkSet(r) => &r.metadata,
            Object::HostEndpoint(r) => &r.metadata,
        }
    }

    /// Its metadata, to change.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Object::Node(r) => &mut r.metadata,
            Object::IPPool(r) => &mut r.metadata,
            Object::IPReservation(r) => &mut r.metadata,
            Object::IPAMConfiguration(r) => &mut r.metadata,
            Object::MeshConfiguration(r) => &mut r.metadata,
            Object::WorkloadEndpoint(r) => &mut r.metadata,
            Object::Namespace(r) => &mut r.metadata,
            Object::BGPConfiguration(r) => &mut r.metadata,
            Object::BGPPeer(r) => &mut r.metadata,
            Object::BGPFilter(r) => &mut r.metadata,
            Object::Secret(r) => &mut r.metadata,
            Object::Tier(r) => &mut r.metadata,
            Object::GlobalNetworkPolicy(r)
            | Object::NetworkPolicy(r)
            | Object::StagedGlobalNetworkPolicy(r)
            | Object::StagedNetworkPolicy(r) => &mut r.metadata,
            Object::GlobalNetworkSet(r) | Object::NetworkSet(r) => &mut r.metadata,
            Object::HostEndpoint(r) => &mut r.metadata,
        }
    }

    /// Which object this is.
    pub fn id(&self) -> ObjectId {
        let meta = self.metadata();
        ObjectId {
            kind: self.kind(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }
}

/// Kind, namespace and name: what an error names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Kind.
    pub kind: Kind,
    /// Namespace of namespaced kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{}/{ns}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}
