//! Routes, tunnels, encryption and masquerade.

use model::api::ExplainVerdict::{Allow, Deny};
use model::api::{ExplainAt, ExplainKind, ExplainPath};
use model::resources::{Encryption, Mtu};

use super::{mesh, reason, snapshot, steps, told};
use crate::world::*;

#[test]
fn the_way_to_another_node_is_told() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "default/web", "shop/api");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Allow, ExplainPath::Direct));
    assert_eq!(
        (e.route.next_node.as_deref(), e.route.via),
        (Some("b"), "192.0.2.2".parse().ok())
    );
    assert_eq!(
        reason(&x, ExplainAt::Route),
        "by the network to node b: vxlanMode of pool four is CrossSubnet, and the nodes share a subnet"
    );
    assert_eq!(
        reason(&x, ExplainAt::Encryption),
        "in clear: spec.encryption of the mesh is Off"
    );

    let x = told(&s, "default/web", "shop/far");
    let e = &x.explanation;
    assert_eq!(
        (e.verdict, e.route.path, e.mtu),
        (Allow, ExplainPath::Vxlan, 1450)
    );
    assert_eq!(e.route.mtu_reason, "VXLAN over IPv4 adds 50 bytes");
    assert_eq!(e.route.tunnel_endpoint, "198.51.100.3".parse().ok());
    assert!(reason(&x, ExplainAt::Route).ends_with("CrossSubnet, and the nodes share no subnet"));
    assert!(x.way.neighbour.is_some() && x.way.fdb.is_some());

    // A lent address is where it is used, not where its block is.
    let x = told(&s, "default/web", "shop/lent");
    assert_eq!(x.explanation.route.next_node.as_deref(), Some("b"));
    assert_eq!(x.explanation.route.prefix, Some(cidr("10.0.3.9/32")));

    let mut store = mesh();
    store.mesh.mtu = Mtu::Bytes(1400);
    let x = told(&snapshot(&store, &[]), "default/web", "shop/api");
    assert_eq!(x.explanation.mtu, 1400);
    assert!(
        x.explanation.route.mtu_reason.contains("as spec.mtu"),
        "{:?}",
        x.explanation.route
    );
}

#[test]
fn encryption_is_told_and_its_want_drops() {
    let s = snapshot(&mesh().encrypt(Encryption::Required), &[]);
    let x = told(&s, "default/web", "shop/api");
    let e = &x.explanation;
    assert_eq!(
        (e.verdict, e.route.path, e.route.encrypted),
        (Allow, ExplainPath::WireGuard, true)
    );
    assert_eq!((x.way.peer, e.mtu), (Some(public_key(2)), 1440));
    assert!(reason(&x, ExplainAt::Encryption).starts_with("encrypted: "));

    let keyless = mesh().node("b", node(2, "192.0.2.2/24", ""));
    let s = snapshot(&keyless.clone().encrypt(Encryption::Required), &[]);
    let x = told(&s, "default/web", "shop/api");
    assert_eq!((x.explanation.verdict, x.explanation.mtu), (Deny, 0));
    assert!(reason(&x, ExplainAt::Route).contains("there is no tunnel from a to b"));
    let s = snapshot(&keyless.encrypt(Encryption::Preferred), &[]);
    let x = told(&s, "default/web", "shop/api");
    assert_eq!(x.explanation.verdict, Allow);
    assert!(
        reason(&x, ExplainAt::Encryption).starts_with("in clear, though encryption is preferred")
    );
}

#[test]
fn what_leaves_the_pools_is_masqueraded() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "default/web", "8.8.8.8");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Allow, ExplainPath::Host));
    assert_eq!(e.route.masquerade, "192.0.2.1".parse().ok());
    assert_eq!(e.destination.kind, ExplainKind::Outside);
    assert_eq!(
        steps(&x),
        ["Egress Allow -", "Route Forward -", "Nat Masquerade -"]
    );
    // Pools with no natOutgoing, and what stays in the pools.
    assert_eq!(
        told(&s, "default/web", "2001:db8:9::9")
            .explanation
            .route
            .masquerade,
        None
    );
    assert_eq!(
        told(&s, "default/web", "shop/api")
            .explanation
            .route
            .masquerade,
        None
    );
    // The other host sees the host.
    let host = "HostEndpoint\nmetadata: {name: hb}\nspec: {node: b, expectedIPs: [192.0.2.2]}";
    let policy = "GlobalNetworkPolicy\nmetadata: {name: p}\nspec: {selector: '!has(app)', types: [Ingress], ingress: [{action: Allow, source: {nets: [192.0.2.1/32]}}]}";
    let x = told(&snapshot(&mesh(), &[host, policy]), "default/web", "b");
    assert_eq!(x.explanation.verdict, Allow);
    assert_eq!(steps(&x).last().unwrap(), "Ingress Allow p[0]");
    assert_eq!(
        x.judged.last().unwrap().packet.source.to_string(),
        "192.0.2.1"
    );
}

#[test]
fn between_others_their_nodes_decide() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "shop/api", "shop/far");
    let e = &x.explanation;
    assert_eq!(
        (&*e.route.node, e.route.path, x.way.is_here),
        ("b", ExplainPath::Vxlan, false)
    );
    assert_eq!(e.route.device, None);
    assert!(
        e.route
            .mtu_reason
            .contains("taking links of node b to be as those here")
    );
    let x = told(&s, "8.8.8.8", "shop/far");
    assert_eq!(
        (&*x.explanation.route.node, x.explanation.route.path),
        ("c", ExplainPath::Local)
    );
    let x = told(&s, "shop/api", "default/web");
    assert_eq!(x.explanation.route.next_node.as_deref(), Some("a"));
}
