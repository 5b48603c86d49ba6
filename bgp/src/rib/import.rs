//! An UPDATE comes in: its attributes are interned and judged once, its prefixes one by one.

use std::sync::Arc;

use model::Family;

use super::filter::{self, Filter, Verdict};
use super::guard::Stance;
use super::peer::{Import, PeerId, PeerKind, Refusal};
use super::plane::Plane;
use super::store::AttrId;
use super::table::path_flag;
use super::{Rib, Shared, on_plane};
use crate::attributes::{AttrView, Edit, Keep, NextHop};
use crate::prefix::PrefixKey;
use crate::wire::nlri::Nlri;
use crate::wire::open::Role;
use crate::wire::update::{MpNlri, Update};
use crate::wire::{Context, Fault, update};

/// What became of an UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Errors in values of attributes, beside those that [`Update::faults`] has.
    pub faults: Vec<Fault>,
    /// Why its routes are not used.
    pub refused: Option<Refusal>,
    /// The family in which the neighbour has more prefixes than it may: its session has to end.
    pub too_many: Option<Family>,
}

/// A received attribute set with what import does to it.
struct Judged {
    raw: AttrId,
    edit: Edit,
    filter: Option<Arc<Filter>>,
    /// Results by rule: few rules match the prefixes of one UPDATE.
    done: Vec<(Option<u16>, AttrId)>,
}

impl Judged {
    fn new(raw: AttrId, edit: Edit, filter: Option<Arc<Filter>>) -> Judged {
        let done = if edit.is_none() {
            vec![(None, raw)]
        } else {
            Vec::new()
        };
        Judged {
            raw,
            edit,
            filter,
            done,
        }
    }

    /// Attributes after import and the path's flags.
    fn judge<K: PrefixKey>(&mut self, shared: &mut Shared, ibgp: bool, key: K) -> (AttrId, u8) {
        let verdict = self
            .filter
            .as_ref()
            .map_or(Verdict::Accept(None), |filter| {
                filter::judge(filter, key, shared.store.view(self.raw), true)
            });
        let Verdict::Accept(rule) = verdict else {
            return (self.raw, path_flag::FILTERED);
        };
        if let Some((_, attrs)) = self.done.iter().find(|(r, _)| *r == rule) {
            return (*attrs, 0);
        }
        let mut edit = self.edit.clone();
        if let Some(rule) = self.filter.as_ref().and_then(|f| filter::rule(f, rule)) {
            filter::add_to(rule, &mut edit);
        }
        let mut block = Vec::new();
        let Ok(()) = edit.apply(shared.store.view(self.raw), &mut block) else {
            // It grew beyond what can be written: as good as refused.
            return (self.raw, path_flag::FILTERED);
        };
        let hop = shared.store.next_hop(self.raw);
        let attrs = shared.store.intern(&hop, ibgp, &block);
        self.done.push((rule, attrs));
        (attrs, 0)
    }
}

/// Whether a neighbour's route may be used at all, and what import always does to it.
fn admit(shared: &Shared, peer: PeerId, view: AttrView<'_>) -> Result<Edit, Refusal> {
    let mut edit = Edit::default();
    let Some(peer) = shared.peer(peer).map(|p| &p.config) else {
        return Ok(edit);
    };
    let own = view.asns().filter(|a| *a == peer.export.local_as).count();
    if own > usize::from(peer.import.allowed_own_as) {
        return Err(Refusal::OwnAs);
    }
    if peer.export.kind != PeerKind::External {
        if view.originator() == Some(shared.config.router_id) {
            return Err(Refusal::OwnOriginator);
        }
        if view.clusters().any(|c| c == shared.config.cluster_id) {
            return Err(Refusal::OwnCluster);
        }
        return Ok(edit);
    }
    if peer.import.enforce_first_as && view.first_as() != Some(peer.asn) {
        return Err(Refusal::FirstAs);
    }
    // RFC 9234 §5, by what the neighbour is to us.
    match (peer.export.role, view.otc()) {
        (Some(Role::Provider | Role::RouteServer), Some(_)) => return Err(Refusal::RouteLeak),
        (Some(Role::Peer), Some(otc)) if otc != peer.asn => return Err(Refusal::RouteLeak),
        (Some(Role::Customer | Role::Peer | Role::RouteServerClient), None) => {
            edit.otc = Keep::Set(peer.asn);
        }
        _ => {}
    }
    Ok(edit)
}

/// What import makes of what is held as `raw` of a neighbour.
pub(super) fn judge_again<K: PrefixKey>(
    shared: &mut Shared,
    peer: PeerId,
    key: K,
    raw: AttrId,
) -> (AttrId, u8) {
    let Some(config) = shared.peer(peer).map(|p| &p.config) else {
        return (raw, path_flag::FILTERED);
    };
    let (ibgp, filter) = (config.export.context.ibgp, config.import.filter.clone());
    match admit(shared, peer, shared.store.view(raw)) {
        Ok(edit) => Judged::new(raw, edit, filter).judge(shared, ibgp, key),
        Err(_) => (raw, path_flag::FILTERED),
    }
}

fn withdraw_all<K: PrefixKey>(
    plane: &mut Plane<K>,
    shared: &mut Shared,
    peer: PeerId,
    nlri: Nlri<'_, K>,
) {
    for (path_id, key) in nlri.iter() {
        plane.withdraw(shared, peer, path_id, key);
    }
}

/// Adds prefixes. Whether there are more than allowed.
fn announce_all<K: PrefixKey>(
    plane: &mut Plane<K>,
    shared: &mut Shared,
    peer: PeerId,
    nlri: Nlri<'_, K>,
    judged: &mut Judged,
) -> bool {
    let Some(known) = shared.peer(peer) else {
        return false;
    };
    let ibgp = known.config.export.context.ibgp;
    let max = known
        .config
        .import
        .max_prefixes
        .get(K::FAMILY)
        .unwrap_or(u32::MAX);
    for (path_id, key) in nlri.iter() {
        let (attrs, flags) = match plane.guard.stance(key) {
            Stance::Refused => (judged.raw, path_flag::FILTERED | path_flag::GUARDED),
            _ => judged.judge(shared, ibgp, key),
        };
        if plane.announce(shared, peer, path_id, key, (attrs, judged.raw), flags) {
            let received = shared
                .peer(peer)
                .map_or(0, |p| p.counters.get(K::FAMILY).received);
            if received > max {
                return true;
            }
        }
    }
    false
}

impl Rib {
    /// Says which UPDATE [`Rib::apply`] is going to get, by its body. Said of many before the first one of them comes, the time in
    /// which their prefixes are fetched from memory is spent once and not for each.
    pub fn expect(&self, body: &[u8], context: &Context) {
        let (v4, v6) = (&self.v4.table, &self.v6.table);
        update::preview(body, context, |key| v4.warm(key), |key| v6.warm(key));
    }

    /// Takes an UPDATE of a neighbour whose session is up. Nothing is decided yet.
    pub fn apply(&mut self, peer: PeerId, update: &Update<'_>) -> Applied {
        let mut applied = Applied::default();
        if !self.shared.peer(peer).is_some_and(|p| p.up) {
            return applied;
        }
        withdraw_all(&mut self.v4, &mut self.shared, peer, update.withdrawn);
        match update.mp_withdrawn {
            Some(MpNlri::V4(nlri)) => withdraw_all(&mut self.v4, &mut self.shared, peer, nlri),
            Some(MpNlri::V6(nlri)) => withdraw_all(&mut self.v6, &mut self.shared, peer, nlri),
            None => {}
        }
        let body = Some((
            MpNlri::V4(update.announced),
            update.next_hop.map(NextHop::V4),
        ));
        let mp = update.mp_announced.map(|(nlri, hop)| (nlri, Some(hop)));
        for (nlri, hop) in [body, mp].into_iter().flatten() {
            if nlri.is_empty() {
                continue;
            }
            let hop = hop.filter(|_| !update.treat_as_withdraw());
            let judged =
                hop.and_then(|hop| self.judge_block(peer, &hop, update.block, &mut applied));
            let family = nlri.family();
            let Some(mut judged) = judged else {
                match nlri {
                    MpNlri::V4(nlri) => withdraw_all(&mut self.v4, &mut self.shared, peer, nlri),
                    MpNlri::V6(nlri) => withdraw_all(&mut self.v6, &mut self.shared, peer, nlri),
                }
                continue;
            };
            let shared = &mut self.shared;
            let too_many = match nlri {
                MpNlri::V4(nlri) => announce_all(&mut self.v4, shared, peer, nlri, &mut judged),
                MpNlri::V6(nlri) => announce_all(&mut self.v6, shared, peer, nlri, &mut judged),
            };
            if too_many {
                applied.too_many = Some(family);
                break;
            }
        }
        applied
    }

    /// Interns and judges a block; `None` when its prefixes count as withdrawn.
    fn judge_block(
        &mut self,
        peer: PeerId,
        hop: &NextHop,
        block: &[u8],
        applied: &mut Applied,
    ) -> Option<Judged> {
        let config = &self.shared.peer(peer)?.config;
        let (context, filter) = (config.export.context, config.import.filter.clone());
        let received = self
            .shared
            .store
            .receive(hop, context.ibgp, context.as4, block);
        let received = match received {
            Ok(received) => received,
            Err(fault) => {
                applied.faults.push(fault);
                return None;
            }
        };
        applied.faults.extend(received.discarded);
        let view = self.shared.store.view(received.id);
        match admit(&self.shared, peer, view) {
            Ok(edit) => Some(Judged::new(received.id, edit, filter)),
            Err(refusal) => {
                applied.refused = Some(refusal);
                if let Some(peer) = self.shared.peers.get_mut(peer) {
                    peer.refused += 1;
                }
                None
            }
        }
    }

    /// Changes how a neighbour's routes are judged, and judges those held again.
    pub fn set_import(&mut self, peer: PeerId, import: Import) {
        let Some(known) = self.shared.peers.get_mut(peer) else {
            return;
        };
        known.config.import = import;
        for family in Family::ALL {
            let shared = &mut self.shared;
            on_plane!(self, family, |plane| plane.rejudge(shared, peer));
        }
    }

    /// UPDATEs of a neighbour whose routes were not used, for any [`Refusal`].
    pub fn refused(&self, peer: PeerId) -> u64 {
        self.shared.peer(peer).map_or(0, |p| p.refused)
    }
}
