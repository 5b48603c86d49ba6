//! Who the ends are: workloads, hosts, addresses that nobody has; and questions without an answer.

use model::api::ExplainVerdict::{Allow, Deny};
use model::api::{AddressShow, AddressState, ExplainAt, ExplainKind, ExplainPath};
use model::resources::EndpointToHostAction;

use super::{ask, asked, mesh, question, reason, snapshot, told};
use crate::world::*;

#[test]
fn nobody_is_told_from_somebody() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "default/web", "10.0.0.60");
    let e = &x.explanation;
    assert_eq!(
        (e.verdict, e.destination.kind, e.route.path),
        (Deny, ExplainKind::Unassigned, ExplainPath::None)
    );
    assert_eq!(
        reason(&x, ExplainAt::Destination),
        "no workload has 10.0.0.60; block 10.0.0.0/26 belongs to node a"
    );
    // In another node's block it goes there, and is dropped there.
    let x = told(&s, "default/web", "10.0.2.60");
    assert_eq!(
        (x.explanation.verdict, x.explanation.route.path),
        (Deny, ExplainPath::Vxlan)
    );
    assert!(reason(&x, ExplainAt::Destination).ends_with("block 10.0.2.0/26 belongs to node c"));
    let x = told(&s, "default/web", "10.0.200.1");
    assert_eq!(
        reason(&x, ExplainAt::Destination),
        "no workload has 10.0.200.1; no block of pool four has it"
    );
    let x = told(&s, "10.0.0.60", "default/web");
    assert_eq!(x.explanation.verdict, Deny);
    assert!(reason(&x, ExplainAt::Source).contains("spoofer"));
    let record = |state, name: &str| AddressShow {
        ip: "10.0.0.60".parse().unwrap(),
        state,
        handle: "h".to_owned(),
        node: "a".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    for (state, name, words) in [
        (AddressState::Cooldown, "", "rests"),
        (AddressState::Reserved, "", "IPReservation"),
        (
            AddressState::Used,
            "new",
            "shop/new on node a, which has no WorkloadEndpoint",
        ),
        (AddressState::Used, "", "handle h"),
    ] {
        let records = [record(state, name)];
        let x = asked(&s, &question("default/web", "10.0.0.60", None), &records).unwrap();
        assert!(x.explanation.summary.contains("drops") || x.explanation.summary.contains(words));
        assert!(
            reason(&x, ExplainAt::Destination).contains(words),
            "{:?}",
            x.explanation.steps
        );
    }
}

#[test]
fn hosts_are_ends_too() {
    let mut store = mesh();
    let s = snapshot(&store, &[]);
    // A workload and its own host, by the mesh's setting.
    assert_eq!(told(&s, "default/web", "a").explanation.verdict, Allow);
    store.mesh.default_endpoint_to_host_action = EndpointToHostAction::Drop;
    let s = snapshot(&store, &[]);
    let x = told(&s, "default/web", "a");
    assert_eq!(x.explanation.verdict, Deny);
    assert!(reason(&x, ExplainAt::Destination).contains("defaultEndpointToHostAction is Drop"));
    // The other way round everything passes.
    let closed =
        "NetworkPolicy\nmetadata: {name: none, namespace: default}\nspec: {types: [Ingress]}";
    let s = snapshot(&mesh(), &[closed]);
    let x = told(&s, "a", "default/web");
    assert_eq!((x.explanation.verdict, x.from_host), (Allow, true));
    assert_eq!(told(&s, "b", "default/web").explanation.verdict, Deny);
    // A host speaks by its tunnel's address where the route says so.
    let x = told(&s, "a", "shop/far");
    assert_eq!(x.explanation.source.ip.to_string(), "10.250.1.0");

    let host = "HostEndpoint\nmetadata: {name: eth}\nspec: {node: a, interfaceName: eth0}";
    let s = snapshot(&mesh(), &[host]);
    let x = told(&s, "a", "8.8.8.8");
    assert_eq!(x.explanation.verdict, Deny);
    assert!(
        x.explanation.summary.contains("no profile that allows"),
        "{}",
        x.explanation.summary
    );
    let x = ask(&s, &question("8.8.8.8", "a", Some(22))).unwrap();
    assert_eq!(x.explanation.verdict, Allow);
    assert!(reason(&x, ExplainAt::Ingress).contains("failsafe"));
    // The store of this node, on a port of its own; other nodes may have another.
    let mut store = question("a", "8.8.8.8", Some(12_379));
    let x = ask(&s, &store).unwrap();
    assert_eq!(x.explanation.verdict, Allow);
    assert!(reason(&x, ExplainAt::Egress).contains("failsafe"));
    store.port = None;
    let x = ask(&s, &store).unwrap();
    let ports = x.explanation.ports.iter().flat_map(|p| &p.ports);
    assert!(
        ports.into_iter().any(|p| p == "12379"),
        "{:?}",
        x.explanation.ports
    );
    let other = "HostEndpoint\nmetadata: {name: eth}\nspec: {node: b, interfaceName: eth0}";
    let x = ask(
        &snapshot(&mesh(), &[other]),
        &question("b", "8.8.8.8", Some(12_379)),
    );
    assert_eq!(x.unwrap().explanation.verdict, Deny);
    // What goes into a tunnel is not seen at the interface that carries it.
    assert_eq!(told(&s, "a", "shop/far").explanation.verdict, Allow);
    assert_eq!(told(&s, "a", "shop/api").explanation.verdict, Deny);
}

#[test]
fn questions_without_an_answer_say_why() {
    let mut store = mesh();
    store = store.endpoint("b", endpoint("rtdb", &["10.0.0.3/32"]));
    store = store.endpoint("bare", endpoint("rtdbare", &[]));
    let s = snapshot(&store, &[]);
    let error = |source: &str, destination: &str| {
        let asked = ask(&s, &question(source, destination, None));
        asked.unwrap_err().to_string()
    };
    assert!(error("shop/nobody", "web").starts_with("\"shop/nobody\": there is no workload"));
    assert_eq!(
        error("web", "b"),
        "\"b\" may be node b or workload default/b: write which, or its address"
    );
    assert!(error("bare", "web").contains("workload default/bare has no address"));
    assert!(error("default/db", "fd00::9").contains("no IP version in common"));
    assert!(error("8.8.8.8", "9.9.9.9").contains("nothing here decides"));
    assert!(error("web", "10.0.0.1").contains("both ends are 10.0.0.1"));
    // IPv4 in the clothes of IPv6 is IPv4.
    assert!(error("web", "::ffff:10.0.0.1").contains("both ends are 10.0.0.1"));
    assert!(error("web", "::ffff:127.0.0.1").contains("no address of one host"));
    assert!(error("web", "224.0.0.1").contains("no address of one host"));
}
