//! Whatever way a state was reached by, it looks the same.
//!
//! A list of stores is walked in every expansion, with one snapshot changed by events as its owner would change
//! it; at each store of the walk the desired state must be that of a snapshot made afresh.

use model::resources::{Encryption, Mtu, VxlanMode};
use model::snapshot::Snapshot;

use crate::world::*;

/// Stores that follow one another in the life of a mesh.
fn life() -> Vec<Store> {
    let one = Store::default()
        .node("a", node(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .pool("four", pool("10.0.0.0/16", VxlanMode::Never))
        .block("10.0.0.0/26", block("a", 1, &[]));
    let two = one
        .clone()
        .node("b", node(2, "192.0.2.2/24", ""))
        .block("10.0.1.0/26", block("b", 0, &[]))
        .endpoint("w", endpoint("rtd0", &["10.0.0.5/32"]));
    let far = two
        .clone()
        .node("c", node(3, "198.51.100.3/24", ""))
        .node("d", node(4, "", "2001:db8:9::4/64"))
        .block("10.0.2.0/26", block("c", 2, &[("10.0.2.9", "a")]))
        .block("10.0.3.0/26", block("d", 2, &[("10.0.3.9", "b")]))
        .endpoint("x", endpoint("rtd1", &["10.0.2.9/32"]));
    let tunnelled = far
        .clone()
        .pool("four", pool("10.0.0.0/16", VxlanMode::CrossSubnet))
        .pool("six", pool("fd00::/64", VxlanMode::Always))
        .block("fd00::/122", block("a", 0, &[]))
        .block("fd00::100/122", block("d", 0, &[]));
    let mut clash = tunnelled
        .clone()
        .node("c", node(3, "192.0.2.2/24", ""))
        .endpoint("y", endpoint("rtd1", &["10.0.0.5/32"]))
        .block("10.0.7.0/26", block("gone", 1, &[]));
    clash.mesh.mtu = Mtu::Bytes(9000);
    let mut poolless = clash.clone();
    poolless.pools.clear();
    let mut moved = poolless.clone();
    moved.nodes.remove("b");
    moved = moved.block("10.0.1.0/26", block("a", 1, &[]));
    moved = moved.endpoint("w", endpoint("rtd0", &["10.0.1.1/32"]));
    let preferred = tunnelled
        .clone()
        .encrypt(Encryption::Preferred)
        .node("a", keyed(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .node("c", keyed(3, "198.51.100.3/24", ""));
    let required = preferred.clone().encrypt(Encryption::Required);
    let copied = required
        .clone()
        .node("d", keyed(3, "", "2001:db8:9::4/64"))
        .node("b", keyed(2, "192.0.2.2/24", ""));
    let mut keyless = copied.clone();
    keyless = keyless.node("a", node(1, "192.0.2.1/24", "2001:db8:2::1/64"));
    let peered = far
        .clone()
        .label("c", &[("rr", "")])
        .manifest(
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: tor}\n\
             spec: {peerIP: 192.0.2.254, asNumber: 65001, filters: [f], password: {secretKeyRef: {name: s, key: k}}}\n",
        );
    let filtered = peered.clone().encrypt(Encryption::Preferred).manifest(
        "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: f}\n\
             spec: {importV4: [{action: Reject, cidr: 0.0.0.0/0, matchOperator: Equal}]}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n---\n\
             apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n\
             spec: {asNumber: 64600, nodeToNodeMeshEnabled: true}\n",
    );
    let reflected = filtered
        .clone()
        .pool("four", pool("10.0.0.0/16", VxlanMode::CrossSubnet))
        .manifest(
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: rr}\n\
             spec: {nodeSelector: \"!has(rr)\", peerSelector: has(rr)}\n",
        );
    vec![
        one, two, far, peered, filtered, reflected, tunnelled, preferred, required, copied,
        keyless, clash, poolless, moved,
    ]
}

type Expansion = fn(Vec<Store>) -> Vec<Store>;

fn reversed(mut list: Vec<Store>) -> Vec<Store> {
    list.reverse();
    list
}

fn duplicated(list: Vec<Store>) -> Vec<Store> {
    list.into_iter().flat_map(|s| [s.clone(), s]).collect()
}

fn with_empties(list: Vec<Store>) -> Vec<Store> {
    list.into_iter()
        .flat_map(|s| [Store::default(), s])
        .collect()
}

fn squashed(mut list: Vec<Store>) -> Vec<Store> {
    list.split_off(list.len() - 1)
}

fn every_second(list: Vec<Store>) -> Vec<Store> {
    list.into_iter().step_by(2).collect()
}

fn there_and_back(list: Vec<Store>) -> Vec<Store> {
    [list.clone(), reversed(list.clone()), list].concat()
}

fn as_is(list: Vec<Store>) -> Vec<Store> {
    list
}

const EXPANSIONS: [(&str, Expansion); 7] = [
    ("as it is", as_is),
    ("reversed", reversed),
    ("duplicated", duplicated),
    ("with empties", with_empties),
    ("squashed", squashed),
    ("every second", every_second),
    ("there and back", there_and_back),
];

/// Walks the list; `split` looks at the state after each single event too, and `backwards` applies the
/// events between two stores in the other order.
fn walk(name: &str, list: &[Store], split: bool, backwards: bool) {
    let underlay = underlay_of(&life()[0].nodes["a"]);
    let mut snapshot = Snapshot::default();
    let mut at = Store::default();
    let check = |snapshot: &Snapshot, at: &Store, i: usize| {
        let walked = desired(snapshot, &underlay, "a");
        let fresh = desired(&at.snapshot(), &underlay, "a");
        assert_eq!(walked, fresh, "{name}, store {i}");
    };
    for (i, store) in list.iter().enumerate() {
        let mut events = at.diff(store);
        if backwards {
            events.reverse();
        }
        for event in events {
            at.apply(event.clone());
            apply(&mut snapshot, event);
            if split {
                check(&snapshot, &at, i);
            }
        }
        assert_eq!(at, *store);
        check(&snapshot, &at, i);
    }
}

#[test]
fn every_expansion_of_a_list_ends_alike() {
    for (name, expand) in EXPANSIONS {
        let list = expand(life());
        for (split, backwards) in [(false, false), (true, false), (false, true), (true, true)] {
            walk(name, &list, split, backwards);
        }
    }
}

#[test]
fn the_states_of_the_list_differ() {
    // Else the test above could not fail.
    let states: Vec<_> = life().iter().map(|s| s.desired("a")).collect();
    for pair in states.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}
