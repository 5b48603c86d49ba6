//! The encrypted tunnel: examples of each rule, and random meshes against a naive reading of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kernel::RouteTarget;
use model::resources::{Encryption, PostQuantum, VxlanMode};
use model::state::NodeState;
use model::tunnel::{EncapsulationKey, Tunnel};
use model::{Cidr, marks};
use proptest::prelude::*;

use crate::world::*;

use Encryption::{Off, Preferred, Required};

/// Three nodes with keys, `c` beyond a router, and `d` without one.
fn mesh(encryption: Encryption) -> Store {
    Store::default()
        .node("a", keyed(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .node("b", keyed(2, "192.0.2.2/24", "2001:db8:2::2/64"))
        .node("c", keyed(3, "", "2001:db8:9::3/64"))
        .node("d", node(4, "192.0.2.4/24", ""))
        .pool("four", pool("10.0.0.0/16", VxlanMode::CrossSubnet))
        .pool("six", pool("fd00::/64", VxlanMode::CrossSubnet))
        .block("10.0.0.0/26", block("a", 1, &[]))
        .block("10.0.1.0/26", block("b", 1, &[("10.0.1.9", "c")]))
        .block("10.0.2.0/26", block("c", 1, &[("10.0.2.7", "a")]))
        .block("10.0.3.0/26", block("d", 1, &[("10.0.3.8", "b")]))
        .block("fd00::200/122", block("c", 1, &[]))
        .encrypt(encryption)
}

fn tunnel(state: &NodeState) -> &Tunnel {
    state.tunnel.as_ref().unwrap()
}

/// Peers as `node endpoint: allowed IPs`.
fn peers(state: &NodeState) -> Vec<String> {
    let text = |p: &model::tunnel::TunnelPeer| {
        let ips: Vec<_> = p.allowed_ips.iter().map(ToString::to_string).collect();
        format!("{} {}: {}", p.node, p.endpoint, ips.join(" "))
    };
    tunnel(state).peers.values().map(text).collect()
}

fn has(state: &NodeState, object: &str, parts: &[&str]) {
    let all = problems(state);
    let found = (all.iter())
        .any(|p| p.starts_with(&format!("{object}: ")) && parts.iter().all(|s| p.contains(s)));
    assert!(found, "no problem of {object} with {parts:?} in {all:#?}");
}

#[test]
fn a_configuration_that_was_never_read_bars_everything() {
    let store = mesh(Off);
    let (mut snapshot, underlay) = (store.snapshot(), underlay_of(&store.nodes["a"]));
    let rejected = model::snapshot::Rejected {
        kind: "MeshConfiguration".to_owned(),
        name: "default".to_owned(),
        message: "is no readable JSON".to_owned(),
        standing: false,
    };
    (snapshot.rejected).insert("key".to_owned(), rejected.clone());
    let s = desired(&snapshot, &underlay, "a");
    assert!(s.barred && s.partial);
    assert_eq!((s.encryption, &s.tunnel), (Required, &None));
    assert!(s.kernel.guard.as_ref().unwrap().drop);
    let open = (s.kernel.routes.values()).filter(|r| matches!(r.target, RouteTarget::Hop(_)));
    assert_eq!(open.count(), 0, "{:?}", routes(&s));
    assert!(routes(&s).contains(&"10.0.0.0/16 unreachable last".to_owned()));
    has(
        &s,
        "MeshConfiguration/default",
        &["no way to other nodes", "delete it"],
    );
    // What was read before it stays in force.
    let standing = true;
    (snapshot.rejected).insert(
        "key".to_owned(),
        model::snapshot::Rejected {
            standing,
            ..rejected
        },
    );
    let s = desired(&snapshot, &underlay, "a");
    assert_eq!((s.barred, s.encryption), (false, Off));
}

#[test]
fn without_encryption_there_is_no_device() {
    let s = mesh(Off).desired("a");
    assert_eq!((&s.tunnel, s.kernel.tunnel), (&None, None));
    assert!(!routes(&s).iter().any(|r| r.contains(marks::WIREGUARD)));
    assert_eq!(s.encryption, Off);
}

#[test]
fn clear_text_is_counted_when_encryption_is_preferred_and_dropped_when_required() {
    let guard = |encryption| mesh(encryption).desired("a").kernel.guard;
    assert_eq!(guard(Off), None);
    let (counts, drops) = (guard(Preferred).unwrap(), guard(Required).unwrap());
    assert_eq!((counts.drop, drops.drop), (false, true));
    let pools: Vec<_> = drops.pools.iter().map(ToString::to_string).collect();
    assert_eq!(pools, ["10.0.0.0/16", "fd00::/64"]);
    // Nothing is of a pool where there is none.
    let bare = Store::default().encrypt(Required).desired("a");
    assert_eq!(bare.kernel.guard, None);
}

#[test]
fn blocks_go_by_the_tunnel_and_a_borrowed_address_to_its_borrower() {
    let s = mesh(Required).desired("a");
    let t = tunnel(&s);
    assert_eq!((t.port, t.fwmark), (51820, marks::WIREGUARD_FWMARK));
    assert_eq!(
        peers(&s),
        [
            "b 192.0.2.2:51820: 10.0.1.0/26 10.0.3.8/32",
            "c [2001:db8:9::3]:51820: 10.0.1.9/32 10.0.2.0/26 fd00::200/122",
        ]
    );
    // 60 bytes of overhead over IPv4, 80 over IPv6.
    assert_eq!(
        routes(&s),
        [
            "10.0.0.0/16 unreachable last",
            "10.0.0.0/26 blackhole",
            "10.0.1.0/26 dev rtd.wg src 10.250.1.0 mtu 1440",
            "10.0.1.9/32 dev rtd.wg src 10.250.1.0 mtu 1420",
            "10.0.2.0/26 dev rtd.wg src 10.250.1.0 mtu 1420",
            "10.0.3.0/26 unreachable",
            "10.0.3.8/32 dev rtd.wg src 10.250.1.0 mtu 1440",
            "fd00::/64 unreachable last",
            "fd00::200/122 dev rtd.wg src fd00:250:1:: mtu 1420",
        ]
    );
    let link = s.kernel.tunnel.unwrap();
    assert_eq!((link.name.as_str(), link.mtu), (marks::WIREGUARD, 1440));
    assert_eq!(s.workload_mtu, 1420);
    assert_eq!(s.kernel.vxlan.len(), 0);
    let on: Vec<_> = (s.kernel.addresses.iter())
        .map(|(link, a)| format!("{link} {}/{}", a.ip, a.prefix))
        .collect();
    assert_eq!(on, ["rtd.wg 10.250.1.0/32", "rtd.wg fd00:250:1::/128"]);
    assert_eq!(s.kernel.sysctls["net/ipv4/conf/rtd.wg/rp_filter"], "1");
}

#[test]
fn a_node_without_key_is_plain_when_preferred_and_barred_when_required() {
    let s = mesh(Preferred).desired("a");
    let r = routes(&s);
    assert!(r.contains(&"10.0.3.0/26 via 192.0.2.4 dev eth0".to_owned()));
    assert!(r.contains(&"10.0.2.0/26 dev rtd.wg src 10.250.1.0 mtu 1420".to_owned()));
    assert!(!r.iter().any(|r| r.contains("unreachable")), "{r:?}");
    has(&s, "MeshConfiguration/default", &["to d is NOT encrypted"]);
    assert_eq!(s.kernel.sysctls["net/ipv4/conf/rtd.wg/rp_filter"], "2");

    let s = mesh(Required).desired("a");
    has(&s, "MeshConfiguration/default", &["to d is dropped"]);

    // Seen from there: it is alone.
    let s = mesh(Required).desired("d");
    assert_eq!(s.tunnel, None);
    let r = routes(&s);
    assert!(!r.iter().any(|r| r.contains("dev")), "{r:?}");
    has(&s, "Node/d", &["is dropped", "no WireGuard key"]);
    let s = mesh(Preferred).desired("d");
    has(&s, "Node/d", &["is NOT encrypted"]);
    assert!(routes(&s).contains(&"10.0.0.0/26 via 192.0.2.1 dev eth0".to_owned()));
}

#[test]
fn a_key_that_two_nodes_have_is_used_for_neither() {
    for encryption in [Preferred, Required] {
        let mut copy = keyed(4, "192.0.2.4/24", "");
        copy.status.wireguard_public_key = Some(public_key(2));
        let store = mesh(encryption).node("d", copy);
        let s = store.desired("a");
        assert_eq!(peers(&s).len(), 1, "{:?}", peers(&s));
        assert!(peers(&s)[0].starts_with("c "));
        let r = routes(&s);
        for barred in ["10.0.1.0/26", "10.0.3.0/26", "10.0.3.8/32"] {
            assert!(r.contains(&format!("{barred} unreachable")), "{r:?}");
        }
        let key = public_key(2).to_string();
        has(&s, "Node/b", &["ALARM", &key, "Node/d", "wireguard.key"]);
        // Both holders know, and trust nobody.
        for holder in ["b", "d"] {
            let s = store.desired(holder);
            assert_eq!(s.tunnel, None);
            assert!(!routes(&s).iter().any(|r| r.contains("dev")));
            has(&s, "Node/b", &["ALARM"]);
        }
    }
}

/// Both ends take part, or there is no tunnel or one without a preshared key, as is wanted.
#[test]
fn who_has_nothing_to_encapsulate_to_is_barred_only_where_that_is_required() {
    let with = |post_quantum, who: &[&str]| {
        let mut store = mesh(Required);
        store.mesh.post_quantum = post_quantum;
        for name in who {
            let node = store.nodes.get_mut(*name).unwrap();
            let key = EncapsulationKey::new([7; EncapsulationKey::LEN]);
            node.status.wireguard_encapsulation_key = Some(key);
        }
        store.desired("a")
    };
    let quantum = |s: &NodeState| {
        let peers = tunnel(s).peers.values();
        let with_key = peers.filter(|p| p.encapsulation_key.is_some());
        with_key.map(|p| p.node.to_string()).collect::<Vec<_>>()
    };
    let named = |s: &NodeState| tunnel(s).peers.len();
    let off = with(PostQuantum::Off, &["a", "b", "c"]);
    assert_eq!((quantum(&off), named(&off)), (vec![], 2));
    let silent = |s: &NodeState| !problems(s).iter().any(|p| p.contains("encapsulation"));
    assert!(silent(&off));
    for (wanted, left) in [(PostQuantum::Preferred, 2), (PostQuantum::Required, 1)] {
        let all = with(wanted, &["a", "b", "c"]);
        assert_eq!(
            (quantum(&all), named(&all)),
            (vec!["b".into(), "c".into()], 2)
        );
        assert!(silent(&all));
        let one = with(wanted, &["a", "b"]);
        assert_eq!((quantum(&one), named(&one)), (vec!["b".into()], left));
        has(
            &one,
            "MeshConfiguration/default",
            &["traffic to c", "encapsulation key"],
        );
        // Both ends decide alike.
        let own = with(wanted, &["b", "c"]);
        assert_eq!((quantum(&own), named(&own)), (vec![], 2 * left - 2));
        has(&own, "Node/a", &["encapsulation key"]);
    }
}

#[test]
fn a_key_that_is_announced_is_the_same_peers_and_nobody_elses() {
    let announcing = |next| {
        let mut b = keyed(2, "192.0.2.2/24", "2001:db8:2::2/64");
        b.status.wireguard_next_public_key = Some(public_key(next));
        mesh(Required).node("b", b)
    };
    let s = announcing(9).desired("a");
    let b = &tunnel(&s).peers[&public_key(2)];
    assert_eq!((&*b.node, b.next_key), ("b", Some(public_key(9))));
    assert_eq!(tunnel(&s).peers.len(), 2);
    // Whoever announces the key of another gets nothing, and neither does the other.
    let s = announcing(3).desired("a");
    assert!(tunnel(&s).peers.is_empty(), "{:?}", peers(&s));
    has(
        &s,
        "Node/b",
        &["ALARM", &public_key(3).to_string(), "Node/c"],
    );
    // To announce one's own is odd, and no alarm.
    assert_eq!(tunnel(&announcing(2).desired("a")).peers.len(), 2);
}

#[test]
fn a_host_inside_a_pool_would_carry_itself() {
    let s = mesh(Preferred)
        .node("b", keyed(2, "10.0.1.5/24", ""))
        .desired("a");
    assert!(!peers(&s).iter().any(|p| p.starts_with("b ")));
    has(
        &s,
        "MeshConfiguration/default",
        &["to b is dropped", "lie in"],
    );
}

#[test]
fn blocks_without_a_pool_are_caught_as_well() {
    let mut store = mesh(Required);
    store.pools.clear();
    let s = store.desired("a");
    let r = routes(&s);
    for block in store.blocks.keys() {
        assert!(r.contains(&format!("{block} unreachable last")), "{r:?}");
    }
}

#[test]
fn the_mtu_configured_bounds_the_tunnel() {
    let mut store = mesh(Required);
    store.mesh.mtu = model::resources::Mtu::Bytes(1300);
    let s = store.desired("a");
    assert_eq!((s.workload_mtu, s.kernel.tunnel.unwrap().mtu), (1300, 1300));
    store.mesh.mtu = model::resources::Mtu::Bytes(1450);
    has(
        &store.desired("a"),
        "MeshConfiguration/default",
        &["1450 is more than fits", "write 1420 or less"],
    );
}

#[test]
fn masquerade_spares_what_the_tunnel_carries() {
    let mut natted = pool("10.0.0.0/16", VxlanMode::Never);
    natted.nat_outgoing = true;
    let s = mesh(Required).pool("four", natted).desired("a");
    let nat = s.kernel.nat.as_ref().unwrap();
    for prefix in tunnel(&s).peers.values().flat_map(|p| &p.allowed_ips) {
        let spared = nat.exempt.iter().any(|pool| pool.covers(prefix));
        assert!(spared, "{prefix} is masqueraded");
    }
}

/// A random node: subnet of each underlay family, and which key it has published.
type Place = (Option<u8>, Option<u8>, Option<u8>);

fn place() -> impl Strategy<Value = Place> {
    let subnet = || prop_oneof![1 => Just(None), 3 => (0u8..2).prop_map(Some)];
    // Few keys, so that some are shared.
    let key = prop_oneof![1 => Just(None), 4 => (0u8..12).prop_map(Some)];
    (subnet(), subnet(), key)
}

fn random(places: &[Place], lent: &[(usize, u8, usize)], mode: VxlanMode) -> Store {
    let mut store = Store::default()
        .pool("four", pool("10.0.0.0/16", mode))
        .pool("six", pool("fd00::/64", mode));
    for (i, (v4, v6, key)) in places.iter().enumerate() {
        let n = u8::try_from(i).unwrap();
        let v4 = v4.map(|s| format!("192.0.{s}.{}/24", n + 1));
        let v6 = v6.map(|s| format!("2001:db8:{s}::{:x}/64", n + 1));
        let mut spec = node(n, &v4.unwrap_or_default(), &v6.unwrap_or_default());
        spec.status.wireguard_public_key = key.map(public_key);
        store = store.node(&format!("n{i}"), spec);
        for range in [format!("10.0.{i}.0/28"), format!("fd00::{i:x}00/124")] {
            let mut summary = block(&format!("n{i}"), 9, &[]);
            let range = cidr(&range);
            for (owner, last, user) in lent.iter().filter(|(o, ..)| *o % places.len() == i) {
                let user = user % places.len();
                if user != owner % places.len() {
                    let ip = nth(range, *last);
                    summary.borrowed.retain(|(other, _)| *other != ip);
                    summary.borrowed.push((ip, format!("n{user}").into()));
                }
            }
            store = store.block(&range.to_string(), summary);
        }
    }
    store
}

fn nth(range: Cidr, n: u8) -> IpAddr {
    match range.network() {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() + u32::from(n)).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() + u128::from(n)).into()),
    }
}

/// What the rules say of two nodes, read naively.
#[derive(Debug, PartialEq)]
enum Rule {
    Plain,
    Tunnel,
    Barred,
}

fn rule(store: &Store, a: &str, b: &str, encryption: Encryption) -> Rule {
    let (x, y) = (&store.nodes[a], &store.nodes[b]);
    let (p, q) = (x.status.wireguard_public_key, y.status.wireguard_public_key);
    let holders = |k| {
        let same = |n: &&model::resources::NodeSpec| n.status.wireguard_public_key == Some(k);
        store.nodes.values().filter(same).count()
    };
    let family = |f| x.underlay(f).is_some() && y.underlay(f).is_some();
    let common = model::Family::ALL.into_iter().any(family);
    if [p, q].into_iter().flatten().any(|k| holders(k) > 1) {
        Rule::Barred
    } else if p.is_some() && q.is_some() {
        if common { Rule::Tunnel } else { Rule::Barred }
    } else if encryption == Preferred {
        Rule::Plain
    } else {
        Rule::Barred
    }
}

/// Where a packet goes by the longest prefix and the least metric.
fn best(state: &NodeState, ip: IpAddr) -> Option<&RouteTarget> {
    let of = |(k, _): &(&model::kernel::RouteKey, _)| k.dst.contains(ip);
    let rank = |(k, _): &(&model::kernel::RouteKey, &model::kernel::Route)| {
        (k.dst.prefix_len(), std::cmp::Reverse(k.metric))
    };
    let found = state.kernel.routes.iter().filter(of).max_by_key(rank);
    found.map(|(_, r)| &r.target)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn allowed_ips_and_routes_are_as_the_rules_say(
        places in prop::collection::vec(place(), 1..7),
        lent in prop::collection::vec((0usize..7, 0u8..16, 0usize..7), 0..8),
        mode in prop_oneof![Just(VxlanMode::Never), Just(VxlanMode::Always), Just(VxlanMode::CrossSubnet)],
        encryption in prop_oneof![Just(Preferred), Just(Required)],
    ) {
        let store = random(&places, &lent, mode).encrypt(encryption);
        for own in store.nodes.keys() {
            let state = store.desired(own);
            let mut owners: BTreeMap<Cidr, &str> = BTreeMap::new();
            for peer in state.tunnel.iter().flat_map(|t| t.peers.values()) {
                let theirs = rule(&store, &peer.node, own, encryption);
                prop_assert_eq!(theirs, Rule::Tunnel, "{} and {}", own, peer.node);
                for prefix in &peer.allowed_ips {
                    prop_assert_eq!(owners.insert(*prefix, &peer.node), None, "two owners");
                }
            }
            for (range, block) in &store.blocks {
                for n in 0..16 {
                    let ip = nth(*range, n);
                    let borrower = block.borrowed.iter().find(|(b, _)| *b == ip);
                    let user = borrower.map_or(block.node.as_deref().unwrap(), |(_, n)| n);
                    let owner = owners.iter().filter(|(p, _)| p.contains(ip));
                    let owner = owner.max_by_key(|(p, _)| p.prefix_len()).map(|(_, n)| *n);
                    let target = best(&state, ip);
                    let device = match target {
                        Some(RouteTarget::Hop(hop)) => Some(hop.dev.to_string()),
                        _ => None,
                    };
                    if encryption == Required {
                        prop_assert!(device.as_deref().is_none_or(|d| d == marks::WIREGUARD));
                    }
                    if user == own {
                        continue;
                    }
                    match rule(&store, own, user, encryption) {
                        Rule::Tunnel => {
                            prop_assert_eq!(owner, Some(user));
                            prop_assert_eq!(device.as_deref(), Some(marks::WIREGUARD));
                        }
                        Rule::Barred => {
                            prop_assert_eq!(target, Some(&RouteTarget::Unreachable));
                            prop_assert_ne!(owner, Some(user));
                        }
                        Rule::Plain => {
                            prop_assert_ne!(owner, Some(user));
                            // Who borrows and is not reached in clear either falls back to the block.
                            let at_owner = owner.is_some() && owner == block.node.as_deref();
                            prop_assert!(device.as_deref() != Some(marks::WIREGUARD) || at_owner);
                        }
                    }
                }
            }
            // Nothing of any pool leaves in clear, not even what no block covers yet.
            if encryption == Required {
                for ip in ["10.0.99.1", "fd00::9999"] {
                    prop_assert_eq!(best(&state, ip.parse().unwrap()), Some(&RouteTarget::Unreachable));
                }
            }
        }
    }
}
