//! `BGPPeer`: whom some nodes peer with, and how.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::as_number::AsNumber;
use super::duration::GoDuration;

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:1179`, `fd00::1`, `[fd00::1]:1179`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// The address.
    pub ip: IpAddr,
    /// The port, if one is written.
    pub port: Option<u16>,
}

/// The text is no address of a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a peer: write 192.0.2.1, 192.0.2.1:179, fd00::1 or [fd00::1]:179")]
pub struct PeerAddressError(String);

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<PeerAddress, PeerAddressError> {
        if let Ok(ip) = text.parse() {
            return Ok(PeerAddress { ip, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(SocketAddr::V6(at)) if at.scope_id() != 0 => {}
            Ok(at) => {
                return Ok(PeerAddress {
                    ip: at.ip(),
                    port: Some(at.port()),
                });
            }
            Err(_) => {}
        }
        Err(PeerAddressError(text.to_owned()))
    }
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<PeerAddress, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A value of a stored `Secret`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The `Secret`.
    pub name: String,
    /// Which of its values.
    pub key: String,
}

/// Where a password comes from: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPassword {
    /// A value of a `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// Ours: a file on the node, its first line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Our address towards a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceAddress {
    /// The node's underlay address.
    #[default]
    UseNodeIP,
    /// The kernel's choice.
    None,
}

/// Which next hop a peer hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NextHopMode {
    /// As BGP has it: ours to other ASes, the learnt one inside our own.
    #[default]
    Auto,
    /// Always ours.
    #[serde(rename = "Self")]
    Own,
    /// The learnt one.
    Keep,
}

/// Whether nodes that `peerSelector` selects peer back by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReversePeering {
    /// They do.
    #[default]
    Auto,
    /// Another `BGPPeer` says so.
    Manual,
}

/// Ours: BFD with a peer (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BfdSpec {
    /// We want to send this often, milliseconds; 300 by default.
    #[serde(default = "interval")]
    pub transmit_interval_ms: u32,
    /// We can take packets this often, milliseconds; 300 by default.
    #[serde(default = "interval")]
    pub receive_interval_ms: u32,
    /// Packets missed that mean down; 3 by default.
    #[serde(default = "multiplier")]
    pub multiplier: u8,
}

fn interval() -> u32 {
    300
}

fn multiplier() -> u8 {
    3
}

/// Specification of a `BGPPeer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerSpec {
    /// The one node that peers; by default all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The nodes that peer, by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Address of the peer, with its port where it is not 179.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "peerIP")]
    pub peer_ip: Option<PeerAddress>,
    /// Ours: the interface that the peer is behind, in place of `peerIP`, or beside a link-local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_interface: Option<String>,
    /// AS of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Our AS towards it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "localASNumber"
    )]
    pub local_as_number: Option<AsNumber>,
    /// The nodes that are the peers, in place of `peerIP` and `asNumber`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<String>,
    /// As `nextHopMode: Keep`, which wins when both are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_original_next_hop: bool,
    /// Which next hop the peer hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// What both sides sign with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// Our address towards it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// How long it is asked to keep our routes over a restart, 120s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<GoDuration>,
    /// How often our own AS may be on its paths.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "numAllowedLocalASNumbers"
    )]
    pub num_allowed_local_as_numbers: Option<u8>,
    /// How many hops away it is; what comes from further is dropped.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "ttlSecurity"
    )]
    pub ttl_security: Option<u8>,
    /// Names of the `BGPFilter`s for its routes and ours, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Whether the nodes of `peerSelector` peer back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
    /// Ours: silence that ends the session, that of the `BGPConfiguration` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<GoDuration>,
    /// Ours: BFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdSpec>,
    /// Ours: most prefixes of a family, 1500000 by default; one more ends the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u32>,
}
