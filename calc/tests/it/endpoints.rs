//! What a node does for its own workloads and its own host, by example. The node looked at is always `a`.

use model::Family;
use model::kernel::{LinkName, Mac, Nat};
use model::resources::{Mtu, VxlanMode};
use model::state::NodeState;

use crate::rules::{NONE, has, mesh};
use crate::world::*;
use VxlanMode::{Always, Never};

#[test]
fn local_endpoints_have_routes_and_neighbours() {
    let s = mesh(Never)
        .endpoint("w", endpoint("rtd0a", &["10.0.0.5/32", "fd00::5/128"]))
        .endpoint("x", endpoint("tap7", &["10.0.0.6/32"]))
        .desired("a");
    let r = routes(&s);
    for want in [
        "10.0.0.5/32 dev rtd0a",
        "fd00::5/128 dev rtd0a",
        "10.0.0.6/32 dev tap7",
    ] {
        assert!(r.contains(&want.to_owned()), "{want} not in {r:?}");
    }
    // Only links of ours are set up.
    let links: Vec<_> = s
        .kernel
        .workload_links
        .iter()
        .map(LinkName::as_str)
        .collect();
    assert_eq!(links, ["rtd0a"]);
    let n: Vec<_> = (s.kernel.neighbours.iter())
        .map(|n| n.ip.to_string())
        .collect();
    assert_eq!(n, ["10.0.0.5", "fd00::5", "10.0.0.6"]);
    assert!(s.kernel.neighbours.iter().all(|n| n.mac == Mac([0xee; 6])));
    assert_eq!(s.kernel.sysctls["net/ipv4/conf/rtd0a/rp_filter"], "1");
    assert!(
        !s.kernel
            .sysctls
            .contains_key("net/ipv4/conf/tap7/rp_filter")
    );
}

#[test]
fn endpoints_that_clash_are_named_and_the_first_stays() {
    let s = mesh(Never)
        .block("10.0.0.0/26", block("a", 2, &[("10.0.0.9", "b")]))
        .endpoint("e0", endpoint("rtd0", &["10.0.0.5/32"]))
        .endpoint("e1", endpoint("rtd1", &["10.0.0.5/32", "10.0.0.6/32"]))
        .endpoint("e2", endpoint("rtd0", &["10.0.0.7/32"]))
        .endpoint("e3", endpoint("", &["10.0.0.8/32"]))
        .endpoint("e4", endpoint("rtd4", &["10.0.0.9/32"]))
        .endpoint("e5", endpoint("rtd5", &["192.0.2.2/32"]))
        .endpoint("e6", endpoint("eth0", &["10.0.0.10/32"]))
        .endpoint("e7", endpoint("rtd7", &["10.0.0.0/24"]))
        .desired("a");
    let e = |n: u8| format!("WorkloadEndpoint/default/e{n}");
    has(&s, &e(1), &["10.0.0.5", "WorkloadEndpoint/default/e0"]);
    has(&s, &e(2), &["rtd0", "WorkloadEndpoint/default/e0"]);
    has(
        &s,
        &e(3),
        &["spec.interfaceName", "cannot name an interface"],
    );
    has(&s, &e(4), &["10.0.0.9", "Node/b"]);
    has(&s, &e(5), &["192.0.2.2", "Node/b itself"]);
    has(&s, &e(6), &["eth0 carries the mesh"]);
    has(&s, &e(7), &["10.0.0.0/24", "10.0.0.0/32"]);
    let r = routes(&s);
    assert!(r.contains(&"10.0.0.5/32 dev rtd0".to_owned()));
    assert!(r.contains(&"10.0.0.6/32 dev rtd1".to_owned()));
    assert!(r.contains(&"10.0.0.9/32 via 192.0.2.2 dev eth0".to_owned()));
    assert!(
        !r.iter()
            .any(|r| r.starts_with("10.0.0.7") || r.starts_with("10.0.0.8"))
    );
}

#[test]
fn masquerade_covers_pools_that_ask_and_spares_all_pools() {
    assert_eq!(mesh(Never).desired("a").kernel.nat, None);
    let mut natted = pool("10.9.0.0/16", Never);
    natted.nat_outgoing = true;
    natted.disabled = true;
    let s = mesh(Never).pool("nat", natted).desired("a");
    let want = Nat {
        sources: [cidr("10.9.0.0/16")].into(),
        exempt: [cidr("10.0.0.0/16"), cidr("10.9.0.0/16"), cidr("fd00::/64")].into(),
    };
    assert_eq!(s.kernel.nat, Some(want));
}

#[test]
fn a_configured_mtu_is_kept_and_checked() {
    let with = |n| {
        let mut store = mesh(Always);
        store.mesh.mtu = Mtu::Bytes(n);
        store.desired("a")
    };
    let device = |s: &NodeState| s.kernel.vxlan.values().next().unwrap().mtu;
    let s = with(1400);
    assert_eq!((s.workload_mtu, device(&s)), (1400, 1400));
    assert_eq!(problems(&s), NONE);
    let s = with(1500);
    assert_eq!((s.workload_mtu, device(&s)), (1500, 1450));
    has(
        &s,
        "MeshConfiguration/default",
        &["1500", "write 1450 or less"],
    );
    has(
        &with(1200),
        "MeshConfiguration/default",
        &["1200", "1280", "IPv6"],
    );
}

#[test]
fn switches_are_only_what_is_needed() {
    let sysctls = |s: &NodeState| s.kernel.sysctls.clone();
    let mut store = mesh(Never);
    store.pools.remove("six");
    store.blocks.retain(|c, _| c.family() == Family::V4);
    assert_eq!(
        sysctls(&store.desired("a")),
        [("net/ipv4/ip_forward".to_owned(), "1".to_owned())].into()
    );
    let s = sysctls(&mesh(Always).desired("a"));
    assert_eq!(s["net/ipv6/conf/all/forwarding"], "1");
    assert_eq!(s["net/ipv4/conf/rtd.vxlan4/rp_filter"], "2");
    assert!(!s.contains_key("net/ipv6/conf/eth0/accept_ra"));

    let store = mesh(Never);
    let (snapshot, underlay) = (store.snapshot(), underlay_of(&store.nodes["a"]));
    let s = calc::desired_state(&calc::Inputs {
        node: "a",
        snapshot: &snapshot,
        underlay: &underlay,
        accepts_ra: true,
    });
    assert_eq!(s.kernel.sysctls["net/ipv6/conf/eth0/accept_ra"], "2");
}

#[test]
fn a_lone_node_without_a_network_works() {
    let s = Store::default()
        .pool("four", pool("10.0.0.0/16", Always))
        .block("10.0.0.0/26", block("a", 1, &[]))
        .endpoint("w", endpoint("rtd0a", &["10.0.0.5/32"]))
        .desired("a");
    assert_eq!(
        routes(&s),
        ["10.0.0.0/26 blackhole", "10.0.0.5/32 dev rtd0a"]
    );
    assert_eq!(problems(&s), NONE);
    assert_eq!(s.workload_mtu, 1500);
}

#[test]
fn a_full_length_block_with_a_local_endpoint_has_one_route() {
    let s = mesh(Never)
        .block("10.0.7.1/32", block("a", 1, &[]))
        .endpoint("w", endpoint("rtd0a", &["10.0.7.1/32"]))
        .desired("a");
    let r = routes(&s);
    assert!(r.contains(&"10.0.7.1/32 dev rtd0a".to_owned()));
    assert!(!r.contains(&"10.0.7.1/32 blackhole".to_owned()));
}
