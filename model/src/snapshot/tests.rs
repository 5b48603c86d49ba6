#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow

mod bgp;
mod policy;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kv::{Event, Revision};

const LOCAL: &str = "a";

/// Stored form of a resource.
fn stored(kind: &str, namespace: Option<&str>, name: &str, spec: serde_json::Value) -> Vec<u8> {
    let mut object = json!({
        "apiVersion": "routerd/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    if let Some(ns) = namespace {
        object["metadata"]["namespace"] = ns.into();
        object["metadata"]["labels"] = json!({"app": name});
    }
    object.to_string().into_bytes()
}

fn endpoint(name: &str, node: &str) -> Vec<u8> {
    let spec = json!({"node": node, "interfaceName": "tap0", "ipNetworks": ["10.0.0.1/32"]});
    stored("WorkloadEndpoint", Some("shop"), name, spec)
}

fn block(node: &str, user: &str) -> Vec<u8> {
    json!({"version": 1, "cidr": "10.0.0.0/26", "node": node, "used": {"1": {"handle": "h", "node": user}}})
        .to_string()
        .into_bytes()
}

fn event(revision: Revision, key: &str, value: Option<Vec<u8>>) -> Event {
    Event {
        key: key.to_owned(),
        value,
        revision,
    }
}

fn apply(s: &mut Snapshot, revision: Revision, key: &str, value: Option<Vec<u8>>) -> Changed {
    s.apply(LOCAL, &event(revision, key, value))
}

const WEB: &str = "resources/workloadendpoints/shop/web";
const POOL: &str = "resources/ippools/p";

fn web() -> EndpointKey {
    EndpointKey {
        namespace: "shop".into(),
        name: "web".into(),
    }
}

fn pool_value() -> Vec<u8> {
    stored("IPPool", None, "p", json!({"cidr": "10.0.0.0/16"}))
}

#[test]
fn an_endpoint_moves_between_nodes() {
    let mut s = Snapshot::default();
    assert_eq!(
        apply(&mut s, 1, WEB, Some(endpoint("web", "b"))),
        Changed::REMOTE_ENDPOINTS
    );
    assert_eq!(&*s.remote_endpoints[&web()].node, "b");
    assert_eq!(s.remote_endpoints[&web()].ips.len(), 1);
    let both = Changed::REMOTE_ENDPOINTS | Changed::LOCAL_ENDPOINTS;
    assert_eq!(apply(&mut s, 2, WEB, Some(endpoint("web", "a"))), both);
    assert!(s.remote_endpoints.is_empty() && s.local_endpoints.contains_key(&web()));
    assert_eq!(apply(&mut s, 3, WEB, Some(endpoint("web", "c"))), both);
    assert_eq!(apply(&mut s, 4, WEB, None), Changed::REMOTE_ENDPOINTS);
    assert!(s.remote_endpoints.is_empty() && s.local_endpoints.is_empty());
}

#[test]
fn what_is_unusable_is_reported_and_replaces_nothing() {
    let mut s = Snapshot::default();
    let rejected = |s: &Snapshot| {
        let all = s
            .rejected
            .values()
            .map(|r| format!("{}/{}: {}", r.kind, r.name, r.message));
        all.collect::<Vec<_>>().join("\n")
    };
    apply(&mut s, 1, POOL, Some(pool_value()));
    let cut = || Some(b"{\"apiVersion\":".to_vec());
    assert_eq!(apply(&mut s, 2, POOL, cut()), Changed::REJECTED);
    assert!(rejected(&s).starts_with("IPPool/p: line 1: stored value: is no readable JSON"));
    assert!(rejected(&s).ends_with("; what was read before it stays in force"));
    assert_eq!(s.unknown().count(), 0);
    assert!(apply(&mut s, 2, POOL, cut()).is_empty());
    let invalid = stored(
        "IPPool",
        None,
        "p",
        json!({"cidr": "10.0.0.0/16", "blockSize": 40}),
    );
    assert_eq!(apply(&mut s, 3, POOL, Some(invalid)), Changed::REJECTED);
    assert!(rejected(&s).contains("spec.blockSize = 40"));
    assert_eq!(s.pools["p"].spec.block_size, None);
    assert_eq!(
        apply(&mut s, 4, POOL, Some(pool_value())),
        Changed::REJECTED
    );
    assert_eq!((rejected(&s).as_str(), s.pools.len()), ("", 1));
    // Deleted is deleted, readable or not.
    apply(&mut s, 4, POOL, cut());
    assert_eq!(
        apply(&mut s, 4, POOL, None),
        Changed::POOLS | Changed::REJECTED
    );
    assert_eq!((rejected(&s).as_str(), s.pools.len()), ("", 0));
    // Nothing was read before: nothing stands.
    assert_eq!(apply(&mut s, 4, POOL, cut()), Changed::REJECTED);
    assert!(s.pools.is_empty() && !rejected(&s).contains("stays in force"));
    assert_eq!(s.unknown().count(), 1);
    assert_eq!(apply(&mut s, 4, POOL, None), Changed::REJECTED);

    for (key, value, message) in [
        (
            "resources/ippools/q",
            pool_value(),
            "IPPool/q: the value is IPPool/p;",
        ),
        (
            "resources/ippools/x/y",
            pool_value(),
            "Key/resources/ippools/x/y: ",
        ),
        (
            "resources/widgets/w",
            b"{}".to_vec(),
            "Key/resources/widgets/w: ",
        ),
        (
            "ipam/blocks/10.0.0.64/26",
            block("a", "a"),
            "Block/10.0.0.64/26: the value is the block 10.0.0.0/26",
        ),
        (
            "ipam/blocks/10.0.0.9/26",
            block("a", "a"),
            "Key/ipam/blocks/10.0.0.9/26: ",
        ),
        (
            "ipam/blocks/10.0.0.0/26",
            b"[]".to_vec(),
            "Block/10.0.0.0/26: is no readable record",
        ),
        (
            "resources/meshconfigurations/mine",
            stored("MeshConfiguration", None, "mine", json!({})),
            "MeshConfiguration/mine: MeshConfiguration/mine: metadata.name",
        ),
    ] {
        assert_eq!(
            apply(&mut s, 5, key, Some(value)),
            Changed::REJECTED,
            "{key}"
        );
        assert!(rejected(&s).contains(message), "{key}: {}", rejected(&s));
        assert_eq!(apply(&mut s, 6, key, None), Changed::REJECTED, "{key}");
    }
    assert_eq!(rejected(&s), "");
}

#[test]
fn keys_that_are_not_kept_change_nothing() {
    let mut s = Snapshot::default();
    for key in [
        "ipam/identities/i",
        "ipam/affinity/a/10.0.0.0/26",
        "ipam/pools",
        "owners/a",
        "other",
    ] {
        assert!(
            apply(&mut s, 1, key, Some(b"x".to_vec())).is_empty(),
            "{key}"
        );
    }
    assert_eq!(s.revision, 0);
}

#[test]
fn configurations_fall_back_to_their_defaults() {
    let mut s = Snapshot::default();
    let key = "resources/meshconfigurations/default";
    let mesh = |spec| Some(stored("MeshConfiguration", None, "default", spec));
    assert_eq!(apply(&mut s, 1, key, None), Changed::NONE);
    assert_eq!(apply(&mut s, 2, key, mesh(json!({}))), Changed::NONE);
    assert_eq!(
        apply(&mut s, 3, key, mesh(json!({"vxlanPort": 8472}))),
        Changed::MESH
    );
    assert_eq!(s.mesh.vxlan_port, 8472);
    assert_eq!(apply(&mut s, 4, key, None), Changed::MESH);
    assert_eq!(s.mesh, MeshConfigurationSpec::default());
    let key = "resources/ipamconfigurations/default";
    let ipam = stored(
        "IPAMConfiguration",
        None,
        "default",
        json!({"strictAffinity": true}),
    );
    assert_eq!(apply(&mut s, 5, key, Some(ipam)), Changed::IPAM);
    assert!(s.ipam.strict_affinity);
    assert_eq!(
        apply(&mut s, 6, key, Some(b"?".to_vec())),
        Changed::REJECTED
    );
    assert!(s.ipam.strict_affinity);
    assert_eq!(
        apply(&mut s, 7, key, None),
        Changed::IPAM | Changed::REJECTED
    );
    assert!(!s.ipam.strict_affinity);
}

#[test]
fn blocks_are_summed_up() {
    let mut s = Snapshot::default();
    let key = "ipam/blocks/10.0.0.0/26";
    apply(&mut s, 1, key, Some(block("a", "b")));
    let cidr: Cidr = "10.0.0.0/26".parse().unwrap();
    assert_eq!(
        s.blocks[&cidr],
        BlockSummary {
            node: Some("a".into()),
            in_use: true,
            borrowed: vec![("10.0.0.1".parse().unwrap(), "b".into())],
        }
    );
    apply(&mut s, 2, key, Some(block("a", "a")));
    assert!(s.blocks[&cidr].borrowed.is_empty());
    // One more address of its own node is nothing to other nodes.
    let two = br#"{"version":1,"cidr":"10.0.0.0/26","node":"a","used":{"1":{"handle":"h","node":"a"},"2":{"handle":"i","node":"a"}}}"#;
    assert_eq!(apply(&mut s, 3, key, Some(two.to_vec())), Changed::NONE);
}

fn echo(s: &mut Snapshot, revision: Revision, key: &str, value: Option<Vec<u8>>) -> Changed {
    s.echo(LOCAL, &event(revision, key, value))
}

#[test]
fn an_own_write_is_not_undone_by_what_the_watch_still_brings() {
    let mut s = Snapshot::default();
    apply(&mut s, 3, POOL, Some(pool_value()));
    let web = |node| Some(endpoint("web", node));
    assert_eq!(echo(&mut s, 7, WEB, web("a")), Changed::LOCAL_ENDPOINTS);
    assert_eq!(echo(&mut s, 7, POOL, None), Changed::POOLS);
    // Older, and then the same again.
    assert!(apply(&mut s, 5, WEB, web("b")).is_empty());
    assert!(apply(&mut s, 6, POOL, Some(pool_value())).is_empty());
    assert!(apply(&mut s, 7, WEB, web("a")).is_empty());
    assert!(apply(&mut s, 7, POOL, None).is_empty());
    assert_eq!(s.bookkeeping.echoes.len(), 0);
    assert!(s.pools.is_empty() && s.local_endpoints.len() == 1);
    // Caught up: what comes now counts.
    assert_eq!(apply(&mut s, 8, WEB, None), Changed::LOCAL_ENDPOINTS);
}

#[test]
fn an_own_write_that_comes_late_undoes_nothing() {
    let mut s = Snapshot::default();
    let web = |node| Some(endpoint("web", node));
    apply(&mut s, 7, WEB, web("a"));
    apply(&mut s, 9, WEB, web("b"));
    assert!(echo(&mut s, 7, WEB, web("a")).is_empty());
    assert!(echo(&mut s, 8, WEB, None).is_empty());
    assert_eq!(s.remote_endpoints.len(), 1);
    assert_eq!(s.bookkeeping.echoes.len(), 0);
    // In the middle of a listing: newer keys were told, this one not yet.
    apply(&mut s, 20, POOL, Some(pool_value()));
    let db = "resources/workloadendpoints/shop/db";
    assert_eq!(
        echo(&mut s, 15, db, Some(endpoint("db", "a"))),
        Changed::LOCAL_ENDPOINTS
    );
    assert!(apply(&mut s, 15, db, Some(endpoint("db", "a"))).is_empty());
}

#[test]
fn a_listing_keeps_own_writes_that_are_newer() {
    let mut s = Snapshot::default();
    apply(&mut s, 2, POOL, Some(pool_value()));
    s.listed(LOCAL, 3);
    echo(&mut s, 9, WEB, Some(endpoint("web", "a")));
    echo(&mut s, 10, POOL, None);
    // Read at 8, told after the write at 10.
    apply(&mut s, 8, POOL, Some(pool_value()));
    assert!(s.listed(LOCAL, 8).is_empty());
    assert_eq!((s.pools.len(), s.local_endpoints.len()), (0, 1));
}

#[test]
fn a_store_with_another_history_is_taken_at_its_word() {
    let mut s = Snapshot::default();
    apply(
        &mut s,
        90,
        "resources/nodes/b",
        Some(stored("Node", None, "b", json!({}))),
    );
    s.listed(LOCAL, 90);
    echo(&mut s, 99, POOL, None);
    // The store is back with an older backup: the pool stands there, the node does not.
    apply(&mut s, 2, POOL, Some(pool_value()));
    apply(&mut s, 4, "resources/nodes/b", None);
    assert!(s.pools.is_empty());
    assert_eq!(s.listed(LOCAL, 4), Changed::POOLS);
    assert_eq!((s.pools.len(), s.nodes.len(), s.revision), (1, 0, 4));
}

/// A history: each change is a key and the value that it holds then.
fn change() -> impl Strategy<Value = (&'static str, Option<Vec<u8>>)> {
    let node = prop::sample::select(vec!["a", "b", "c"]);
    let web = node.clone().prop_map(|n| (WEB, Some(endpoint("web", n))));
    let db = node.clone().prop_map(|n| {
        (
            "resources/workloadendpoints/shop/db",
            Some(endpoint("db", n)),
        )
    });
    let blocks =
        (node.clone(), node).prop_map(|(n, u)| ("ipam/blocks/10.0.0.0/26", Some(block(n, u))));
    let pools = (24..28u8).prop_map(|size| {
        (
            POOL,
            Some(stored(
                "IPPool",
                None,
                "p",
                json!({"cidr": "10.0.0.0/16", "blockSize": size}),
            )),
        )
    });
    let ports = (0..3u16).prop_map(|p| {
        let spec = json!({"vxlanPort": p});
        (
            "resources/meshconfigurations/default",
            Some(stored("MeshConfiguration", None, "default", spec)),
        )
    });
    let keys = vec![
        WEB,
        POOL,
        "resources/workloadendpoints/shop/db",
        "ipam/blocks/10.0.0.0/26",
        "resources/meshconfigurations/default",
        "resources/nodes/b",
        "resources/namespaces/shop",
        "resources/ipreservations/r",
        "resources/odd/key",
        "ipam/identities/i",
    ];
    let any = (
        prop::sample::select(keys),
        prop::option::of(Just(b"{\"kind\":7}".to_vec())),
    );
    prop_oneof![
        3 => web, 2 => db, 2 => blocks, 2 => pools, 1 => ports, 4 => any,
        1 => Just(("resources/nodes/b", Some(stored("Node", None, "b", json!({}))))),
        1 => Just(("resources/namespaces/shop", Some(stored("Namespace", None, "shop", json!({}))))),
        1 => Just(("resources/ipreservations/r", Some(stored("IPReservation", None, "r", json!({}))))),
    ]
}

/// The map that the store is after every change up to `revision`.
fn store_at(history: &[Event], revision: Revision) -> BTreeMap<String, (Vec<u8>, Revision)> {
    let mut map = BTreeMap::new();
    for e in history.iter().filter(|e| e.revision <= revision) {
        match &e.value {
            Some(v) => map.insert(e.key.clone(), (v.clone(), e.revision)),
            None => map.remove(&e.key),
        };
    }
    map
}

/// What a follower that starts at `revision` knows.
fn list(history: &[Event], revision: Revision) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (key, (value, at)) in store_at(history, revision) {
        snapshot.apply(LOCAL, &event(at, &key, Some(value)));
    }
    snapshot.listed(LOCAL, revision);
    snapshot
}

fn readable(e: &Event) -> bool {
    let mut s = Snapshot::default();
    s.apply(LOCAL, e);
    s.rejected.is_empty()
}

/// Of each key the last readable value since it was deleted last; beside it what is there now.
fn last_readable(history: &[Event]) -> Snapshot {
    let (mut good, mut bad) = (BTreeMap::new(), BTreeMap::new());
    for e in history {
        bad.remove(&e.key);
        match (&e.value, readable(e)) {
            (None, _) => drop(good.remove(&e.key)),
            (Some(_), true) => drop(good.insert(&e.key, e)),
            (Some(_), false) => drop(bad.insert(&e.key, e)),
        }
    }
    let mut snapshot = Snapshot::default();
    for e in good.values().chain(bad.values()) {
        snapshot.apply(LOCAL, e);
    }
    snapshot
}

/// The listing holds exactly what the naive map does, each key in one place.
fn check_listing(s: &Snapshot, map: &BTreeMap<String, (Vec<u8>, Revision)>) {
    let kept = map.keys().filter(|k| !k.starts_with("ipam/identities/"));
    let configured = map.contains_key("resources/meshconfigurations/default")
        && !s
            .rejected
            .contains_key("resources/meshconfigurations/default");
    let held = s.nodes.len()
        + s.pools.len()
        + s.reservations.len()
        + s.namespaces.len()
        + s.local_endpoints.len()
        + s.remote_endpoints.len()
        + s.blocks.len()
        + s.rejected.len()
        + usize::from(configured);
    assert_eq!(held, kept.count());
    for (key, endpoint) in &s.remote_endpoints {
        assert_ne!(&*endpoint.node, LOCAL);
        let stored = &map[&format!("resources/workloadendpoints/{}/{}", key.namespace, key.name)].0;
        assert!(
            String::from_utf8_lossy(stored).contains(&format!("\"node\":\"{}\"", endpoint.node))
        );
    }
    assert!(s.local_endpoints.values().all(|r| r.spec.node == LOCAL));
}

proptest! {
    #[test]
    fn own_writes_seen_early_end_like_the_store(
        changes in prop::collection::vec((change(), prop::bool::weighted(0.3)), 1..30),
        // How many changes ahead of the watch each own write is seen; 0 is none.
        early in prop::collection::vec(0..6usize, 30),
        // Keys below `ipam/` come by another watch, this many changes behind.
        behind in 0..5usize,
    ) {
        // Some changes share a revision with the one before, as in a transaction of several keys.
        let mut history: Vec<Event> = Vec::new();
        for ((key, value), same) in changes {
            let last = history.last().map_or(1, |e| e.revision);
            let taken = history.iter().any(|e| e.revision == last && e.key == key);
            history.push(event(if same && !taken { last } else { last + 1 }, key, value));
        }
        let end = history.last().map_or(0, |e| e.revision);

        let mut s = Snapshot::default();
        for now in 0..history.len() + behind {
            for (at, e) in history.iter().enumerate().skip(now) {
                // What this daemon writes, it can read.
                if at - now == early[at % early.len()] && at > now && readable(e) {
                    s.echo(LOCAL, e);
                    prop_assert!(s.echo(LOCAL, e).is_empty());
                }
            }
            let is_block = |e: &&Event| e.key.starts_with("ipam/");
            let told = history.get(now).filter(|e| !is_block(e));
            let late = now.checked_sub(behind).and_then(|at| history.get(at)).filter(is_block);
            for e in told.into_iter().chain(late) {
                let before = s.clone();
                let changed = s.apply(LOCAL, e);
                let differs = before.differs(&s);
                prop_assert_eq!(changed | differs, changed, "{:?} is more than {:?}", differs, changed);
            }
        }
        s.listed(LOCAL, end);
        check_listing(&list(&history, end), &store_at(&history, end));
        let expected = last_readable(&history);
        prop_assert_eq!(expected.differs(&s), Changed::NONE, "{:#?}\n{:#?}", s, expected);
        prop_assert_eq!(s.revision, end);
        prop_assert_eq!(s.bookkeeping.echoes.len(), 0);
    }
}
