//! What Calico's API knows and routerd does not build: refused by name, with what to use instead.

mod policy;

use serde_json::Value;

use super::strict::{Fault, MOST_FAULTS};
use crate::Kind;

/// A field of a kind that we have, which we do not.
struct Field {
    kind: Kind,
    /// Path from the object, dotted; `name[]` goes into each item of a list.
    path: &'static str,
    /// Values that ask for nothing, beside null, false, 0 and the empty ones.
    harmless: &'static [&'static str],
    mend: &'static str,
}

const fn field(
    kind: Kind,
    path: &'static str,
    harmless: &'static [&'static str],
    mend: &'static str,
) -> Field {
    Field {
        kind,
        path,
        harmless,
        mend,
    }
}

const USE_VXLAN: &str = "remove it; vxlanMode gives a tunnel without IP-in-IP";
const USE_ENCRYPTION: &str = "write spec.encryption";

const NO_EXTENSIONS: &str =
    "remove it; its values are for templates of BIRD's configuration, and BIRD does not run here";
const NO_OPTIONAL: &str = "remove it; a peer whose password is missing is not peered with";
const NO_INTERFACE: &str = "remove it; match by cidr, or by source: RemotePeers";
const NO_ROUTE_PRIORITY: &str =
    "remove it; routes of workloads have one priority, and what is learnt is used after them";
const NO_PRIORITY: &str = "remove it; write setLocalPref or setMED under operations";

const FIELDS: &[Field] = &[
    field(
        Kind::BGPConfiguration,
        "spec.logSeverityScreen",
        &["Info"],
        "remove it; write [log] level in routerd.toml",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.ignoredInterfaces",
        &[],
        "remove it; no route of an interface is ever announced",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.localWorkloadPeeringIPV4",
        &[],
        "remove it; peers that are workloads are not built",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.localWorkloadPeeringIPV6",
        &[],
        "remove it; peers that are workloads are not built",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.serviceLoadBalancerAggregation",
        &["Enabled"],
        "remove it; the prefixes of serviceLoadBalancerIPs are announced whole",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.programClusterRoutes",
        &["Enabled", "EnabledNoEncapOnly"],
        "remove it; routes between nodes come from the store, BGP adds what it does not have",
    ),
    field(
        Kind::BGPConfiguration,
        "spec.ipv4NormalRoutePriority",
        &[],
        NO_ROUTE_PRIORITY,
    ),
    field(
        Kind::BGPConfiguration,
        "spec.ipv6NormalRoutePriority",
        &[],
        NO_ROUTE_PRIORITY,
    ),
    field(
        Kind::BGPConfiguration,
        "spec.extensions",
        &[],
        NO_EXTENSIONS,
    ),
    field(
        Kind::BGPConfiguration,
        "spec.nodeMeshPassword.secretKeyRef.optional",
        &[],
        NO_OPTIONAL,
    ),
    field(
        Kind::BGPPeer,
        "spec.password.secretKeyRef.optional",
        &[],
        NO_OPTIONAL,
    ),
    field(
        Kind::BGPPeer,
        "spec.localWorkloadSelector",
        &[],
        "remove it; peers that are workloads are not built",
    ),
    field(
        Kind::BGPPeer,
        "spec.reachableBy",
        &[],
        "remove it, and give the host a route to the peer",
    ),
    field(
        Kind::BGPPeer,
        "spec.failureDetectionMode",
        &["None"],
        "write bfd: {}",
    ),
    field(
        Kind::BGPPeer,
        "spec.restartMode",
        &["GracefulRestart"],
        "remove it; restarts are graceful, maxRestartTime says for how long",
    ),
    field(
        Kind::BGPPeer,
        "spec.birdGatewayMode",
        &["Recursive"],
        "remove it; a next hop that is on no link is reached over the peer",
    ),
    field(
        Kind::BGPPeer,
        "spec.externalNetwork",
        &[],
        "remove it; learnt routes go to the main table",
    ),
    field(Kind::BGPPeer, "spec.extensions", &[], NO_EXTENSIONS),
    field(
        Kind::BGPFilter,
        "spec.exportV4[].interface",
        &[],
        NO_INTERFACE,
    ),
    field(
        Kind::BGPFilter,
        "spec.exportV4[].priority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.exportV4[].operations[].setPriority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV4[].interface",
        &[],
        NO_INTERFACE,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV4[].priority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV4[].operations[].setPriority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.exportV6[].interface",
        &[],
        NO_INTERFACE,
    ),
    field(
        Kind::BGPFilter,
        "spec.exportV6[].priority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.exportV6[].operations[].setPriority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV6[].interface",
        &[],
        NO_INTERFACE,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV6[].priority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::BGPFilter,
        "spec.importV6[].operations[].setPriority",
        &[],
        NO_PRIORITY,
    ),
    field(
        Kind::Secret,
        "type",
        &["Opaque"],
        "remove it; every Secret holds plain values",
    ),
    field(
        Kind::Secret,
        "immutable",
        &[],
        "remove it; a Secret can be changed",
    ),
    field(Kind::IPPool, "spec.ipipMode", &["Never"], USE_VXLAN),
    field(Kind::IPPool, "spec.ipip", &[], USE_VXLAN),
    field(Kind::IPPool, "spec.nat-outgoing", &[], "write natOutgoing"),
    field(
        Kind::Node,
        "spec.bgp.ipv4IPIPTunnelAddr",
        &[],
        "remove it; VXLAN tunnel addresses are given by the node's own daemon",
    ),
    field(
        Kind::Node,
        "spec.wireguard",
        &[],
        "remove it; the device has the node's tunnel addresses",
    ),
    field(
        Kind::WorkloadEndpoint,
        "spec.ipNATs",
        &[],
        "remove it; give the workload the address itself in ipNetworks",
    ),
    field(
        Kind::WorkloadEndpoint,
        "spec.qosControls",
        &[],
        "remove it; limit the rate with the bandwidth CNI plugin",
    ),
    field(
        Kind::IPAMConfiguration,
        "spec.kubeVirtVMAddressPersistence",
        &["Disabled"],
        "remove it; give the machine a fixed address by the CNI ips capability",
    ),
    field(
        Kind::MeshConfiguration,
        "spec.wireguardEnabled",
        &[],
        USE_ENCRYPTION,
    ),
    field(
        Kind::MeshConfiguration,
        "spec.wireguardEnabledV6",
        &[],
        USE_ENCRYPTION,
    ),
    field(
        Kind::MeshConfiguration,
        "spec.wireguardListeningPort",
        &[],
        "write spec.wireguardPort",
    ),
    field(
        Kind::MeshConfiguration,
        "spec.vxlanMTU",
        &[],
        "write spec.mtu, or leave it to auto",
    ),
    field(
        Kind::MeshConfiguration,
        "spec.vxlanEnabled",
        &[],
        "write vxlanMode in the IPPool",
    ),
];

/// Takes the foreign fields out of an object; a fault for each that asks for something.
pub(super) fn take_fields(kind: Kind, object: &mut Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    for field in FIELDS.iter().filter(|f| f.kind == kind) {
        take(field, object, field.path, "", &mut faults);
    }
    if let Some(spec) = object.get_mut("spec").filter(|_| kind.is_policy()) {
        take_of_policy(kind, spec, &mut faults);
    }
    if let Some(spec) = object.get_mut("spec")
        && matches!(kind, Kind::GlobalNetworkSet | Kind::NetworkSet)
    {
        let mend = "write the addresses as nets";
        let domains = field(kind, "allowedEgressDomains", &[], mend);
        take(&domains, spec, domains.path, "spec", &mut faults);
    }
    faults
}

/// The rules of a policy may be many, so each is looked at once.
fn take_of_policy(kind: Kind, spec: &mut Value, faults: &mut Vec<Fault>) {
    let fields = |list: &'static [policy::PolicyField]| {
        list.iter()
            .map(move |f| field(kind, f.path, f.harmless, f.mend))
    };
    for field in fields(policy::OF_SPEC) {
        take(&field, spec, field.path, "spec", faults);
    }
    for list in ["ingress", "egress"] {
        let rules = spec.get_mut(list).and_then(Value::as_array_mut);
        for (i, rule) in rules.into_iter().flatten().enumerate() {
            let place = format!("spec.{list}[{i}]");
            for field in fields(policy::OF_RULE) {
                take(&field, rule, field.path, &place, faults);
            }
            for end in ["source", "destination"] {
                let Some(end_of) = rule.get_mut(end) else {
                    continue;
                };
                let place = format!("{place}.{end}");
                for field in fields(policy::OF_ENTITY) {
                    take(&field, end_of, field.path, &place, faults);
                }
            }
        }
    }
}

/// Takes what stands at `path` of `value`, which stands at `place` itself.
fn take(field: &Field, value: &mut Value, path: &str, place: &str, faults: &mut Vec<Fault>) {
    let dot = if place.is_empty() { "" } else { "." };
    let Some((step, rest)) = path.split_once('.') else {
        let taken = value.as_object_mut().and_then(|m| m.remove(path));
        if let Some(value) = taken.filter(|v| !is_harmless(v, field.harmless))
            && faults.len() < MOST_FAULTS
        {
            faults.push(Fault {
                field: format!("{place}{dot}{path}"),
                value: value.to_string(),
                problem: "is known to Calico but not built here".to_owned(),
                mend: field.mend.to_owned(),
            });
        }
        return;
    };
    match step.strip_suffix("[]") {
        Some(list) => {
            let items = value.get_mut(list).and_then(Value::as_array_mut);
            for (i, item) in items.into_iter().flatten().enumerate() {
                let place = format!("{place}{dot}{list}[{i}]");
                take(field, item, rest, &place, faults);
            }
        }
        None => {
            if let Some(inner) = value.get_mut(step) {
                take(field, inner, rest, &format!("{place}{dot}{step}"), faults);
            }
        }
    }
}

/// What Go writes for a field that nobody set.
fn is_harmless(value: &Value, words: &[&str]) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_u64() == Some(0),
        Value::String(s) => s.is_empty() || words.contains(&s.as_str()),
        Value::Array(items) => {
            (items.iter()).all(|v| v.as_str().is_some_and(|s| words.contains(&s)))
        }
        Value::Object(map) => map.values().all(|v| is_harmless(v, words)),
    }
}

/// Why a kind of Calico's is refused; `None` for a kind that it does not have.
pub(super) fn kind_mend(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "StagedKubernetesNetworkPolicy" => "write a StagedNetworkPolicy",
        "Profile" => {
            "write a NetworkPolicy for the workloads, and their labels at them; what no policy is about is allowed"
        }
        "FelixConfiguration" => "mesh-wide settings are in MeshConfiguration",
        "KubeControllersConfiguration" | "ClusterInformation" | "CalicoNodeStatus" => {
            "routerd has no use for it; `routerctl status` shows a node's state"
        }
        "IPAMBlock" | "IPAMHandle" | "BlockAffinity" => {
            "addresses are given out by the nodes; see `routerctl ipam show`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_asks_for_nothing_is_taken_out() {
        let mut pool = json!({"spec": {
            "cidr": "10.0.0.0/16", "ipipMode": "Never", "ipip": {"enabled": false}, "nat-outgoing": false,
        }});
        assert_eq!(take_fields(Kind::IPPool, &mut pool), []);
        assert_eq!(pool, json!({"spec": {"cidr": "10.0.0.0/16"}}));
    }

    #[test]
    fn what_asks_for_something_is_refused_by_name() {
        let mut pool = json!({"spec": {"ipipMode": "Always", "nat-outgoing": true}});
        let faults = take_fields(Kind::IPPool, &mut pool);
        let found: Vec<_> = faults
            .iter()
            .map(|f| (f.field.as_str(), f.value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("spec.ipipMode", "\"Always\""),
                ("spec.nat-outgoing", "true")
            ]
        );
        assert!(faults.iter().all(|f| !f.mend.is_empty()));
        // A spec that is no mapping is the strict reader's to refuse.
        assert_eq!(take_fields(Kind::IPPool, &mut json!({"spec": 5})), []);
    }
}
