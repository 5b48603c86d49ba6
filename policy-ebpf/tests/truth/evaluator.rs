//! What a `NetworkPolicy` of `networking.k8s.io/v1` says, read from its document as the API defines it.
//!
//! It shares nothing with the code that it is held against: no type, no parser of prefixes, no selector.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

pub(crate) type Labels = BTreeMap<String, String>;

/// A pod, as policy sees it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) labels: Labels,
    pub(crate) addresses: [IpAddr; 2],
    /// Container ports: name, protocol, number.
    pub(crate) ports: Vec<(&'static str, &'static str, u16)>,
}

/// Who there is.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) namespaces: BTreeMap<&'static str, Labels>,
    pub(crate) pods: Vec<Pod>,
}

/// A connection somebody wants to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Cluster {
    pub(crate) fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|p| p.addresses.contains(&address))
    }

    /// Whether the policies let it leave its source; what is no pod has none.
    pub(crate) fn lets_out(&self, policies: &[Value], attempt: &Attempt) -> bool {
        let pod = self.pod_at(attempt.source);
        pod.is_none_or(|pod| self.lets(pod, Direction::Egress, policies, attempt))
    }

    /// Whether the policies let it enter its destination.
    pub(crate) fn lets_in(&self, policies: &[Value], attempt: &Attempt) -> bool {
        let pod = self.pod_at(attempt.destination);
        pod.is_none_or(|pod| self.lets(pod, Direction::Ingress, policies, attempt))
    }

    /// A pod is isolated in a direction when a policy of that type selects it; then what any of them allows is allowed.
    fn lets(&self, pod: &Pod, direction: Direction, policies: &[Value], attempt: &Attempt) -> bool {
        let isolating: Vec<&Value> = (policies.iter())
            .filter(|policy| namespace_of(policy) == pod.namespace)
            .filter(|policy| is_of_type(policy, direction))
            .filter(|policy| selects(&policy["spec"]["podSelector"], &pod.labels))
            .collect();
        isolating.is_empty()
            || isolating
                .iter()
                .any(|policy| self.permits(policy, direction, attempt))
    }

    fn permits(&self, policy: &Value, direction: Direction, attempt: &Attempt) -> bool {
        let (rules, peers, other) = match direction {
            Direction::Ingress => ("ingress", "from", attempt.source),
            Direction::Egress => ("egress", "to", attempt.destination),
        };
        items(&policy["spec"][rules]).iter().any(|rule| {
            let (peers, ports) = (items(&rule[peers]), items(&rule["ports"]));
            let peer = |peer| self.is_peer(peer, namespace_of(policy), other);
            (peers.is_empty() || peers.iter().any(peer))
                && (ports.is_empty() || ports.iter().any(|port| self.is_port(port, attempt)))
        })
    }

    fn is_peer(&self, peer: &Value, namespace: &str, address: IpAddr) -> bool {
        if let Some(cidr) = peer["ipBlock"]["cidr"].as_str() {
            let except = items(&peer["ipBlock"]["except"]);
            return holds(cidr, address)
                && !(except.iter()).any(|e| holds(e.as_str().unwrap_or_default(), address));
        }
        let Some(pod) = self.pod_at(address) else {
            return false;
        };
        let of_namespace = match &peer["namespaceSelector"] {
            Value::Null => pod.namespace == namespace,
            selector => selects(selector, &self.namespaces[pod.namespace]),
        };
        // Without one, all pods of the namespaces are meant.
        of_namespace && selects(&peer["podSelector"], &pod.labels)
    }

    fn is_port(&self, port: &Value, attempt: &Attempt) -> bool {
        if port["protocol"].as_str().unwrap_or("TCP") != attempt.protocol {
            return false;
        }
        match &port["port"] {
            Value::Null => true,
            Value::Number(first) => {
                let first = first.as_u64().expect("a port");
                let last = port["endPort"].as_u64().unwrap_or(first);
                (first..=last).contains(&u64::from(attempt.port))
            }
            name => {
                let pod = self.pod_at(attempt.destination);
                let named = |&(n, protocol, number): &(&str, &str, u16)| {
                    name == n && protocol == attempt.protocol && number == attempt.port
                };
                pod.is_some_and(|pod| pod.ports.iter().any(named))
            }
        }
    }
}

fn namespace_of(policy: &Value) -> &str {
    policy["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default")
}

/// Left out, the types are ingress, and egress where there are rules for it.
fn is_of_type(policy: &Value, direction: Direction) -> bool {
    let spec = &policy["spec"];
    let types = items(&spec["policyTypes"]);
    match (types.is_empty(), direction) {
        (true, Direction::Ingress) => true,
        (true, Direction::Egress) => !items(&spec["egress"]).is_empty(),
        (false, Direction::Ingress) => types.iter().any(|t| t == "Ingress"),
        (false, Direction::Egress) => types.iter().any(|t| t == "Egress"),
    }
}

/// A selector of labels: all that it asks for has to hold, so an empty one selects everything.
fn selects(selector: &Value, labels: &Labels) -> bool {
    let wanted = selector["matchLabels"].as_object();
    let has =
        |(key, value): (&String, &Value)| labels.get(key).map(String::as_str) == value.as_str();
    wanted.is_none_or(|wanted| wanted.iter().all(has))
        && (items(&selector["matchExpressions"]).iter()).all(|e| {
            let value = labels.get(e["key"].as_str().expect("a key"));
            let among = value.is_some_and(|v| items(&e["values"]).iter().any(|w| w == v));
            match e["operator"].as_str() {
                Some("In") => among,
                Some("NotIn") => !among,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                other => panic!("{other:?} is no operator"),
            }
        })
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn holds(cidr: &str, address: IpAddr) -> bool {
    let (network, length) = cidr.split_once('/').expect("a prefix");
    let length: u32 = length.parse().expect("a length");
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    };
    let ((network, a), (address, b)) = (bits(network.parse().expect("an address")), bits(address));
    a == b
        && (network ^ address)
            .checked_shr(128 - length)
            .unwrap_or_default()
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn prefixes_hold_addresses_of_their_version() {
        let holds = |cidr, address: &str| holds(cidr, address.parse().expect("an address"));
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.1/32", "10.0.0.1") && !holds("10.0.0.1/32", "10.0.0.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "fd00::1") && holds("fd00::/127", "fd00::1"));
        assert!(!holds("fd00::/127", "fd00::2"));
    }

    #[test]
    fn selectors_ask_for_all_they_name() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let expression = |operator, values: &[&str]| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]});
        assert!(selects(&Value::Null, &web) && selects(&json!({}), &web));
        assert!(selects(
            &json!({"matchLabels": {"app": "web", "tier": "front"}}),
            &web
        ));
        assert!(!selects(
            &json!({"matchLabels": {"app": "web", "tier": "back"}}),
            &web
        ));
        assert!(selects(&expression("In", &["db", "web"]), &web));
        assert!(!selects(&expression("In", &["db"]), &web));
        assert!(selects(&expression("NotIn", &["db"]), &web));
        assert!(selects(&expression("NotIn", &["db"]), &Labels::new()));
        assert!(!selects(&expression("DoesNotExist", &[]), &web));
        assert!(!selects(&expression("Exists", &[]), &Labels::new()));
    }

    #[test]
    fn types_follow_from_the_rules() {
        let is = |spec: Value| {
            let policy = json!({"spec": spec});
            [Direction::Ingress, Direction::Egress].map(|d| is_of_type(&policy, d))
        };
        assert_eq!(is(json!({})), [true, false]);
        assert_eq!(is(json!({"egress": [{}]})), [true, true]);
        assert_eq!(is(json!({"egress": []})), [true, false]);
        assert_eq!(
            is(json!({"egress": [{}], "policyTypes": ["Egress"]})),
            [false, true]
        );
        assert_eq!(
            is(json!({"policyTypes": ["Ingress", "Egress"]})),
            [true, true]
        );
    }
}
