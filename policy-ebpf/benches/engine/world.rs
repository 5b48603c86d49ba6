//! A mesh of 100,000 workloads elsewhere, 100 of this node and 2,000 policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::object::ObjectId;
use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, Order, PolicyPort, PolicySpec, PolicyType, Rule};
use model::{Cidr, Kind};
use policy_ebpf::{Change, Labels, Party, Role};

/// Workloads of other nodes.
pub(crate) const REMOTE: u32 = 100_000;
/// Workloads of this node.
pub(crate) const LOCAL: u32 = 100;
/// Policies.
pub(crate) const POLICIES: u32 = 2_000;
/// Namespaces that they are spread over.
pub(crate) const NAMESPACES: u32 = 50;
/// Applications in each.
pub(crate) const APPS: u32 = 20;

/// All of it.
pub(crate) fn everything() -> impl Iterator<Item = Change> {
    let remote = (0..REMOTE).map(|n| pod(n, Role::Elsewhere));
    let local = (0..LOCAL).map(|n| pod(n * 7, Role::Workload));
    remote.chain((0..POLICIES).map(policy)).chain(local)
}

/// The id of an object.
pub(crate) fn id(kind: Kind, namespace: Option<String>, name: String) -> ObjectId {
    ObjectId {
        kind,
        namespace,
        name,
    }
}

fn namespace(n: u32) -> String {
    format!("team{}", n % NAMESPACES)
}

/// Labels as a deployment's pods have them: every `n` below 1,000 is another set.
fn labels(n: u32) -> Arc<Labels> {
    let app = n / NAMESPACES % APPS;
    Arc::new(BTreeMap::from([
        ("app".to_owned(), format!("app{app}")),
        ("tier".to_owned(), format!("tier{}", app % 4)),
        (
            "pod-template-hash".to_owned(),
            format!("{:08x}", n % (NAMESPACES * APPS)),
        ),
        ("projectcalico.org/namespace".to_owned(), namespace(n)),
        (
            "projectcalico.org/orchestrator".to_owned(),
            "k8s".to_owned(),
        ),
    ]))
}

/// The nth workload.
pub(crate) fn pod(n: u32, role: Role) -> Change {
    pod_with(n, labels(n), role)
}

fn pod_with(n: u32, labels: Arc<Labels>, role: Role) -> Change {
    let [_, a, b, c] = n.to_be_bytes();
    let base = if role == Role::Workload { 10 } else { 20 };
    let nets = [
        format!("{base}.{a}.{b}.{c}"),
        format!("fd00:{base}::{:x}:{:x}", n >> 16, n & 0xffff),
    ];
    let party = Party {
        labels,
        namespace: Some(namespace(n).into()),
        nets: nets.map(|net| net.parse::<Cidr>().unwrap()).to_vec(),
        ports: [].into(),
        role,
    };
    Change::Party(pod_id(n, role), Some(party))
}

fn pod_id(n: u32, role: Role) -> ObjectId {
    let name = match role {
        Role::Workload => format!("local{n}"),
        _ => format!("pod{n}"),
    };
    id(Kind::WorkloadEndpoint, Some(namespace(n)), name)
}

/// One end of a rule.
pub(crate) fn entity(selector: Option<String>, nets: &[&str]) -> EntityRule {
    EntityRule {
        selector,
        nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
        ..EntityRule::default()
    }
}

/// A rule for a port of TCP.
pub(crate) fn tcp(action: Action, source: EntityRule, port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::Name("TCP".to_owned())),
        source,
        destination: EntityRule {
            ports: vec![PolicyPort::single(port)],
            ..EntityRule::default()
        },
        ..Rule::any(action)
    }
}

/// Forty policies in each namespace: two for each app. Names count up so that every rule is another one.
pub(crate) fn policy(n: u32) -> Change {
    let app = n / NAMESPACES % APPS;
    let peer = format!("app == 'app{}'", (app + 1 + n % 3) % APPS);
    let port = |k: u32| u16::try_from(8_000 + (n + k) % 100).unwrap();
    let spec = PolicySpec {
        order: Some(Order::from(i32::try_from(n).unwrap())),
        selector: Some(format!("app == 'app{app}'")),
        types: vec![PolicyType::Ingress, PolicyType::Egress],
        ingress: vec![
            tcp(Action::Allow, entity(Some(peer), &[]), port(0)),
            tcp(Action::Allow, entity(None, &["192.168.0.0/16"]), port(1)),
            tcp(
                Action::Deny,
                entity(Some("tier == 'tier3'".to_owned()), &[]),
                port(2),
            ),
        ],
        egress: vec![Rule::any(Action::Allow)],
        ..PolicySpec::default()
    };
    let id = id(
        Kind::NetworkPolicy,
        Some(namespace(n)),
        format!("policy{n}"),
    );
    Change::Policy(id, Some(spec))
}

/// A policy for all endpoints.
pub(crate) fn for_all(selector: &str, port: u16) -> Change {
    let spec = PolicySpec {
        order: Some(Order::from(-1)),
        ingress: vec![tcp(
            Action::Deny,
            entity(Some(selector.to_owned()), &[]),
            port,
        )],
        ..PolicySpec::default()
    };
    Change::Policy(
        id(Kind::GlobalNetworkPolicy, None, "all".to_owned()),
        Some(spec),
    )
}

/// A policy of many rules, each for a prefix and a port of its own.
pub(crate) fn large(rules: u32) -> Change {
    let rule = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        let net = format!("100.{a}.{b}.{c}");
        tcp(
            Action::Allow,
            entity(None, &[&net]),
            u16::try_from(1 + n % 1_000).unwrap(),
        )
    };
    let spec = PolicySpec {
        order: Some(Order::from(-2)),
        selector: Some("app == 'app0'".to_owned()),
        ingress: (0..rules).map(rule).collect(),
        ..PolicySpec::default()
    };
    Change::Policy(
        id(Kind::GlobalNetworkPolicy, None, "large".to_owned()),
        Some(spec),
    )
}

/// The change that takes back another.
pub(crate) fn gone(change: &Change) -> Change {
    match change {
        Change::Policy(id, _) => Change::Policy(id.clone(), None),
        Change::Party(id, _) => Change::Party(id.clone(), None),
        other => other.clone(),
    }
}

/// Each with another label than everybody.
pub(crate) fn novel(n: u32) -> Change {
    let mut labels = (*labels(n)).clone();
    labels.insert("pod-name".to_owned(), format!("pod{n}"));
    pod_with(REMOTE + n, labels.into(), Role::Elsewhere)
}
