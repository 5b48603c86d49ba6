//! Routes that were learnt by BGP.

use model::kernel::KernelState;
use netlink::learnt::{Checked, Learnt, LearntRoutes, Way};
use netlink::testing::{Netns, sh};
use netlink::{Kernel, Netlink, plan};

use crate::universe::{ip, name};

const HOST: &str = "
    for i in 0 1; do
        ip link add eth$i type veth peer name wire$i
        ip link set wire$i up; ip link set eth$i up
        ip addr add 192.0.$i.1/24 dev eth$i
        ip -6 addr add 2001:db8:$i::1/64 dev eth$i nodad
    done";

fn host() -> Netns {
    let ns = Netns::new();
    ns.sh(HOST);
    ns.await_ready();
    ns
}

fn way(gateway: &str) -> Way {
    let (gateway, interface) = match gateway.split_once('%') {
        Some((gateway, interface)) => (gateway, Some(name(interface))),
        None => (gateway, None),
    };
    Way {
        gateway: ip(gateway),
        interface,
    }
}

fn learnt(prefix: &str, ways: &[&str]) -> Learnt {
    Learnt {
        prefix: prefix.parse().unwrap(),
        ways: ways.iter().map(|w| way(w)).collect(),
    }
}

fn ok(results: Vec<Result<(), netlink::Error>>) {
    results.into_iter().for_each(|r| r.unwrap());
}

/// The routes of the protocol as `ip` prints them, hops of one on one line.
fn shown() -> Vec<String> {
    let text = sh("ip route show proto 83; ip -6 route show proto 83").replace("\n\t", " ");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines()
        .map(|l| {
            words(l)
                .replace(" metric 83000", "")
                .replace(" pref medium", "")
        })
        .map(|l| l.replace(" proto 83", "").replace(" weight 1", ""))
        .collect()
}

#[test]
fn routes_of_every_form_come_change_and_go() {
    host().run(|| {
        let mut routes = LearntRoutes::open().unwrap();
        ok(routes.apply(&[
            learnt("10.1.0.0/16", &["192.0.0.7"]),
            learnt("10.2.0.0/16", &["192.0.1.7", "192.0.0.7"]),
            learnt("10.3.0.0/16", &["fe80::7%eth1"]),
            learnt("0.0.0.0/0", &["2001:db8::7"]),
            learnt("fd01::/64", &["2001:db8::7"]),
            learnt("fd02::/64", &["fe80::7%eth0", "2001:db8:1::7"]),
            learnt("::/0", &["fe80::8%eth1"]),
        ]));
        let all = [
            "default via inet6 2001:db8::7 dev eth0",
            "10.1.0.0/16 via 192.0.0.7 dev eth0",
            "10.2.0.0/16 nexthop via 192.0.0.7 dev eth0 nexthop via 192.0.1.7 dev eth1",
            "10.3.0.0/16 via inet6 fe80::7 dev eth1",
            "fd01::/64 via 2001:db8::7 dev eth0",
            "fd02::/64 nexthop via 2001:db8:1::7 dev eth1 nexthop via fe80::7 dev eth0",
            "default via fe80::8 dev eth1",
        ];
        assert_eq!(shown(), all);
        // Nothing of it is the reconciler's to look at or to take away.
        let observed = Netlink::open([]).unwrap().observe().unwrap();
        assert_eq!(plan(&KernelState::default(), &observed).ops, []);
        assert!(observed.alien_routes.values().all(|p| *p != 83));

        ok(routes.apply(&[
            learnt("10.1.0.0/16", &["192.0.0.7", "192.0.1.7"]),
            learnt("10.2.0.0/16", &["192.0.1.7"]),
            learnt("fd01::/64", &["2001:db8::7", "2001:db8:1::7"]),
            learnt("fd02::/64", &["2001:db8:1::7"]),
            learnt("10.3.0.0/16", &[]),
            learnt("::/0", &[]),
            learnt("10.99.0.0/16", &[]),
        ]));
        let then = [
            "default via inet6 2001:db8::7 dev eth0",
            "10.1.0.0/16 nexthop via 192.0.0.7 dev eth0 nexthop via 192.0.1.7 dev eth1",
            "10.2.0.0/16 via 192.0.1.7 dev eth1",
            "fd01::/64 nexthop via 2001:db8::7 dev eth0 nexthop via 2001:db8:1::7 dev eth1",
            "fd02::/64 via 2001:db8:1::7 dev eth1",
        ];
        assert_eq!(shown(), then);
        assert_eq!(routes.check().unwrap(), Checked::default());
        assert_eq!(routes.clear().unwrap(), 5);
        assert!(shown().is_empty() && routes.is_empty());
    });
}

#[test]
fn what_is_not_ours_stands() {
    host().run(|| {
        sh(
            "ip route add 10.1.0.0/16 via 192.0.0.9 metric 83000 proto static
            ip -6 route add fd01::/64 via 2001:db8::9 metric 83000 proto static
            ip route add 10.2.0.0/16 via 192.0.0.9 proto static",
        );
        let before = sh("ip route; ip -6 route");
        let mut routes = LearntRoutes::open().unwrap();
        let results = routes.apply(&[
            learnt("10.1.0.0/16", &["192.0.0.7"]),
            learnt("fd01::/64", &["2001:db8::7"]),
            // Beside the administrator's, and beside what is connected.
            learnt("10.2.0.0/16", &["192.0.0.7"]),
            learnt("192.0.1.0/24", &["192.0.0.7"]),
        ]);
        let failed: Vec<_> = results.iter().map(|r| r.as_ref().err()).collect();
        let errno = |at: usize| failed[at].unwrap().errno();
        assert_eq!(
            (errno(0), errno(1)),
            (Some(libc::EEXIST), Some(libc::EEXIST))
        );
        assert_eq!((failed[2], failed[3]), (None, None));
        assert!(sh("ip route get 10.2.0.1").contains("via 192.0.0.9"));
        assert!(sh("ip route get 192.0.1.9").contains("dev eth1"));
        let checked = routes.check().unwrap();
        assert_eq!(checked.failed.map(|(count, _)| count), Some(2));
        routes.clear().unwrap();
        assert_eq!(sh("ip route; ip -6 route"), before);
    });
}

#[test]
fn each_error_is_its_routes_and_stops_no_other() {
    host().run(|| {
        let changes: Vec<Learnt> = (0..1500)
            .map(|i| {
                let prefix = format!("10.{}.{}.0/24", i / 250, i % 250);
                match i % 100 {
                    7 => learnt(&prefix, &["203.0.113.1"]),
                    8 => learnt(&prefix, &["fe80::1"]),
                    9 => learnt(&prefix, &["192.0.0.1"]),
                    _ => learnt(&prefix, &["192.0.0.7"]),
                }
            })
            .collect();
        let mut routes = LearntRoutes::open().unwrap();
        let results = routes.apply(&changes);
        for (i, result) in results.iter().enumerate() {
            assert_eq!(
                result.is_err(),
                (7..=9).contains(&(i % 100)),
                "{i}: {result:?}"
            );
            assert_eq!(routes.is_installed(&changes[i].prefix), result.is_ok());
        }
        let text = results[108].as_ref().unwrap_err().to_string();
        assert!(
            text.contains("10.0.108.0/24") && text.contains("link-local"),
            "{text}"
        );
        assert_eq!(shown().len(), 1500 - 45);
        // Once there is a way, it is taken.
        sh("ip route add 203.0.113.0/24 via 192.0.1.9");
        let checked = routes.check().unwrap();
        assert_eq!((checked.repaired, checked.failed.unwrap().0), (15, 30));
    });
}

#[test]
fn a_restart_keeps_what_is_named_again() {
    host().run(|| {
        let before = [
            learnt("10.1.0.0/16", &["192.0.0.7"]),
            learnt("10.2.0.0/16", &["192.0.0.7"]),
            learnt("fd01::/64", &["2001:db8::7", "2001:db8:1::7"]),
            learnt("fd02::/64", &["2001:db8::7", "2001:db8:1::7"]),
        ];
        ok(LearntRoutes::open().unwrap().apply(&before));
        let mut routes = LearntRoutes::open().unwrap();
        assert_eq!(routes.adopt().unwrap(), 4);
        let was = shown();
        ok(routes.apply(&[
            learnt("10.1.0.0/16", &["192.0.0.7"]),
            learnt("fd01::/64", &["2001:db8::7", "2001:db8:1::7"]),
        ]));
        // A look meanwhile takes nothing away.
        assert_eq!(routes.check().unwrap(), Checked::default());
        assert_eq!(shown(), was);
        assert_eq!(routes.sweep().unwrap(), 2);
        assert_eq!(shown().len(), 2);
        assert_eq!(routes.len(), 2);
    });
}

#[test]
fn what_others_did_is_put_right() {
    host().run(|| {
        let mut routes = LearntRoutes::open().unwrap();
        ok(routes.apply(&[
            learnt("10.1.0.0/16", &["192.0.0.7"]),
            learnt("10.2.0.0/16", &["192.0.0.7", "192.0.1.7"]),
            learnt("fd01::/64", &["fe80::7%eth0"]),
        ]));
        let was = shown();
        sh("ip link set eth0 down; ip link set eth0 up
            ip -6 addr add 2001:db8:0::1/64 dev eth0 nodad");
        assert_ne!(shown(), was);
        let checked = routes.check().unwrap();
        // The kernel itself brings the dead half of a route of two halves back.
        assert_eq!((checked.repaired, checked.failed), (2, None));
        assert_eq!(shown(), was);
        sh(
            "ip route replace 10.1.0.0/16 via 192.0.1.9 metric 83000 proto 83
            ip route add 10.9.0.0/16 via 192.0.1.9 metric 83000 proto 83
            ip route del 10.2.0.0/16",
        );
        let checked = routes.check().unwrap();
        assert_eq!((checked.repaired, checked.removed), (2, 1));
        assert_eq!(shown(), was);
    });
}

#[test]
fn an_interface_that_came_later_is_a_way_too() {
    host().run(|| {
        let mut routes = LearntRoutes::open().unwrap();
        routes.adopt().unwrap();
        let late = [learnt("10.1.0.0/16", &["192.0.2.7"])];
        assert!(routes.apply(&late)[0].is_err());
        sh(
            "ip link add late type veth peer name wire2; ip link set wire2 up; ip link set late up
            ip addr add 192.0.2.1/24 dev late",
        );
        ok(routes.apply(&late));
        assert_eq!(shown(), ["10.1.0.0/16 via 192.0.2.7 dev late"]);
    });
}

#[test]
fn a_far_next_hop_is_followed_but_not_by_what_was_learnt() {
    host().run(|| {
        sh("ip route add 198.51.100.0/24 via 192.0.0.9");
        let mut routes = LearntRoutes::open().unwrap();
        ok(routes.apply(&[learnt("10.1.0.0/16", &["198.51.100.7"])]));
        assert_eq!(shown(), ["10.1.0.0/16 via 192.0.0.9 dev eth0"]);
        sh("ip route replace 198.51.100.0/24 via 192.0.1.9");
        assert_eq!(routes.check().unwrap().repaired, 1);
        assert_eq!(shown(), ["10.1.0.0/16 via 192.0.1.9 dev eth1"]);
        // What led there is gone but for what was learnt itself.
        ok(routes.apply(&[learnt("198.51.0.0/16", &["192.0.0.7"])]));
        sh("ip route del 198.51.100.0/24");
        let checked = routes.check().unwrap();
        let (count, error) = checked.failed.unwrap();
        assert_eq!(count, 1);
        assert!(error.to_string().contains("only a learnt route"), "{error}");
        assert_eq!(shown(), ["198.51.0.0/16 via 192.0.0.7 dev eth0"]);
    });
}
