//! What `BGPPeer`s ask for.

use model::bgp::{NextHopMode, Ttl};

use super::*;

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
    let of_all = peer(&store, "a1", "BGPPeer/p");
    assert_eq!(
        (of_all.port, of_all.asn, of_all.local_as),
        (1179, Some(64512), 64513)
    );
    assert_eq!(
        (of_all.next_hop, of_all.source, of_all.ttl),
        (NextHopMode::Own, None, Ttl::Security(3))
    );
    assert_eq!(
        (of_all.restart_time, of_all.hold_time, of_all.max_prefixes),
        (30, 30, 7)
    );
    assert_eq!(of_all.allowed_own_as, 2);
    let bfd = of_all.bfd.unwrap();
    assert_eq!(
        (bfd.transmit_ms, bfd.receive_ms, bfd.multiplier),
        (300, 300, 3)
    );
    assert!(matches!(
        of_all.password,
        Some(model::bgp::Password::File(_))
    ));
    assert_eq!(of_all.resource.as_deref(), Some("p"));

    let kept = peered("peerIP: 192.0.1.254, asNumber: 65001, keepOriginalNextHop: true");
    assert_eq!(peer(&kept, "a1", "BGPPeer/p").next_hop, NextHopMode::Keep);
    let unnumbered = peer(&peered("peerInterface: swp1"), "a1", "BGPPeer/p");
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
