//! `networking.k8s.io/v1` `NetworkPolicy`, as Calico turns it into its own kind.
//!
//! ```text
//!  NAME                       knp.default.NAME, order 1000, tier default
//!  podSelector                selector, among workloads only
//!  from/to × ports            one Allow rule for each peer and protocol
//!  ipBlock                    nets, its except: notNets
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::strict::{self, Fault, MOST_FAULTS};
use crate::Cidr;
use crate::resources::policy_port::is_port_name;
use crate::resources::workload_endpoint::{ORCHESTRATOR_LABEL, Protocol};
use crate::resources::{Action, EntityRule, Order, PolicyPort, PolicySpec, PolicyType, Rule};
use crate::validate::names::{is_label_key, is_label_value};

/// API version of the kind.
pub(super) const VERSION: &str = "networking.k8s.io/v1";
/// What the names of converted policies begin with.
pub(super) const PREFIX: &str = "knp.default.";
/// Their place in the default tier.
const ORDER: i32 = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    pod_selector: LabelSelector,
    #[serde(default)]
    policy_types: Vec<PolicyType>,
    #[serde(default)]
    ingress: Vec<IngressRule>,
    #[serde(default)]
    egress: Vec<EgressRule>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IngressRule {
    #[serde(default)]
    from: Vec<Peer>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressRule {
    #[serde(default)]
    to: Vec<Peer>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Peer {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_block: Option<IpBlock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IpBlock {
    cidr: Cidr,
    #[serde(default)]
    except: Vec<Cidr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Port {
    protocol: Option<String>,
    port: Option<PolicyPort>,
    end_port: Option<u16>,
}

/// Reads a specification and converts it.
pub(super) fn policy(spec: Value) -> Result<PolicySpec, Vec<Fault>> {
    let spec: Spec = strict::read(spec, "spec")?;
    let mut faults = Faults(Vec::new());
    let selector = faults.pods(&spec.pod_selector, "spec.podSelector");
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let field = format!("spec.ingress[{i}]");
        let peers = faults.peers(&rule.from, &format!("{field}.from"));
        let ports = faults.ports(&rule.ports, &format!("{field}.ports"));
        ingress.extend(rules(&peers, &ports, PolicyType::Ingress));
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let field = format!("spec.egress[{i}]");
        let peers = faults.peers(&rule.to, &format!("{field}.to"));
        let ports = faults.ports(&rule.ports, &format!("{field}.ports"));
        egress.extend(rules(&peers, &ports, PolicyType::Egress));
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    let mut types = spec.policy_types;
    if types.is_empty() {
        types.push(PolicyType::Ingress);
        if !spec.egress.is_empty() {
            types.push(PolicyType::Egress);
        }
    }
    types.sort();
    types.dedup();
    Ok(PolicySpec {
        order: Some(Order::from(ORDER)),
        selector: Some(selector),
        types,
        ingress,
        egress,
        ..PolicySpec::default()
    })
}

/// The ports of a rule by protocol, in the order of their first.
type Ports = Vec<(Protocol, Option<Vec<PolicyPort>>)>;

/// One rule for each peer and protocol; what names none has all.
fn rules(peers: &[EntityRule], ports: &Ports, direction: PolicyType) -> Vec<Rule> {
    let anybody = [EntityRule::default()];
    let peers = if peers.is_empty() { &anybody } else { peers };
    let mut out = Vec::new();
    for peer in peers {
        let mut rule = Rule::any(Action::Allow);
        match direction {
            PolicyType::Ingress => rule.source = peer.clone(),
            PolicyType::Egress => rule.destination = peer.clone(),
        }
        if ports.is_empty() {
            out.push(rule);
            continue;
        }
        for (protocol, ports) in ports {
            let mut rule = rule.clone();
            rule.protocol = Some(protocol.clone());
            rule.destination.ports = ports.clone().unwrap_or_default();
            out.push(rule);
        }
    }
    out
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: String, value: impl Into<String>, problem: &str, mend: &str) {
        if self.0.len() < MOST_FAULTS {
            self.0.push(Fault {
                field,
                value: value.into(),
                problem: problem.to_owned(),
                mend: mend.to_owned(),
            });
        }
    }

    /// The selector of pods. Only workloads have the label, so it selects no host and no network set.
    fn pods(&mut self, selector: &LabelSelector, field: &str) -> String {
        let mut parts = vec![format!("has({ORCHESTRATOR_LABEL})")];
        parts.append(&mut self.labels(selector, field));
        parts.join(" && ")
    }

    fn namespaces(&mut self, selector: &LabelSelector, field: &str) -> String {
        let parts = self.labels(selector, field);
        if parts.is_empty() {
            "all()".to_owned()
        } else {
            parts.join(" && ")
        }
    }

    fn labels(&mut self, selector: &LabelSelector, field: &str) -> Vec<String> {
        let mut parts = Vec::new();
        for (key, value) in &selector.match_labels {
            let place = format!("{field}.matchLabels");
            // A key or value with quotes in it would be read as more of the selector.
            if self.key(key, place.clone()) && self.value(value, place) {
                parts.push(format!("{key} == '{value}'"));
            }
        }
        for (i, e) in selector.match_expressions.iter().enumerate() {
            let place = format!("{field}.matchExpressions[{i}]");
            let good = self.key(&e.key, format!("{place}.key"))
                && e.values
                    .iter()
                    .all(|v| self.value(v, format!("{place}.values")));
            if !good {
                continue;
            }
            let wants_values = matches!(e.operator, Operator::In | Operator::NotIn);
            if wants_values == e.values.is_empty() {
                let problem = "does not fit the operator";
                let mend = "write values for In and NotIn, and none for Exists and DoesNotExist";
                self.add(format!("{place}.values"), "", problem, mend);
                continue;
            }
            let values = format!("{{ '{}' }}", e.values.join("', '"));
            parts.push(match e.operator {
                Operator::In => format!("{} in {values}", e.key),
                Operator::NotIn => format!("{} not in {values}", e.key),
                Operator::Exists => format!("has({})", e.key),
                Operator::DoesNotExist => format!("!has({})", e.key),
            });
        }
        parts
    }

    fn key(&mut self, key: &str, field: String) -> bool {
        let good = is_label_key(key);
        if !good {
            let mend =
                "write [PREFIX/]NAME with up to 63 letters, digits, '-', '_' and '.' in NAME";
            self.add(field, format!("{key:?}"), "is no label key", mend);
        }
        good
    }

    fn value(&mut self, value: &str, field: String) -> bool {
        let good = is_label_value(value);
        if !good {
            let mend = "write up to 63 letters, digits, '-', '_' and '.'";
            self.add(field, format!("{value:?}"), "is no label value", mend);
        }
        good
    }

    fn peers(&mut self, peers: &[Peer], field: &str) -> Vec<EntityRule> {
        let peers = peers.iter().enumerate();
        peers
            .map(|(i, peer)| self.peer(peer, &format!("{field}[{i}]")))
            .collect()
    }

    fn peer(&mut self, peer: &Peer, field: &str) -> EntityRule {
        let mut entity = EntityRule::default();
        if let Some(block) = &peer.ip_block {
            if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
                let problem = "stands beside a selector";
                let mend = "write them as two items of the list";
                self.add(
                    format!("{field}.ipBlock"),
                    block.cidr.to_string(),
                    problem,
                    mend,
                );
            }
            for (i, except) in block.except.iter().enumerate() {
                if !block.cidr.covers(except) || block.cidr == *except {
                    let place = format!("{field}.ipBlock.except[{i}]");
                    let problem = format!("does not lie inside of {}", block.cidr);
                    let mend = "write a smaller prefix inside of it, or remove it";
                    self.add(place, except.to_string(), &problem, mend);
                }
            }
            entity.nets = vec![block.cidr];
            entity.not_nets.clone_from(&block.except);
            return entity;
        }
        if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
            let mend =
                "write podSelector, namespaceSelector or ipBlock; no list at all allows all peers";
            self.add(field.to_owned(), "", "names no peer", mend);
        }
        if let Some(namespaces) = &peer.namespace_selector {
            let place = format!("{field}.namespaceSelector");
            entity.namespace_selector = Some(self.namespaces(namespaces, &place));
        }
        let all = LabelSelector::default();
        let pods = peer.pod_selector.as_ref().unwrap_or(&all);
        entity.selector = Some(self.pods(pods, &format!("{field}.podSelector")));
        entity
    }

    /// The ports by protocol; `None` for all ports of a protocol, which leaves its others without meaning.
    fn ports(&mut self, ports: &[Port], field: &str) -> Ports {
        let mut out: Ports = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let field = format!("{field}[{i}]");
            let protocol = Protocol::Name(port.protocol.clone().unwrap_or("TCP".to_owned()));
            let known = ["TCP", "UDP", "SCTP"];
            if !known
                .iter()
                .any(|k| protocol == Protocol::Name((*k).to_owned()))
            {
                let place = format!("{field}.protocol");
                let mend = "write one of TCP, UDP, SCTP";
                self.add(
                    place,
                    format!("\"{protocol}\""),
                    "is no protocol of a port",
                    mend,
                );
                continue;
            }
            let wanted = self.port(port, &field);
            let held = match out.iter_mut().find(|(p, _)| *p == protocol) {
                Some((_, held)) => held,
                None => {
                    out.push((protocol, Some(Vec::new())));
                    match out.last_mut() {
                        Some((_, held)) => held,
                        None => continue,
                    }
                }
            };
            match (wanted, held.as_mut()) {
                (Some(port), Some(ports)) => ports.push(port),
                (None, _) => *held = None,
                (Some(_), None) => {}
            }
        }
        out
    }

    fn port(&mut self, port: &Port, field: &str) -> Option<PolicyPort> {
        let place = format!("{field}.endPort");
        match (port.port.as_ref(), port.end_port) {
            (None, None) => None,
            (None, Some(end)) => {
                let mend = "write port, the first of the range, beside it";
                self.add(place, end.to_string(), "has no port to begin at", mend);
                None
            }
            (Some(PolicyPort::Range(first, last)), end) if first == last && *first != 0 => {
                let last = end.unwrap_or(*first);
                if last < *first {
                    let problem = format!("is below the port {first}: the range is upside down");
                    self.add(
                        place,
                        last.to_string(),
                        &problem,
                        "write the greater one last",
                    );
                }
                Some(PolicyPort::Range(*first, last))
            }
            (Some(named @ PolicyPort::Named(name)), None) if is_port_name(name) => {
                Some(named.clone())
            }
            (Some(other), end) => {
                let shown = format!("\"{other}\"");
                let (problem, mend) = match end {
                    Some(_) => (
                        "is no number, and endPort stands beside it",
                        "write the first port",
                    ),
                    None => (
                        "is no port",
                        "write 1 to 65535 or a name, and endPort for a range",
                    ),
                };
                self.add(format!("{field}.port"), shown, problem, mend);
                None
            }
        }
    }
}
