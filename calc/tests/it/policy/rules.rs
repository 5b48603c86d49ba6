//! What a rule asks for, and of whom.

use super::*;

#[test]
fn selector_and_not_selector_negate_different_things() {
    let global = |source: &str| {
        let rules = format!("{{action: Allow, source: {{{source}}}}}");
        heard(&with(&in_tier("default", "p", &rules)), 1, &ALL)
    };
    // Only what is known has labels to lack; what is unknown is not selected by anything.
    assert_eq!(global("selector: '!has(app)'"), [HOST, FEED, PARTNER]);
    assert_eq!(
        global("notSelector: has(app)"),
        [HOST, FEED, PARTNER, STRANGER]
    );
    assert_eq!(global("selector: all()"), [DB, BANK, HOST, FEED, PARTNER]);
    assert_eq!(
        global("selector: has(app), notSelector: app == 'db'"),
        [BANK]
    );
    assert_eq!(global("nets: [0.0.0.0/0], notSelector: all()"), [STRANGER]);
}

#[test]
fn rules_of_a_namespace_look_for_others_in_it() {
    let own = |source: &str| {
        let spec = format!("ingress: [{{action: Allow, source: {{{source}}}}}]");
        heard(&of_shop(&spec), 1, &ALL)
    };
    assert_eq!(own("selector: has(app)"), [DB]);
    assert_eq!(own("selector: all()"), [DB, PARTNER]);
    assert_eq!(own("notSelector: app == 'db'"), [PARTNER]);
    assert_eq!(own("namespaceSelector: all()"), [DB, BANK, PARTNER]);
    assert_eq!(own("namespaceSelector: global()"), [HOST, FEED]);
    assert_eq!(
        own("namespaceSelector: '!global()', selector: has(app)"),
        [DB, BANK]
    );
    assert_eq!(own("namespaceSelector: team == 'blue'"), [BANK]);
    assert_eq!(
        own("namespaceSelector: kubernetes.io/metadata.name == 'bank'"),
        [BANK]
    );
    assert_eq!(
        own("namespaceSelector: \"projectcalico.org/name in {'bank'}\", selector: app == 'db'"),
        [""; 0]
    );
    // What lives in no namespace has no labels there, which is not the same as another label.
    assert_eq!(own("namespaceSelector: team != 'red'"), [BANK, HOST, FEED]);
    assert_eq!(own("nets: [10.0.0.0/16]"), [DB, BANK]);
    assert_eq!(own(""), ALL);
}

#[test]
fn labels_that_follow_from_what_a_workload_is() {
    let global = |selector: &str| {
        let rules = format!("{{action: Allow, source: {{selector: \"{selector}\"}}}}");
        heard(&with(&in_tier("default", "p", &rules)), 1, &ALL)
    };
    assert_eq!(
        global("projectcalico.org/namespace == 'shop'"),
        [DB, PARTNER]
    );
    assert_eq!(global("projectcalico.org/orchestrator == 'k8s'"), [BANK]);
    assert_eq!(global("has(projectcalico.org/orchestrator)"), [DB, BANK]);
    assert_eq!(global("projectcalico.org/serviceaccount == 'keeper'"), [DB]);
    assert_eq!(global("pcns.team == 'blue'"), [BANK]);
    assert_eq!(global("kind in {'feed', 'partner'}"), [FEED, PARTNER]);
}

#[test]
fn prefixes_and_families() {
    let own = |rule: &str| {
        let snapshot = of_shop(&format!("ingress: [{{action: Allow, {rule}}}]"));
        let world = World::new(&snapshot, Mode::Enforced);
        let v4 = ALL.map(|ip| tcp(ip, WEB, 1));
        let v6 = tcp("fd00::9", "fd00::1", 1);
        let packets = v4.iter().chain([&v6]);
        let allowed = packets.filter(|p| web(&world, Ingress, p).allowed);
        allowed.map(|p| p.source.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        own("source: {nets: [10.0.0.0/24, 198.51.100.7]}"),
        [DB, FEED]
    );
    assert_eq!(
        own("source: {nets: [10.0.0.0/16], notNets: [10.0.1.0/24]}"),
        [DB]
    );
    assert_eq!(own("source: {notNets: [0.0.0.0/1, 128.0.0.0/1]}"), [""; 0]);
    assert_eq!(
        own("source: {notNets: [10.0.0.0/8]}"),
        [HOST, FEED, PARTNER, STRANGER]
    );
    assert_eq!(own("destination: {notNets: ['fd01::/16']}"), ["fd00::9"]);
    assert_eq!(own("ipVersion: 6"), ["fd00::9"]);
    assert_eq!(own("ipVersion: 4"), ALL);
    assert_eq!(
        own("destination: {nets: [10.0.0.1]}, source: {selector: all()}"),
        [DB, PARTNER]
    );
}

#[test]
fn protocols_and_icmp() {
    let own = |rule: &str, packet: Packet| {
        let snapshot = of_shop(&format!("ingress: [{{action: Allow, {rule}}}]"));
        web(&World::new(&snapshot, Mode::Enforced), Ingress, &packet).allowed
    };
    let of = |protocol| packet(DB, WEB, protocol, 0);
    for (name, number) in [
        ("TCP", 6),
        ("udp", 17),
        ("ICMP", 1),
        ("ICMPv6", 58),
        ("SCTP", 132),
        ("UDPLite", 136),
        ("47", 47),
    ] {
        assert!(own(&format!("protocol: {name}"), of(number)), "{name}");
        assert!(!own(&format!("protocol: {name}"), of(99)), "{name}");
        assert!(!own(&format!("notProtocol: {name}"), of(number)), "{name}");
        assert!(own(&format!("notProtocol: {name}"), of(99)), "{name}");
    }
    let icmp = |icmp_type, code| Packet {
        icmp: Some((icmp_type, code)),
        ..of(1)
    };
    let echo = "protocol: ICMP, icmp: {type: 8}";
    assert!(own(echo, icmp(8, 3)) && !own(echo, icmp(0, 0)) && !own(echo, of(1)));
    let exact = "protocol: ICMP, icmp: {type: 3, code: 4}";
    assert!(own(exact, icmp(3, 4)) && !own(exact, icmp(3, 1)));
    let but = "protocol: ICMP, notICMP: {type: 3, code: 4}";
    assert!(!own(but, icmp(3, 4)) && own(but, icmp(3, 1)) && own(but, icmp(8, 0)));
}

#[test]
fn ports_ranges_names_and_their_negations() {
    let hears = |rule: &str, packet: &Packet| {
        let snapshot = of_shop(&format!("ingress: [{{action: Allow, {rule}}}]"));
        web(&World::new(&snapshot, Mode::Enforced), Ingress, packet).allowed
    };
    let to = |port| tcp(DB, WEB, port);
    let range = "protocol: TCP, destination: {ports: [80, '8000:8100']}";
    for (port, good) in [
        (79, false),
        (80, true),
        (81, false),
        (8000, true),
        (8100, true),
        (8101, false),
    ] {
        assert_eq!(hears(range, &to(port)), good, "{port}");
    }
    assert!(!hears(range, &packet(DB, WEB, 17, 80)));
    let not = "protocol: TCP, destination: {ports: ['1:100'], notPorts: [80]}";
    assert!(hears(not, &to(79)) && !hears(not, &to(80)) && !hears(not, &to(101)));
    let source = "protocol: TCP, source: {ports: [40000]}";
    assert!(hears(source, &to(1)));
    assert!(!hears("protocol: TCP, source: {notPorts: [40000]}", &to(1)));
    // By name, protocol included.
    let named = "protocol: TCP, destination: {ports: [http]}";
    assert!(hears(named, &to(8080)) && !hears(named, &to(9090)) && !hears(named, &to(53)));
    assert!(!hears(
        "protocol: UDP, destination: {ports: [http]}",
        &packet(DB, WEB, 17, 8080)
    ));
    assert!(hears(
        "protocol: UDP, destination: {ports: [dns]}",
        &packet(DB, WEB, 17, 53)
    ));
    let unnamed = "protocol: TCP, destination: {notPorts: [http]}";
    assert!(!hears(unnamed, &to(8080)) && hears(unnamed, &to(9090)));

    let sends = |rule: &str, packet: &Packet| {
        let snapshot = of_shop(&format!("egress: [{{action: Allow, {rule}}}]"));
        web(&World::new(&snapshot, Mode::Enforced), Egress, packet).allowed
    };
    // The same name is another number elsewhere, and nothing where nobody has it.
    assert!(sends(named, &tcp(WEB, DB, 9090)) && !sends(named, &tcp(WEB, DB, 8080)));
    assert!(!sends(named, &tcp(WEB, BANK, 8080)) && !sends(named, &tcp(WEB, STRANGER, 8080)));
    let chosen = "protocol: TCP, destination: {selector: app == 'web', ports: [http, 9090]}";
    assert!(!sends(chosen, &tcp(WEB, DB, 9090)) && sends(chosen, &tcp(WEB, WEB, 9090)));
}
