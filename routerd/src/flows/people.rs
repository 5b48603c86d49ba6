//! Who has which address, as the snapshot knows it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use model::object::{ObjectId, Resource};
use model::resources::WorkloadEndpointSpec;
use model::resources::workload_endpoint::all_labels;
use model::snapshot::{EndpointKey, Snapshot};
use model::{Family, Kind};
use policy_ebpf::Labels;
use policy_ebpf::flows::Who;

/// Who has each of these addresses: workloads, hosts, nodes, and the network set that says it most closely. One walk over
/// everybody, however many are asked for.
pub(crate) fn who(snapshot: &Snapshot, wanted: &BTreeSet<IpAddr>) -> HashMap<IpAddr, Arc<Who>> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    // From what says least.
    let mut sets: Vec<_> = (snapshot.network_sets.iter())
        .flat_map(|(id, set)| set.spec.nets.iter().map(move |net| (net, id, set)))
        .collect();
    sets.sort_by_key(|(net, ..)| net.prefix_len());
    for (net, id, set) in sets {
        let inside = wanted.range(net.network()..);
        for ip in inside.take_while(|ip| net.contains(**ip)) {
            found.insert(*ip, named(id.clone(), set.metadata.labels.clone().into()));
        }
    }
    let mut put = |ip: IpAddr, who: &dyn Fn() -> Arc<Who>| {
        if wanted.contains(&ip) {
            found.insert(ip, who());
        }
    };
    for (name, node) in &snapshot.nodes {
        let who = || {
            named(
                global(Kind::Node, name),
                node.metadata.labels.clone().into(),
            )
        };
        for family in Family::ALL {
            let own = node.spec.underlay(family).map(|a| a.ip);
            for ip in own.into_iter().chain(node.spec.tunnel_addr(family)) {
                put(ip, &who);
            }
        }
    }
    for (name, host) in &snapshot.host_endpoints {
        let labels = &host.metadata.labels;
        let who = || named(global(Kind::HostEndpoint, name), labels.clone().into());
        (host.spec.expected_ips.iter()).for_each(|ip| put(*ip, &who));
    }
    for (key, remote) in &snapshot.remote_endpoints {
        let who = || {
            let id = workload(key);
            Arc::new(Who {
                called: called(&remote.workload, &id),
                id,
                labels: remote.labels.clone(),
            })
        };
        remote.ips.iter().for_each(|ip| put(*ip, &who));
    }
    for (key, local) in &snapshot.local_endpoints {
        let who = || here(workload(key), local);
        for net in &local.spec.ip_networks {
            put(net.network(), &who);
        }
    }
    found
}

/// An endpoint of this node.
pub(crate) fn local(snapshot: &Snapshot, id: &ObjectId) -> Option<Arc<Who>> {
    match id.kind {
        Kind::HostEndpoint => {
            let host = snapshot.host_endpoints.get(&id.name)?;
            Some(named(id.clone(), host.metadata.labels.clone().into()))
        }
        _ => {
            let local = snapshot.local_endpoints.get(&key_of(id))?;
            Some(here(id.clone(), local))
        }
    }
}

/// As much of a snapshot as policy looks at for packets between these addresses and endpoints of this node.
pub(crate) fn about(snapshot: &Snapshot, addresses: &BTreeSet<IpAddr>) -> Snapshot {
    let remote = snapshot.remote_endpoints.iter();
    let remote = remote.filter(|(_, r)| r.ips.iter().any(|ip| addresses.contains(ip)));
    Snapshot {
        mesh: snapshot.mesh.clone(),
        tiers: snapshot.tiers.clone(),
        policies: snapshot.policies.clone(),
        network_sets: snapshot.network_sets.clone(),
        host_endpoints: snapshot.host_endpoints.clone(),
        namespaces: snapshot.namespaces.clone(),
        local_endpoints: snapshot.local_endpoints.clone(),
        remote_endpoints: remote.map(|(k, r)| (k.clone(), r.clone())).collect(),
        rejected: snapshot.rejected.clone(),
        ..Snapshot::default()
    }
}

/// A workload as the snapshot names it.
pub(crate) fn key_of(id: &ObjectId) -> EndpointKey {
    EndpointKey {
        namespace: id.namespace.as_deref().unwrap_or_default().into(),
        name: id.name.as_str().into(),
    }
}

fn workload(key: &EndpointKey) -> ObjectId {
    ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(key.namespace.to_string()),
        name: key.name.to_string(),
    }
}

fn global(kind: Kind, name: &str) -> ObjectId {
    ObjectId {
        kind,
        namespace: None,
        name: name.to_owned(),
    }
}

fn called(name: &str, id: &ObjectId) -> String {
    match name {
        "" => id.name.clone(),
        name => name.to_owned(),
    }
}

fn here(id: ObjectId, local: &Resource<WorkloadEndpointSpec>) -> Arc<Who> {
    Arc::new(Who {
        called: called(local.spec.called(), &id),
        id,
        labels: all_labels(&local.metadata, &local.spec).into(),
    })
}

fn named(id: ObjectId, labels: Arc<Labels>) -> Arc<Who> {
    let called = id.name.clone();
    Arc::new(Who { id, called, labels })
}

#[cfg(test)]
mod tests {
    use model::keys;
    use model::kv::Event;

    use super::*;

    #[test]
    fn an_address_is_of_the_set_that_says_it_most_closely() {
        let mut snapshot = Snapshot::default();
        for (name, nets) in [
            ("all", "[0.0.0.0/0, '::/0']"),
            ("ten", "[10.0.0.0/8]"),
            ("one", "[10.0.0.7/32]"),
        ] {
            let text = format!(
                "{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {{name: {name}}}, \
                 spec: {{nets: {nets}}}}}"
            );
            let objects = model::manifest::parse(&text).unwrap();
            let event = Event {
                key: keys::resource(&objects[0].id()),
                value: Some(model::manifest::encode_stored(&objects[0])),
                revision: 1,
            };
            snapshot.apply("n1", &event);
        }
        let expected = [
            ("0.0.0.0", "all"),
            ("9.255.255.255", "all"),
            ("10.0.0.0", "ten"),
            ("10.0.0.7", "one"),
            ("10.255.255.255", "ten"),
            ("11.0.0.0", "all"),
            ("255.255.255.255", "all"),
            ("::", "all"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "all"),
        ]
        .map(|(ip, name)| (ip.parse::<IpAddr>().unwrap(), name));
        let found = who(&snapshot, &expected.iter().map(|(ip, _)| *ip).collect());
        for (ip, name) in expected {
            assert_eq!(found[&ip].called, name, "{ip}");
        }
    }
}
