//! Nodes among themselves, and what configurations say of all of them.

use model::bgp::{Neighbour, Ttl};
use model::resources::VxlanMode;
use proptest::prelude::*;

use super::*;

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
    assert!(state.partial, "what was learnt before stays");
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

/// One end of a session between nodes: both nodes, the family, and what both have to say alike.
fn ends(store: &Store) -> std::collections::BTreeMap<(String, String, model::Family), Neighbour> {
    let mut ends = std::collections::BTreeMap::new();
    for own in store.nodes.keys() {
        for (name, peer) in plan(store, own).into_iter().flat_map(|p| p.peers) {
            let family = *peer.families.first().unwrap();
            let other = peer.node.clone().unwrap().to_string();
            let double = ends.insert((own.clone(), other, family), peer);
            assert_eq!(double, None, "{own}: {name}");
        }
    }
    ends
}

proptest! {
    #[test]
    fn nodes_agree_on_their_sessions(
        // By node: rack, whether it is a reflector, and of which cluster.
        nodes in prop::collection::vec((0..3u8, any::<bool>(), prop::option::of(1..3u8)), 1..7),
        mesh in prop::option::of(any::<bool>()),
        peers in prop::collection::vec(prop::sample::select(vec![
            "peerSelector: has(rr)",
            "nodeSelector: '!has(rr)', peerSelector: has(rr), holdTime: 30s",
            "nodeSelector: rack == '0', peerSelector: rack == '0', password: {file: /p}",
            "nodeSelector: rack == '1', peerSelector: rack == '2'",
            "node: n0, peerSelector: all()",
        ]), 0..3),
    ) {
        let mut store = Store::default().pool("p", pool("10.0.0.0/16", VxlanMode::Never));
        for (i, (rack, reflector, cluster)) in nodes.iter().enumerate() {
            let (n, name) = (u8::try_from(i).unwrap() + 1, format!("n{i}"));
            let mut spec = node(n, &format!("192.0.{rack}.{n}/24"), &format!("2001:db8:{rack}::{n}/64"));
            let bgp = spec.bgp.as_mut().unwrap();
            bgp.route_reflector_cluster_id = cluster.map(|c| std::net::Ipv4Addr::new(10, 0, 0, c));
            let rack = rack.to_string();
            let labels: &[_] = if *reflector { &[("rr", ""), ("rack", &rack)] } else { &[("rack", &rack)] };
            store = store.node(&name, spec).label(&name, labels);
        }
        if let Some(mesh) = mesh {
            let spec = format!("nodeToNodeMeshEnabled: {mesh}");
            store = store.manifest(&object("BGPConfiguration", "default", &spec));
        }
        for (i, spec) in peers.iter().enumerate() {
            store = store.manifest(&object("BGPPeer", &format!("p{i}"), spec));
        }
        let ends = ends(&store);
        for ((own, other, family), peer) in &ends {
            let back = ends.get(&(other.clone(), own.clone(), *family));
            let Some(back) = back else {
                panic!("{own} peers with {other}, which does not")
            };
            prop_assert_eq!(peer.asn, Some(back.local_as));
            prop_assert_eq!((peer.address, peer.source), (back.source, back.address));
            prop_assert_eq!((&peer.password, peer.hold_time, peer.ttl), (&back.password, back.hold_time, back.ttl));
            prop_assert_eq!(&peer.resource, &back.resource);
        }
    }
}
