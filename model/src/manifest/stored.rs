//! The stored form as we write it, read straight into its type: a node starts with 100,000 of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::object::{API_VERSION, Object, Resource};
use crate::resources::{NodeSpec, NodeStatus};
use crate::{Kind, Metadata};

/// What says how to read the rest; found without reading it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "apiVersion", borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "S: DeserializeOwned")]
struct Whole<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    spec: S,
    /// Only of a node; of others it was never written.
    status: Option<NodeStatus>,
}

/// Reads a value that is exactly as we write it; `None` says to look closer.
pub(super) fn read(bytes: &[u8]) -> Option<Object> {
    let head: Head<'_> = serde_json::from_slice(bytes).ok()?;
    if head.api_version != API_VERSION {
        return None;
    }
    let kind = Kind::ALL.into_iter().find(|k| k.as_str() == head.kind)?;
    Some(match kind {
        Kind::Node => Object::Node(node(bytes)?),
        Kind::IPPool => Object::IPPool(whole(bytes)?),
        Kind::IPReservation => Object::IPReservation(whole(bytes)?),
        Kind::IPAMConfiguration => Object::IPAMConfiguration(whole(bytes)?),
        Kind::MeshConfiguration => Object::MeshConfiguration(whole(bytes)?),
        Kind::WorkloadEndpoint => Object::WorkloadEndpoint(whole(bytes)?),
        Kind::Namespace => Object::Namespace(whole(bytes)?),
        Kind::BGPConfiguration => Object::BGPConfiguration(whole(bytes)?),
        Kind::BGPPeer => Object::BGPPeer(whole(bytes)?),
        Kind::BGPFilter => Object::BGPFilter(whole(bytes)?),
        Kind::Secret => Object::Secret(whole(bytes)?),
        Kind::Tier => Object::Tier(whole(bytes)?),
        Kind::GlobalNetworkPolicy => Object::GlobalNetworkPolicy(whole(bytes)?),
        Kind::NetworkPolicy => Object::NetworkPolicy(whole(bytes)?),
        Kind::StagedGlobalNetworkPolicy => Object::StagedGlobalNetworkPolicy(whole(bytes)?),
        Kind::StagedNetworkPolicy => Object::StagedNetworkPolicy(whole(bytes)?),
        Kind::GlobalNetworkSet => Object::GlobalNetworkSet(whole(bytes)?),
        Kind::NetworkSet => Object::NetworkSet(whole(bytes)?),
        Kind::HostEndpoint => Object::HostEndpoint(whole(bytes)?),
    })
}

fn whole<S: DeserializeOwned>(bytes: &[u8]) -> Option<Resource<S>> {
    let Whole { metadata, spec, .. } = serde_json::from_slice(bytes).ok()?;
    Some(Resource { metadata, spec })
}

fn node(bytes: &[u8]) -> Option<Resource<NodeSpec>> {
    let whole: Whole<NodeSpec> = serde_json::from_slice(bytes).ok()?;
    let (metadata, mut spec) = (whole.metadata, whole.spec);
    spec.status = whole.status.unwrap_or_default();
    Some(Resource { metadata, spec })
}
