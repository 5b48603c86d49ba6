//! `check` finds each sort of damage, and nothing in sound records.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use std::collections::BTreeSet;

use common::{Lab, c, ip, small, workload};
use ipam::check::{Records, check};
use ipam::testing::TestStore;
use ipam::{Assign, Release, Request};
use model::block::{Allocation, Block, Identity};
use model::keys;
use proptest::prelude::*;

/// Two nodes, an ordinary workload, an identity in use and one without, a borrowed address.
fn sound() -> Records {
    let mut lab = Lab::new();
    let (mut n1, mut n2) = (lab.node("n1", &small()), lab.node("n2", &small()));
    lab.add_ip(&mut n1, "h", "10.0.0.4").unwrap();
    lab.tell(&mut n2);
    lab.add_ip(&mut n2, "borrower", "10.0.0.5").unwrap();
    lab.tell(&mut n1);
    for name in ["live", "kept"] {
        let wanted = Assign {
            identity: Some(format!("sticky.{name}")),
            ..workload(name)
        };
        lab.assign(&mut n1, wanted).unwrap();
    }
    lab.ask(
        &mut n1,
        Request::Release(Release {
            handle: "kept".into(),
            ..Release::default()
        }),
    )
    .unwrap();
    let mut records = Records::from_pairs(&lab.store.list("ipam/"));
    records.pools = vec![("a".into(), c("10.0.0.0/28"))];
    records.nodes = BTreeSet::from(["n1".into(), "n2".into()]);
    let live = records.identities["sticky.live"].addresses[0];
    let endpoints = [
        ("default/h", ip("10.0.0.4")),
        ("default/borrower", ip("10.0.0.5")),
        ("default/live", live),
    ];
    records.endpoints = Some(endpoints.map(|(n, ip)| (n.to_owned(), ip)).to_vec());
    records
}

fn kinds(records: &Records) -> Vec<String> {
    let mut kinds: Vec<String> = check(records).into_iter().map(|p| p.kind).collect();
    kinds.dedup();
    kinds
}

fn damaged(damage: impl FnOnce(&mut Records)) -> Vec<String> {
    let mut records = sound();
    damage(&mut records);
    kinds(&records)
}

#[test]
fn sound_records_are_clean() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn each_damage_has_its_name() {
    let block = c("10.0.0.4/30");
    let free = damaged(|r| {
        r.blocks.get_mut(&block).unwrap().used.remove(&0);
    });
    assert_eq!(free, ["EndpointWithoutAddress"]);
    let two = damaged(|r| {
        let copy = r.identities["sticky.live"].clone();
        r.identities.insert("sticky.other".into(), copy);
    });
    assert_eq!(two, ["IdentityWithoutAddress", "TwoOwners"]);
    let two = damaged(|r| {
        r.affinities.insert(("n2".into(), block));
    });
    assert_eq!(two, ["AffinityWithoutBlock", "TwoAffineNodes"]);
    let none = damaged(|r| {
        r.affinities.remove(&("n1".into(), block));
    });
    assert_eq!(none, ["BlockWithoutAffinity"]);
    let lone = damaged(|r| {
        r.affinities.insert(("n2".into(), c("10.0.0.0/30")));
    });
    assert!(
        lone.contains(&"AffinityWithoutBlock".to_owned()),
        "{lone:?}"
    );
    let outside = damaged(|r| r.pools.clear());
    assert_eq!(outside, ["BlockOutsidePools"]);
    let gone = damaged(|r| {
        r.nodes.remove("n2");
    });
    assert_eq!(gone, ["UnknownNode"]);
    let no_endpoint = damaged(|r| r.endpoints = Some(Vec::new()));
    assert_eq!(no_endpoint, ["AddressWithoutEndpoint"]);
    assert_eq!(damaged(|r| r.endpoints = None), [] as [String; 0]);
    for name in ["sticky.live", "sticky.kept"] {
        let lost = damaged(|r| {
            r.identities.remove(name);
        });
        assert_eq!(lost, ["LeakedAddress"]);
        let identity = |r: &mut Records, change: fn(&mut Identity)| {
            change(r.identities.get_mut(name).unwrap());
        };
        let empty = damaged(|r| identity(r, |i| i.addresses.clear()));
        assert_eq!(empty, ["EmptyIdentity", "LeakedAddress"]);
        let moved = damaged(|r| identity(r, |i| i.blocks[0] = c("10.0.0.12/30")));
        assert_eq!(moved, ["WrongBlock"]);
    }
    let taken = damaged(|r| {
        let used = r.blocks.values_mut().flat_map(|b| b.used.values_mut());
        let mut kept = used.filter(|a| a.identity() == Some("sticky.kept"));
        kept.next().unwrap().handle = "h".into();
    });
    assert_eq!(taken, ["IdentityWithoutAddress", "LeakedAddress"]);
    let overlap = damaged(|r| {
        let mut wide = Block::new(c("10.0.0.0/29"), None);
        let allocation = Allocation {
            handle: "h".into(),
            node: Some("n1".into()),
            holder: None,
            workload: None,
        };
        wide.used.insert(4, allocation);
        r.blocks.insert(wide.cidr, wide);
    });
    assert!(
        overlap.contains(&"OverlappingBlocks".to_owned()),
        "{overlap:?}"
    );
    assert!(overlap.contains(&"TwoOwners".to_owned()), "{overlap:?}");
    let far = damaged(|r| {
        r.blocks.get_mut(&block).unwrap().cooldown.insert(9, 1);
    });
    assert_eq!(far, ["Unreadable"]);
}

#[test]
fn what_does_not_decode_is_reported_with_its_key() {
    let mut lab = Lab::new();
    for (key, value) in [
        ("ipam/blocks/10.0.0.0/30", "{"),
        ("ipam/blocks/zebra", "{}"),
        (
            "ipam/identities/i",
            r#"{"version":9,"addresses":[],"blocks":[]}"#,
        ),
        ("ipam/affinity/n1", ""),
    ] {
        lab.put(key, value);
    }
    let problems = check(&Records::from_pairs(&lab.store.list("ipam/")));
    let objects: Vec<&str> = problems.iter().map(|p| p.object.as_str()).collect();
    let all = [
        "ipam/affinity/n1",
        "ipam/blocks/10.0.0.0/30",
        "ipam/blocks/zebra",
        "ipam/identities/i",
    ];
    assert_eq!(objects, all);
    assert!(problems.iter().all(|p| p.kind == "Unreadable"));
}

/// JSON of a block or identity with anything in it.
fn value() -> impl Strategy<Value = String> {
    let cidr = prop_oneof![
        "10\\.0\\.0\\.[0-9]{1,2}/(2[0-9]|3[0-2])",
        "fd00::/[0-9]{1,3}",
        ".{0,6}"
    ];
    let place = prop_oneof![0u64..8, any::<u64>()];
    let used = proptest::collection::btree_map(place.clone(), "[a-c]", 0..4);
    let cooldown = proptest::collection::btree_map(place, any::<u64>(), 0..4);
    (
        cidr,
        used,
        cooldown,
        0u32..3,
        proptest::option::of("n[12]"),
        0usize..400,
    )
        .prop_map(|(cidr, used, cooldown, version, node, cut)| {
            let used: std::collections::BTreeMap<_, _> = used
                .into_iter()
                .map(|(place, handle)| (place, serde_json::json!({"handle": handle, "node": node})))
                .collect();
            let value = serde_json::json!({
                "version": version, "cidr": cidr, "node": node, "used": used, "cooldown": cooldown,
                "addresses": ["10.0.0.1", "fd00::1"], "blocks": [cidr], "name": "x",
            });
            let text = value.to_string();
            let kept = if cut < 40 { cut } else { usize::MAX };
            text.chars().take(kept).collect()
        })
}

proptest! {
    /// Whatever stands in the store, nothing panics, and what can be served is served or refused.
    #[test]
    fn foreign_values_harm_nobody(
        blocks in proptest::collection::vec((0u8..16, value()), 0..5),
        identities in proptest::collection::vec(("[a-c]", value()), 0..3),
    ) {
        let mut lab = Lab::new();
        for (place, value) in &blocks {
            let key = c(&format!("10.0.0.{}/30", place / 4 * 4));
            let mut block: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
            if place % 4 > 0 && block.is_object() {
                block["cidr"] = key.to_string().into();
                lab.put(&keys::block(&key), &block.to_string());
                continue;
            }
            lab.put(&keys::block(&key), value);
        }
        for (id, value) in &identities {
            lab.put(&keys::identity(id), value);
        }
        check(&Records::from_pairs(&lab.store.list("ipam/")));
        let mut n1 = lab.node("n1", &small());
        for id in ["a", "b", "c", "d"] {
            let _ = lab.add(&mut n1, id);
            let _ = lab.add_ip(&mut n1, "e", "10.0.0.5");
            let _ = lab.ask(&mut n1, common::release(id));
            let _ = lab.ask(&mut n1, Request::ReleaseAddress(ip("10.0.0.6")));
            let _ = lab.ask(&mut n1, Request::ReleaseBlock(c("10.0.0.4/30")));
        }
        lab.delete(&common::node_key("n2"));
        let _ = lab.ask(&mut n1, Request::ReclaimNode("n2".into(), ipam::Cleanup::default()));
        prop_assert!(n1.is_idle());
    }
}
