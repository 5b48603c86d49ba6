//! Each rule by example. The node looked at is always `a`.

use std::collections::BTreeMap;

use model::resources::VxlanMode;
use model::snapshot::Rejected;
use model::state::NodeState;

use crate::world::*;
use VxlanMode::{Always, CrossSubnet, Never};

/// `a` and `b` on one subnet, `c` on another; a block each, in both families.
pub(crate) fn mesh(mode: VxlanMode) -> Store {
    let mut store = Store::default()
        .node("a", node(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .node("b", node(2, "192.0.2.2/24", "2001:db8:2::2/64"))
        .node("c", node(3, "198.51.100.3/24", "2001:db8:3::3/64"))
        .pool("four", pool("10.0.0.0/16", mode))
        .pool("six", pool("fd00::/64", mode));
    for (i, n) in ["a", "b", "c"].into_iter().enumerate() {
        store = store
            .block(&format!("10.0.{i}.0/26"), block(n, 1, &[]))
            .block(&format!("fd00::{i}00/122"), block(n, 1, &[]));
    }
    store
}

pub(crate) fn has(state: &NodeState, object: &str, words: &[&str]) {
    let all = problems(state);
    let found = all
        .iter()
        .any(|p| p.starts_with(&format!("{object}: ")) && words.iter().all(|w| p.contains(w)));
    assert!(found, "{object} {words:?} not in {all:#?}");
}

pub(crate) const NONE: [&str; 0] = [];

#[test]
fn never_routes_natively_on_a_subnet_and_reports_the_rest() {
    let s = mesh(Never).desired("a");
    assert_eq!(
        routes(&s),
        [
            "10.0.0.0/26 blackhole",
            "10.0.1.0/26 via 192.0.2.2 dev eth0",
            "fd00::/122 blackhole",
            "fd00::100/122 via 2001:db8:2::2 dev eth0",
        ]
    );
    let words = [
        "on c:",
        "no subnet is shared",
        "vxlanMode: CrossSubnet",
        "BGP",
    ];
    has(&s, "IPPool/four", &words);
    has(&s, "IPPool/six", &words);
    assert_eq!(s.problems.len(), 2);
    assert!(s.kernel.vxlan.is_empty() && s.kernel.fdb.is_empty());
    assert!(s.kernel.addresses.is_empty() && s.kernel.neighbours.is_empty());
    assert_eq!(s.workload_mtu, 1500);
}

#[test]
fn cross_subnet_tunnels_only_across_subnets() {
    let s = mesh(CrossSubnet).desired("a");
    assert_eq!(
        routes(&s),
        [
            "10.0.0.0/26 blackhole",
            "10.0.1.0/26 via 192.0.2.2 dev eth0",
            "10.0.2.0/26 via 10.250.3.0 dev rtd.vxlan4 onlink src 10.250.1.0",
            "fd00::/122 blackhole",
            "fd00::100/122 via 2001:db8:2::2 dev eth0",
            "fd00::200/122 via fe80::4:ff:fe00:3 dev rtd.vxlan4 onlink src fd00:250:1::",
        ]
    );
    assert_eq!(problems(&s), NONE);
    let fdb: Vec<_> = s
        .kernel
        .fdb
        .iter()
        .map(|f| (f.mac, f.dst.to_string()))
        .collect();
    assert_eq!(fdb, [(mac(4, 3), "198.51.100.3".to_owned())]);
    let neighbours: Vec<_> = (s.kernel.neighbours.iter())
        .map(|n| format!("{} {} {}", n.dev, n.ip, n.mac))
        .collect();
    assert_eq!(
        neighbours,
        [
            "rtd.vxlan4 10.250.3.0 02:04:00:00:00:03",
            "rtd.vxlan4 fe80::4:ff:fe00:3 02:04:00:00:00:03",
        ]
    );
}

#[test]
fn always_tunnels_everywhere_over_one_device_when_ipv4_reaches_all() {
    let s = mesh(Always).desired("a");
    assert_eq!(s.kernel.vxlan.len(), 1);
    let device = s.kernel.vxlan.values().next().unwrap();
    assert_eq!(device.name.as_str(), "rtd.vxlan4");
    assert_eq!(device.settings.local.to_string(), "192.0.2.1");
    assert_eq!((device.settings.vni, device.settings.port), (4096, 4789));
    assert!(!device.settings.learning);
    assert_eq!(device.parent.as_str(), "eth0");
    assert_eq!((device.mac, device.mtu), (mac(4, 1), 1450));
    let addresses: Vec<_> = (s.kernel.addresses.iter())
        .map(|(dev, a)| format!("{}/{} {dev}", a.ip, a.prefix))
        .collect();
    assert_eq!(
        addresses,
        ["10.250.1.0/32 rtd.vxlan4", "fd00:250:1::/128 rtd.vxlan4"]
    );
    assert!(
        routes(&s)
            .iter()
            .all(|r| r.contains("blackhole") || r.contains("rtd.vxlan4"))
    );
    assert_eq!(s.kernel.fdb.len(), 2);
    assert_eq!(s.workload_mtu, 1450);
}

#[test]
fn ipv6_only_peers_are_reached_over_the_second_device() {
    let s = mesh(Always)
        .node("c", node(3, "", "2001:db8:3::3/64"))
        .desired("a");
    assert_eq!(
        routes(&s),
        [
            "10.0.0.0/26 blackhole",
            "10.0.1.0/26 via 10.250.2.0 dev rtd.vxlan4 onlink src 10.250.1.0",
            "10.0.2.0/26 via 10.250.3.0 dev rtd.vxlan6 onlink src 10.250.1.0",
            "fd00::/122 blackhole",
            "fd00::100/122 via fe80::4:ff:fe00:2 dev rtd.vxlan4 onlink src fd00:250:1::",
            "fd00::200/122 via fe80::6:ff:fe00:3 dev rtd.vxlan6 onlink src fd00:250:1::",
        ]
    );
    let mtus: Vec<_> = s.kernel.vxlan.values().map(|v| v.mtu).collect();
    assert_eq!(mtus, [1450, 1430]);
    assert_eq!(s.workload_mtu, 1430);
    assert_eq!(s.kernel.addresses.len(), 4);
    assert_eq!(problems(&s), NONE);
}

#[test]
fn ipv4_goes_natively_over_ipv6_but_not_the_other_way_round() {
    let only = |v4: [&str; 2], v6: [&str; 2]| {
        mesh(Never)
            .node("a", node(1, v4[0], v6[0]))
            .node("b", node(2, v4[1], v6[1]))
            .desired("a")
    };
    let six = only(["", ""], ["2001:db8:2::1/64", "2001:db8:2::2/64"]);
    assert!(routes(&six).contains(&"10.0.1.0/26 via 2001:db8:2::2 dev eth0".to_owned()));
    let four = only(["192.0.2.1/24", "192.0.2.2/24"], ["", ""]);
    assert!(!routes(&four).iter().any(|r| r.starts_with("fd00::100/122")));
    has(
        &four,
        "IPPool/six",
        &["on b:", "IPv6 needs an IPv6 underlay", "CrossSubnet"],
    );

    let tunnelled = mesh(CrossSubnet)
        .node("a", node(1, "192.0.2.1/24", ""))
        .node("b", node(2, "192.0.2.2/24", ""))
        .desired("a");
    let r = routes(&tunnelled);
    assert!(r.contains(&"10.0.1.0/26 via 192.0.2.2 dev eth0".to_owned()));
    assert!(r.contains(
        &"fd00::100/122 via fe80::4:ff:fe00:2 dev rtd.vxlan4 onlink src fd00:250:1::".to_owned()
    ));
}

#[test]
fn a_subnet_is_shared_only_when_both_ends_say_so() {
    let s = mesh(Never)
        .node("b", node(2, "192.0.2.2/32", ""))
        .desired("a");
    assert!(!routes(&s).iter().any(|r| r.starts_with("10.0.1.0/26")));
    has(&s, "IPPool/four", &["on b, c:"]);
}

#[test]
fn what_a_node_has_not_published_is_named() {
    let mut b = node(2, "192.0.2.2/24", "");
    b.vxlan_tunnel_mac_addr = None;
    let mut c = node(3, "198.51.100.3/24", "");
    c.ipv4_vxlan_tunnel_addr = None;
    let s = (mesh(Always).node("b", b).node("c", c))
        .node("d", node(4, "", ""))
        .block("10.0.3.0/26", block("d", 1, &[]))
        .desired("a");
    has(&s, "Node/b", &["VXLAN MAC address", "routerd runs there"]);
    has(&s, "Node/c", &["IPv4 tunnel address", "allowedUses"]);
    has(&s, "Node/d", &["no underlay address"]);
    // IPv6 to c needs no tunnel address of c.
    assert!(routes(&s).iter().any(|r| r.starts_with("fd00::200/122")));
}

#[test]
fn without_its_own_mac_a_node_has_no_device_yet() {
    let mut a = node(1, "192.0.2.1/24", "");
    a.vxlan_tunnel_mac_addr = None;
    let s = mesh(CrossSubnet).node("a", a).desired("a");
    assert!(s.kernel.vxlan.is_empty() && s.kernel.addresses.is_empty());
    assert!(routes(&s).contains(&"10.0.1.0/26 via 192.0.2.2 dev eth0".to_owned()));
    has(&s, "Node/a", &["no VXLAN device over IPv4", "MAC"]);
    // The MTU is that of the device to come: workloads started now keep it.
    assert_eq!(s.workload_mtu, 1450);
}

#[test]
fn of_two_nodes_with_one_address_the_first_by_name_stays() {
    let s = mesh(Always)
        .node("c", node(3, "192.0.2.2/24", ""))
        .desired("a");
    has(&s, "Node/c", &["192.0.2.2", "Node/b", "left out"]);
    assert!(routes(&s).iter().any(|r| r.starts_with("10.0.1.0/26")));
    assert!(!routes(&s).iter().any(|r| r.starts_with("10.0.2.0/26")));

    let mut c = node(3, "192.0.2.9/24", "");
    c.vxlan_tunnel_mac_addr = Some(mac(4, 2));
    let s = mesh(Always).node("c", c).desired("a");
    has(&s, "Node/c", &["02:04:00:00:00:02", "Node/b", "left out"]);
}

#[test]
fn a_node_with_our_address_is_left_out_whatever_its_name() {
    let s = mesh(Always)
        .node("0", node(9, "192.0.2.1/24", ""))
        .block("10.0.9.0/26", block("0", 1, &[]))
        .desired("a");
    has(&s, "Node/0", &["192.0.2.1", "Node/a"]);
    assert!(!routes(&s).iter().any(|r| r.starts_with("10.0.9.0/26")));
    assert!(routes(&s).iter().any(|r| r.starts_with("10.0.1.0/26")));
}

#[test]
fn borrowed_addresses_have_host_routes_to_their_users() {
    let s = mesh(Never)
        .block("10.0.0.0/26", block("a", 2, &[("10.0.0.5", "b")]))
        .block("10.0.1.0/26", block("b", 2, &[("10.0.1.7", "a")]))
        .block("10.0.4.0/26", block("", 1, &[("10.0.4.1", "b")]))
        .desired("a");
    let r = routes(&s);
    assert!(r.contains(&"10.0.0.5/32 via 192.0.2.2 dev eth0".to_owned()));
    assert!(r.contains(&"10.0.4.1/32 via 192.0.2.2 dev eth0".to_owned()));
    assert!(
        !r.iter()
            .any(|r| r.starts_with("10.0.1.7") || r.starts_with("10.0.4.0"))
    );
}

#[test]
fn blocks_of_unknown_nodes_are_named_once() {
    let s = mesh(Never)
        .block("10.0.8.0/26", block("gone", 0, &[]))
        .block("10.0.9.0/26", block("gone", 0, &[]))
        .desired("a");
    has(
        &s,
        "Node/gone",
        &["10.0.8.0/26, 10.0.9.0/26", "ipam release --node gone"],
    );
    assert!(!routes(&s).iter().any(|r| r.starts_with("10.0.8.0")));
}

#[test]
fn what_was_never_read_makes_the_state_partial() {
    let store = mesh(Never);
    let (mut snapshot, underlay) = (store.snapshot(), underlay_of(&store.nodes["a"]));
    for (kind, standing, partial) in [
        ("Namespace", false, false),
        ("WorkloadEndpoint", true, false),
        ("WorkloadEndpoint", false, true),
        ("MeshConfiguration", false, true),
    ] {
        let rejected = Rejected {
            kind: kind.to_owned(),
            name: "x".to_owned(),
            message: "is no readable JSON".to_owned(),
            standing,
        };
        snapshot.rejected = BTreeMap::from([("key".to_owned(), rejected)]);
        let s = desired(&snapshot, &underlay, "a");
        assert_eq!(s.partial, partial, "{kind} {standing}");
        if partial {
            has(
                &s,
                &format!("{kind}/x"),
                &["nothing is taken out of the kernel", "delete it"],
            );
        }
    }
}

#[test]
fn blocks_of_a_deleted_pool_are_routed_while_in_use() {
    let mut store = mesh(Always);
    store.pools.clear();
    store = store.block("10.0.1.0/26", block("b", 0, &[]));
    let s = store.desired("a");
    assert_eq!(
        routes(&s),
        [
            "10.0.0.0/26 blackhole",
            "10.0.2.0/26 via 10.250.3.0 dev rtd.vxlan4 onlink src 10.250.1.0",
            "fd00::/122 blackhole",
            "fd00::100/122 via 2001:db8:2::2 dev eth0",
            "fd00::200/122 via fe80::4:ff:fe00:3 dev rtd.vxlan4 onlink src fd00:250:1::",
        ]
    );
    has(
        &s,
        "IPPool",
        &[
            "10.0.0.0/26, 10.0.2.0/26, fd00::/122 and 2 more",
            "create the pool",
        ],
    );
}

#[test]
fn many_nodes_with_one_mend_are_one_problem() {
    let mut store = mesh(Never);
    for i in 0..50u8 {
        let name = format!("far{i:02}");
        store = store
            .node(&name, node(100 + i, &format!("203.0.113.{i}/24"), ""))
            .block(&format!("10.0.{}.0/26", 100 + i), block(&name, 0, &[]));
    }
    let s = store.desired("a");
    has(&s, "IPPool/four", &["on c, far00, far01 and 48 more:"]);
    assert_eq!(s.problems.len(), 2);
}
