//! What Kubernetes says, of its own objects alone.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::Pod;

pub(super) struct Flow<'a> {
    pub(super) peer: (Option<&'a Pod>, &'a str),
    pub(super) to: Option<&'a Pod>,
    pub(super) protocol: &'a str,
    pub(super) port: u16,
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(k, v)| &labels[k] == v);
    equal
        && list(selector, "matchExpressions").iter().all(|e| {
            let value = &labels[e["key"].as_str().unwrap()];
            let listed = list(e, "values").contains(value);
            match e["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !value.is_null(),
                _ => value.is_null(),
            }
        })
}

fn inside(cidr: &Value, ip: &str) -> bool {
    let (net, len) = cidr.as_str().unwrap().split_once('/').unwrap();
    let bits = |a: &str| u64::from(a.parse::<Ipv4Addr>().unwrap().to_bits());
    let shift = 32 - len.parse::<u32>().unwrap();
    bits(net) >> shift == bits(ip) >> shift
}

fn is_peer(peer: &Value, own: &str, (pod, ip): (Option<&Pod>, &str)) -> bool {
    if let Some(block) = peer.get("ipBlock") {
        return inside(&block["cidr"], ip) && !list(block, "except").iter().any(|e| inside(e, ip));
    }
    let Some(pod) = pod else { return false };
    let namespace = match peer.get("namespaceSelector") {
        None => pod.namespace == own,
        Some(selector) => selects(selector, &pod.namespace_labels),
    };
    namespace
        && peer
            .get("podSelector")
            .is_none_or(|s| selects(s, &pod.labels))
}

fn is_port(port: &Value, flow: &Flow<'_>) -> bool {
    if port["protocol"].as_str().unwrap_or("TCP") != flow.protocol {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(name) => flow.to.is_some_and(|pod| {
            let wanted = (name.as_str(), flow.protocol, flow.port);
            pod.ports.contains(&wanted)
        }),
        number => {
            let first = number.as_u64().unwrap();
            let last = port["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(flow.port))
        }
    }
}

/// Whether a pod's policies of a direction let a flow through.
pub(super) fn allows(policies: &[Value], pod: &Pod, ingress: bool, flow: &Flow<'_>) -> bool {
    let (rules, peers, name) = match ingress {
        true => ("ingress", "from", "Ingress"),
        false => ("egress", "to", "Egress"),
    };
    let mut isolated = false;
    for policy in policies {
        let spec = &policy["spec"];
        let own = policy["metadata"]["namespace"].as_str().unwrap();
        let types = list(spec, "policyTypes");
        let concerned = match types {
            [] => ingress || !list(spec, "egress").is_empty(),
            types => types.iter().any(|t| t == name),
        };
        if own != pod.namespace || !concerned || !selects(&spec["podSelector"], &pod.labels) {
            continue;
        }
        isolated = true;
        for rule in list(spec, rules) {
            let (from, ports) = (list(rule, peers), list(rule, "ports"));
            if (from.is_empty() || from.iter().any(|p| is_peer(p, own, flow.peer)))
                && (ports.is_empty() || ports.iter().any(|p| is_port(p, flow)))
            {
                return true;
            }
        }
    }
    !isolated
}
