//! Who peers with whom, what is announced, and what is taken.

use model::bgp::{Bgp, Filter, Neighbour, NextHopMode, PoolGuard, Ttl};
use model::resources::{Encryption, VxlanMode};
use model::state::NodeState;

use crate::world::*;

/// Two racks of two nodes with a block each, routed natively inside a rack only.
fn racks() -> Store {
    let mut store = Store::default().pool("p", pool("10.0.0.0/16", VxlanMode::Never));
    for (n, name, rack) in [
        (1, "a1", "a"),
        (2, "a2", "a"),
        (3, "b1", "b"),
        (4, "b2", "b"),
    ] {
        let subnet = if rack == "a" { 1 } else { 2 };
        let spec = node(
            n,
            &format!("192.0.{subnet}.{n}/24"),
            &format!("2001:db8:{subnet}::{n}/64"),
        );
        store = store
            .node(name, spec)
            .label(name, &[("rack", rack)])
            .block(&format!("10.0.{n}.0/26"), block(name, 1, &[]));
    }
    store
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn configured(spec: &str) -> Store {
    racks().manifest(&object("BGPConfiguration", "default", spec))
}

fn peered(spec: &str) -> Store {
    racks().manifest(&object("BGPPeer", "p", spec))
}

fn plan(store: &Store, node: &str) -> Option<Bgp> {
    store.desired(node).bgp
}

/// Names of peers; none without a plan.
fn names(store: &Store, node: &str) -> Vec<String> {
    let plan = plan(store, node);
    let peers = plan.iter().flat_map(|p| p.peers.keys());
    peers.map(ToString::to_string).collect()
}

fn peer(store: &Store, node: &str, name: &str) -> Neighbour {
    let plan = plan(store, node).unwrap_or_else(|| panic!("{node} has no plan"));
    let found = plan.peers.get(name);
    found
        .unwrap_or_else(|| panic!("{name} among {:?}", plan.peers.keys()))
        .clone()
}

fn bgp_problems(state: &NodeState) -> Vec<String> {
    let all = problems(state);
    all.into_iter().filter(|p| p.starts_with("BGP")).collect()
}

fn set(prefixes: &[&str]) -> std::collections::BTreeSet<model::Cidr> {
    prefixes.iter().map(|p| cidr(p)).collect()
}

const MESH_OF_A1: [&str; 6] = [
    "mesh/a2/ipv4",
    "mesh/a2/ipv6",
    "mesh/b1/ipv4",
    "mesh/b1/ipv6",
    "mesh/b2/ipv4",
    "mesh/b2/ipv6",
];

#[test]
fn few_nodes_mesh_by_themselves() {
    let store = racks();
    assert_eq!(names(&store, "a1"), MESH_OF_A1);
    let near = peer(&store, "a1", "mesh/a2/ipv4");
    assert_eq!(
        (near.asn, near.local_as, near.port),
        (Some(64512), 64512, 179)
    );
    assert_eq!(near.address, "192.0.1.2".parse().ok());
    assert_eq!(near.source, "192.0.1.1".parse().ok());
    assert_eq!((near.ttl, near.client), (Ttl::Direct, false));
    assert_eq!((near.hold_time, near.restart_time), (9, 120));
    let far = peer(&store, "a1", "mesh/b1/ipv6");
    assert_eq!(far.ttl, Ttl::Multihop(255));
    assert_eq!(far.families, [model::Family::V6].into());
    let plan = plan(&store, "a1").unwrap();
    assert_eq!(plan.router_id.to_string(), "192.0.1.1");
    assert_eq!((plan.listen, plan.cluster_id), (Some(179), None));
    assert_eq!(bgp_problems(&store.desired("a1")), [""; 0]);
}

/// Who meshes, by what is configured.
#[test]
fn the_mesh_is_as_configured() {
    let all = MESH_OF_A1.as_slice();
    let always = || racks().pool("p", pool("10.0.0.0/16", VxlanMode::Always));
    let config = |spec: &str| object("BGPConfiguration", "default", spec);
    let tor = object(
        "BGPPeer",
        "tor",
        "node: b2, peerIP: 192.0.2.254, asNumber: 65001",
    );
    let for_all = object("BGPPeer", "tor", "peerIP: 192.0.2.254, asNumber: 65001");
    let mut reflector = racks();
    let spec = reflector.nodes.get_mut("b2").unwrap().bgp.as_mut().unwrap();
    spec.route_reflector_cluster_id = "10.0.0.1".parse().ok();
    let cases: [(&str, Store, &[&str]); 9] = [
        ("unset", configured(""), all),
        ("off", configured("nodeToNodeMeshEnabled: false"), &[]),
        ("all by VXLAN", always(), &[]),
        (
            "all by VXLAN, and on",
            always().manifest(&config("nodeToNodeMeshEnabled: true")),
            all,
        ),
        ("another node has a peer", racks().manifest(&tor), &all[..4]),
        (
            "another node has a peer, and on",
            racks()
                .manifest(&tor)
                .manifest(&config("nodeToNodeMeshEnabled: true")),
            all,
        ),
        (
            "this node has a peer",
            racks().manifest(&for_all),
            &["BGPPeer/tor"],
        ),
        ("another node reflects", reflector, &all[..4]),
        (
            "a disabled pool",
            {
                let mut store = always();
                store.pools.insert(
                    "q".to_owned(),
                    model::resources::IpPoolSpec {
                        disabled: true,
                        ..pool("10.9.0.0/16", VxlanMode::Never)
                    },
                );
                store
            },
            &[],
        ),
    ];
    for (name, store, expected) in cases {
        assert_eq!(names(&store, "a1"), expected, "{name}");
    }
}

#[test]
fn both_ends_of_a_session_between_nodes_agree() {
    let reflectors = object(
        "BGPPeer",
        "rr",
        "nodeSelector: rack == 'a', peerSelector: rack == 'b'",
    );
    let manual = object(
        "BGPPeer",
        "rr",
        "nodeSelector: rack == 'a', peerSelector: rack == 'b', reversePeering: Manual",
    );
    for (store, mutual) in [
        (racks(), true),
        (racks().manifest(&reflectors), true),
        (racks().manifest(&manual), false),
    ] {
        let mut sessions = std::collections::BTreeSet::new();
        for own in store.nodes.keys() {
            for peer in plan(&store, own)
                .into_iter()
                .flat_map(|p| p.peers.into_values())
            {
                let family = peer.families.first().copied();
                sessions.insert((own.clone(), peer.node.unwrap().to_string(), family));
            }
        }
        assert!(!sessions.is_empty());
        let back = |(a, b, f): &(String, String, _)| sessions.contains(&(b.clone(), a.clone(), *f));
        assert_eq!(sessions.iter().all(back), mutual, "{sessions:?}");
    }
}

#[test]
fn as_numbers_are_the_nodes_own_then_by_label_then_of_all() {
    let mut store = configured(
        "asNumber: 64600, nodeASNumbers: [{nodeSelector: \"rack == 'b'\", asNumber: 65002}, \
         {nodeSelector: has(rack), asNumber: 64601}]",
    )
    .label("a2", &[]);
    let own = store.nodes.get_mut("b2").unwrap().bgp.as_mut().unwrap();
    own.as_number = Some(65099);
    let asn = |node: &str| plan(&store, node).unwrap().asn;
    assert_eq!(
        ["a1", "a2", "b1", "b2"].map(asn),
        [64601, 64600, 65002, 65099]
    );
    let seen = |name: &str| peer(&store, "a1", name).asn;
    assert_eq!(seen("mesh/b1/ipv4"), Some(65002));
    assert_eq!(seen("mesh/b2/ipv6"), Some(65099));
}

#[test]
fn a_peer_is_for_the_nodes_that_it_selects() {
    let tor = "peerIP: 192.0.1.254, asNumber: 65001";
    for (who, nodes) in [
        ("", vec!["a1", "a2", "b1", "b2"]),
        ("node: a2, ", vec!["a2"]),
        ("nodeSelector: rack == 'b', ", vec!["b1", "b2"]),
    ] {
        let store = peered(&format!("{who}{tor}"));
        let has = |node: &&str| names(&store, node).contains(&"BGPPeer/p".to_owned());
        let found: Vec<&str> = ["a1", "a2", "b1", "b2"].into_iter().filter(has).collect();
        assert_eq!(found, nodes, "{who}");
    }
    let tor = peer(&peered(tor), "a1", "BGPPeer/p");
    assert_eq!(
        (tor.asn, tor.ttl, tor.node),
        (Some(65001), Ttl::Direct, None)
    );
    let far = peer(
        &peered("peerIP: 198.51.100.1, asNumber: 65001"),
        "a1",
        "BGPPeer/p",
    );
    assert_eq!(far.ttl, Ttl::Auto);
}

#[test]
fn every_field_of_a_peer_is_heeded() {
    let store = peered(
        "peerIP: '192.0.1.254:1179', asNumber: 64512, localASNumber: 64513, nextHopMode: Self, sourceAddress: None, \
         maxRestartTime: 30s, numAllowedLocalASNumbers: 2, ttlSecurity: 3, holdTime: 30s, maxPrefixes: 7, bfd: {}, \
         password: {file: /etc/bgp}, keepOriginalNextHop: true",
    );
    let peer = peer(&store, "a1", "BGPPeer/p");
    assert_eq!(
        (peer.port, peer.asn, peer.local_as),
        (1179, Some(64512), 64513)
    );
    assert_eq!(
        (peer.next_hop, peer.source, peer.ttl),
        (NextHopMode::Own, None, Ttl::Security(3))
    );
    assert_eq!(
        (peer.restart_time, peer.hold_time, peer.max_prefixes),
        (30, 30, 7)
    );
    assert_eq!(peer.allowed_own_as, 2);
    let bfd = peer.bfd.unwrap();
    assert_eq!(
        (bfd.transmit_ms, bfd.receive_ms, bfd.multiplier),
        (300, 300, 3)
    );
    assert!(matches!(peer.password, Some(model::bgp::Password::File(_))));
    assert_eq!(peer.resource.as_deref(), Some("p"));

    let kept = peered("peerIP: 192.0.1.254, asNumber: 65001, keepOriginalNextHop: true");
    assert_eq!(
        self::peer(&kept, "a1", "BGPPeer/p").next_hop,
        NextHopMode::Keep
    );
    let unnumbered = self::peer(&peered("peerInterface: swp1"), "a1", "BGPPeer/p");
    assert_eq!((unnumbered.address, unnumbered.asn), (None, None));
    assert!(unnumbered.extended_next_hop && unnumbered.families.len() == 2);
    assert_eq!((unnumbered.ttl, unnumbered.source), (Ttl::Direct, None));
}

#[test]
fn reflectors_have_clients_except_those_of_their_own_cluster() {
    let mut store = racks()
        .label("a1", &[("rr", "")])
        .label("b1", &[("rr", "")])
        .manifest(&object("BGPPeer", "rr", "peerSelector: has(rr)"));
    for (name, cluster) in [("a1", "10.0.0.1"), ("b1", "10.0.0.1")] {
        let bgp = store.nodes.get_mut(name).unwrap().bgp.as_mut().unwrap();
        bgp.route_reflector_cluster_id = cluster.parse().ok();
    }
    let client = |store: &Store, own: &str, other: &str| {
        peer(store, own, &format!("BGPPeer/rr/{other}/ipv4")).client
    };
    assert_eq!(plan(&store, "a1").unwrap().cluster_id, Some(0x0a00_0001));
    assert!(client(&store, "a1", "a2") && client(&store, "a1", "b2"));
    assert!(!client(&store, "a1", "b1"), "of one cluster");
    assert!(!client(&store, "a2", "a1"), "a client reflects nothing");
    assert_eq!(
        names(&store, "a2").len(),
        4,
        "two reflectors, two families: {:?}",
        names(&store, "a2")
    );
    let bgp = store.nodes.get_mut("b1").unwrap().bgp.as_mut().unwrap();
    bgp.route_reflector_cluster_id = "10.0.0.2".parse().ok();
    assert!(client(&store, "a1", "b1"), "of another cluster");
    // A client is in our own AS.
    let bgp = store.nodes.get_mut("a2").unwrap().bgp.as_mut().unwrap();
    bgp.as_number = Some(65001);
    assert!(!client(&store, "a1", "a2"));
}

#[test]
fn an_address_is_one_peer_and_never_this_node() {
    // The reflector's own address, for all nodes, itself included.
    let store = peered("peerIP: 192.0.1.1, asNumber: 64512");
    assert_eq!(names(&store, "a1"), [""; 0]);
    let to_node = peer(&store, "b1", "BGPPeer/p");
    assert_eq!(to_node.node.as_deref(), Some("a1"));
    // Beside the mesh, and beside another that says the same.
    let twice = configured("nodeToNodeMeshEnabled: true")
        .manifest(&object(
            "BGPPeer",
            "p",
            "peerIP: 192.0.1.1, asNumber: 64512",
        ))
        .manifest(&object(
            "BGPPeer",
            "q",
            "peerIP: 192.0.1.1, asNumber: 64512",
        ));
    let found = names(&twice, "a2");
    assert!(found.contains(&"BGPPeer/p".to_owned()), "{found:?}");
    let others = ["BGPPeer/q".to_owned(), "mesh/a1/ipv4".to_owned()];
    assert!(!others.iter().any(|o| found.contains(o)), "{found:?}");
    assert_eq!(bgp_problems(&twice.desired("a2")), [""; 0]);
    let other = twice.manifest(&object(
        "BGPPeer",
        "q",
        "peerIP: 192.0.1.1, asNumber: 64512, holdTime: 30s",
    ));
    let found = bgp_problems(&other.desired("a2"));
    assert!(
        found.len() == 1 && found[0].starts_with("BGPPeer/q: 192.0.1.1 is also"),
        "{found:?}"
    );
}

#[test]
fn what_cannot_be_decided_is_a_problem_and_no_session() {
    let tor = "peerIP: 192.0.1.254, asNumber: 65001";
    for (spec, words) in [
        (format!("{tor}, filters: [f]"), "there is no BGPFilter/f"),
        (
            format!("{tor}, password: {{secretKeyRef: {{name: s, key: k}}}}"),
            "there is no Secret/s",
        ),
        (format!("{tor}, node: gone"), "there is no Node/gone"),
        ("peerSelector: has(rr)".to_owned(), "selects no node"),
    ] {
        let store = peered(&spec);
        let state = store.desired("a1");
        let found = bgp_problems(&state);
        assert!(
            found.len() == 1 && found[0].contains(words),
            "{spec}: {found:?}"
        );
        let peers = state.bgp.iter().flat_map(|p| p.peers.keys());
        assert_eq!(
            peers.filter(|p| p.starts_with("BGPPeer")).count(),
            0,
            "{spec}"
        );
    }
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {j: v}\n";
    let store = configured("nodeMeshPassword: {secretKeyRef: {name: s, key: k}}").manifest(secret);
    let state = store.desired("a1");
    assert_eq!(state.bgp, None);
    assert!(bgp_problems(&state)[0].contains("Secret/s has no key k"));
    let whole = store.manifest(&secret.replace("j:", "k:"));
    let password = peer(&whole, "a1", "mesh/a2/ipv4").password.unwrap();
    let model::bgp::Password::Secret { value, .. } = password else {
        panic!("{password:?}")
    };
    assert_eq!(value.expose(), b"v");
    let state = whole.desired("a1");
    assert!(!serde_json::to_string(&state).unwrap().contains("\"v\""));
}

#[test]
fn a_configuration_that_cannot_be_read_ends_all_sessions() {
    let mut snapshot = racks().snapshot();
    let rejected = model::snapshot::Rejected {
        kind: "BGPConfiguration".to_owned(),
        name: "default".to_owned(),
        message: "no".to_owned(),
        standing: false,
    };
    snapshot.rejected.insert("k".to_owned(), rejected);
    let underlay = underlay_of(&racks().nodes["a1"]);
    let state = desired(&snapshot, &underlay, "a1");
    assert_eq!(state.bgp, None);
    assert!(bgp_problems(&state)[0].contains("nobody is peered with"));
}

#[test]
fn one_node_may_have_its_own_configuration() {
    let store = configured(
        "listenPort: 1179, holdTime: 30s, bindMode: NodeIP, communities: [{name: blue, value: '64512:1'}], \
         prefixAdvertisements: [{cidr: 10.0.0.0/16, communities: [blue]}]",
    )
    .manifest(&object(
        "BGPConfiguration",
        "node.a1",
        "listenPort: 2179, holdTime: 60s, bindMode: None, prefixAdvertisements: [{cidr: 10.0.1.0/26, \
         communities: [blue, '64512:1:2', red]}]",
    ));
    let (a1, a2) = (plan(&store, "a1").unwrap(), plan(&store, "a2").unwrap());
    assert_eq!((a1.listen, a2.listen), (Some(2179), Some(1179)));
    assert_eq!(a1.listen_addresses.len(), 0);
    assert_eq!(
        a2.listen_addresses,
        [
            "192.0.1.2".parse().unwrap(),
            "2001:db8:1::2".parse().unwrap()
        ]
        .into()
    );
    assert_eq!(peer(&store, "a2", "mesh/a1/ipv4").port, 2179);
    assert_eq!(peer(&store, "a1", "mesh/a2/ipv4").hold_time, 60);
    let own = &a1.announce[&cidr("10.0.1.0/26")];
    assert_eq!((own.communities.len(), own.large_communities.len()), (1, 1));
    let found = bgp_problems(&store.desired("a1"));
    assert!(
        found.len() == 1 && found[0].contains("red is the name of no community"),
        "{found:?}"
    );
    assert_eq!(
        a2.announce[&cidr("10.0.2.0/26")].communities,
        [64512 << 16 | 1]
    );
}

#[test]
fn blocks_borrowed_addresses_and_service_prefixes_are_announced() {
    let mut silent = pool("10.1.0.0/16", VxlanMode::Never);
    silent.disable_bgp_export = true;
    let mut disabled = pool("10.2.0.0/16", VxlanMode::Never);
    disabled.disabled = true;
    let store = configured(
        "nodeToNodeMeshEnabled: true, serviceClusterIPs: [{cidr: 10.96.0.0/12}], \
         serviceExternalIPs: [{cidr: 203.0.113.0/24}]",
    )
    .pool("silent", silent)
    .pool("disabled", disabled)
    .block("10.0.7.0/26", block("a1", 0, &[("10.0.7.9", "b1")]))
    .block(
        "10.0.8.0/26",
        block("a2", 1, &[("10.0.8.9", "a1"), ("10.0.8.10", "b1")]),
    )
    .block("10.1.0.0/26", block("a1", 1, &[]))
    .block("10.2.0.0/26", block("a1", 1, &[]))
    .block("172.16.0.0/26", block("a1", 1, &[]))
    .block("172.16.1.0/26", block("a1", 0, &[]));
    let announced: Vec<String> = (plan(&store, "a1").unwrap().announce.keys())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        announced,
        [
            "10.0.1.0/26",
            "10.0.7.0/26",
            "10.0.8.9/32",
            "10.2.0.0/26",
            "10.96.0.0/12",
            "172.16.0.0/26",
            "203.0.113.0/24",
        ]
    );
}

#[test]
fn filters_are_one_list_in_order_and_keep_their_family_and_kind_of_peer() {
    let filter = |name: &str, spec: &str| object("BGPFilter", name, spec);
    let store = peered("peerIP: 192.0.1.254, asNumber: 65001, filters: [two, one]")
        .manifest(&filter(
            "one",
            "exportV4: [{action: Reject}], importV4: [{action: Reject, peerType: iBGP}]",
        ))
        .manifest(&filter(
            "two",
            "exportV6: [{action: Accept, peerType: eBGP, operations: [{prependASPath: {prefix: [65010, 65011]}}, \
             {addCommunity: {value: '1:2'}}]}], exportV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: NotIn, \
             prefixLength: {min: 24}, source: RemotePeers, asPathPrefix: [65010], communities: {values: ['1:2:3']}}]",
        ));
    let tor = peer(&store, "a1", "BGPPeer/p");
    assert_eq!(tor.import, None, "the only rule is for iBGP");
    let rules = tor.export.unwrap().rules.clone();
    // After them, what everybody hears.
    let shown: Vec<_> = (rules.iter().take(3))
        .map(|r| {
            (
                r.accept,
                r.prefix.unwrap().cidr.to_string(),
                r.operations.len(),
            )
        })
        .collect();
    let expected = [
        (true, "10.0.0.0/8", 0),
        (true, "::/0", 2),
        (false, "0.0.0.0/0", 0),
    ];
    assert_eq!(shown, expected.map(|(a, c, n)| (a, c.to_owned(), n)));
    assert!(
        rules[0].remote && rules[0].communities.len() == 1 && rules[0].as_path_prefix == [65010]
    );
    assert_eq!(rules[0].prefix.unwrap().min_len, Some(24));
}

/// Prefixes of rules, `!` before those that reject; nothing stands for every learnt route.
fn shown(filter: Option<&Filter>) -> Vec<String> {
    let rules = filter.into_iter().flat_map(|f| &f.rules);
    rules
        .map(|r| {
            let prefix = r.prefix.map(|p| p.cidr.to_string()).unwrap_or_default();
            assert_eq!(r.remote, prefix.is_empty());
            format!("{}{prefix}", if r.accept { "" } else { "!" })
        })
        .collect()
}

#[test]
fn nobody_hears_of_learnt_routes_outside_our_pools() {
    let mut silent = pool("10.1.0.0/16", VxlanMode::Never);
    silent.disable_bgp_export = true;
    let tor = object("BGPPeer", "p", "peerIP: 192.0.1.254, asNumber: 65001");
    let store = configured("nodeToNodeMeshEnabled: true")
        .pool("silent", silent)
        .pool("six", pool("fd00::/64", VxlanMode::Never))
        .manifest(&tor);
    let expected = ["10.0.0.0/16", "!10.1.0.0/16", "fd00::/64", "!"];
    for name in ["BGPPeer/p", "mesh/a2/ipv4", "mesh/b1/ipv6"] {
        let peer = peer(&store, "a1", name);
        assert_eq!(shown(peer.export.as_deref()), expected, "{name}");
        assert_eq!(peer.import, None);
    }
}

/// The guard of `a1`, which reaches `a2` natively and the other rack only as the pool says.
#[test]
fn only_what_this_node_cannot_reach_is_imported() {
    let guard = |store: &Store| -> PoolGuard { (*plan(store, "a1").unwrap().guard).clone() };
    let all = ["10.0.2.0/26", "10.0.3.0/26", "10.0.4.0/26", "10.0.3.9/32"];
    let on = object("BGPConfiguration", "default", "nodeToNodeMeshEnabled: true");
    let base = || {
        racks()
            .manifest(&on)
            .block("10.0.3.0/26", block("b1", 1, &[("10.0.3.9", "b2")]))
    };
    let native = guard(&base());
    assert_eq!(native.pools, set(&["10.0.0.0/16"]));
    assert_eq!(native.importable, set(&all[1..]));
    assert_eq!(native.passable, set(&all[..1]));
    for mode in [VxlanMode::CrossSubnet, VxlanMode::Always] {
        let tunnelled = guard(&base().pool("p", pool("10.0.0.0/16", mode)));
        assert_eq!(tunnelled.importable, set(&[]), "{mode:?}");
        assert_eq!(tunnelled.passable, set(&all), "{mode:?}");
    }
    // Never in clear what has to be encrypted; with Preferred only those that cannot.
    assert_eq!(
        guard(&base().encrypt(Encryption::Required)).importable,
        set(&[])
    );
    let preferred = base()
        .encrypt(Encryption::Preferred)
        .node("a1", keyed(1, "192.0.1.1/24", ""))
        .node("b1", keyed(3, "192.0.2.3/24", ""));
    assert_eq!(
        guard(&preferred).importable,
        set(&["10.0.4.0/26", "10.0.3.9/32"])
    );
    // What a node has that does not exist, or stands in for another, is nobody's to announce.
    let unknown = base().block("10.0.9.0/26", block("gone", 1, &[]));
    let orphan = base().block("172.16.0.0/26", block("b1", 1, &[]));
    assert_eq!(guard(&unknown), native);
    let orphan = guard(&orphan);
    assert!(orphan.pools.contains(&cidr("172.16.0.0/26")));
    // It is tunnelled.
    assert!(orphan.passable.contains(&cidr("172.16.0.0/26")));
}

#[test]
fn where_the_network_peers_it_may_bring_the_routes() {
    let without = configured("nodeToNodeMeshEnabled: false").desired("a1");
    assert!(
        problems(&without)[0].contains("no subnet is shared"),
        "{:?}",
        problems(&without)
    );
    let meshed = racks().desired("a1");
    assert!(
        problems(&meshed)[0].contains("no subnet is shared"),
        "the network between does not hear of the mesh"
    );
    let tor = peered("peerIP: 192.0.1.254, asNumber: 65001").desired("a1");
    assert_eq!(problems(&tor), [""; 0]);
}

#[test]
fn a_large_mesh_is_advised_against_and_never_made_by_itself() {
    let mut store = racks();
    for n in 0..100u8 {
        store = store.node(&format!("n{n}"), node(n, &format!("192.0.3.{n}/24"), ""));
    }
    let state = store.desired("a1");
    assert_eq!((state.bgp, state.advice.len()), (None, 0));
    let on = object("BGPConfiguration", "default", "nodeToNodeMeshEnabled: true");
    let state = store.manifest(&on).desired("a1");
    assert!(
        state.advice[0].contains("route reflectors"),
        "{:?}",
        state.advice
    );
    assert!(state.bgp.unwrap().peers.len() > 100);
}

#[test]
fn a_node_without_ipv4_has_a_router_id_of_its_own() {
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..200u8 {
        let name = format!("rack{}-node{}", n / 40, n % 40);
        let store = Store::default()
            .pool("p", pool("fd00::/48", VxlanMode::Never))
            .node(&name, node(1, "", "2001:db8::1/64"))
            .node("z", node(2, "", "2001:db8::2/64"));
        let id = plan(&store, &name).unwrap().router_id;
        assert!(!id.is_unspecified() && !id.is_multicast(), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 200);
}
