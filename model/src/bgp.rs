//! What this node should say and hear by BGP, as plain data: the part of the desired state that a BGP speaker
//! makes true.

mod community;
pub mod filter;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

pub use community::{Community, CommunityError, LargeCommunity};
pub use filter::Filter;
pub use secret::SecretValue;

use crate::kernel::LinkName;
use crate::{Cidr, Family};

/// The port of BGP (RFC 4271 §8.2.1).
pub const PORT: u16 = 179;
/// Hops that a neighbour may be away when nobody says how many.
pub const ANY_HOPS: u8 = 255;

/// The speaker of this node as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bgp {
    /// This node's AS.
    pub asn: u32,
    /// Its router id.
    pub router_id: Ipv4Addr,
    /// The cluster for which it reflects routes (RFC 4456); none: it reflects none.
    pub cluster_id: Option<u32>,
    /// Port to listen at; none: it waits for nobody.
    pub listen: Option<u16>,
    /// Addresses to listen at; none named: all.
    pub listen_addresses: BTreeSet<IpAddr>,
    /// Most paths of a prefix that are used at once.
    pub multipath: u16,
    /// Neighbours by a name that stays theirs: `mesh/NODE/ipv4`, `BGPPeer/NAME`, `BGPPeer/NAME/NODE/ipv4`.
    pub peers: BTreeMap<Arc<str>, Neighbour>,
    /// Our own routes.
    pub announce: BTreeMap<Cidr, Announcement>,
    /// Which learnt routes are left aside.
    pub guard: Arc<PoolGuard>,
}

/// A BGP neighbour as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// The `BGPPeer` that asks for it; none: the mesh of all nodes does.
    pub resource: Option<Arc<str>>,
    /// The node that it is, if it is one.
    pub node: Option<Arc<str>>,
    /// Its address; none: the router that advertises itself on `interface`.
    pub address: Option<IpAddr>,
    /// The interface that it is behind, where its address does not tell.
    pub interface: Option<LinkName>,
    /// Its port.
    pub port: u16,
    /// Its AS; none: any but ours.
    pub asn: Option<u32>,
    /// Our AS towards it.
    pub local_as: u32,
    /// Our address towards it; none: the kernel's choice.
    pub source: Option<IpAddr>,
    /// Our next hop for IPv4; none: the session's address, or the first of its interface.
    pub own_v4: Option<Ipv4Addr>,
    /// Our next hop for IPv6; none: as for IPv4.
    pub own_v6: Option<Ipv6Addr>,
    /// Families that are exchanged.
    pub families: BTreeSet<Family>,
    /// Offer IPv6 next hops for IPv4 prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Seconds of silence that end the session: 0 for any number, else at least 3.
    pub hold_time: u16,
    /// Seconds for which it is asked to keep our routes while we restart (RFC 4724); 0 for not at all.
    pub restart_time: u16,
    /// How far it may be.
    pub ttl: Ttl,
    /// What both sides sign with.
    pub password: Option<Password>,
    /// BFD with it.
    pub bfd: Option<Bfd>,
    /// Rules for what it says.
    pub import: Option<Arc<Filter>>,
    /// Rules for what it hears.
    pub export: Option<Arc<Filter>>,
    /// We reflect routes to and from it.
    pub client: bool,
    /// Which next hop it hears.
    pub next_hop: NextHopMode,
    /// How often our own AS may be on its paths.
    pub allowed_own_as: u8,
    /// Most prefixes of a family; one more ends the session.
    pub max_prefixes: u32,
}

/// How far a neighbour may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ttl {
    /// On a link of ours when the kernel has it on one, else anywhere.
    #[default]
    Auto,
    /// On a link of ours.
    Direct,
    /// At most this many hops away.
    Multihop(u8),
    /// At most this many hops away, and what comes from further is dropped (RFC 5082).
    Security(u8),
}

/// Which next hop a neighbour hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum NextHopMode {
    /// Ours to other ASes and for our own routes; the learnt one inside our AS.
    #[default]
    Auto,
    /// Always ours.
    Own,
    /// The learnt one where there is one.
    Keep,
}

/// BFD with a neighbour (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// We want to send this often, milliseconds.
    pub transmit_ms: u32,
    /// We can take packets this often, milliseconds.
    pub receive_ms: u32,
    /// Packets missed that mean down.
    pub multiplier: u8,
}

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Password {
    /// The first line of a file on the node.
    File(PathBuf),
    /// A value of a stored `Secret`.
    Secret {
        /// Name of the `Secret`.
        name: Arc<str>,
        /// Which of its values.
        key: Arc<str>,
        /// The value; it is not shown.
        value: SecretValue,
    },
}

/// What goes with a route of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Communities (RFC 1997), sorted.
    pub communities: Vec<u32>,
    /// Large communities (RFC 8092), sorted.
    pub large_communities: Vec<LargeCommunity>,
    /// LOCAL_PREF; none: the usual one.
    pub local_pref: Option<u32>,
}

/// What is done with learnt routes that lie inside our own pools. All else is none of its business, a route that
/// covers a pool included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolGuard {
    /// Our pools.
    pub pools: BTreeSet<Cidr>,
    /// What lies in a pool and is used, if it is exactly this: blocks and addresses of other nodes that this node has
    /// no way of its own to.
    pub importable: BTreeSet<Cidr>,
    /// What lies in a pool and is passed on, but not used here: blocks and addresses of other nodes that this node
    /// has its own way to.
    pub passable: BTreeSet<Cidr>,
}
