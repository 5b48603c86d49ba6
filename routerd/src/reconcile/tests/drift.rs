//! What others change is named, and repaired.

use model::kernel::{Mac, Route};
use model::marks;
use netlink::FakeKernel;

use super::rig::*;
use crate::reconcile::Event;

/// Damages a settled kernel, and gives back what was said of it. It is repaired in any case.
fn after(damage: impl FnOnce(&mut FakeKernel)) -> Vec<String> {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    let events = rig.events.len();
    rig.damage(damage);
    rig.settle();
    rig.check(&full());
    let drift = rig.drift();
    let said = rig.events[events..]
        .iter()
        .any(|e| matches!(e, Event::Drifted { total, .. } if *total == drift.len()));
    assert_eq!(said, !drift.is_empty());
    drift
}

#[test]
fn a_route() {
    assert_eq!(
        after(|k| drop(k.state.routes.remove(&key("10.1.1.0/26")))),
        ["route 10.1.1.0/26 via 192.0.2.11 dev eth0: missing"]
    );
    assert_eq!(
        after(|k| {
            let other = route(Some("192.0.2.77"), "eth0");
            k.state.routes.insert(key("10.1.1.0/26"), other);
        }),
        ["route 10.1.1.0/26 via 192.0.2.11 dev eth0: changed"]
    );
    assert_eq!(
        after(|k| {
            let other = route(Some("192.0.2.77"), "eth0");
            k.state.routes.insert(key("10.1.9.0/26"), other);
        }),
        ["route 10.1.9.0/26 via 192.0.2.77 dev eth0: unexpected"]
    );
}

#[test]
fn a_device_without_all_that_hung_on_it() {
    assert_eq!(
        after(|k| k.remove_link(name(marks::VXLAN_V4))),
        ["vxlan rtd.vxlan4 id 4096 local 192.0.2.1 dev eth0 dstport 4789: missing"]
    );
}

#[test]
fn settings_of_a_link() {
    assert_eq!(
        after(|k| k.state.vxlan.get_mut(&name(marks::VXLAN_V4)).unwrap().mtu = 1200),
        ["link rtd.vxlan4 mtu 1450: changed"]
    );
    assert_eq!(
        after(|k| k.links.get_mut(&workload(1)).unwrap().up = false),
        ["link rtd000000000001 up: changed"]
    );
}

#[test]
fn entries_and_the_table() {
    assert_eq!(
        after(|k| {
            let mut n = *k.state.neighbours.first().unwrap();
            k.state.neighbours.remove(&n);
            n.mac = Mac([9; 6]);
            k.state.neighbours.insert(n);
            k.state.fdb.pop_first();
        }),
        [
            "fdb 02:04:00:00:01:14 dst 198.51.100.20 dev rtd.vxlan4: missing",
            "neighbour 10.250.0.20 lladdr 02:04:00:00:01:14 dev rtd.vxlan4: changed",
        ]
    );
    assert_eq!(
        after(|k| k.state.nat = None),
        ["table inet routerd (1 sources, 1 exempt): missing"]
    );
    assert_eq!(
        after(|k| {
            let path = "net/ipv4/ip_forward".to_owned();
            k.state.sysctls.insert(path, "0".to_owned());
        }),
        ["sysctl net/ipv4/ip_forward = 1: changed"]
    );
}

#[test]
fn a_workload_link_that_vanishes() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.damage(|k| k.remove_link(workload(1)));
    rig.settle();
    assert_eq!(rig.drift(), ["link rtd000000000001: missing"]);
    rig.resync();
    assert_eq!(rig.drift().len(), 1, "named once");
}

#[test]
fn what_the_store_changes_is_none() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    // The CNI path made the link, route and neighbour of workload 3 before the store tells of it.
    let next = Shape {
        peers: vec![1, 21],
        workloads: vec![2, 3],
        ..full()
    };
    rig.damage(|k| {
        plug(k, 3);
        let dst = key("10.0.0.3/32");
        let own = route(None, workload(3).as_str());
        k.state.routes.insert(dst, own);
    });
    rig.want(&next);
    rig.settle();
    rig.check(&next);
    assert_eq!(rig.drift(), Vec::<String>::new());
}

#[test]
fn it_is_found_though_the_store_changes_at_once() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.damage(|k| {
        k.state.routes.remove(&key("10.1.1.0/26"));
        k.state.routes.remove(&key("10.1.2.0/26"));
    });
    // Peer 2 is gone by the time we look, so its route is not missed.
    let next = Shape {
        peers: vec![1, 20, 21],
        ..full()
    };
    rig.want(&next);
    rig.settle();
    rig.check(&next);
    let found = ["route 10.1.1.0/26 via 192.0.2.11 dev eth0: missing"];
    assert_eq!(rig.drift(), found);
}

#[test]
fn the_slow_timer_finds_what_nobody_told() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.kernel.state.routes.remove(&key("10.1.1.0/26"));
    rig.settle();
    assert_eq!(rig.drift(), Vec::<String>::new());
    rig.resync();
    rig.check(&full());
    assert_eq!(rig.drift().len(), 1);
    assert_eq!(rig.core.status().drift[0].at, "1970-01-01T00:01:00Z");
}

#[test]
fn the_list_keeps_the_newest() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    for n in 0..120u8 {
        let stray = key(&format!("10.7.{n}.0/26"));
        let strange: Route = route(Some("192.0.2.77"), "eth0");
        rig.damage(|k| drop(k.state.routes.insert(stray, strange)));
        rig.settle();
    }
    let drift = rig.drift();
    assert_eq!(drift.len(), 100);
    assert!(
        drift[0].starts_with("route 10.7.119.0/26") && drift[99].starts_with("route 10.7.20.0")
    );
}
