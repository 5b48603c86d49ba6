//! `WorkloadEndpoint`: an interface of a workload, written by the CNI plugin or by an operator.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::kernel::Mac;
use crate::{Cidr, Metadata};

/// Specification of a `WorkloadEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadEndpointSpec {
    /// Who made the workload: `cni`, `k8s`, `libvirt`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// Name of the workload there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Node that hosts it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The runtime's id of the container.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        rename = "containerID"
    )]
    pub container_id: String,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Name of the interface inside the workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// Kubernetes service account.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Addresses, /32 and /128 only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<Cidr>,
    /// Gateway as seen by the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<Ipv4Addr>,
    /// Gateway as seen by the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// Policy profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Interface on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// MAC address inside the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Named ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Sources that the workload may send from besides its own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<Cidr>,
}

impl WorkloadEndpointSpec {
    /// What people call the workload: its pod, else its container; empty where the endpoint's own name has to do.
    pub fn called(&self) -> &str {
        match self.pod.as_str() {
            "" => &self.container_id,
            pod => pod,
        }
    }
}

/// Label of every workload: its namespace.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// Label of every workload: who made it.
pub const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
/// Label of a workload with a service account: its name.
pub const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";

/// The labels that selectors see: the workload's own, and those that follow from what it is. Nobody can
/// write the latter otherwise, so a workload cannot pretend to be of another namespace.
pub fn all_labels(metadata: &Metadata, spec: &WorkloadEndpointSpec) -> BTreeMap<String, String> {
    let mut labels = metadata.labels.clone();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let orchestrator = match spec.orchestrator.as_str() {
        "" => "cni",
        named => named,
    };
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.to_owned());
    labels.insert(ORCHESTRATOR_LABEL.to_owned(), orchestrator.to_owned());
    labels.remove(SERVICE_ACCOUNT_LABEL);
    if !spec.service_account_name.is_empty() {
        let account = spec.service_account_name.clone();
        labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), account);
    }
    labels
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointPort {
    /// Name that policies use.
    #[serde(default)]
    pub name: String,
    /// Protocol by name or number.
    pub protocol: Protocol,
    /// Port number.
    pub port: u16,
    /// Accepted from Calico's manifests; port mapping is the `portmap` plugin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// As `hostPort`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "hostIP")]
    pub host_ip: Option<String>,
}

/// An IP protocol by name (`TCP`) or number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Protocol {
    /// By number, 1 to 255.
    Number(u8),
    /// By name.
    Name(String),
}

/// Protocols that Calico knows by name, and their numbers.
const PROTOCOLS: [(&str, u8); 6] = [
    ("TCP", 6),
    ("UDP", 17),
    ("ICMP", 1),
    ("ICMPv6", 58),
    ("SCTP", 132),
    ("UDPLite", 136),
];

impl Protocol {
    /// The names that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROTOCOLS.into_iter().map(|(name, _)| name)
    }

    /// Its number, 1 to 255; `None` for 0 and for a name that nobody knows.
    pub fn number(&self) -> Option<u8> {
        match self {
            Protocol::Number(n) => Some(*n).filter(|n| *n != 0),
            Protocol::Name(name) => PROTOCOLS
                .into_iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, number)| number),
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Protocol::Number(n) => n.fmt(f),
            Protocol::Name(name) => f.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Protocol, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Protocol;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a protocol, such as TCP, or its number from 1 to 255")
            }

            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Protocol, E> {
                u8::try_from(v)
                    .map(Protocol::Number)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
            }

            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Protocol, E> {
                Ok(Protocol::Name(v.to_owned()))
            }
        }
        d.deserialize_any(Visitor)
    }
}
