//! Policies that are made up, of few values, so that they meet pods and one another.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// One to three policies, no two of which are the same object.
pub(crate) fn policies() -> impl Strategy<Value = Vec<Value>> {
    let named = |documents: Vec<Value>| {
        let name = |(number, mut document): (usize, Value)| {
            document["metadata"]["name"] = format!("p{number}").into();
            document
        };
        documents.into_iter().enumerate().map(name).collect()
    };
    vec(policy(), 1..=3).prop_map(named)
}

fn policy() -> impl Strategy<Value = Value> {
    let types: &[&[&str]] = &[
        &["Ingress"],
        &["Egress"],
        &["Ingress", "Egress"],
        &["Egress", "Ingress"],
    ];
    let (ingress, egress) = (rule("from"), rule("to"));
    let spec = (
        selector(&LABELS),
        option::of(select(types)),
        option::of(vec(ingress, 0..4)),
        option::of(vec(egress, 0..4)),
    );
    let namespace = select(&["shop", "shop", "lab", "bare"][..]);
    (namespace, spec).prop_map(|(namespace, (pods, types, ingress, egress))| {
        let spec = object([
            ("podSelector", Some(pods)),
            ("policyTypes", types.map(|t| json!(t))),
            ("ingress", ingress.map(Value::Array)),
            ("egress", egress.map(Value::Array)),
        ]);
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace},
            "spec": spec,
        })
    })
}

/// An object of those fields that are there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let there = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(there.collect::<Map<_, _>>())
}

fn rule(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (option::of(vec(peer(), 0..3)), option::of(vec(port(), 0..3)));
    rule.prop_map(move |(list, ports)| {
        object([
            (peers, list.map(Value::Array)),
            ("ports", ports.map(Value::Array)),
        ])
    })
}

type Values = [(&'static str, &'static [&'static str])];

/// Labels of pods, and of namespaces: what some have, and what nobody has.
const LABELS: [(&str, &[&str]); 4] = [
    ("app", &["web", "api", "db", "client", "nobody"]),
    ("tier", &["front", "back"]),
    ("role", &["primary", ""]),
    ("access", &["true"]),
];
const OF_NAMESPACES: [(&str, &[&str]); 3] = [
    ("team", &["red", "blue"]),
    ("env", &["prod", "dev", "test"]),
    ("kubernetes.io/metadata.name", &["shop", "lab", "bare"]),
];

fn selector(labels: &'static Values) -> impl Strategy<Value = Value> {
    let one = select(labels).prop_flat_map(|(key, values)| (Just(key), select(values)));
    let expression = (select(labels), 0..4, any::<prop::sample::Index>()).prop_map(
        |((key, values), operator, index)| {
            let values = &values[..=index.index(values.len())];
            match operator {
                0 => json!({"key": key, "operator": "In", "values": values}),
                1 => json!({"key": key, "operator": "NotIn", "values": values}),
                2 => json!({"key": key, "operator": "Exists"}),
                _ => json!({"key": key, "operator": "DoesNotExist"}),
            }
        },
    );
    let labels = option::of(vec(one, 1..=2));
    let expressions = option::weighted(0.3, vec(expression, 1..=2));
    (labels, expressions).prop_map(|(labels, expressions)| {
        let labels = labels.map(|pairs| {
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.into()))
                .collect()
        });
        object([
            ("matchLabels", labels.map(Value::Object)),
            ("matchExpressions", expressions.map(Value::Array)),
        ])
    })
}

/// Blocks, each with prefixes inside of it.
const BLOCKS: [(&str, &[&str]); 8] = [
    (
        "0.0.0.0/0",
        &["10.0.0.0/8", "203.0.113.0/24", "10.0.2.2/32"],
    ),
    ("10.0.0.0/8", &["10.0.1.0/24", "10.0.2.0/31"]),
    ("10.0.2.0/24", &["10.0.2.2/32"]),
    ("203.0.113.0/24", &["203.0.113.64/26", "203.0.113.7/32"]),
    ("198.51.100.9/32", &[]),
    ("::/0", &["fd00::/16", "2001:db8:ff::/48"]),
    ("fd00:1::/32", &["fd00:1::2/127"]),
    ("2001:db8::/32", &["2001:db8::7/128"]),
];

fn peer() -> impl Strategy<Value = Value> {
    let block = (select(&BLOCKS[..]), 0..3usize).prop_map(|((cidr, inside), count)| {
        let except =
            (count > 0 && !inside.is_empty()).then(|| json!(inside[..count.min(inside.len())]));
        json!({"ipBlock": object([("cidr", Some(cidr.into())), ("except", except)])})
    });
    let pods = selector(&LABELS).prop_map(|s| json!({"podSelector": s}));
    let namespaces = selector(&OF_NAMESPACES).prop_map(|s| json!({"namespaceSelector": s}));
    let both = (selector(&LABELS), selector(&OF_NAMESPACES)).prop_map(
        |(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces}),
    );
    prop_oneof![block, pods, namespaces, both]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = || option::of(select(&["TCP", "UDP", "SCTP"][..]));
    let number = select(&[1u16, 53, 80, 443, 3868, 5432, 8000, 8080, 9090, 32768][..]);
    let range = (
        number.clone(),
        option::of(select(&[0u16, 1, 363, 8000, 32767][..])),
    );
    let names = select(&["http", "metrics", "dns", "sql", "diameter", "nowhere"][..]);
    let port = |protocol: Option<&str>, port: Option<Value>, end: Option<u16>| {
        object([
            ("protocol", protocol.map(Value::from)),
            ("port", port),
            ("endPort", end.map(Value::from)),
        ])
    };
    prop_oneof![
        1 => protocol().prop_map(move |p| port(p, None, None)),
        4 => (protocol(), range).prop_map(move |(p, (first, more))| {
            port(p, Some(first.into()), more.map(|more| first.saturating_add(more)))
        }),
        2 => (protocol(), names).prop_map(move |(p, name)| port(p, Some(name.into()), None)),
    ]
}
