//! `HostEndpoint`: interfaces of a host that policies apply to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::workload_endpoint::EndpointPort;

/// The interface name that stands for all of them.
pub const ALL_INTERFACES: &str = "*";
/// The profile that lets through what no policy is about.
pub const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// Specification of a `HostEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostEndpointSpec {
    /// The host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface, or `*` for all; left out, the one with an address of `expectedIPs`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Its addresses: what a rule's selector that selects it stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "expectedIPs")]
    pub expected_ips: Vec<IpAddr>,
    /// `projectcalico-default-allow`, or nothing: then what no policy is about is dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Named ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

impl HostEndpointSpec {
    /// Whether what no policy is about is let through.
    pub fn default_allow(&self) -> bool {
        self.profiles.iter().any(|p| p == DEFAULT_ALLOW)
    }
}
