//! Links, addresses, neighbours, forwarding entries, routes and switches.

use std::collections::BTreeSet;

use model::kernel::{
    Address, FdbEntry, KernelState, Mac, NextHop, Op, Route, RouteKey, RouteTarget, Vxlan,
    VxlanSettings,
};
use model::marks;
use netlink::testing::{Netns, sh};
use netlink::{Conflict, Kernel, Netlink, plan};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::universe::{self, answered_for, ip, name, reachable, settle};

/// An underlay interface with addresses of both families, and workload links.
const HOST: &str = "
    ip link add eth0 type veth peer name wire
    ip link set wire up
    ip link set eth0 up mtu 1500
    ip addr add 192.0.2.1/24 dev eth0
    ip -6 addr add 2001:db8::1/64 dev eth0 nodad
    for w in rtd0a rtd0b rtd0c; do
        ip link add $w type veth peer name p$w; ip link set p$w up; ip link set $w up
    done";

fn host() -> Netns {
    let ns = Netns::new();
    ns.sh(HOST);
    ns
}

fn open() -> Netlink {
    Netlink::open(["net/ipv4/ip_forward".to_owned()]).unwrap()
}

fn ok(results: Vec<Result<(), netlink::Error>>) {
    for r in results {
        r.unwrap();
    }
}

fn key(dst: &str) -> RouteKey {
    RouteKey {
        table: 254,
        dst: dst.parse().unwrap(),
        metric: if dst.contains(':') { 1024 } else { 0 },
    }
}

fn hop(via: Option<&str>, dev: &str, onlink: bool) -> NextHop {
    NextHop {
        via: via.map(ip),
        dev: name(dev),
        onlink,
    }
}

fn route(target: RouteTarget) -> Route {
    Route {
        protocol: marks::ROUTE_PROTOCOL,
        target,
        src: None,
        mtu: None,
    }
}

fn vxlan(dev: &str, local: &str) -> Vxlan {
    Vxlan {
        name: name(dev),
        settings: VxlanSettings {
            vni: 4096,
            port: 4789,
            local: ip(local),
            learning: false,
        },
        parent: name("eth0"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1430,
    }
}

#[test]
fn every_kind_of_route_is_written_and_read_back() {
    host().run(|| {
        let mut k = open();
        let via = |gw| RouteTarget::Hop(hop(Some(gw), "eth0", false));
        let both = |a, b| {
            RouteTarget::Multipath(vec![
                hop(Some(a), "eth0", false),
                hop(Some(b), "eth0", false),
            ])
        };
        let mut routes = vec![
            (key("10.0.0.0/26"), route(via("192.0.2.7"))),
            (
                key("10.0.1.0/26"),
                Route {
                    mtu: Some(1400),
                    ..route(via("192.0.2.7"))
                },
            ),
            (
                key("10.0.2.0/26"),
                Route {
                    src: Some(ip("192.0.2.1")),
                    ..route(via("192.0.2.7"))
                },
            ),
            (
                key("10.0.3.0/26"),
                route(RouteTarget::Hop(hop(Some("198.51.100.1"), "eth0", true))),
            ),
            (
                key("10.0.4.4/32"),
                route(RouteTarget::Hop(hop(None, "rtd0a", false))),
            ),
            (key("10.0.5.0/26"), route(RouteTarget::Blackhole)),
            (key("10.0.6.0/26"), route(RouteTarget::Unreachable)),
            (key("10.0.7.0/26"), route(both("192.0.2.7", "192.0.2.8"))),
            (key("10.0.8.0/26"), route(via("fe80::7"))),
            (key("10.0.9.0/26"), route(both("192.0.2.7", "fe80::7"))),
            (key("0.0.0.0/0"), route(via("192.0.2.7"))),
            (key("fd00:0::/64"), route(via("2001:db8::7"))),
            (
                key("fd00:1::/64"),
                Route {
                    mtu: Some(1400),
                    ..route(via("2001:db8::7"))
                },
            ),
            (
                key("fd00:2::/64"),
                Route {
                    src: Some(ip("2001:db8::1")),
                    ..route(via("fe80::7"))
                },
            ),
            (
                key("fd00:3::/64"),
                route(RouteTarget::Hop(hop(Some("fd99::1"), "eth0", true))),
            ),
            (
                key("fd00:4::4/128"),
                route(RouteTarget::Hop(hop(None, "rtd0a", false))),
            ),
            (key("fd00:5::/64"), route(RouteTarget::Blackhole)),
            (key("fd00:6::/64"), route(RouteTarget::Unreachable)),
            (
                key("fd00:7::/64"),
                route(both("2001:db8::7", "2001:db8::8")),
            ),
            (key("::/0"), route(via("fe80::7"))),
        ];
        let far = RouteKey {
            table: 8215,
            metric: 77,
            ..key("10.9.0.0/16")
        };
        routes.push((far, route(via("192.0.2.7"))));
        for (key, route) in &mut routes {
            if let RouteTarget::Multipath(hops) = &mut route.target {
                hops.sort_unstable();
            }
            let added = k.apply(&[Op::AddRoute(*key, route.clone())]);
            assert_eq!(added, [Ok(())]);
            let found = k.observe().unwrap().ours.routes;
            assert_eq!(found.get(key), Some(&*route));
        }
        assert_eq!(k.observe().unwrap().ours.routes.len(), routes.len());
        // Every one replaced by every other of its family, and back.
        for (key, before) in routes.iter().filter(|(k, _)| k.table == 254).cloned() {
            for (_, after) in &routes {
                let v6 = |r: &Route| {
                    let hop = netlink::plan::hops(&r.target).first().and_then(|h| h.via);
                    hop.is_some_and(|ip| ip.is_ipv6()) || r.src.is_some_and(|ip| ip.is_ipv6())
                };
                if v6(after) != key.dst.network().is_ipv6() {
                    continue;
                }
                ok(k.apply(&[Op::ReplaceRoute(key, after.clone())]));
                assert_eq!(k.observe().unwrap().ours.routes.get(&key), Some(after));
            }
            ok(k.apply(&[Op::ReplaceRoute(key, before)]));
        }
        let ops: Vec<Op> = routes
            .into_iter()
            .map(|(k, r)| Op::DeleteRoute(k, r))
            .collect();
        ok(k.apply(&ops));
        assert_eq!(k.observe().unwrap().ours.routes.len(), 0);
        // Deleting what is gone is done.
        ok(k.apply(&ops));
    });
}

#[test]
fn errors_name_the_object_and_the_kernels_reason_and_do_not_stop_the_batch() {
    host().run(|| {
        let mut k = open();
        let good = route(RouteTarget::Hop(hop(Some("192.0.2.7"), "eth0", false)));
        let far = route(RouteTarget::Hop(hop(Some("203.0.113.1"), "eth0", false)));
        let lost = route(RouteTarget::Hop(hop(None, "nowhere", false)));
        let results = k.apply(&[
            Op::AddRoute(key("10.0.0.0/26"), good.clone()),
            Op::AddRoute(key("10.0.1.0/26"), far),
            Op::AddRoute(key("10.0.2.0/26"), lost),
            Op::AddRoute(key("10.0.0.0/26"), good.clone()),
            Op::AddRoute(key("10.0.3.0/26"), good),
        ]);
        let texts: Vec<_> = results
            .iter()
            .map(|r| r.as_ref().err().map(ToString::to_string))
            .collect();
        assert_eq!(texts[0], None);
        assert_eq!(
            texts[1].as_deref(),
            Some(
                "add route 10.0.1.0/26 via 203.0.113.1 dev eth0: \
                 Network is unreachable (ENETUNREACH): Nexthop has invalid gateway"
            )
        );
        let missing = results[2].as_ref().unwrap_err();
        assert_eq!(missing.errno(), Some(libc::ENODEV));
        assert!(missing.is_retryable());
        assert_eq!(results[3].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        assert_eq!(texts[4], None);
        assert_eq!(k.observe().unwrap().ours.routes.len(), 2);
    });
}

#[test]
fn a_vxlan_device_is_as_it_was_asked_for() {
    host().run(|| {
        let mut k = open();
        let (v4, v6) = (
            vxlan(marks::VXLAN_V4, "192.0.2.1"),
            vxlan(marks::VXLAN_V6, "2001:db8::1"),
        );
        let fdb = |v: &Vxlan, dst: &str| FdbEntry {
            dev: v.name,
            mac: Mac([2; 6]),
            dst: ip(dst),
        };
        ok(k.apply(&[
            Op::CreateVxlan(v4),
            Op::CreateVxlan(v6),
            Op::AddAddress(
                v4.name,
                Address {
                    ip: ip("10.1.0.1"),
                    prefix: 32,
                },
            ),
            Op::AddAddress(
                v4.name,
                Address {
                    ip: ip("fd01::1"),
                    prefix: 128,
                },
            ),
            Op::SetFdb(fdb(&v4, "192.0.2.9")),
            Op::SetFdb(fdb(&v4, "192.0.2.10")),
            Op::SetFdb(fdb(&v6, "2001:db8::9")),
        ]));
        let shown = sh("ip -d link show rtd.vxlan4; ip -d link show rtd.vxlan6");
        for part in [
            "vxlan id 4096 local 192.0.2.1 dev eth0",
            "vxlan id 4096 local 2001:db8::1 dev eth0",
            "nolearning",
            "dstport 4789",
            "mtu 1430",
            "02:00:00:00:00:01",
            "udp6zerocsumrx",
            "noudp6zerocsumtx",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains(" learning"), "{shown}");
        let o = k.observe().unwrap();
        assert_eq!(o.ours.vxlan.values().copied().collect::<Vec<_>>(), [v4, v6]);
        assert_eq!(o.ours.addresses.len(), 2);
        let entries = [fdb(&v4, "192.0.2.10"), fdb(&v6, "2001:db8::9")];
        assert_eq!(o.ours.fdb, BTreeSet::from(entries));
        let inet6 = sh("ip -6 addr show dev rtd.vxlan4");
        assert!(
            inet6.contains("fd01::1/128") && !inet6.contains("tentative"),
            "{inet6}"
        );
        assert!(o.links[&v4.name].up);

        // What hung on a device that is made anew is planned anew.
        let wanted = KernelState {
            workload_links: o.ours.workload_links.clone(),
            ..o.ours
        };
        let mut moved = wanted.clone();
        moved.vxlan.get_mut(&v4.name).unwrap().settings.vni = 5000;
        assert_eq!(settle(&mut k, &moved), Vec::<String>::new());
        assert_eq!(k.observe().unwrap().ours, moved);
    });
}

#[test]
fn a_new_mac_flushes_neighbours_and_they_come_back() {
    host().run(|| {
        let mut k = open();
        let v = vxlan(marks::VXLAN_V4, "192.0.2.1");
        let neighbour = model::kernel::Neighbour {
            dev: v.name,
            ip: ip("10.1.0.9"),
            mac: Mac([2; 6]),
        };
        let found = k.observe().unwrap().ours;
        let mut desired = KernelState {
            workload_links: found.workload_links,
            sysctls: found.sysctls,
            ..KernelState::default()
        };
        desired.vxlan.insert(v.name, v);
        desired.neighbours.insert(neighbour);
        settle(&mut k, &desired);
        assert!(sh("ip neigh show dev rtd.vxlan4").contains("PERMANENT proto 82"));
        desired.vxlan.insert(
            v.name,
            Vxlan {
                mac: Mac([2, 9, 9, 9, 9, 9]),
                mtu: 1400,
                ..v
            },
        );
        assert_eq!(settle(&mut k, &desired), Vec::<String>::new());
        assert_eq!(k.observe().unwrap().ours, desired);
    });
}

#[test]
fn routes_of_others_are_seen_and_spared() {
    host().run(|| {
        sh("ip route add 10.0.0.0/26 via 192.0.2.9 proto static
            ip -6 route add fd00::/64 via 2001:db8::9 metric 1024
            ip route add 10.0.1.0/26 via 192.0.2.9 table 77
            ip route add 10.0.2.0/26 via 192.0.2.9 table 8201");
        let mut k = open();
        let o = k.observe().unwrap();
        assert_eq!(o.alien_routes.get(&key("10.0.0.0/26")), Some(&4));
        assert_eq!(o.alien_routes.get(&key("fd00::/64")), Some(&3));
        let ours = RouteKey {
            table: 8201,
            ..key("10.0.2.0/26")
        };
        assert!(o.alien_routes.contains_key(&ours));
        assert!(
            o.alien_routes
                .keys()
                .all(|k| k.table == 254 || k.table == 8201)
        );
        let before = sh("ip route show table all; ip -6 route show table all");

        let workload_links = o.ours.workload_links.clone();
        let mut desired = KernelState {
            workload_links,
            ..KernelState::default()
        };
        let target = RouteTarget::Hop(hop(Some("192.0.2.7"), "eth0", false));
        desired.routes.insert(key("10.0.0.0/26"), route(target));
        let plan = plan(&desired, &o);
        assert_eq!(plan.ops, []);
        let conflict = Conflict::AlienRoute {
            key: key("10.0.0.0/26"),
            protocol: 4,
        };
        assert_eq!(plan.conflicts, [conflict]);
        // Even if asked to: adding never replaces, deleting never meets another's.
        let (k1, r1) = desired.routes.pop_first().unwrap();
        let added = k.apply(&[Op::AddRoute(k1, r1.clone()), Op::DeleteRoute(k1, r1)]);
        assert_eq!(added[0].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        assert_eq!(
            sh("ip route show table all; ip -6 route show table all"),
            before
        );
    });
}

#[test]
fn switches_are_those_of_the_namespace() {
    host().run(|| {
        let mut k = open();
        let forward = "net/ipv4/ip_forward".to_owned();
        assert_eq!(
            k.observe()
                .unwrap()
                .ours
                .sysctls
                .get(&forward)
                .map(String::as_str),
            Some("0")
        );
        ok(k.apply(&[
            Op::SetSysctl(forward.clone(), "1".to_owned()),
            Op::SetSysctl("net/ipv4/conf/rtd0a/rp_filter".to_owned(), "2".to_owned()),
        ]));
        let found = k.observe().unwrap().ours.sysctls;
        let of_link = |name: &str| found.get(&format!("net/ipv4/conf/{name}/rp_filter"));
        assert_eq!(found.get(&forward).map(String::as_str), Some("1"));
        assert_eq!(of_link("rtd0a").map(String::as_str), Some("2"));
        // Attaching writes this one, so it is looked at before anybody here wrote it.
        assert_eq!(of_link("rtd0b").map(String::as_str), Some("0"));
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(Netns::new().sh("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
        let unknown = k.apply(&[Op::SetSysctl(
            "net/ipv4/conf/gone/rp_filter".to_owned(),
            "1".to_owned(),
        )]);
        assert_eq!(unknown[0].as_ref().unwrap_err().errno(), Some(libc::ENOENT));
    });
}

/// The fake is right about the real kernel: the same states, the same plans, the same ends.
#[test]
fn random_states_are_reached_as_on_the_fake() {
    let mut runner = TestRunner::deterministic();
    let states = (universe::state(), universe::state());
    for _ in 0..24 {
        let (before, after) = states.new_tree(&mut runner).unwrap().current();
        host().run(|| {
            let mut k = Netlink::open(after.sysctls.keys().cloned()).unwrap();
            let mut fake = universe::host();
            for desired in [&before, &after] {
                let expected = reachable(desired, &fake);
                assert_eq!(
                    settle(&mut k, desired),
                    Vec::<String>::new(),
                    "{desired:#?}"
                );
                settle(&mut fake, desired);
                let found = k.observe().unwrap();
                assert_eq!(answered_for(found.ours.clone(), desired, &fake), expected);
                assert_eq!(plan(desired, &found).ops, []);
            }
        });
    }
}

#[test]
fn an_address_on_an_interface_of_others_is_ours_by_its_mark_alone() {
    let ns = Netns::new();
    ns.sh(
        "ip link set lo up; ip link add tap0 type veth peer name far; ip link set tap0 up
        ip addr add fe80::1/64 dev tap0 nodad; ip addr add 169.254.1.1/32 dev far
        ip link set far up; ip route add 10.0.0.7/32 dev far proto 82",
    );
    let tap = name("tap0");
    let gateway = |address: &str, prefix| {
        let ip = ip(address);
        (tap, Address { ip, prefix })
    };
    let mut desired = KernelState::default();
    desired.addresses.insert(gateway("169.254.1.1", 32));
    // The administrator put this one there: it serves, and stays.
    desired.addresses.insert(gateway("fe80::1", 64));
    ns.run(|| {
        let mut k = Netlink::open([]).unwrap();
        assert_eq!(settle(&mut k, &desired), Vec::<String>::new());
        let ours = k.observe().unwrap().ours.addresses;
        assert_eq!(ours, [gateway("169.254.1.1", 32)].into());
        assert_eq!(
            settle(&mut k, &KernelState::default()),
            Vec::<String>::new()
        );
    });
    let left = ns.sh("ip -o addr show");
    assert!(
        left.contains("fe80::1/64") && left.contains("far    inet 169.254.1.1/32"),
        "{left}"
    );
    assert!(!left.contains("tap0    inet 169.254.1.1"), "{left}");
}

#[test]
fn features_are_tried_where_nobody_is() {
    let ns = host();
    let before = ns.sh("ip -o link; ip route show table all; nft list ruleset");
    let features = ns.run(|| netlink::probe::features().unwrap());
    assert_eq!(features.len(), 5);
    for (name, result) in features {
        assert_eq!(result, Ok(()), "{name}");
    }
    let after = ns.sh("ip -o link; ip route show table all; nft list ruleset");
    assert_eq!(before, after);
}
