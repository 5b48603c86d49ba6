//! Every path of the daemon's API, as `model::api` lists them.

use std::net::IpAddr;

use model::Kind;
use model::object::ObjectId;

use crate::Target;

/// How this node is.
pub fn status() -> Target {
    Target::new("/v1/status")
}

/// The daemon's checks of its host.
pub fn doctor() -> Target {
    Target::new("/v1/doctor")
}

/// The plan that the next reconcile would apply.
pub fn diff() -> Target {
    Target::new("/v1/diff")
}

/// How each other node is reached.
pub fn tunnels() -> Target {
    Target::new("/v1/tunnels")
}

/// A change of the node's key.
pub fn rotate() -> Target {
    Target::new("/v1/tunnels/rotate")
}

/// What becomes of a packet, and why.
pub fn explain() -> Target {
    Target::new("/v1/explain")
}

/// The BGP sessions.
pub fn bgp_peers() -> Target {
    Target::new("/v1/bgp/peers")
}

/// The BGP table.
pub fn bgp_routes() -> Target {
    Target::new("/v1/bgp/routes")
}

/// Who talks to whom.
pub fn flows() -> Target {
    Target::new("/v1/flows")
}

/// The rules in force at an endpoint.
pub fn policy() -> Target {
    Target::new("/v1/policy")
}

/// What objects would do to connections.
pub fn policy_impact() -> Target {
    Target::new("/v1/policy/impact")
}

/// All resources of a kind.
pub fn resources(kind: Kind) -> Target {
    Target::new("/v1/resources").segment(kind.plural())
}

/// One resource.
pub fn resource(id: &ObjectId) -> Target {
    let kind = resources(id.kind);
    match &id.namespace {
        Some(namespace) => kind.segment(namespace),
        None => kind,
    }
    .segment(&id.name)
}

/// Use of pools and blocks.
pub fn ipam() -> Target {
    Target::new("/v1/ipam")
}

/// Who has an address.
pub fn ipam_address(ip: IpAddr) -> Target {
    Target::new("/v1/ipam/addresses").segment(&ip.to_string())
}

/// Consistency of the address records.
pub fn ipam_check() -> Target {
    Target::new("/v1/ipam/check")
}

/// Where addresses are released.
pub fn ipam_release() -> Target {
    Target::new("/v1/ipam/release")
}

/// Where a held-back snapshot is let through.
pub fn datastore_accept() -> Target {
    Target::new("/v1/datastore/accept")
}

/// A verb of CNI, lower case.
pub fn cni(verb: &'static str) -> Target {
    Target::new("/v1/cni").segment(verb)
}
