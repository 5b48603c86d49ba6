//! `Node`: a host of the mesh, written by its own daemon; operators edit labels, `bgp` and `unschedulable`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::as_number::AsNumber;
use crate::kernel::Mac;
use crate::tunnel::{EncapsulationKey, PublicKey};
use crate::{Cidr, Family};

/// BGP settings and underlay addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeBgp {
    /// Underlay IPv4 address with the prefix length of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<InterfaceAddress>,
    /// Underlay IPv6 address with the prefix length of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<InterfaceAddress>,
    /// AS number of the node; may be written `64512`, `"64512"` or dotted, `"1.10"`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "as_number"
    )]
    pub as_number: Option<u32>,
    /// Makes the node a route reflector of this cluster.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "routeReflectorClusterID"
    )]
    pub route_reflector_cluster_id: Option<Ipv4Addr>,
}

fn as_number<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    AsNumber::deserialize(d).map(|number| Some(number.0))
}

/// Specification of a `Node`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// BGP settings and underlay addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    /// Address of the node's VXLAN device, from IPAM.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "ipv4VXLANTunnelAddr"
    )]
    pub ipv4_vxlan_tunnel_addr: Option<Ipv4Addr>,
    /// IPv6 counterpart.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "ipv6VXLANTunnelAddr"
    )]
    pub ipv6_vxlan_tunnel_addr: Option<Ipv6Addr>,
    /// MAC address of the VXLAN device over the IPv4 underlay.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "vxlanTunnelMACAddr"
    )]
    pub vxlan_tunnel_mac_addr: Option<Mac>,
    /// MAC address of the VXLAN device over the IPv6 underlay.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "vxlanTunnelMACAddrV6"
    )]
    pub vxlan_tunnel_mac_addr_v6: Option<Mac>,
    /// Further addresses at which the node is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Interfaces of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
    /// What orchestrators call the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// Ours: cordoned; standing workloads go on, no new address is handed out here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
    /// What its daemon says of it; written beside the specification, as `status`.
    #[serde(skip)]
    pub status: NodeStatus,
}

/// What a node's daemon says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The key by which its tunnels are known; none: it cannot encrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard_public_key: Option<PublicKey>,
    /// The key that will be in its place soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard_next_public_key: Option<PublicKey>,
    /// What others encapsulate secrets for preshared keys to; none: it takes no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard_encapsulation_key: Option<EncapsulationKey>,
}

impl NodeStatus {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == NodeStatus::default()
    }
}

impl NodeSpec {
    /// Underlay address of a family.
    pub fn underlay(&self, family: Family) -> Option<InterfaceAddress> {
        let bgp = self.bgp.as_ref()?;
        match family {
            Family::V4 => bgp.ipv4_address,
            Family::V6 => bgp.ipv6_address,
        }
    }

    /// Tunnel address of a family.
    pub fn tunnel_addr(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4_vxlan_tunnel_addr.map(IpAddr::V4),
            Family::V6 => self.ipv6_vxlan_tunnel_addr.map(IpAddr::V6),
        }
    }

    /// MAC address of the VXLAN device over the underlay of a family.
    pub fn vtep_mac(&self, underlay: Family) -> Option<Mac> {
        match underlay {
            Family::V4 => self.vxlan_tunnel_mac_addr,
            Family::V6 => self.vxlan_tunnel_mac_addr_v6,
        }
    }
}

/// An address at which a node is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeAddress {
    /// Address or prefix.
    pub address: String,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub address_type: Option<String>,
}

/// An interface of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeInterface {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// What an orchestrator calls a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrchRef {
    /// Name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Which orchestrator.
    pub orchestrator: String,
}

/// An address of an interface together with the prefix length of its subnet, such as `192.0.2.5/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length of the subnet.
    pub prefix: u8,
}

impl InterfaceAddress {
    /// The subnet that the address lies in.
    pub fn subnet(&self) -> Cidr {
        Cidr::containing(self.ip, self.prefix).unwrap_or_else(|| Cidr::host(self.ip))
    }
}

impl std::fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl std::str::FromStr for InterfaceAddress {
    type Err = crate::cidr::CidrError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let net: ipnetwork::IpNetwork = s
            .parse()
            .map_err(|_| crate::cidr::CidrError::Syntax(s.to_owned()))?;
        Ok(InterfaceAddress {
            ip: net.ip(),
            prefix: net.prefix(),
        })
    }
}

impl Serialize for InterfaceAddress {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InterfaceAddress {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
