//! What the RIB knows of a neighbour.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub use model::bgp::NextHopMode;

use super::filter::Filter;
use crate::attributes::NextHop;
use crate::family::PerFamily;
use crate::wire::Context;
use crate::wire::open::Role;

/// Number of a neighbour; 0 is this speaker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u16);

/// This speaker, as the source of its own routes.
pub const LOCAL: PeerId = PeerId(0);

/// What a neighbour is to us (RFC 4456).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// In another AS.
    External,
    /// In our AS.
    Internal,
    /// In our AS, and we reflect routes to and from it.
    Client,
}

/// How a neighbour's routes are judged when they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Rules for its routes.
    pub filter: Option<Arc<Filter>>,
    /// How often our own AS may be on a path.
    pub allowed_own_as: u8,
    /// Refuse routes whose path does not begin with the neighbour's AS.
    pub enforce_first_as: bool,
    /// Most prefixes; one more ends the session.
    pub max_prefixes: PerFamily<Option<u32>>,
}

/// What is announced to a neighbour, and how. Neighbours with an equal one share the work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Export {
    /// What it is to us.
    pub kind: PeerKind,
    /// Our AS towards it.
    pub local_as: u32,
    /// What the session agreed on.
    pub context: Context,
    /// Our role (RFC 9234).
    pub role: Option<Role>,
    /// Rules for what it hears.
    pub filter: Option<Arc<Filter>>,
    /// Which next hop it hears.
    pub next_hop: NextHopMode,
    /// Our address for IPv4 prefixes.
    pub own_v4: Option<Ipv4Addr>,
    /// Our address for IPv6 prefixes, and for IPv4 ones where there is no other (RFC 8950).
    pub own_v6: Option<NextHop>,
    /// Most paths of a prefix, where several may be sent (RFC 7911).
    pub max_paths: u16,
}

/// A neighbour whose session is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its address.
    pub address: IpAddr,
    /// Its router id.
    pub router_id: Ipv4Addr,
    /// Its AS.
    pub asn: u32,
    /// For its routes.
    pub import: Import,
    /// For ours.
    pub export: Export,
}

/// Why a neighbour's routes are not used. They count as withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Our own AS is on the path.
    OwnAs,
    /// We were the first to announce it in our AS.
    OwnOriginator,
    /// Our own cluster has reflected it.
    OwnCluster,
    /// The path does not begin with the neighbour's AS.
    FirstAs,
    /// The neighbour had no business to pass it on (RFC 9234).
    RouteLeak,
}

/// Counters of a neighbour, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Paths held.
    pub received: u32,
    /// Of these, paths that the import filter or the guard of our pools refuses.
    pub filtered: u32,
    /// Of these, paths that the guard refuses.
    pub guarded: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    pub(crate) counters: PerFamily<Counters>,
    /// UPDATEs whose routes were not used, by reason.
    pub(crate) refused: u64,
    /// Whether its session is up; without one, only stale routes are left of it.
    pub(crate) up: bool,
}

/// Neighbours by number. They are asked for with each prefix, so nothing is hashed; numbers are small.
#[derive(Debug, Default)]
pub(crate) struct Peers(Vec<Option<Box<Peer>>>);

impl Peers {
    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.0.get(usize::from(id.0))?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.0.get_mut(usize::from(id.0))?.as_deref_mut()
    }

    pub(crate) fn insert(&mut self, id: PeerId, peer: Peer) {
        let at = usize::from(id.0);
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(at) {
            *slot = Some(Box::new(peer));
        }
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.0.get_mut(usize::from(id.0))?.take();
        peer.map(|peer| *peer)
    }
}
