//! From events of the store to changes.

use model::keys;
use model::kv::Event;
use model::manifest;
use model::snapshot::Snapshot;
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Settings, feed};

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {node: here, interfaceName: tap0, ipNetworks: [10.0.0.1, 'fd00::1']}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {node: there, interfaceName: tap0, ipNetworks: [10.0.0.2]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host, labels: {role: host}}
spec: {node: here, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: early}
spec: {order: 10}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: feed, labels: {kind: feed}}
spec: {nets: [198.51.100.0/24]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: early.p, namespace: shop}
spec: {tier: early, ingress: [{action: Allow, source: {selector: app == 'db'}}]}
";

#[test]
fn events_one_by_one_and_the_whole_snapshot_end_alike() {
    let mut snapshot = Snapshot::default();
    let mut engine = Engine::new(Settings::default());
    let mut tables = Mirror::default();
    let objects = manifest::parse(MANIFESTS).unwrap();
    for (revision, object) in (1..).zip(&objects) {
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(object)),
            revision,
        };
        assert!(!snapshot.apply("here", &event).is_empty());
        let id = keys::parse_resource(&event.key).unwrap();
        let change = feed::change(&snapshot, "here", &id).expect("policy looks at all of these");
        tables.update(&engine.apply([change]));
    }
    assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
    let mut again = Engine::new(Settings::default());
    let changes = feed::everything(&again, &snapshot, "here");
    let mut fresh = Mirror::default();
    fresh.update(&again.apply(changes));
    assert_eq!(engine.size(), again.size());
    assert_eq!(fresh.endpoints.len(), 2);
    assert_eq!(tables.endpoints.len(), 2);
    // There is no news in it for the one who has followed.
    let changes = feed::everything(&engine, &snapshot, "here");
    assert!(engine.apply(changes).is_empty());
    // Then everything goes.
    for (revision, object) in (100..).zip(&objects) {
        let event = Event {
            key: keys::resource(&object.id()),
            value: None,
            revision,
        };
        snapshot.apply("here", &event);
        let id = object.id();
        tables.update(&engine.apply(feed::change(&snapshot, "here", &id)));
    }
    // What is left is what an engine has that knows nobody: the two families.
    let mut nobody = Engine::new(Settings::default());
    nobody.apply([]);
    assert_eq!(engine.size(), nobody.size());
    assert!(tables.endpoints.is_empty() && tables.chains.is_empty() && tables.cells.is_empty());
}

#[test]
fn a_policy_that_does_not_decode_is_unknown() {
    let mut snapshot = Snapshot::default();
    assert_eq!(feed::unknown(&snapshot), Change::Unknown(false));
    let objects = manifest::parse(MANIFESTS).unwrap();
    let event = Event {
        key: keys::resource(&objects.last().unwrap().id()),
        value: Some(b"{}".to_vec()),
        revision: 1,
    };
    snapshot.apply("here", &event);
    assert_eq!(feed::unknown(&snapshot), Change::Unknown(true));
    let engine = Engine::new(Settings::default());
    let changes = feed::everything(&engine, &snapshot, "here");
    assert_eq!(changes, [Change::Unknown(true)]);
}
