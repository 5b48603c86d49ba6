//! Plans against the fake kernel: random states, mishaps and failures.

#![allow(clippy::unwrap_used)] // a failed test panics

mod mishaps;
mod tunnel;
mod universe;

use std::collections::{BTreeMap, BTreeSet};

use mishaps::{befall, mishap};
use model::kernel::{
    KernelState, Mac, Nat, Neighbour, NextHop, Op, Route, RouteKey, RouteTarget, Vxlan,
};
use model::marks;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use universe::{WORKLOADS, answered_for, host, ip, name, reachable, settle, state, vxlan};

use netlink::{Conflict, Kernel, plan};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_plan_reaches_what_is_desired_and_leaves_the_rest(
        before in state(), after in state(), mishaps in vec(mishap(), 0..5)
    ) {
        let mut k = host();
        prop_assert_eq!(settle(&mut k, &before), Vec::<String>::new());
        mishaps.iter().for_each(|m| befall(&mut k, m));
        let aliens = k.alien_routes.clone();
        let expected = reachable(&after, &k);

        prop_assert_eq!(settle(&mut k, &after), Vec::<String>::new());
        let found = k.observe().unwrap();
        prop_assert_eq!(answered_for(found.ours.clone(), &after, &k), expected);
        prop_assert_eq!(&k.alien_routes, &aliens);
        prop_assert!(k.links.contains_key(&name("eth0")));

        let again = plan(&after, &found);
        prop_assert_eq!(again.ops, vec![]);
        for key in after.routes.keys().filter(|key| aliens.contains_key(key)) {
            let conflict = Conflict::AlienRoute { key: *key, protocol: aliens[key].protocol };
            prop_assert!(again.conflicts.contains(&conflict));
        }
    }

    #[test]
    fn one_failure_anywhere_is_mended_by_trying_again(
        before in state(), after in state(), mishaps in vec(mishap(), 0..3)
    ) {
        let mut start = host();
        settle(&mut start, &before);
        mishaps.iter().for_each(|m| befall(&mut start, m));
        let expected = reachable(&after, &start);
        let ops = plan(&after, &start.observe().unwrap()).ops.len();
        for failing in 0..ops {
            let mut k = start.clone();
            k.fail_call(failing);
            prop_assert!(!settle(&mut k, &after).is_empty());
            for _ in 0..2 {
                settle(&mut k, &after);
            }
            let found = k.observe().unwrap();
            prop_assert_eq!(answered_for(found.ours.clone(), &after, &k), expected.clone());
            prop_assert_eq!(plan(&after, &found).ops, vec![]);
            prop_assert_eq!(&k.alien_routes, &start.alien_routes);
        }
    }

    #[test]
    fn wanting_nothing_removes_all_that_is_ours(before in state()) {
        let mut k = host();
        settle(&mut k, &before);
        settle(&mut k, &KernelState::default());
        let left = answered_for(k.observe().unwrap().ours, &KernelState::default(), &k);
        prop_assert_eq!(left, KernelState::default());
        prop_assert_eq!(k.links.keys().copied().collect::<Vec<_>>(), vec![name("eth0")]);
    }
}

#[test]
fn each_kind_of_operation_can_fail_once() {
    let mut k = host();
    k.fail_kind(&Op::DeleteNat);
    let results = k.apply(&[Op::SetNat(Nat::default()), Op::DeleteNat, Op::DeleteNat]);
    assert!(matches!(results.as_slice(), [Ok(()), Err(_), Ok(())]));
    k.fail_observe();
    assert!(k.observe().is_err());
    assert!(k.observe().is_ok());
}

#[test]
fn routes_that_gateways_need_come_first_and_go_last() {
    let eth0 = name("eth0");
    let key = |dst: &str| RouteKey {
        table: 254,
        dst: dst.parse().unwrap(),
        metric: 0,
    };
    let hop = |via: Option<&str>| {
        let hop = NextHop {
            via: via.map(ip),
            dev: eth0,
            onlink: false,
        };
        Route {
            protocol: 82,
            target: RouteTarget::Hop(hop),
            src: None,
            mtu: None,
        }
    };
    // By key alone, the one with the gateway would come first.
    let routes = BTreeMap::from([
        (key("10.0.0.0/26"), hop(Some("203.0.113.1"))),
        (key("203.0.113.1/32"), hop(None)),
    ]);
    let desired = KernelState {
        routes,
        ..KernelState::default()
    };
    let mut k = host();
    for n in WORKLOADS {
        k.remove_link(name(n));
    }
    assert_eq!(settle(&mut k, &desired), Vec::<String>::new());
    settle(&mut k, &KernelState::default());
    let deleted: Vec<_> = k.log.split_off(2);
    assert!(
        matches!(&deleted[..], [Op::DeleteRoute(a, _), Op::DeleteRoute(b, _)]
        if *a == key("10.0.0.0/26") && *b == key("203.0.113.1/32"))
    );
}

#[test]
fn a_new_mac_takes_the_neighbours_along() {
    let mut k = host();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let v = vxlan(marks::VXLAN_V4)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let n = Neighbour {
        dev: v.name,
        ip: ip("10.1.0.1"),
        mac: Mac([2; 6]),
    };
    let mut desired = KernelState::default();
    desired.vxlan.insert(v.name, v);
    desired.neighbours = BTreeSet::from([n]);
    settle(&mut k, &desired);
    let mac = Mac([2, 9, 9, 9, 9, 9]);
    desired.vxlan.insert(v.name, Vxlan { mac, ..v });
    let plan = plan(&desired, &k.observe().unwrap());
    let wanted = [Op::SetMac(v.name, mac), Op::SetNeighbour(n)];
    assert_eq!(
        plan.ops.iter().filter(|o| wanted.contains(o)).count(),
        2,
        "{:?}",
        plan.ops
    );
}
