//! The RIB: routes in, decisions, routes out. One owner; fed with UPDATEs, decided in batches.
//!
//! ```text
//!  apply(peer, UPDATE) ─► attribute block interned, judged once ─► guard ─► paths ─► dirty prefixes
//!  decide()  ─► one pass over the dirty prefixes ─► pending sets: one a subgroup, one for the kernel
//!  transmit() ─► prefixes taken from a pending set, grouped by attributes, rendered once a subgroup
//!  kernel_changes() ─► prefixes with the next hops that are used
//! ```
//!
//! Neighbours with equal export settings form a group; those of them that are equally far form a subgroup,
//! which is rendered once. A neighbour whose socket is full leaves its subgroup and joins again when it
//! has caught up: it costs a set of prefixes and two bytes for each.

mod chunked;
pub mod decision;
pub mod export;
pub mod filter;
mod guard;
mod hops;
mod import;
mod index;
pub mod peer;
mod pending;
mod plane;
mod prefetch;
mod routes;
mod store;
mod table;

use std::net::Ipv4Addr;
use std::ops::Range;

use bytes::Bytes;
use model::{Cidr, Family};

pub use decision::DecisionConfig;
pub use guard::Stance;
pub use hops::Reach;
pub use import::Applied;
pub use peer::{
    Counters, Export, Import, LOCAL, NextHopMode, PeerConfig, PeerId, PeerKind, Refusal,
};
pub use routes::{Advertised, KernelChange, KernelHop, Route};
pub use store::{AttrId, AttrStore};

use crate::attributes::{Attributes, AttributesError, NextHop};
use crate::prefix::{PrefixKey, V4, V6};
use peer::{Peer, Peers};
use plane::Plane;
use table::path_flag;

/// LOCAL_PREF of a route that has none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// The next hop of our own routes: whoever hears of them hears our address.
pub const OWN_HOP: NextHop = NextHop::V4(Ipv4Addr::UNSPECIFIED);

/// This speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibConfig {
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// Our cluster, where we reflect routes (RFC 4456); by default the router id.
    pub cluster_id: u32,
    /// How paths are chosen.
    pub decision: DecisionConfig,
}

impl RibConfig {
    /// Defaults for a router id.
    pub fn new(router_id: Ipv4Addr) -> RibConfig {
        RibConfig {
            router_id,
            cluster_id: router_id.to_bits(),
            decision: DecisionConfig::default(),
        }
    }
}

/// What both families share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: RibConfig,
    store: AttrStore,
    peers: Peers,
}

impl Shared {
    pub(crate) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id)
    }
}

/// A number that is known to be below 2^32: tables hold fewer entries.
pub(crate) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// See the module.
#[derive(Debug)]
pub struct Rib {
    shared: Shared,
    v4: Plane<V4>,
    v6: Plane<V6>,
    /// While set, nothing is decided or sent (RFC 4724 §4.1, the restarting speaker).
    deferred: bool,
}

/// Runs the same on the plane of a family.
macro_rules! on_plane {
    ($rib:expr, $family:expr, |$plane:ident| $body:expr) => {
        match $family {
            Family::V4 => {
                let $plane = &mut $rib.v4;
                $body
            }
            Family::V6 => {
                let $plane = &mut $rib.v6;
                $body
            }
        }
    };
}
use on_plane;

impl Rib {
    /// An empty RIB.
    pub fn new(config: RibConfig) -> Rib {
        Rib {
            shared: Shared {
                config,
                store: AttrStore::default(),
                peers: Peers::default(),
            },
            v4: Plane::default(),
            v6: Plane::default(),
            deferred: false,
        }
    }

    /// The attribute sets in use.
    pub fn attributes(&self) -> &AttrStore {
        &self.shared.store
    }

    /// Prefixes known.
    pub fn len(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.table.len(),
            Family::V6 => self.v6.table.len(),
        }
    }

    /// Whether no prefix is known.
    pub fn is_empty(&self) -> bool {
        self.v4.table.len() + self.v6.table.len() == 0
    }

    /// Counters of a neighbour.
    pub fn counters(&self, peer: PeerId, family: Family) -> Counters {
        let peer = self.shared.peer(peer);
        peer.map(|p| *p.counters.get(family)).unwrap_or_default()
    }

    /// A session is up. Routes kept from before it ended (graceful restart) stay until
    /// [`Rib::sweep_stale`]. Everything that it may hear becomes pending for it.
    pub fn peer_up(&mut self, id: PeerId, config: PeerConfig) {
        let old = self.shared.peers.remove(id);
        if old.as_ref().is_some_and(|p| p.up) {
            self.v4.leave(id);
            self.v6.leave(id);
        }
        let families = config.export.context.families;
        let export = config.export.clone();
        let peer = Peer {
            config,
            counters: old.as_ref().map(|p| p.counters).unwrap_or_default(),
            refused: old.map_or(0, |p| p.refused),
            up: true,
        };
        self.shared.peers.insert(id, peer);
        for family in families.enabled() {
            on_plane!(self, family, |plane| plane.join(id, &export));
        }
    }

    /// A session ended. Routes of families in `keep` stay, marked stale; the others go.
    pub fn peer_down(&mut self, id: PeerId, keep: crate::PerFamily<bool>) {
        if let Some(peer) = self.shared.peers.get_mut(id) {
            peer.up = false;
        }
        self.v4.leave(id);
        self.v6.leave(id);
        for family in Family::ALL {
            if *keep.get(family) {
                self.mark_stale(id, family);
            } else {
                self.remove_peer_routes(id, family, 0);
            }
        }
    }

    /// A neighbour is no longer configured: nothing is left of it.
    pub fn peer_remove(&mut self, id: PeerId) {
        self.peer_down(id, crate::PerFamily::default());
        self.shared.peers.remove(id);
    }

    /// Everything of a neighbour counts as not heard yet: a restart, or the begin mark of a refresh.
    pub fn mark_stale(&mut self, id: PeerId, family: Family) {
        on_plane!(self, family, |plane| plane.mark_stale(id));
    }

    /// Removes what was not heard again: the end of its routes, the end mark of a refresh, or time is up.
    pub fn sweep_stale(&mut self, id: PeerId, family: Family) {
        self.remove_peer_routes(id, family, path_flag::STALE);
    }

    /// Removes the routes of a family that a session must not use any more (RFC 7606), and sends no more.
    pub fn disable_family(&mut self, id: PeerId, family: Family) {
        on_plane!(self, family, |plane| plane.leave(id));
        self.remove_peer_routes(id, family, 0);
    }

    fn remove_peer_routes(&mut self, id: PeerId, family: Family, with: u8) {
        let shared = &mut self.shared;
        on_plane!(self, family, |plane| plane.remove_of(shared, id, with));
    }

    /// Changes what a neighbour hears while its session goes on: what it should not have any more is withdrawn.
    pub fn set_export(&mut self, id: PeerId, export: &Export) {
        let Some(peer) = self.shared.peers.get_mut(id).filter(|p| p.up) else {
            return;
        };
        if peer.config.export == *export {
            return;
        }
        peer.config.export = export.clone();
        for family in export.context.families.enabled() {
            on_plane!(self, family, |plane| plane.regroup(id, export));
        }
    }

    /// What a neighbour hears of these rows; what is still pending for it counts as heard.
    pub fn advertised(&self, id: PeerId, family: Family, rows: Range<u32>) -> Vec<Advertised> {
        match family {
            Family::V4 => self.v4.advertised(&self.shared, id, rows),
            Family::V6 => self.v6.advertised(&self.shared, id, rows),
        }
    }

    /// Sends everything again (RFC 2918), between marks where `enhanced` (RFC 7313).
    pub fn refresh(&mut self, id: PeerId, family: Family, enhanced: bool) {
        on_plane!(self, family, |plane| plane.refresh(id, enhanced));
    }

    /// A route of our own. `attributes` are as a neighbour in our AS hears them.
    ///
    /// # Errors
    ///
    /// When the attributes cannot be written.
    pub fn local_set(
        &mut self,
        prefix: &Cidr,
        attributes: &Attributes,
    ) -> Result<(), AttributesError> {
        let block = attributes.block()?;
        let id = self.shared.store.intern(&OWN_HOP, true, &block);
        let shared = &mut self.shared;
        if let Some(key) = V4::from_cidr(prefix) {
            self.v4.announce(shared, LOCAL, 0, key, (id, id), 0);
        } else if let Some(key) = V6::from_cidr(prefix) {
            self.v6.announce(shared, LOCAL, 0, key, (id, id), 0);
        }
        Ok(())
    }

    /// A route of our own goes.
    pub fn local_remove(&mut self, prefix: &Cidr) {
        let shared = &mut self.shared;
        if let Some(key) = V4::from_cidr(prefix) {
            self.v4.withdraw(shared, LOCAL, 0, key);
        } else if let Some(key) = V6::from_cidr(prefix) {
            self.v6.withdraw(shared, LOCAL, 0, key);
        }
    }

    /// What the driver found out about a next hop.
    pub fn set_reach(&mut self, hop: &NextHop, reach: Reach) {
        if self.shared.store.hops.say(hop, reach) {
            self.v4.touch_hop(&self.shared, hop);
            self.v6.touch_hop(&self.shared, hop);
        }
    }

    /// Next hops of the routes held, and what was said of them.
    pub fn next_hops(&self) -> impl Iterator<Item = (NextHop, Reach)> {
        self.shared.store.hops.iter()
    }

    /// While deferred, nothing is decided or sent: a restarting speaker first hears its neighbours.
    pub fn set_deferred(&mut self, deferred: bool) {
        self.deferred = deferred;
    }

    /// Whether [`Rib::decide`] has something to do.
    pub fn is_dirty(&self) -> bool {
        self.v4.is_dirty() || self.v6.is_dirty()
    }

    /// Decides over all prefixes that changed since the last time.
    pub fn decide(&mut self) {
        if self.deferred {
            return;
        }
        self.v4.decide(&self.shared);
        self.v6.decide(&self.shared);
        self.shared.store.collect();
    }

    /// Renders what is pending for neighbours for whom `writable` is true, about a socket buffer's worth
    /// each. Whether something is left for a neighbour that can be written to.
    pub fn transmit(
        &mut self,
        mut writable: impl FnMut(PeerId) -> bool,
        mut send: impl FnMut(PeerId, &Bytes),
    ) -> bool {
        if self.deferred {
            return false;
        }
        self.decide();
        let more = self.v4.transmit(&self.shared, &mut writable, &mut send);
        self.v6.transmit(&self.shared, &mut writable, &mut send) || more
    }

    /// Prefixes that a neighbour has still to hear about.
    pub fn pending(&self, id: PeerId, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.pending(id),
            Family::V6 => self.v6.pending(id),
        }
    }

    /// Paths that a neighbour was told and has not been told to forget.
    pub fn advertised_count(&self, id: PeerId, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.advertised_count(id),
            Family::V6 => self.v6.advertised_count(id),
        }
    }

    /// Subgroups of a family: each is rendered once.
    pub fn subgroups(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.subgroups(),
            Family::V6 => self.v6.subgroups(),
        }
    }

    /// Up to `max` prefixes whose use changed, with the next hops that are used now. The caller compares
    /// with what is installed: a prefix may come although nothing changed for it.
    pub fn kernel_changes(&mut self, family: Family, max: usize) -> Vec<KernelChange> {
        let shared = &self.shared;
        on_plane!(self, family, |plane| plane.kernel_changes(shared, max))
    }

    /// Numbers of rows are below this. A row is a prefix, in no order; its number is used again once it is gone.
    pub fn rows(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4.table.end(),
            Family::V6 => self.v6.table.end(),
        }
    }

    /// The row of a prefix.
    pub fn row_of(&self, prefix: &Cidr) -> Option<u32> {
        if let Some(key) = V4::from_cidr(prefix) {
            self.v4.table.find(key)
        } else {
            self.v6.table.find(V6::from_cidr(prefix)?)
        }
    }

    /// All paths of the prefixes of these rows, or those received from one neighbour.
    pub fn routes(&self, family: Family, rows: Range<u32>, peer: Option<PeerId>) -> Vec<Route<'_>> {
        match family {
            Family::V4 => self.v4.routes(&self.shared, rows, peer),
            Family::V6 => self.v6.routes(&self.shared, rows, peer),
        }
    }
}
