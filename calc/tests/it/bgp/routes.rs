//! What is announced, passed on and taken.

use model::bgp::{Filter, PoolGuard};
use model::resources::{Encryption, VxlanMode};

use super::*;

fn set(prefixes: &[&str]) -> std::collections::BTreeSet<model::Cidr> {
    prefixes.iter().map(|p| cidr(p)).collect()
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
    let store =
        configured("nodeToNodeMeshEnabled: true, serviceClusterIPs: [{cidr: 10.96.0.0/12}]")
            .pool("silent", silent)
            .pool("six", pool("fd00::/64", VxlanMode::Never))
            .manifest(&tor);
    let expected = [
        "10.0.0.0/16",
        "!10.1.0.0/16",
        "fd00::/64",
        "10.96.0.0/12",
        "!",
    ];
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
