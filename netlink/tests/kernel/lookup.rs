//! The way of one packet, asked of the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::kernel::{FdbEntry, Mac, Nat, Neighbour, Op, RouteTarget};

use netlink::lookup::{Asked, Found};
use netlink::testing::Netns;
use netlink::{Kernel, Lookup, Netlink};

use crate::universe::name;

/// A host that forwards, with a workload behind `rtd0` and a neighbour behind `eth0`, and routes of every sort.
fn host() -> Netns {
    let ns = Netns::new();
    ns.sh("ip link set lo up
        ip link add rtd0 type veth peer name w0; ip link set rtd0 up; ip link set w0 up
        ip link add eth0 type veth peer name e0; ip link set eth0 up; ip link set e0 up
        ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.rtd0.rp_filter=1
        ip route add 10.0.0.5/32 dev rtd0 proto 82; ip -6 route add fd00::5/128 dev rtd0 proto 82
        ip route add blackhole 10.0.0.0/26 proto 82; ip -6 route add blackhole fd00::/122 proto 82
        ip route add unreachable 10.9.0.0/16; ip -6 route add unreachable fd09::/16
        ip route add 10.0.1.0/26 via 192.0.2.2 proto 82; ip -6 route add fd00::40/122 via 2001:db8::2 proto 82
        ip route add 10.0.2.0/26 via 192.0.2.9 proto 83 metric 83000");
    ns.await_ready();
    ns
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(kernel: &mut Lookup, from: &str, to: &str) -> Found {
    let came_by = (!from.is_empty()).then(|| name("rtd0"));
    let asked = Asked {
        destination: ip(to),
        source: from.parse().ok(),
        came_by,
    };
    kernel.route(&asked).unwrap()
}

#[test]
fn the_route_of_a_packet_is_that_of_the_kernel() {
    host().run(|| {
        let mut kernel = Lookup::open().unwrap();
        for (from, to, dst, via, dev, protocol) in [
            (
                "10.0.0.5",
                "10.0.1.7",
                "10.0.1.0/26",
                "192.0.2.2",
                "eth0",
                82,
            ),
            (
                "fd00::5",
                "fd00::41",
                "fd00::40/122",
                "2001:db8::2",
                "eth0",
                82,
            ),
            (
                "10.0.0.5",
                "10.0.2.1",
                "10.0.2.0/26",
                "192.0.2.9",
                "eth0",
                83,
            ),
            ("", "10.0.0.5", "10.0.0.5/32", "", "rtd0", 82),
            ("", "fd00::5", "fd00::5/128", "", "rtd0", 82),
        ] {
            let Found::Route(key, route) = found(&mut kernel, from, to) else {
                panic!("{to}: {:?}", found(&mut kernel, from, to));
            };
            assert_eq!(
                (key.dst.to_string(), route.protocol),
                (dst.to_owned(), protocol)
            );
            let RouteTarget::Hop(hop) = route.target else {
                panic!("{route:?}");
            };
            assert_eq!((hop.via, hop.dev), (via.parse().ok(), name(dev)), "{to}");
        }
        for (from, to, wanted) in [
            ("10.0.0.5", "10.0.0.9", Found::Blackhole),
            ("fd00::5", "fd00::9", Found::Blackhole),
            ("10.0.0.5", "10.9.0.1", Found::Unreachable),
            ("fd00::5", "fd09::1", Found::Unreachable),
            ("", "10.77.0.1", Found::Nothing),
            ("", "fd77::1", Found::Nothing),
            ("10.0.0.5", "192.0.2.1", Found::Local),
            ("fd00::5", "2001:db8::1", Found::Local),
            ("", "192.0.2.1", Found::Local),
            // An answer would not go back there.
            ("10.0.1.7", "10.0.2.1", Found::Martian),
        ] {
            assert_eq!(found(&mut kernel, from, to), wanted, "{from} {to}");
        }
        assert_eq!(kernel.link(name("eth0")).unwrap().mtu, 1500);
        let nowhere = Asked {
            destination: ip("10.0.1.7"),
            source: None,
            came_by: Some(name("none")),
        };
        assert!(kernel.route(&nowhere).is_err());
    });
}

#[test]
fn entries_behind_a_route_are_found_or_not() {
    host().run(|| {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let (dev, hop) = (name("rtd0"), ip("10.250.2.0"));
        let neighbour = Neighbour { dev, ip: hop, mac };
        let fdb = FdbEntry {
            dev,
            mac,
            dst: ip("192.0.2.2"),
        };
        let pool = BTreeSet::from(["10.0.0.0/16".parse().unwrap()]);
        let nat = Nat {
            sources: pool.clone(),
            exempt: pool.clone(),
        };
        let mut kernel = Lookup::open().unwrap();
        assert_eq!(kernel.neighbour(&neighbour).unwrap(), None);
        assert_eq!(kernel.fdb(&fdb).unwrap(), None);
        assert_eq!(kernel.nat().unwrap(), None);
        let mut writer = Netlink::open([]).unwrap();
        for result in writer.apply(&[Op::SetNeighbour(neighbour), Op::SetNat(nat)]) {
            result.unwrap();
        }
        assert_eq!(kernel.neighbour(&neighbour).unwrap(), Some(neighbour));
        // What never leaves a link is exempt by itself.
        let found = kernel.nat().unwrap().unwrap();
        assert_eq!(found.sources, pool);
        assert!(found.exempt.is_superset(&pool));
    });
}
