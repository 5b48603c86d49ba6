//! Every decision that an explanation tells.

use std::sync::Arc;

use calc::Inputs;
use calc::explain::{Ends, ExplainError, Explained, Question, explain};
use model::api::{
    AddressShow, AddressState, ExplainAt, ExplainDecision, ExplainKind, ExplainPath, ExplainVerdict,
};
use model::keys;
use model::kv::Event;
use model::manifest;
use model::resources::{Encryption, EndpointToHostAction, Mtu, VxlanMode};
use model::snapshot::{EndpointKey, RemoteEndpoint, Snapshot};

use crate::world::*;

use ExplainVerdict::{Allow, Deny};

/// `a` is here, `b` on the same subnet, `c` beyond a router.
fn mesh() -> Store {
    let mut four = pool("10.0.0.0/16", VxlanMode::CrossSubnet);
    four.nat_outgoing = true;
    Store::default()
        .node("a", keyed(1, "192.0.2.1/24", "2001:db8:2::1/64"))
        .node("b", keyed(2, "192.0.2.2/24", "2001:db8:2::2/64"))
        .node("c", keyed(3, "198.51.100.3/24", ""))
        .pool("four", four)
        .pool("six", pool("fd00::/64", VxlanMode::Never))
        .block("10.0.0.0/26", block("a", 1, &[]))
        .block("10.0.1.0/26", block("b", 1, &[]))
        .block("10.0.2.0/26", block("c", 1, &[]))
        .block("10.0.3.0/26", block("c", 1, &[("10.0.3.9", "b")]))
        .endpoint("web", endpoint("rtdweb", &["10.0.0.1/32", "fd00::1/128"]))
        .endpoint("db", endpoint("rtddb", &["10.0.0.2/32"]))
}

fn remote(s: &mut Snapshot, name: &str, node: &str, ip: &str) {
    let key = EndpointKey {
        namespace: "shop".into(),
        name: format!("{node}-cni-{name}-eth0").into(),
    };
    let labels = [("app".to_owned(), name.to_owned())];
    let remote = RemoteEndpoint {
        node: node.into(),
        ips: [ip.parse().unwrap()].into(),
        labels: Arc::new(labels.into()),
        ports: [].into(),
        workload: name.into(),
    };
    s.remote_endpoints.insert(key, remote);
}

/// The mesh with workloads elsewhere and these policies; each begins with its kind.
fn snapshot(store: &Store, policies: &[&str]) -> Snapshot {
    let mut s = store.snapshot();
    remote(&mut s, "api", "b", "10.0.1.1");
    remote(&mut s, "far", "c", "10.0.2.1");
    remote(&mut s, "lent", "b", "10.0.3.9");
    for (revision, text) in (100..).zip(policies) {
        let text = format!("apiVersion: projectcalico.org/v3\nkind: {text}");
        let objects = manifest::parse(&text).unwrap();
        let object = &objects[0];
        model::validate::validate(object).unwrap();
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(object)),
            revision,
        };
        s.apply("a", &event);
        assert!(s.rejected.is_empty(), "{:?}", s.rejected);
    }
    s
}

fn question(source: &str, destination: &str, port: Option<u16>) -> Question {
    Question {
        source: source.to_owned(),
        destination: destination.to_owned(),
        protocol: 6,
        port,
        source_port: None,
        icmp_type: None,
        icmp_code: None,
        all: false,
    }
}

fn ask(s: &Snapshot, question: &Question) -> Result<Explained, ExplainError> {
    asked(s, question, &[])
}

fn asked(
    s: &Snapshot,
    question: &Question,
    records: &[AddressShow],
) -> Result<Explained, ExplainError> {
    let underlay = underlay_of(&s.nodes["a"].spec);
    let inputs = Inputs {
        node: "a",
        snapshot: s,
        underlay: &underlay,
        accepts_ra: false,
    };
    let state = calc::desired_state(&inputs);
    let ends = Ends::find(&inputs, question)?;
    explain(&inputs, &state, question, &ends, records)
}

fn told(s: &Snapshot, source: &str, destination: &str) -> Explained {
    ask(s, &question(source, destination, Some(80))).unwrap()
}

/// The steps that have a say, in short.
fn steps(explained: &Explained) -> Vec<String> {
    let steps = explained.explanation.steps.iter();
    let steps = steps.map(|s| {
        let of = s.policy.as_deref().or(s.tier.as_deref()).unwrap_or("-");
        let rule = s.rule.map(|r| format!("[{r}]")).unwrap_or_default();
        format!("{:?} {:?} {of}{rule}", s.at, s.decision)
    });
    steps.collect()
}

fn reason(explained: &Explained, at: ExplainAt) -> &str {
    let mut steps = explained.explanation.steps.iter();
    steps.rfind(|s| s.at == at).map_or("", |s| &s.reason)
}

#[test]
fn neighbours_on_a_node_reach_each_other() {
    let s = snapshot(&mesh(), &[]);
    let x = told(&s, "default/web", "db");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Allow, ExplainPath::Local));
    assert_eq!(
        steps(&x),
        ["Egress Allow -", "Route Forward -", "Ingress Allow -"]
    );
    assert_eq!(
        reason(&x, ExplainAt::Route),
        "delivered on node a, by interface rtddb"
    );
    assert_eq!((e.mtu, e.route.device.as_deref()), (1450, Some("rtddb")));
    assert_eq!(e.source.labels["projectcalico.org/namespace"], "default");
    assert_eq!(
        (e.source.pool.as_deref(), e.source.block),
        (Some("four"), Some(cidr("10.0.0.0/26")))
    );
    assert_eq!(x.source_interface.as_deref(), Some("rtdweb"));
    assert_eq!(e.staged, None);
    // IPv6 where the destination has no other.
    let x = told(&s, "default/web", "2001:db8:2::2");
    assert_eq!(x.explanation.source.ip.to_string(), "fd00::1");
}

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

const EGRESS: &str = "NetworkPolicy\nmetadata: {name: out, namespace: default}\nspec: {types: [Egress], egress: [\
    {action: Log}, \
    {action: Deny, protocol: TCP, destination: {ports: [443]}}, \
    {action: Deny, destination: {selector: app == 'nobody'}}, \
    {action: Pass, protocol: TCP, destination: {ports: ['8000:8999']}}, \
    {action: Allow, protocol: TCP, destination: {ports: [80], selector: app == 'api', namespaceSelector: all()}}]}";

#[test]
fn policy_is_told_rule_by_rule() {
    let s = snapshot(&mesh(), &[EGRESS]);
    let x = told(&s, "default/web", "shop/api");
    assert_eq!(
        steps(&x)[..5],
        [
            "Egress Log default/out[0]",
            "Egress NoMatch default/out[1]",
            "Egress NoMatch default/out[2]",
            "Egress NoMatch default/out[3]",
            "Egress Allow default/out[4]"
        ]
    );
    let steps_of = &x.explanation.steps;
    assert_eq!(steps_of[1].reason, "destination.ports: 443");
    assert_eq!(steps_of[2].reason, "destination.selector: app == 'nobody'");
    assert_eq!(steps_of[4].tier.as_deref(), Some("default"));
    assert_eq!(steps_of[4].policy_kind.as_deref(), Some("NetworkPolicy"));
    assert!(!steps_of.iter().any(|s| s.by_port));

    // Dropped at the end of the tier, and the rest of the way is told all the same.
    let x = told(&s, "default/web", "shop/far");
    let e = &x.explanation;
    assert_eq!((e.verdict, e.route.path), (Deny, ExplainPath::Vxlan));
    assert_eq!(
        e.summary,
        "denied by egress policy of the source: the end of tier default, no rule of which matches"
    );
    let end = e
        .steps
        .iter()
        .find(|s| s.decision == ExplainDecision::Deny)
        .unwrap();
    assert_eq!(
        (end.tier.as_deref(), &end.policy, end.rule),
        (Some("default"), &None, None)
    );

    let deny = ask(&s, &question("default/web", "shop/api", Some(443))).unwrap();
    assert_eq!(
        deny.explanation.summary,
        "denied by egress policy of the source: egress[1] of NetworkPolicy default/out (tier default)"
    );
    let pass = ask(&s, &question("default/web", "shop/far", Some(8080))).unwrap();
    assert_eq!(pass.explanation.verdict, Allow);
    assert!(steps(&pass).contains(&"Egress Pass default/out[3]".to_owned()));
}

#[test]
fn without_a_port_all_ports_are_told() {
    let s = snapshot(&mesh(), &[EGRESS]);
    let x = ask(&s, &question("default/web", "shop/api", None)).unwrap();
    let e = &x.explanation;
    assert_eq!((e.verdict, e.packet.port), (Deny, None));
    let ports: Vec<_> = e
        .ports
        .iter()
        .map(|p| (p.ports.join(","), p.verdict, p.by.as_str()))
        .collect();
    let rule = |n: u8| format!("egress by egress[{n}] of NetworkPolicy default/out (tier default)");
    assert_eq!(
        ports,
        [
            (
                "80".to_owned(),
                Allow,
                &*format!("{}; ingress by the profile", rule(4))
            ),
            ("443".to_owned(), Deny, &*rule(1)),
            (
                "8000:8999".to_owned(),
                Allow,
                "egress by the profile; ingress by the profile"
            ),
        ]
    );
    let marked: Vec<_> = e
        .steps
        .iter()
        .filter(|s| s.by_port)
        .map(|s| s.rule)
        .collect();
    assert_eq!(marked, [Some(1), Some(3), Some(4)]);
    // What stands for all ports is judged, and one of each sort.
    assert_eq!(x.judged.len(), 8);
    let many: Vec<String> = (0..200).map(|n| format!("{}", 1000 + 2 * n)).collect();
    let many = format!(
        "NetworkPolicy\nmetadata: {{name: many, namespace: default}}\nspec: {{egress: [{{action: Allow, protocol: TCP, destination: {{ports: [{}]}}}}]}}",
        many.join(", ")
    );
    let x = ask(
        &snapshot(&mesh(), &[&many]),
        &question("default/web", "shop/api", None),
    )
    .unwrap();
    assert_eq!(x.explanation.not_checked.len(), 1);
    // ICMP has none.
    let ping = Question {
        protocol: 1,
        ..question("default/web", "shop/api", None)
    };
    let x = ask(&s, &ping).unwrap();
    assert_eq!(
        (x.packet.icmp, x.explanation.ports.len()),
        (Some((8, 0)), 0)
    );
    assert!(!x.explanation.steps.iter().any(|s| s.by_port));
}

#[test]
fn staged_policies_say_what_they_would_do() {
    let staged =
        "StagedNetworkPolicy\nmetadata: {name: none, namespace: default}\nspec: {types: [Ingress]}";
    let s = snapshot(&mesh(), &[staged]);
    let x = told(&s, "default/web", "default/db");
    assert_eq!(x.explanation.verdict, Allow);
    let would = x.explanation.staged.unwrap();
    assert_eq!(would.verdict, Deny);
    assert!(
        would.summary.contains("end of tier default"),
        "{}",
        would.summary
    );
    assert_eq!(told(&s, "default/web", "shop/api").explanation.staged, None);
}

#[test]
fn policies_that_do_not_select_are_told_on_demand() {
    let other = "NetworkPolicy\nmetadata: {name: other, namespace: shop}\nspec: {}";
    let global =
        "GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: app == 'x', types: [Egress]}";
    let s = snapshot(&mesh(), &[other, global]);
    assert!(
        !steps(&told(&s, "web", "db"))
            .iter()
            .any(|s| s.contains("NotSelected"))
    );
    let all = Question {
        all: true,
        ..question("web", "db", Some(80))
    };
    let x = ask(&s, &all).unwrap();
    let why: Vec<_> = (x.explanation.steps.iter())
        .filter(|s| s.decision == ExplainDecision::NotSelected)
        .map(|s| format!("{:?}: {}", s.at, s.reason))
        .collect();
    assert_eq!(
        why,
        [
            "Egress: app == 'x' does not select it",
            "Egress: it is not for Egress",
            "Ingress: it is not for Ingress",
            "Ingress: it is for workloads of namespace shop"
        ]
    );
}

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
    // What goes into a tunnel is not seen at the interface that carries it.
    assert_eq!(told(&s, "a", "shop/far").explanation.verdict, Allow);
    assert_eq!(told(&s, "a", "shop/api").explanation.verdict, Deny);
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
    assert!(error("web", "224.0.0.1").contains("no address of one host"));
}
