//! `MeshConfiguration`: mesh-wide settings, ours. One object, named `default`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::workload_endpoint::Protocol;
use crate::marks;

/// Whether node-to-node traffic is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encryption {
    /// Never.
    #[default]
    Off,
    /// To every node that can.
    Preferred,
    /// Or not at all.
    Required,
}

/// Whether tunnels between nodes have preshared keys that a quantum computer cannot work out later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PostQuantum {
    /// None has.
    #[default]
    Off,
    /// Those to nodes that take part have, once one is agreed on.
    Preferred,
    /// Or there is no tunnel.
    Required,
}

/// What becomes of packets from a workload to its own host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndpointToHostAction {
    /// Dropped.
    Drop,
    /// Left to the host's own firewall.
    #[default]
    Return,
    /// Accepted.
    Accept,
}

/// What becomes of a live connection that a changed policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LiveConnections {
    /// It is cut, at its next packet.
    #[default]
    Cut,
    /// It goes on until it ends.
    Keep,
}

/// Whether frames between two workloads of a host pass the host's routing by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RedirectToPeer {
    /// Once their connection is known at both ends they do, with what the host's firewall and qdiscs would do to them.
    #[default]
    Enabled,
    /// All are routed.
    Disabled,
}

/// A port of hosts that no policy closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// MTU of workload interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mtu {
    /// The underlay's less what the tunnels in use add.
    #[default]
    Auto,
    /// This many bytes.
    Bytes(u32),
}

/// Specification of the `MeshConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshConfigurationSpec {
    /// Node-to-node encryption.
    #[serde(default)]
    pub encryption: Encryption,
    /// MTU of workload interfaces.
    #[serde(default)]
    pub mtu: Mtu,
    /// UDP port of VXLAN, 4789 by default.
    #[serde(default = "vxlan_port")]
    pub vxlan_port: u16,
    /// VXLAN network identifier, 1 to 16777215, 4096 by default.
    #[serde(default = "vxlan_vni", rename = "vxlanVNI")]
    pub vxlan_vni: u32,
    /// UDP port of WireGuard, 51820 by default.
    #[serde(default = "wireguard_port")]
    pub wireguard_port: u16,
    /// Preshared keys from ML-KEM-768 for encrypted tunnels.
    #[serde(default)]
    pub post_quantum: PostQuantum,
    /// UDP port at which nodes agree on them, 51821 by default.
    #[serde(default = "post_quantum_port")]
    pub post_quantum_port: u16,
    /// Packets from a workload to its own host.
    #[serde(default)]
    pub default_endpoint_to_host_action: EndpointToHostAction,
    /// Live connections that a changed policy denies.
    #[serde(default)]
    pub live_connections: LiveConnections,
    /// Frames from one workload of a host to another.
    #[serde(default)]
    pub bpf_redirect_to_peer: RedirectToPeer,
    /// Ports of hosts that others may reach whatever policy says. Left out, those of SSH, DHCP, BGP, etcd and
    /// Kubernetes; ports that the mesh itself needs are always among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failsafe_inbound_host_ports: Option<Vec<HostPort>>,
    /// Ports that hosts may reach whatever policy says. Left out, those of DNS, DHCP, BGP, etcd and Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failsafe_outbound_host_ports: Option<Vec<HostPort>>,
}

fn vxlan_port() -> u16 {
    marks::DEFAULT_VXLAN_PORT
}

fn vxlan_vni() -> u32 {
    marks::DEFAULT_VNI
}

fn wireguard_port() -> u16 {
    marks::DEFAULT_WIREGUARD_PORT
}

fn post_quantum_port() -> u16 {
    marks::DEFAULT_POST_QUANTUM_PORT
}

impl Default for MeshConfigurationSpec {
    fn default() -> Self {
        MeshConfigurationSpec {
            encryption: Encryption::default(),
            mtu: Mtu::default(),
            vxlan_port: vxlan_port(),
            vxlan_vni: vxlan_vni(),
            wireguard_port: wireguard_port(),
            post_quantum: PostQuantum::default(),
            post_quantum_port: post_quantum_port(),
            default_endpoint_to_host_action: EndpointToHostAction::default(),
            live_connections: LiveConnections::default(),
            bpf_redirect_to_peer: RedirectToPeer::default(),
            failsafe_inbound_host_ports: None,
            failsafe_outbound_host_ports: None,
        }
    }
}

impl Serialize for Mtu {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Mtu::Auto => s.serialize_str("auto"),
            Mtu::Bytes(n) => s.serialize_u32(*n),
        }
    }
}

impl<'de> Deserialize<'de> for Mtu {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Mtu, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Mtu;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a number of bytes")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Mtu, E> {
                match v {
                    "auto" => Ok(Mtu::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Mtu, E> {
                u32::try_from(v)
                    .map(Mtu::Bytes)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
            }
        }
        d.deserialize_any(Visitor)
    }
}
