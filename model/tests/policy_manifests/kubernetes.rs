//! Kubernetes' own policy: what it becomes, and what is refused.

use model::resources::{Action, PolicyPort, PolicyType};
use model::{Kind, Object, manifest};
use serde_json::{Value, json};

use crate::{CALICO, K8S, faults_of, of_kind, refused};

#[test]
fn a_kubernetes_policy_becomes_what_calico_makes_of_it() {
    let Some(Object::NetworkPolicy(web)) = manifest::parse(CALICO).unwrap().pop() else {
        panic!("no policy")
    };
    assert_eq!(web.name(), "knp.default.web");
    assert_eq!(web.metadata.namespace.as_deref(), Some("shop"));
    let spec = &web.spec;
    assert_eq!(spec.order.unwrap().get().to_string(), "1000");
    assert_eq!(spec.tier(), "default");
    assert_eq!(spec.types, [PolicyType::Ingress, PolicyType::Egress]);
    let pod = "has(projectcalico.org/orchestrator)";
    let selector = format!("{pod} && app == 'web' && tier in {{ 'front', 'edge' }} && !has(old)");
    assert_eq!(spec.selector.as_deref(), Some(selector.as_str()));
    // Four peers times two protocols.
    assert_eq!(spec.ingress.len(), 8);
    let source = |i: usize| &spec.ingress[i].source;
    assert_eq!(source(0).nets[0].to_string(), "172.17.0.0/16");
    assert_eq!(source(0).not_nets[0].to_string(), "172.17.1.0/24");
    assert_eq!(source(0).selector, None);
    assert_eq!(
        source(2).namespace_selector.as_deref(),
        Some("project == 'myproject'")
    );
    assert_eq!(source(2).selector.as_deref(), Some(pod));
    assert_eq!(source(4).namespace_selector, None);
    let frontend = format!("{pod} && role == 'frontend'");
    assert_eq!(source(4).selector.as_deref(), Some(frontend.as_str()));
    assert_eq!(source(6).namespace_selector.as_deref(), Some("all()"));
    let ports = |i: usize| spec.ingress[i].destination.ports.clone();
    let tcp = [PolicyPort::single(6379), PolicyPort::Named("http".into())];
    assert_eq!(ports(0), tcp);
    assert_eq!(ports(1), [PolicyPort::Range(32000, 32768)]);
    assert_eq!(spec.egress.len(), 1);
    assert_eq!(spec.egress[0], model::resources::Rule::any(Action::Allow));
}

#[test]
fn kubernetes_policies_default_as_kubernetes_does() {
    let read = |spec: Value| {
        let objects = manifest::parse(&of_kind(K8S, Kind::NetworkPolicy, spec)).unwrap();
        match objects.into_iter().next() {
            Some(Object::NetworkPolicy(p)) => p.spec,
            other => panic!("{other:?}"),
        }
    };
    use PolicyType::{Egress, Ingress};
    assert_eq!(read(json!({})).types, [Ingress]);
    assert_eq!(
        read(json!({"podSelector": {}, "egress": [{}]})).types,
        [Ingress, Egress]
    );
    assert_eq!(read(json!({"policyTypes": ["Egress"]})).types, [Egress]);
    // A port without a number allows all of its protocol, whatever stands beside it.
    let spec =
        read(json!({"ingress": [{"ports": [{"port": 80}, {"protocol": "TCP"}, {"port": 81}]}]}));
    assert_eq!(spec.ingress.len(), 1);
    assert!(spec.ingress[0].destination.ports.is_empty());
}

#[test]
fn kubernetes_policies_are_refused_at_the_field() {
    let peer = |peer: Value| json!({"ingress": [{"from": [peer]}]});
    let port = |port: Value| json!({"egress": [{"ports": [port]}]});
    refused(
        K8S,
        Kind::NetworkPolicy,
        &[
            (json!({"selector": "all()"}), "spec.selector"),
            (json!({"policyTypes": ["ingress"]}), "spec.policyTypes[0]"),
            (peer(json!({})), "spec.ingress[0].from[0]"),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.5/24"}})),
                "spec.ingress[0].from[0].ipBlock.cidr",
            ),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.1.0/25"]}})),
                "spec.ingress[0].from[0].ipBlock.except[0]",
            ),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.0/24"]}})),
                "spec.ingress[0].from[0].ipBlock.except[0]",
            ),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/24"}, "podSelector": {}})),
                "spec.ingress[0].from[0].ipBlock",
            ),
            (
                peer(json!({"podSelector": {"matchLabels": {"a == 'b' || c": "d"}}})),
                "spec.ingress[0].from[0].podSelector.matchLabels",
            ),
            (
                peer(json!({"podSelector": {"matchLabels": {"a": "b' || has(c) || d == '"}}})),
                "spec.ingress[0].from[0].podSelector.matchLabels",
            ),
            (
                peer(
                    json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                ),
                "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values",
            ),
            (
                peer(
                    json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}),
                ),
                "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator",
            ),
            (
                port(json!({"protocol": "ICMP"})),
                "spec.egress[0].ports[0].protocol",
            ),
            (
                port(json!({"endPort": 80})),
                "spec.egress[0].ports[0].endPort",
            ),
            (
                port(json!({"port": 90, "endPort": 80})),
                "spec.egress[0].ports[0].endPort",
            ),
            (
                port(json!({"port": "http", "endPort": 80})),
                "spec.egress[0].ports[0].port",
            ),
            (port(json!({"port": 0})), "spec.egress[0].ports[0].port"),
            (
                port(json!({"port": "80:90"})),
                "spec.egress[0].ports[0].port",
            ),
        ],
    );
    let text = of_kind("networking.k8s.io/v1", Kind::GlobalNetworkPolicy, json!({}));
    assert!(faults_of(&text)[0].contains("is no API version"), "{text}");
}
