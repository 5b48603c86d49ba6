//! Each rule by example.

use std::sync::Arc;
use std::time::Duration;

use model::kernel::{Op, Route};
use model::marks;
use model::state::NodeState;
use netlink::{FakeKernel, Kernel};

use super::rig::*;
use crate::reconcile::{Action, Event, Timing};

#[test]
fn a_state_is_made_true_and_reported() {
    let mut rig = Rig::new(host());
    assert!(!rig.core.status().in_sync);
    assert!(rig.subsystem("routes").starts_with("Degraded: waiting"));
    let shape = Shape {
        workloads: vec![0, 1, 2, 3],
        ..full()
    };
    let revision = rig.want(&shape);
    rig.settle();
    rig.check(&shape);
    assert!(rig.core.status().in_sync);
    assert_eq!(rig.core.status().revision, revision);
    assert_eq!(rig.subsystem("links"), "Ok: 4 workload links");
    assert_eq!(rig.subsystem("tunnels"), "Ok: rtd.vxlan4, 2 peers");
    assert_eq!(rig.subsystem("routes"), "Ok: 9 routes");
    assert_eq!(rig.subsystem("nat"), "Ok: masquerades 1 pools");
    assert!(rig.events.contains(&Event::InSync { revision }));
    assert_eq!(rig.drift(), Vec::<String>::new());
    // One run, and one more for the echo of its own changes.
    assert_eq!(rig.runs, 2);
    rig.resync();
    assert_eq!(rig.runs, 3);
}

#[test]
fn an_incomplete_state_touches_nothing() {
    let mut kernel = host();
    let left_over = full().kernel();
    let observed = kernel.observe().unwrap();
    kernel.apply(&netlink::plan(&left_over, &observed).ops);
    (0..4).for_each(|n| plug(&mut kernel, n));
    let before = kernel.log.len();
    let mut rig = Rig::new(kernel);
    let state = Arc::new(NodeState::default());
    rig.core.handle_desired(state, false, rig.at());
    rig.core.handle_changed(rig.at());
    rig.resync();
    assert_eq!((rig.runs, rig.kernel.log.len()), (0, before));
    assert!(!rig.core.status().in_sync);

    // With a complete one it is adopted: what is wanted already is not touched.
    let shape = Shape {
        peers: vec![1, 20],
        workloads: vec![0, 1, 2, 3],
        ..full()
    };
    rig.want(&shape);
    rig.settle();
    rig.check(&shape);
    let changes = &rig.kernel.log[before..];
    let route = |op: &Op| matches!(op, Op::AddRoute(k, _) | Op::DeleteRoute(k, _) if *k == key("10.1.1.0/26"));
    assert!(!changes.iter().any(route));
    assert_eq!(rig.drift(), Vec::<String>::new());
}

#[test]
fn every_call_that_fails_once_is_made_up_for() {
    let before = Shape {
        vxlan: Some((1400, 2)),
        peers: vec![1, 3, 21, 22],
        workloads: vec![2, 3],
        nat: false,
    };
    let shapes = [before, full(), Shape::default()];
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let mut failing = 0;
        loop {
            let mut rig = Rig::new(host());
            rig.want(&shapes[from]);
            rig.settle();
            let calls = rig.kernel.log.len();
            for n in &shapes[to].workloads {
                plug(&mut rig.kernel, *n);
            }
            rig.kernel.fail_call(failing);
            rig.want(&shapes[to]);
            rig.settle();
            rig.check(&shapes[to]);
            assert!(rig.core.status().in_sync);
            assert_eq!(rig.drift(), Vec::<String>::new(), "call {failing}");
            failing += 1;
            if rig.kernel.log.len() <= calls + failing {
                break;
            }
        }
        assert!(failing > 5);
    }
}

#[test]
fn a_failed_observation_is_repeated() {
    let mut rig = Rig::new(host());
    rig.kernel.fail_observe();
    rig.want(&full());
    rig.run();
    assert!(
        rig.subsystem("links")
            .starts_with("Failed: the kernel cannot be read")
    );
    (0..4).for_each(|n| plug(&mut rig.kernel, n));
    rig.settle();
    rig.check(&full());
}

#[test]
fn failure_blocks_what_depends_on_it_and_nothing_else() {
    let mut rig = Rig::new(host());
    let shape = full();
    let vxlan = shape.kernel().vxlan.into_values().next().unwrap();
    rig.kernel.fail_kind(&Op::CreateVxlan(vxlan));
    rig.want(&shape);
    rig.run();
    let on_vxlan = |op: &Op| match op {
        Op::AddRoute(_, r) => *r == route(Some("10.250.0.20"), marks::VXLAN_V4),
        Op::AddAddress(l, _) => l.as_str() == marks::VXLAN_V4,
        Op::SetFdb(_) => true,
        _ => false,
    };
    assert!(!rig.kernel.log.iter().any(on_vxlan));
    let found = rig.kernel.observe().unwrap().ours;
    assert!(found.nat.is_some() && found.routes.contains_key(&key("10.1.1.0/26")));
    assert!(
        rig.subsystem("tunnels")
            .starts_with("Failed: create vxlan rtd.vxlan4")
    );
    assert!(
        rig.subsystem("routes")
            .starts_with("Degraded: route 10.1.20.0/26")
    );
    assert!(rig.subsystem("nat").starts_with("Ok"));
    assert!(!rig.core.status().in_sync);
    rig.settle();
    rig.check(&shape);
    assert!(rig.core.status().in_sync);
}

#[test]
fn a_tunnel_stays_while_a_route_could_not_leave_it() {
    let mut rig = Rig::new(host());
    let tunnelled = Shape {
        peers: vec![20],
        ..full()
    };
    rig.want(&tunnelled);
    rig.settle();
    // The same block is to go natively, and the tunnel is no longer wanted.
    let mut native = Shape {
        vxlan: None,
        peers: vec![],
        ..full()
    }
    .kernel();
    let dst = key("10.1.20.0/26");
    native.routes.insert(dst, route(Some("192.0.2.30"), "eth0"));
    rig.kernel
        .fail_kind(&Op::ReplaceRoute(dst, native.routes[&dst].clone()));
    let state = NodeState {
        revision: 9,
        kernel: native.clone(),
        ..NodeState::default()
    };
    rig.core.handle_desired(Arc::new(state), true, rig.at());
    rig.now += Duration::from_secs(1);
    rig.run();
    let found = rig.kernel.observe().unwrap().ours;
    assert_eq!(
        found.routes[&dst],
        route(Some("10.250.0.20"), marks::VXLAN_V4)
    );
    assert_eq!((found.vxlan.len(), found.fdb.len()), (1, 1));
    rig.settle();
    let found = rig.kernel.observe().unwrap().ours;
    assert_eq!(found.routes, native.routes);
    assert!(found.vxlan.is_empty());
}

#[test]
fn retries_slow_down_and_what_fails_again_is_logged_once() {
    let mut rig = Rig::new(host());
    let shape = full();
    rig.want(&shape);
    let nat = shape.kernel().nat.unwrap();
    for _ in 0..12 {
        rig.kernel.fail_kind(&Op::SetNat(nat.clone()));
    }
    let (mut starts, mut said) = (Vec::new(), String::new());
    while rig.kernel.state.nat.is_none() {
        let runs = rig.runs;
        rig.run();
        if rig.runs > runs {
            starts.push(rig.now);
        }
        if rig.kernel.state.nat.is_none() {
            said = rig.subsystem("nat");
        }
        rig.now = rig.core.poll_timeout().unwrap().max(rig.now);
    }
    // The echo of the first run gives one early retry; after that pauses grow to the longest.
    let pauses: Vec<_> = starts.windows(2).map(|p| p[1] - p[0]).collect();
    assert!(pauses[0] < Duration::from_millis(100));
    assert!(pauses[10] > Duration::from_secs(14) && pauses[10] <= Duration::from_secs(30));
    let failing = |e: &&Event| matches!(e, Event::Failing { .. });
    assert_eq!(rig.events.iter().filter(failing).count(), 1);
    assert!(said.starts_with("Failed: set table inet routerd"), "{said}");
    rig.settle();
    assert!(rig.subsystem("nat").starts_with("Ok"));
}

#[test]
fn routes_of_others_are_left_alone_and_reported() {
    let mut rig = Rig::new(host());
    let alien = Route {
        protocol: 4,
        ..route(Some("192.0.2.99"), "eth0")
    };
    let (ours, other) = (key("10.1.1.0/26"), key("10.99.0.0/16"));
    rig.kernel.alien_routes.insert(ours, alien.clone());
    rig.kernel.alien_routes.insert(other, alien.clone());
    rig.want(&full());
    rig.settle();
    rig.want(&Shape::default());
    rig.settle();
    rig.want(&full());
    rig.settle();
    assert_eq!(rig.kernel.alien_routes[&ours], alien);
    assert_eq!(rig.kernel.alien_routes[&other], alien);
    let text = rig.subsystem("routes");
    assert!(text.starts_with("Degraded: route 10.1.1.0/26"), "{text}");
    assert!(text.contains("protocol 4"));
    // It is not ours to wait for.
    assert!(rig.core.status().in_sync);
}

#[test]
fn a_missing_workload_link_is_named_once() {
    let mut rig = Rig::new(host());
    rig.kernel.remove_link(workload(1));
    rig.want(&full());
    rig.settle();
    let text = rig.subsystem("links");
    assert!(
        text.starts_with("Degraded: there is no interface rtd000000000001"),
        "{text}"
    );
    assert!(!text.contains("more"));
    assert!(rig.core.status().in_sync);
}

#[test]
fn a_link_being_attached_survives_until_its_endpoint_is_known() {
    let mut rig = Rig::new(host());
    let shape = Shape {
        workloads: vec![1],
        ..full()
    };
    rig.want(&shape);
    for n in [0, 2, 3] {
        rig.core.protect(workload(n), None);
    }
    rig.settle();
    // As the CNI path leaves it.
    let dst = key("10.0.0.2/32");
    let own = route(None, workload(2).as_str());
    rig.damage(|k| drop(k.state.routes.insert(dst, own.clone())));
    rig.core.protect(workload(2), Some(2));
    rig.core.forget(workload(3), rig.at());
    rig.resync();
    let found = rig.kernel.observe().unwrap();
    assert_eq!(found.ours.routes[&dst], own);
    assert!(found.links.contains_key(&workload(0)) && found.links.contains_key(&workload(2)));
    assert!(!found.links.contains_key(&workload(3)), "it was forgotten");
    assert_eq!(rig.drift(), Vec::<String>::new());

    // Revision 2 does not have it after all: its endpoint was deleted again.
    assert_eq!(rig.want(&shape), 2);
    rig.settle();
    assert!(!rig.kernel.links.contains_key(&workload(2)));
    assert!(
        rig.kernel.links.contains_key(&workload(0)),
        "not committed yet"
    );
    assert!(!rig.kernel.state.routes.contains_key(&dst));
}

#[test]
fn a_state_waits_a_little_while_a_link_is_made() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.now += Duration::from_secs(5);
    rig.core.protect(workload(2), None);
    let (asked, runs) = (rig.now, rig.runs);
    rig.want(&full());
    rig.run();
    assert_eq!(rig.runs, runs);
    let wait = Timing::default().attaching;
    assert_eq!(rig.core.poll_timeout(), Some(asked + wait));
    rig.now += wait;
    rig.run();
    assert_eq!(rig.runs, runs + 1, "but not for ever");

    rig.now += Duration::from_secs(5);
    let revision = rig.want(&full());
    rig.core
        .protect(workload(2), Some(revision.cast_unsigned()));
    rig.run();
    assert_eq!(rig.runs, runs + 2, "the link is made");
}

#[test]
fn a_partial_state_adds_and_takes_nothing_away() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    let before = rig.kernel.observe().unwrap();
    let partial = |kernel| NodeState {
        generation: 10,
        revision: 10,
        partial: true,
        kernel,
        ..NodeState::default()
    };
    // As after a start over a store of which nothing could be read.
    let now = rig.at();
    let empty = Arc::new(partial(Shape::default().kernel()));
    rig.core.handle_desired(empty, true, now);
    rig.settle();
    let after = rig.kernel.observe().unwrap();
    assert_eq!(after.ours.routes, before.ours.routes);
    assert_eq!(after.ours.workload_links, before.ours.workload_links);
    assert_eq!(after.ours.vxlan, before.ours.vxlan);
    assert_eq!(after.ours.neighbours, before.ours.neighbours);
    assert_eq!(after.ours.fdb, before.ours.fdb);

    let moved = Shape {
        peers: vec![7],
        ..full()
    };
    let now = rig.at();
    let state = Arc::new(partial(moved.kernel()));
    rig.core.handle_desired(state, true, now);
    rig.settle();
    let after = rig.kernel.observe().unwrap();
    for (key, route) in moved.kernel().routes {
        assert_eq!(after.ours.routes.get(&key), Some(&route));
    }
    for key in before.ours.routes.keys() {
        assert!(after.ours.routes.contains_key(key), "{key:?}");
    }

    rig.revision = 10;
    rig.want(&Shape::default());
    rig.settle();
    let after = rig.kernel.observe().unwrap();
    assert_eq!(after.ours.routes, Shape::default().kernel().routes);
    assert!(after.ours.workload_links.is_empty());
}

#[test]
fn a_link_protected_after_the_observation_is_spared() {
    let mut rig = Rig::new(host());
    let shape = Shape {
        workloads: vec![1],
        ..full()
    };
    rig.want(&shape);
    let observed = rig.kernel.observe();
    assert!(matches!(
        rig.core.poll_action(rig.at()),
        Some(Action::Observe)
    ));
    rig.core.protect(workload(2), None);
    rig.core.handle_observed(observed, rig.at());
    rig.core.protect(workload(3), None);
    rig.settle();
    for (n, there) in [(0, false), (1, true), (2, true), (3, true)] {
        assert_eq!(rig.kernel.links.contains_key(&workload(n)), there, "{n}");
    }
}

#[test]
fn a_link_being_taken_away_is_not_missed() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.core.forget(workload(1), rig.at());
    rig.damage(|k| k.remove_link(workload(1)));
    rig.settle();
    assert!(rig.subsystem("links").starts_with("Ok"));
    assert_eq!(rig.drift(), Vec::<String>::new());
    // Made again under its name before the store says anything.
    rig.core.protect(workload(1), None);
    rig.damage(|k| plug(k, 1));
    rig.settle();
    let hangs_on_it = |k: &FakeKernel| {
        let mut routes = k.state.routes.values();
        routes.any(|r| *r == route(None, workload(1).as_str()))
    };
    assert!(
        !hangs_on_it(&rig.kernel),
        "who makes the link makes what hangs on it"
    );
    let generation = rig.want(&full());
    rig.core
        .protect(workload(1), Some(generation.cast_unsigned()));
    rig.want(&full());
    rig.settle();
    assert!(hangs_on_it(&rig.kernel));
    rig.check(&full());
}

#[test]
fn somebody_who_undoes_every_repair_is_met_ever_less_often() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    let (start, runs) = (rig.now, rig.runs);
    while rig.now < start + Duration::from_secs(60) {
        rig.damage(|k| drop(k.state.routes.remove(&key("10.1.1.0/26"))));
        rig.now = rig.core.poll_timeout().unwrap().max(rig.now);
        rig.run();
    }
    let runs = rig.runs - runs;
    assert!((10..25).contains(&runs), "{runs} runs in a minute");
}

#[test]
fn bursts_of_notifications_are_one_run() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    let runs = rig.runs;
    for _ in 0..40 {
        rig.core.handle_changed(rig.at());
        rig.now += Duration::from_millis(1);
        rig.run();
    }
    rig.settle();
    assert_eq!(rig.runs, runs + 1);
}
