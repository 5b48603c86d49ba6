//! What operators see.

use std::ops::Range;
use std::time::Instant;

use model::Family;

use super::Engine;
use crate::family::PerFamily;
use crate::fsm::State;
use crate::rib::{Advertised, LOCAL, PeerId, Route, Stance};
use crate::speaker::error::SpeakerError;
use crate::speaker::peer::{Failure, Peer};
use crate::speaker::status::{
    LastFailure, PeerStatus, Place, RouteInfo, RoutePage, RouteQuery, View,
};

/// Prefixes looked at for one page.
const LOOK: u32 = 16_384;
/// And at a time.
const STEP: u32 = 64;

/// [`View`] with the peer that was found.
#[derive(Clone, Copy)]
enum Seen {
    All,
    Best,
    From(PeerId),
    By(PeerId),
}

impl Engine {
    pub(super) fn statuses(&self) -> Vec<PeerStatus> {
        let now = Instant::now();
        self.peers.values().map(|p| self.status(p, now)).collect()
    }

    fn status(&self, peer: &Peer, now: Instant) -> PeerStatus {
        let session = peer.arbiter.session(peer.arbiter.furthest());
        let shown = |failure: &Option<Failure>| {
            failure.as_ref().map(|f| LastFailure {
                words: f.words.clone(),
                ago: now.saturating_duration_since(f.at),
            })
        };
        PeerStatus {
            name: peer.name.clone(),
            address: peer.config.address,
            asn: peer
                .up
                .as_ref()
                .map_or(peer.config.session.peer_as, |(_, n)| Some(n.peer_as)),
            state: match session.state() {
                // Where both sides stand still, the one that tries says more.
                State::Idle if peer.config.shutdown.is_none() && peer.idle_until.is_none() => {
                    State::Active
                }
                state => state,
            },
            shutdown: peer.config.shutdown.clone(),
            held_back: peer.idle_until.map(|at| at.saturating_duration_since(now)),
            since: now.saturating_duration_since(peer.since),
            last_down: shown(&peer.down),
            last_failure: shown(&peer.failure),
            flaps: peer.flaps,
            agreed: peer.up.as_ref().map(|(_, n)| (**n).clone()),
            lost: match peer.up {
                Some(_) => peer.lost,
                None => PerFamily::default(),
            },
            routes: PerFamily::from_fn(|f| self.rib.counters(peer.id, f)),
            advertised: PerFamily::from_fn(|f| self.rib.advertised_count(peer.id, f)),
            pending: PerFamily::from_fn(|f| self.rib.pending(peer.id, f)),
            refused: self.rib.refused(peer.id),
            traffic: peer.traffic,
            bfd: peer.bfd,
        }
    }

    fn name_of(&self, id: PeerId) -> Option<String> {
        if id == LOCAL {
            return None;
        }
        self.peers.get(&id).map(|p| p.name.clone())
    }

    /// One page: sessions wait meanwhile, so both what is found and what is looked at are bounded.
    pub(super) fn find_routes(&self, query: &RouteQuery) -> Result<RoutePage, SpeakerError> {
        let view = match &query.view {
            View::All => Seen::All,
            View::Best => Seen::Best,
            View::Received(name) => Seen::From(self.id_of(name)?),
            View::Advertised(name) => Seen::By(self.id_of(name)?),
        };
        let mut page = RoutePage {
            routes: Vec::new(),
            next: None,
        };
        if let Some(prefix) = &query.prefix {
            let family = prefix.family();
            if let Some(row) = self.rib.row_of(prefix) {
                self.look(view, family, row..row + 1, &mut page.routes);
            }
            return Ok(page);
        }
        let families = Family::ALL.into_iter();
        let families = families.filter(|f| query.family.is_none_or(|only| only == *f));
        let begun = |f: &Family| query.after.is_none_or(|after| after.family == *f);
        let mut looked_at = 0;
        for family in families.skip_while(|f| !begun(f)) {
            let after = query.after.filter(|after| after.family == family);
            let mut row = after.map_or(0, |after| after.row);
            let end = self.rib.rows(family);
            while row < end {
                if page.routes.len() >= query.limit || looked_at >= LOOK {
                    page.next = Some(Place { family, row });
                    return Ok(page);
                }
                let to = end.min(row.saturating_add(STEP));
                self.look(view, family, row..to, &mut page.routes);
                looked_at += to - row;
                row = to;
            }
        }
        Ok(page)
    }

    fn look(&self, view: Seen, family: Family, rows: Range<u32>, found: &mut Vec<RouteInfo>) {
        let from = match view {
            Seen::By(peer) => {
                let told = self.rib.advertised(peer, family, rows);
                return found.extend(told.into_iter().map(|r| self.told(r)));
            }
            Seen::From(peer) => Some(peer),
            Seen::All | Seen::Best => None,
        };
        let routes = self.rib.routes(family, rows, from);
        let wanted = |r: &&Route<'_>| !matches!(view, Seen::Best) || r.best;
        found.extend(routes.iter().filter(wanted).map(|r| RouteInfo {
            prefix: r.prefix,
            from: self.name_of(r.peer),
            path_id: r.path_id,
            next_hop: r.next_hop.address(),
            attributes: r.attributes.into(),
            best: r.best,
            used: r.used,
            filtered: r.filtered,
            stance: r.stance,
            stale: r.stale,
        }));
    }

    fn told(&self, route: Advertised) -> RouteInfo {
        RouteInfo {
            prefix: route.prefix,
            from: self.name_of(route.from),
            path_id: route.path_id,
            next_hop: route.next_hop.address(),
            attributes: route.attributes,
            best: false,
            used: false,
            filtered: false,
            stance: Stance::Free,
            stale: false,
        }
    }
}
