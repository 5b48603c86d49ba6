//! Two nodes with an overlay between them, over either underlay, carrying both families.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use model::kernel::{
    Address, FdbEntry, KernelState, Mac, Neighbour, NextHop, Route, RouteKey, RouteTarget, Vxlan,
    VxlanSettings,
};
use model::{Cidr, marks};
use netlink::Netlink;
use netlink::testing::Netns;

use crate::universe::{ip, name, settle};

/// A node's underlay address, and its tunnel's address and MAC.
struct Node {
    underlay: IpAddr,
    inner: [IpAddr; 2],
    mac: Mac,
}

fn node(i: u8, underlay: &str) -> Node {
    Node {
        underlay: ip(underlay),
        inner: [ip(&format!("10.200.0.{i}")), ip(&format!("fd00:200::{i}"))],
        mac: Mac([0x02, 0, 0, 0, 0, i]),
    }
}

fn state(here: &Node, there: &Node) -> KernelState {
    let dev = name(if here.underlay.is_ipv4() {
        marks::VXLAN_V4
    } else {
        marks::VXLAN_V6
    });
    let (vni, port, local) = (marks::DEFAULT_VNI, marks::DEFAULT_VXLAN_PORT, here.underlay);
    let settings = VxlanSettings {
        vni,
        port,
        local,
        learning: false,
    };
    let mut s = KernelState::default();
    s.vxlan.insert(
        dev,
        Vxlan {
            name: dev,
            settings,
            parent: name("eth0"),
            mac: here.mac,
            mtu: 1430,
        },
    );
    s.fdb.insert(FdbEntry {
        dev,
        mac: there.mac,
        dst: there.underlay,
    });
    for (own, other) in here.inner.into_iter().zip(there.inner) {
        let prefix = Cidr::host(own).prefix_len();
        s.addresses.insert((dev, Address { ip: own, prefix }));
        s.neighbours.insert(Neighbour {
            dev,
            ip: other,
            mac: there.mac,
        });
        let metric = if other.is_ipv6() { 1024 } else { 0 };
        let key = RouteKey {
            table: 254,
            dst: Cidr::host(other),
            metric,
        };
        let target = RouteTarget::Hop(NextHop {
            via: None,
            dev,
            onlink: false,
        });
        let route = Route {
            protocol: marks::ROUTE_PROTOCOL,
            target,
            src: Some(own),
            mtu: None,
        };
        s.routes.insert(key, route);
    }
    s
}

#[test]
fn both_families_go_over_either_underlay() {
    let (one, two) = (Netns::new(), Netns::new());
    one.sh(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}",
        two.path()
    ));
    for (ns, i) in [(&one, 1), (&two, 2)] {
        ns.sh(&format!(
            "ip link set lo up; ip link set eth0 up; ip addr add 192.0.2.{i}/24 dev eth0
             ip -6 addr add 2001:db8::{i}/64 dev eth0 nodad"
        ));
    }
    for underlay in [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]] {
        let [a, b] = [node(1, underlay[0]), node(2, underlay[1])];
        // From one underlay to the other as well: the second round takes the first one down.
        for (ns, here, there) in [(&one, &a, &b), (&two, &b, &a)] {
            let desired = state(here, there);
            ns.run(|| {
                let mut k = Netlink::open([]).unwrap();
                assert_eq!(settle(&mut k, &desired), Vec::<String>::new());
                assert_eq!(netlink::Kernel::observe(&mut k).unwrap().ours, desired);
            });
        }
        one.await_ready();
        two.await_ready();
        for (from, to) in a.inner.into_iter().zip(b.inner) {
            let server = two.run(|| UdpSocket::bind((to, 0)).unwrap());
            let client = one.run(|| UdpSocket::bind((from, 0)).unwrap());
            server
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            client
                .send_to(&[7; 1300], server.local_addr().unwrap())
                .unwrap();
            let (len, source) = server.recv_from(&mut [0; 1500]).unwrap();
            assert_eq!((len, source.ip()), (1300, from), "over {}", a.underlay);
        }
        let entries = one.sh("bridge fdb show | grep rtd");
        assert_eq!(entries.lines().count(), 1, "{entries}");
    }
}
