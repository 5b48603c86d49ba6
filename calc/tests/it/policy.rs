//! What Calico documents about policy, case by case.

use calc::policy::{By, Mode, Packet, Verdict, World};
use model::keys;
use model::kv::Event;
use model::manifest;
use model::resources::{Action, PolicyType};
use model::snapshot::Snapshot;

use PolicyType::{Egress, Ingress};

/// What a daemon on `here` has read after such manifests were applied.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (revision, object) in (1..).zip(manifest::parse(text).unwrap()) {
        model::validate::validate(&object).unwrap();
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(&object)),
            revision,
        };
        snapshot.apply("here", &event);
    }
    assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
    snapshot
}

/// Two namespaces, workloads on this node and on another, a host, and network sets.
const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: red}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank, labels: {team: blue}}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  node: here
  interfaceName: tap0
  ipNetworks: [10.0.0.1, 'fd00::1']
  ports: [{name: http, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}]
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  node: there
  interfaceName: tap0
  serviceAccountName: keeper
  ipNetworks: [10.0.0.2]
  ports: [{name: http, protocol: TCP, port: 9090}]
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: web, namespace: bank, labels: {app: web}}
spec: {node: there, interfaceName: tap1, ipNetworks: [10.0.1.1], orchestrator: k8s}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host, labels: {role: host}}
spec: {node: here, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: open, labels: {role: open}}
spec: {node: there, interfaceName: eth0, expectedIPs: [192.0.2.2], profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: feed, labels: {kind: feed}}
spec: {nets: [198.51.100.0/24]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: feed, namespace: shop, labels: {kind: partner}}
spec: {nets: [203.0.113.0/24]}
";

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const BANK: &str = "10.0.1.1";
const HOST: &str = "192.0.2.1";
const FEED: &str = "198.51.100.7";
const PARTNER: &str = "203.0.113.7";
const STRANGER: &str = "9.9.9.9";

pub(crate) fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Packet {
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol,
        source_port: 40_000,
        destination_port: port,
        icmp: None,
    }
}

fn tcp(source: &str, destination: &str, port: u16) -> Packet {
    packet(source, destination, 6, port)
}

fn with(policies: &str) -> Snapshot {
    let policies = policies.replace("\n  V3 ", "\n---\napiVersion: projectcalico.org/v3\nkind: ");
    snapshot(&format!("{MESH}{policies}"))
}

/// One policy for `web` of `shop`.
fn of_shop(spec: &str) -> Snapshot {
    with(&format!(
        "\n  V3 NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{selector: app == 'web', {spec}}}"
    ))
}

fn web<'a>(world: &World<'a>, direction: PolicyType, packet: &Packet) -> Verdict<'a> {
    world.evaluate(world.workload("shop", "web").unwrap(), direction, packet)
}

/// Of these peers of `web`, those that it hears on a TCP port.
fn heard<'p>(snapshot: &Snapshot, port: u16, peers: &[&'p str]) -> Vec<&'p str> {
    let world = World::new(snapshot, Mode::Enforced);
    let hears = |peer: &&&str| web(&world, Ingress, &tcp(peer, WEB, port)).allowed;
    peers.iter().filter(hears).copied().collect()
}

const ALL: [&str; 6] = [DB, BANK, HOST, FEED, PARTNER, STRANGER];

/// How a verdict came about, in short.
fn told(verdict: &Verdict<'_>) -> Vec<String> {
    let by = |by: &By<'_>| match by {
        By::Rule { tier, policy, rule } => format!("{tier}/{}[{rule}]", policy.name),
        By::EndOfTier { tier, policy } => format!("{tier} after {}", policy.name),
        By::Profile => "profile".to_owned(),
        By::Failsafe => "failsafe".to_owned(),
    };
    let told: Vec<_> = verdict
        .steps
        .iter()
        .map(|s| format!("{:?} {}", s.action, by(&s.by)))
        .collect();
    let last = verdict.steps.last().unwrap();
    assert_eq!(
        (last.by, last.action == Action::Allow),
        (verdict.by, verdict.allowed)
    );
    told
}

#[test]
fn what_no_policy_is_about_is_the_profiles() {
    let snapshot = with("");
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = web(&world, Ingress, &tcp(STRANGER, WEB, 80));
    assert_eq!(told(&verdict), ["Allow profile"]);
    let host = |name: &str, direction, packet: &Packet| {
        told(&world.evaluate(world.host(name).unwrap(), direction, packet))
    };
    assert_eq!(
        host("host", Ingress, &tcp(STRANGER, HOST, 80)),
        ["Deny profile"]
    );
    assert_eq!(
        host("open", Ingress, &tcp(STRANGER, HOST, 80)),
        ["Allow profile"]
    );
    assert_eq!(
        host("host", Ingress, &tcp(STRANGER, HOST, 22)),
        ["Allow failsafe"]
    );
    assert_eq!(
        host("host", Egress, &packet(HOST, STRANGER, 17, 53)),
        ["Allow failsafe"]
    );
    assert_eq!(
        host("host", Egress, &tcp(HOST, STRANGER, 22)),
        ["Deny profile"]
    );
}

#[test]
fn a_policy_that_applies_closes_its_direction_and_no_other() {
    let snapshot = of_shop("ingress: [{action: Allow, source: {nets: [10.0.0.2]}}]");
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = |d, p: &Packet| told(&web(&world, d, p));
    assert_eq!(verdict(Ingress, &tcp(DB, WEB, 1)), ["Allow default/p[0]"]);
    assert_eq!(
        verdict(Ingress, &tcp(BANK, WEB, 1)),
        ["Deny default after p"]
    );
    assert_eq!(verdict(Egress, &tcp(WEB, BANK, 1)), ["Allow profile"]);
    // Others are not selected, in this namespace or in another.
    let others = [("shop", "db"), ("bank", "web")];
    for (namespace, name) in others {
        let other = world.workload(namespace, name).unwrap();
        assert_eq!(world.policies(other, Ingress).count(), 0);
        assert!(
            world
                .evaluate(other, Ingress, &tcp(STRANGER, DB, 1))
                .allowed
        );
    }
}

#[test]
fn types_follow_from_the_rules_that_are_there() {
    let deny = |spec: &str| {
        let snapshot = of_shop(spec);
        let world = World::new(&snapshot, Mode::Enforced);
        let closed = |d| !web(&world, d, &tcp(WEB, WEB, 1)).allowed;
        [closed(Ingress), closed(Egress)]
    };
    assert_eq!(deny("order: 1"), [true, false]);
    assert_eq!(deny("ingress: [{action: Deny}]"), [true, false]);
    assert_eq!(deny("egress: [{action: Deny}]"), [false, true]);
    assert_eq!(
        deny("ingress: [{action: Deny}], egress: [{action: Deny}]"),
        [true, true]
    );
    assert_eq!(deny("types: [Egress]"), [false, true]);
    assert_eq!(deny("types: [Ingress, Egress]"), [true, true]);
    // Rules of a type that is not named are not asked.
    assert_eq!(
        deny("types: [Egress], ingress: [{action: Deny}]"),
        [false, true]
    );
}

#[test]
fn order_decides_then_the_name_and_what_has_no_order_is_last() {
    let policy = |name: &str, order: &str, action: &str| {
        format!(
            "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{{order}ingress: [{{action: {action}}}]}}"
        )
    };
    let text = [
        policy("a", "", "Deny"),
        policy("d", "order: 10, ", "Log"),
        policy("c", "order: 10, ", "Log"),
        policy("z", "order: -0.5, ", "Log"),
        policy("b", "", "Allow"),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let verdict = web(&world, Ingress, &tcp(DB, WEB, 1));
    assert_eq!(
        told(&verdict),
        [
            "Log default/z[0]",
            "Log default/c[0]",
            "Log default/d[0]",
            "Deny default/a[0]"
        ]
    );
    let endpoint = world.workload("shop", "web").unwrap();
    let policies: Vec<_> = world.policies(endpoint, Ingress).collect();
    assert_eq!(policies.len(), 1);
    let names: Vec<_> = policies[0].1.iter().map(|id| id.name.as_str()).collect();
    assert_eq!(names, ["z", "c", "d", "a", "b"]);
}

const TIERS: &str = "
  V3 Tier
metadata: {name: late}
spec: {order: 2000000}
  V3 Tier
metadata: {name: early}
spec: {order: 5}
  V3 Tier
metadata: {name: lax}
spec: {order: 5.5, defaultAction: Pass}";

fn in_tier(tier: &str, name: &str, rules: &str) -> String {
    format!(
        "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, selector: app == 'web', ingress: [{rules}]}}"
    )
}

#[test]
fn pass_goes_to_the_next_tier_and_an_unmatched_packet_to_the_default_action() {
    let from_db = "{action: Pass, source: {selector: app == 'db'}}";
    let text = [
        TIERS.to_owned(),
        in_tier(
            "early",
            "e1",
            &format!("{from_db}, {{action: Deny, source: {{nets: [9.9.9.9]}}}}"),
        ),
        in_tier(
            "early",
            "e2",
            "{action: Log}, {action: Pass, source: {nets: [10.0.1.1]}}",
        ),
        in_tier("lax", "l", "{action: Deny, source: {nets: [10.9.9.9]}}"),
        in_tier(
            "late",
            "z",
            "{action: Allow, source: {nets: [10.0.1.1]}}, {action: Pass}",
        ),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let from = |source: &str| told(&web(&world, Ingress, &tcp(source, WEB, 1)));
    assert_eq!(from(STRANGER), ["Deny early/e1[1]"]);
    // The rest of the tier is left out, and so is a tier without a policy for the endpoint.
    assert_eq!(
        from(DB),
        [
            "Pass early/e1[0]",
            "Pass lax after l",
            "Pass late/z[1]",
            "Allow profile"
        ]
    );
    assert_eq!(
        from(BANK),
        [
            "Log early/e2[0]",
            "Pass early/e2[1]",
            "Pass lax after l",
            "Allow late/z[0]"
        ]
    );
    assert_eq!(from(FEED), ["Log early/e2[0]", "Deny early after e2"]);
}

#[test]
fn a_tier_that_nobody_wrote_comes_last_and_denies() {
    let text = [
        in_tier("gone", "a", "{action: Allow, source: {nets: [10.0.0.2]}}"),
        in_tier("default", "b", "{action: Pass}"),
    ];
    let snapshot = with(&text.concat());
    let world = World::new(&snapshot, Mode::Enforced);
    let from = |source: &str| told(&web(&world, Ingress, &tcp(source, WEB, 1)));
    assert_eq!(from(DB), ["Pass default/b[0]", "Allow gone/a[0]"]);
    assert_eq!(from(BANK), ["Pass default/b[0]", "Deny gone after a"]);
}

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
fn global_policies_apply_to_workloads_and_hosts_those_of_a_namespace_to_its_workloads() {
    let applies = |spec: &str| {
        let snapshot = with(&format!(
            "\n  V3 GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec: {{{spec}}}"
        ));
        let world = World::new(&snapshot, Mode::Enforced);
        let parties = [
            world.workload("shop", "web"),
            world.workload("shop", "db"),
            world.workload("bank", "web"),
            world.host("host"),
        ];
        parties.map(|p| world.policies(p.unwrap(), Ingress).count() == 1)
    };
    assert_eq!(applies(""), [true, true, true, true]);
    assert_eq!(applies("selector: has(role)"), [false, false, false, true]);
    assert_eq!(
        applies("namespaceSelector: all()"),
        [true, true, true, false]
    );
    assert_eq!(
        applies("namespaceSelector: team == 'red'"),
        [true, true, false, false]
    );
    assert_eq!(
        applies("selector: app == 'web', namespaceSelector: has(team)"),
        [true, false, true, false]
    );
    let own = with("\n  V3 NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}");
    let world = World::new(&own, Mode::Enforced);
    assert_eq!(
        world.policies(world.host("host").unwrap(), Ingress).count(),
        0
    );
    assert_eq!(
        world
            .policies(world.workload("bank", "web").unwrap(), Ingress)
            .count(),
        0
    );
    assert_eq!(
        world
            .policies(world.workload("shop", "db").unwrap(), Ingress)
            .count(),
        1
    );
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

#[test]
fn staged_policies_count_only_where_they_are_asked_for() {
    let text = "
  V3 NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {order: 1, ingress: [{action: Deny}]}
  V3 NetworkPolicy
metadata: {name: q, namespace: shop}
spec: {order: 2, ingress: [{action: Deny}]}
  V3 NetworkPolicy
metadata: {name: r, namespace: shop}
spec: {order: 3, ingress: [{action: Log}]}
  V3 StagedNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {order: 1, ingress: [{action: Log}]}
  V3 StagedNetworkPolicy
metadata: {name: q, namespace: shop}
spec: {stagedAction: Delete}
  V3 StagedNetworkPolicy
metadata: {name: r, namespace: shop}
spec: {stagedAction: Ignore, ingress: [{action: Deny}]}
  V3 StagedGlobalNetworkPolicy
metadata: {name: new}
spec: {order: 4, ingress: [{action: Allow}]}";
    let snapshot = with(text);
    let told = |mode| {
        let world = World::new(&snapshot, mode);
        told(&web(&world, Ingress, &tcp(DB, WEB, 1)))
    };
    assert_eq!(told(Mode::Enforced), ["Deny default/p[0]"]);
    assert_eq!(
        told(Mode::Staged),
        [
            "Log default/p[0]",
            "Log default/r[0]",
            "Allow default/new[0]"
        ]
    );
}

#[test]
fn between_workloads_both_ends_are_asked() {
    let snapshot =
        of_shop("egress: [{action: Deny, destination: {nets: [10.0.1.1]}}, {action: Allow}]");
    let world = World::new(&snapshot, Mode::Enforced);
    let between = |s: &str, d: &str| {
        let [egress, ingress] = world.between(&tcp(s, d, 1));
        [egress.map(|v| v.allowed), ingress.map(|v| v.allowed)]
    };
    assert_eq!(between(WEB, BANK), [Some(false), Some(true)]);
    assert_eq!(between(WEB, DB), [Some(true), Some(true)]);
    assert_eq!(between(WEB, STRANGER), [Some(true), None]);
    assert_eq!(between(HOST, WEB), [None, Some(true)]);
}
