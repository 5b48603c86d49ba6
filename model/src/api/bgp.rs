//! What is said of BGP.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// The sessions of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeersShow {
    /// Peers by name.
    pub peers: Vec<BgpPeerShow>,
}

/// Where a session is (RFC 4271 §8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BgpState {
    /// Nothing is tried: held down, held back, or it cannot be as configured.
    Idle,
    /// A connection is being made.
    Connect,
    /// It is tried again soon, and the peer may connect.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are fine.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// Whether a peer is heard by BFD (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BfdState {
    /// Both hear each other.
    Up,
    /// They do not.
    Down,
    /// It is not wanted.
    Off,
}

/// A peer and the session with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerShow {
    /// Its address; of an unnumbered peer that was not heard yet, the interface.
    pub peer: String,
    /// What asks for it, such as `mesh/rack1-b/ipv4` or `BGPPeer/tor-1`.
    pub name: String,
    /// The node that it is; null for a router.
    #[serde(default)]
    pub node: Option<String>,
    /// Its AS; null: any, and it did not say yet.
    pub as_number: Option<u32>,
    /// Where the session is.
    pub state: BgpState,
    /// How long it has been Established; null: it is not.
    pub uptime_seconds: Option<u64>,
    /// How long it has not been Established; null: it is, or cannot be as configured.
    #[serde(default)]
    pub down_seconds: Option<u64>,
    /// What is wrong although it is Established.
    #[serde(default)]
    pub fault: Option<String>,
    /// Routes that it announced.
    pub received: u64,
    /// Of these, routes that are refused, by a filter or by the guard of our pools.
    #[serde(default)]
    pub filtered: u64,
    /// Of these, routes that the guard of our pools refuses: nobody should announce them.
    #[serde(default)]
    pub guarded: u64,
    /// Prefixes that it was told.
    pub advertised: u64,
    /// BFD with it.
    pub bfd: BfdState,
    /// Why the session ended last, or why there is none; null: there is nothing to say.
    pub last_down: Option<String>,
    /// How long ago that was.
    #[serde(default)]
    pub last_down_seconds: Option<u64>,
    /// How often an Established session ended since the start.
    #[serde(default)]
    pub flaps: u64,
    /// Messages received from it since the start.
    #[serde(default)]
    pub messages_received: u64,
    /// Messages sent to it since the start.
    #[serde(default)]
    pub messages_sent: u64,
    /// UPDATEs whose routes were not used: loops, leaks, a wrong first AS.
    #[serde(default)]
    pub refused_updates: u64,
}

/// A part of the routes of the BGP table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRoutesShow {
    /// By prefix, the best path first; the parts themselves are in no order.
    pub routes: Vec<BgpRouteShow>,
    /// What the next part is asked for with; null in the last one.
    #[serde(default)]
    pub next: Option<String>,
}

/// One path of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpRouteShow {
    /// The prefix.
    pub prefix: Cidr,
    /// Where packets go; null for a route of this node.
    pub next_hop: Option<IpAddr>,
    /// The peer that it comes from, or that is told it; null for a route of this node.
    pub peer: Option<String>,
    /// AS numbers, nearest first.
    pub as_path: Vec<u32>,
    /// Communities, `64512:100`, and large ones, `64512:1:100`.
    pub communities: Vec<String>,
    /// LOCAL_PREF.
    #[serde(default)]
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default)]
    pub med: Option<u32>,
    /// It is the best of its prefix.
    pub best: bool,
    /// The kernel has it.
    pub installed: bool,
    /// A filter refuses it, or the guard of our pools.
    #[serde(default)]
    pub filtered: bool,
    /// Why it is not used, where its attributes do not tell.
    #[serde(default)]
    pub note: Option<String>,
    /// It is from before a restart of its peer.
    #[serde(default)]
    pub stale: bool,
}
