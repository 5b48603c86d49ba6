//! From the snapshot to changes.

use std::collections::BTreeSet;

use model::Kind;
use model::object::ObjectId;
use model::snapshot::{EndpointKey, Snapshot};

use crate::engine::{Change, Engine};
use crate::party::Party;

/// What an object says now, as a change; `None` for kinds that policy does not look at.
///
/// An event of the store names one object, so it costs one look-up however many there are.
pub fn change(snapshot: &Snapshot, local_node: &str, id: &ObjectId) -> Option<Change> {
    let name = &id.name;
    let party = |party| Some(Change::Party(id.clone(), party));
    match id.kind {
        Kind::WorkloadEndpoint => {
            let key = EndpointKey {
                namespace: id.namespace.as_deref().unwrap_or_default().into(),
                name: name.as_str().into(),
            };
            let local = snapshot.local_endpoints.get(&key).map(Party::local);
            let remote = || Some(Party::remote(&key, snapshot.remote_endpoints.get(&key)?));
            party(local.or_else(remote))
        }
        Kind::HostEndpoint => {
            let host = snapshot.host_endpoints.get(name);
            party(host.map(|r| Party::host(r, local_node)))
        }
        Kind::GlobalNetworkSet | Kind::NetworkSet => {
            let set = snapshot.network_sets.get(id);
            party(set.map(|r| Party::set(id.namespace.as_deref(), r)))
        }
        Kind::Namespace => {
            let namespace = snapshot.namespaces.get(name);
            let labels = namespace.map(|r| r.metadata.labels.clone());
            Some(Change::Namespace(name.clone(), labels))
        }
        Kind::Tier => {
            let tier = snapshot.tiers.get(name);
            Some(Change::Tier(name.clone(), tier.map(|r| r.spec.clone())))
        }
        kind if kind.is_policy() => {
            let policy = snapshot.policies.get(id);
            Some(Change::Policy(id.clone(), policy.map(|r| r.spec.clone())))
        }
        _ => None,
    }
}

/// Whether there are policies that nobody can read, as a change. Due whenever the snapshot's rejected
/// values change.
pub fn unknown(snapshot: &Snapshot) -> Change {
    Change::Unknown(snapshot.unknown_policy().next().is_some())
}

/// All that a snapshot says, and the end of what only the engine knows: for the start, and after the
/// store was listed anew. It walks over everybody.
pub fn everything(engine: &Engine, snapshot: &Snapshot, local_node: &str) -> Vec<Change> {
    let mut ids = present(snapshot);
    ids.extend(known(engine));
    let changes = ids.iter().filter_map(|id| change(snapshot, local_node, id));
    [unknown(snapshot)].into_iter().chain(changes).collect()
}

/// Every object of a snapshot that policy looks at.
pub fn present(snapshot: &Snapshot) -> BTreeSet<ObjectId> {
    let mut ids = BTreeSet::new();
    let workloads = snapshot.local_endpoints.keys();
    for key in workloads.chain(snapshot.remote_endpoints.keys()) {
        ids.insert(ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
        });
    }
    let hosts = snapshot.host_endpoints.keys();
    ids.extend(hosts.map(|name| global(Kind::HostEndpoint, name)));
    let namespaces = snapshot.namespaces.keys();
    ids.extend(namespaces.map(|name| global(Kind::Namespace, name)));
    ids.extend(snapshot.tiers.keys().map(|name| global(Kind::Tier, name)));
    ids.extend(snapshot.network_sets.keys().cloned());
    ids.extend(snapshot.policies.keys().cloned());
    ids
}

/// Every object that an engine knows.
pub fn known(engine: &Engine) -> BTreeSet<ObjectId> {
    let tiers = engine.tiers().map(|name| global(Kind::Tier, name));
    let namespaces = engine
        .namespaces()
        .map(|name| global(Kind::Namespace, name));
    (engine.parties().cloned())
        .chain(engine.policies().cloned())
        .chain(tiers)
        .chain(namespaces)
        .collect()
}

/// That an object is gone, as a change; `None` for kinds that policy does not look at.
pub fn gone(id: &ObjectId) -> Option<Change> {
    match id.kind {
        Kind::WorkloadEndpoint | Kind::HostEndpoint | Kind::GlobalNetworkSet | Kind::NetworkSet => {
            Some(Change::Party(id.clone(), None))
        }
        Kind::Namespace => Some(Change::Namespace(id.name.clone(), None)),
        Kind::Tier => Some(Change::Tier(id.name.clone(), None)),
        kind if kind.is_policy() => Some(Change::Policy(id.clone(), None)),
        _ => None,
    }
}

fn global(kind: Kind, name: &str) -> ObjectId {
    ObjectId {
        kind,
        namespace: None,
        name: name.to_owned(),
    }
}
