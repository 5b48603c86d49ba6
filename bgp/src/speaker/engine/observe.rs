//! What operators see.

use std::time::Instant;

use model::Family;

use super::Engine;
use crate::family::PerFamily;
use crate::fsm::State;
use crate::rib::{LOCAL, PeerId, Route, Stance};
use crate::speaker::error::SpeakerError;
use crate::speaker::peer::{Failure, Peer};
use crate::speaker::status::{LastFailure, PeerStatus, RouteInfo, RouteQuery, View};

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

    pub(super) fn find_routes(&self, query: &RouteQuery) -> Result<Vec<RouteInfo>, SpeakerError> {
        let of_peer = |name: &str| {
            let peer = self.peers.values().find(|p| p.name == name);
            peer.map(|p| p.id)
                .ok_or_else(|| SpeakerError::NoPeer(name.to_owned()))
        };
        let families = query.family.map_or(Family::ALL.to_vec(), |f| vec![f]);
        let mut found = Vec::new();
        for family in families {
            let left = query.limit.saturating_sub(found.len());
            match &query.view {
                View::Advertised(name) => {
                    let left = query.prefix.map_or(left, |_| usize::MAX);
                    let of = self.rib.advertised(of_peer(name)?, family, left);
                    let wanted = |p: &model::Cidr| query.prefix.is_none_or(|q| q == *p);
                    found.extend(
                        of.into_iter()
                            .filter(|r| wanted(&r.prefix))
                            .map(|r| RouteInfo {
                                prefix: r.prefix,
                                from: self.name_of(r.from),
                                path_id: r.path_id,
                                next_hop: r.next_hop.address(),
                                attributes: r.attributes,
                                best: false,
                                used: false,
                                filtered: false,
                                stance: Stance::Free,
                                stale: false,
                            }),
                    );
                }
                view => {
                    let peer = match view {
                        View::Received(name) => Some(of_peer(name)?),
                        _ => None,
                    };
                    let routes = self.rib.routes(family, query.prefix.as_ref(), peer);
                    let wanted = |r: &&Route<'_>| *view != View::Best || r.best;
                    let routes = routes.iter().filter(wanted).take(left);
                    found.extend(routes.map(|r| RouteInfo {
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
            }
        }
        Ok(found)
    }
}
