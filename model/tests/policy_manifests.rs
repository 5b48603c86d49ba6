//! What operators write about policy, from the outside: Calico's manifests, Kubernetes' own policy, and what is refused.

#[path = "policy_manifests/kubernetes.rs"]
mod kubernetes;

use model::resources::{Action, PolicyType, StagedAction, TierAction};
use model::validate::validate;
use model::{Kind, Object, manifest};
use serde_json::{Value, json};

const CALICO: &str = include_str!("manifests/calico-policy.yaml");

fn of_kind(version: &str, kind: Kind, spec: Value) -> String {
    let mut metadata = json!({"name": "x"});
    if kind.is_namespaced() {
        metadata["namespace"] = "ns".into();
    }
    let mut object = json!({"apiVersion": version, "kind": kind.as_str(), "metadata": metadata});
    object["spec"] = spec;
    object.to_string()
}

/// Everything that is wrong with an object, one a line; nothing when it is accepted.
fn faults_of(text: &str) -> Vec<String> {
    match manifest::parse(text) {
        Err(e) => e.to_string().lines().map(str::to_owned).collect(),
        Ok(objects) => {
            let errors = validate(&objects[0]).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect()
        }
    }
}

/// Each has exactly one fault, at the field, with a mend.
fn refused(version: &str, kind: Kind, cases: &[(Value, &str)]) {
    for (spec, field) in cases {
        let found = faults_of(&of_kind(version, kind, spec.clone()));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        let at = [format!(": {field} = "), format!(": {field}: ")];
        assert!(
            at.iter().any(|at| found[0].contains(at)),
            "{spec}: {found:?}"
        );
    }
}

fn accepted(version: &str, kind: Kind, cases: &[Value]) {
    for spec in cases {
        let found = faults_of(&of_kind(version, kind, spec.clone()));
        assert_eq!(found, [""; 0], "{spec}");
    }
}

const V3: &str = "projectcalico.org/v3";
const K8S: &str = "networking.k8s.io/v1";

#[test]
fn calico_manifests_apply_unchanged() {
    let objects = manifest::parse(CALICO).unwrap();
    for object in &objects {
        assert_eq!(validate(object), Ok(()), "{}", object.id());
        let stored = manifest::encode_stored(object);
        assert_eq!(manifest::decode_stored(&stored).unwrap(), *object);
        let shown = manifest::to_yaml(object);
        let again = manifest::parse(&shown).unwrap();
        assert_eq!(again, std::slice::from_ref(object), "{shown}");
    }
    let [
        Object::Tier(tier),
        Object::GlobalNetworkPolicy(global),
        Object::NetworkPolicy(policy),
        Object::StagedGlobalNetworkPolicy(staged),
        Object::StagedNetworkPolicy(gone),
        Object::GlobalNetworkSet(feed),
        Object::NetworkSet(partners),
        Object::HostEndpoint(host),
        Object::NetworkPolicy(_),
    ] = objects.as_slice()
    else {
        panic!("{objects:?}")
    };
    assert_eq!(tier.spec.default_action, Some(TierAction::Pass));
    assert_eq!(global.spec.tier(), "security");
    assert_eq!(global.spec.order.unwrap().get().to_string(), "10.5");
    assert_eq!(global.spec.ingress[2].action, Action::Pass);
    let only_nets = &global.spec.egress[0].destination.not_nets;
    assert_eq!(only_nets[1].to_string(), "192.0.2.1/32");
    let rule = &policy.spec.ingress[0];
    assert_eq!(rule.destination.ports.len(), 3);
    assert_eq!(policy.spec.tier(), "default");
    assert!(policy.spec.egress[0].destination.selector.is_none());
    assert!(staged.spec.applies_to(PolicyType::Egress));
    assert_eq!(gone.spec.staged_action, Some(StagedAction::Delete));
    assert_eq!(feed.spec.nets.len(), 3);
    assert_eq!(partners.metadata.namespace.as_deref(), Some("production"));
    assert!(host.spec.default_allow());
}

#[test]
fn policies() {
    let rule = |more: Value| {
        let mut rule = json!({"action": "Allow"});
        for (field, value) in more.as_object().unwrap() {
            rule[field] = value.clone();
        }
        json!({"ingress": [{"action": "Log"}, rule]})
    };
    let at = |field: &str| format!("spec.ingress[1].{field}");
    accepted(
        V3,
        Kind::NetworkPolicy,
        &[
            json!({}),
            json!({"order": 0.5}),
            json!({"order": -1}),
            json!({"ingress": [], "egress": null, "types": []}),
            rule(json!({"protocol": 132, "source": {"ports": ["0:65535"]}})),
            rule(json!({"protocol": "icmpv6", "ipVersion": 6, "icmp": {"type": 254, "code": 255}})),
            rule(
                json!({"destination": {"namespaceSelector": "global()", "notSelector": "has(a)"}}),
            ),
            rule(json!({"source": {"services": null, "serviceAccounts": {"names": []}}})),
        ],
    );
    let cases = [
        (json!({"action": "allow"}), "action"),
        (json!({"action": null}), "action"),
        (json!({"ipVersion": 5}), "ipVersion"),
        (json!({"protocol": "TPC"}), "protocol"),
        (json!({"protocol": 0}), "protocol"),
        (json!({"protocol": 256}), "protocol"),
        (json!({"notProtocol": "GRE"}), "notProtocol"),
        (json!({"protocol": "TCP", "icmp": {"type": 8}}), "icmp"),
        (json!({"notICMP": {"type": 8}}), "notICMP"),
        (
            json!({"protocol": "ICMP", "icmp": {"code": 8}}),
            "icmp.code",
        ),
        (
            json!({"protocol": "ICMP", "icmp": {"type": 255}}),
            "icmp.type",
        ),
        (json!({"protocol": "ICMP", "icmp": {}}), "icmp"),
        (json!({"protocol": "ICMP", "ipVersion": 6}), "ipVersion"),
        (json!({"protocol": 58, "ipVersion": 4}), "ipVersion"),
        (
            json!({"protocol": "ICMP", "destination": {"ports": [80]}}),
            "destination.ports",
        ),
        (json!({"source": {"notPorts": [80]}}), "source.notPorts"),
        (
            json!({"protocol": "TCP", "source": {"ports": ["90:80"]}}),
            "source.ports[0]",
        ),
        (
            json!({"protocol": "TCP", "source": {"ports": [65536]}}),
            "source.ports[0]",
        ),
        (
            json!({"protocol": "TCP", "source": {"ports": ["a b"]}}),
            "source.ports[0]",
        ),
        (
            json!({"source": {"nets": ["10.0.0.1/8"]}}),
            "source.nets[0]",
        ),
        (
            json!({"source": {"nets": ["10.0.0.0/8"]}, "ipVersion": 6}),
            "source.nets[0]",
        ),
        (
            json!({"source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["fd00::/8"]}}),
            "destination.nets[0]",
        ),
        (
            json!({"source": {"notNets": ["0.0.0.0/0"]}}),
            "source.notNets[0]",
        ),
        (json!({"source": {"selector": "a ="}}), "source.selector"),
        (
            json!({"source": {"selector": "global()"}}),
            "source.selector",
        ),
        (
            json!({"source": {"notSelector": "a b"}}),
            "source.notSelector",
        ),
        (
            json!({"source": {"namespaceSelector": "((a)"}}),
            "source.namespaceSelector",
        ),
        (json!({"http": {"methods": ["GET"]}}), "http"),
        (
            json!({"source": {"serviceAccounts": {"names": ["a"]}}}),
            "source.serviceAccounts",
        ),
        (
            json!({"destination": {"services": {"name": "a"}}}),
            "destination.services",
        ),
        (
            json!({"destination": {"domains": ["a.example"]}}),
            "destination.domains",
        ),
        (
            json!({"destination": {"net": "10.0.0.0/8"}}),
            "destination.net",
        ),
    ];
    let cases: Vec<_> = cases.into_iter().map(|(v, f)| (rule(v), at(f))).collect();
    let cases: Vec<_> = cases.iter().map(|(v, f)| (v.clone(), f.as_str())).collect();
    refused(V3, Kind::NetworkPolicy, &cases);
    refused(
        V3,
        Kind::NetworkPolicy,
        &[
            (json!({"order": "first"}), "spec.order"),
            (json!({"order": "NaN"}), "spec.order"),
            (json!({"selector": "a == b"}), "spec.selector"),
            (json!({"selector": "global()"}), "spec.selector"),
            (
                json!({"namespaceSelector": "all()"}),
                "spec.namespaceSelector",
            ),
            (json!({"stagedAction": "Set"}), "spec.stagedAction"),
            (json!({"tier": "A"}), "spec.tier"),
            (json!({"types": ["Both"]}), "spec.types[0]"),
            (
                json!({"serviceAccountSelector": "all()"}),
                "spec.serviceAccountSelector",
            ),
            (json!({"egres": []}), "spec.egres"),
        ],
    );
    accepted(
        V3,
        Kind::GlobalNetworkPolicy,
        &[json!({"namespaceSelector": "team == 'a'", "doNotTrack": false})],
    );
    refused(
        V3,
        Kind::GlobalNetworkPolicy,
        &[
            (json!({"doNotTrack": true}), "spec.doNotTrack"),
            (json!({"preDNAT": true}), "spec.preDNAT"),
            (json!({"applyOnForward": true}), "spec.applyOnForward"),
            (
                json!({"performanceHints": ["Other"]}),
                "spec.performanceHints",
            ),
        ],
    );
    refused(
        V3,
        Kind::StagedNetworkPolicy,
        &[
            (json!({"stagedAction": "Learn"}), "spec.stagedAction"),
            (
                json!({"stagedAction": "Delete", "egress": [{"action": "Deny"}]}),
                "spec",
            ),
        ],
    );
}

#[test]
fn an_order_that_is_no_number_is_refused_in_yaml_too() {
    for order in [".nan", ".NaN", ".inf", "-.inf", "1e999", "0x"] {
        let text = format!(
            "apiVersion: {V3}\nkind: NetworkPolicy\nmetadata: {{name: x}}\nspec: {{order: {order}}}\n"
        );
        let found = faults_of(&text);
        assert_eq!(found.len(), 1, "{order}: {found:?}");
        assert!(found[0].contains("spec.order"), "{found:?}");
    }
}

#[test]
fn tiers_sets_and_hosts() {
    accepted(
        V3,
        Kind::Tier,
        &[json!({}), json!({"order": 5, "defaultAction": "Pass"})],
    );
    refused(
        V3,
        Kind::Tier,
        &[
            (json!({"defaultAction": "Allow"}), "spec.defaultAction"),
            (json!({"defaultAction": "Log"}), "spec.defaultAction"),
            (json!({"order": []}), "spec.order"),
        ],
    );
    let default = |spec: Value| {
        let object = json!({"apiVersion": V3, "kind": "Tier", "metadata": {"name": "default"}, "spec": spec});
        faults_of(&object.to_string())
    };
    assert_eq!(
        default(json!({"order": 1_000_000, "defaultAction": "Deny"})),
        [""; 0]
    );
    assert!(default(json!({"order": 5}))[0].contains("spec.order = 5"));
    assert!(default(json!({"defaultAction": "Pass"}))[0].contains("spec.defaultAction"));
    for kind in [Kind::GlobalNetworkSet, Kind::NetworkSet] {
        accepted(
            V3,
            kind,
            &[
                json!({}),
                json!({"nets": ["10.0.0.0/8", "10.0.0.1", "::/0"]}),
            ],
        );
        refused(
            V3,
            kind,
            &[
                (json!({"nets": ["10.0.0.1/8"]}), "spec.nets[0]"),
                (json!({"nets": ["example.net"]}), "spec.nets[0]"),
                (
                    json!({"allowedEgressDomains": ["a.example"]}),
                    "spec.allowedEgressDomains",
                ),
            ],
        );
    }
    accepted(
        V3,
        Kind::HostEndpoint,
        &[
            json!({"node": "a", "interfaceName": "eth0"}),
            json!({"node": "a", "interfaceName": "*"}),
            json!({"node": "a", "expectedIPs": ["192.0.2.1"]}),
        ],
    );
    let with = |more: Value| {
        let mut spec = json!({"node": "a", "interfaceName": "eth0"});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    refused(
        V3,
        Kind::HostEndpoint,
        &[
            (with(json!({"node": ""})), "spec.node"),
            (with(json!({"node": "A"})), "spec.node"),
            (json!({"node": "a"}), "spec.interfaceName"),
            (with(json!({"interfaceName": "lo"})), "spec.interfaceName"),
            (with(json!({"interfaceName": "a/b"})), "spec.interfaceName"),
            (
                with(json!({"interfaceName": "rtd-vx4"})),
                "spec.interfaceName",
            ),
            (
                with(json!({"expectedIPs": ["192.0.2.1/32"]})),
                "spec.expectedIPs[0]",
            ),
            (
                with(json!({"expectedIPs": ["224.0.0.1"]})),
                "spec.expectedIPs[0]",
            ),
            (
                with(json!({"expectedIPs": ["::ffff:192.0.2.1"]})),
                "spec.expectedIPs[0]",
            ),
            (with(json!({"profiles": ["strict"]})), "spec.profiles[0]"),
            (
                with(json!({"ports": [{"name": "", "protocol": "TCP", "port": 1}]})),
                "spec.ports[0].name",
            ),
            (
                with(json!({"ports": [{"name": "a", "protocol": "TCP", "port": 0}]})),
                "spec.ports[0].port",
            ),
        ],
    );
}

#[test]
fn a_policy_of_many_rules_is_stored_whole_or_refused_in_words() {
    let rules = |n: usize| {
        let rule = json!({"action": "Allow"});
        of_kind(
            V3,
            Kind::GlobalNetworkPolicy,
            json!({"ingress": vec![rule; n]}),
        )
    };
    assert_eq!(faults_of(&rules(20_000)), [""; 0]);
    let found = faults_of(&rules(100_000));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("split it"), "{found:?}");
    // As many faults as help, no more.
    for rule in [
        json!({"action": "Allow", "source": {"selector": "a ="}}),
        json!({"action": "Allow", "http": {"methods": ["GET"]}}),
    ] {
        let spec = json!({"ingress": vec![rule; 1_000]});
        let found = faults_of(&of_kind(V3, Kind::GlobalNetworkPolicy, spec));
        assert!((1..30).contains(&found.len()), "{}", found.len());
    }
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"a'": "b"}}}]});
    let spec = json!({"ingress": vec![rule; 1_000]});
    assert!(faults_of(&of_kind(K8S, Kind::NetworkPolicy, spec)).len() < 30);
}
