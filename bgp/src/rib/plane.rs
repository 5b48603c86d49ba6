//! One family: its table, the prefixes that changed and the decision pass over them.

use std::net::IpAddr;

use super::Shared;
use super::decision::{self, Candidate};
use super::export::Group;
use super::guard::{Guard, Stance};
use super::hops::Reach;
use super::import;
use super::peer::{LOCAL, PeerId, PeerKind};
use super::pending::{Bits, Pending};
use super::store::{AttrId, mark};
use super::table::{Path, Table, path_flag};
use crate::attributes::NextHop;
use crate::prefix::PrefixKey;

/// A prefix that changed since the last decision, and what was in use then.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    net: u32,
    best: Option<(AttrId, PeerId)>,
    several: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plane<K> {
    pub(crate) table: Table<K>,
    dirty: Vec<Dirty>,
    dirty_set: Bits,
    pub(crate) groups: Vec<Group>,
    pub(crate) kernel: Pending,
    /// What is done with learnt prefixes inside our pools.
    pub(crate) guard: Guard<K>,
    candidates: Vec<Candidate>,
}

impl<K> Default for Plane<K> {
    fn default() -> Self {
        Plane {
            table: Table::default(),
            dirty: Vec::new(),
            dirty_set: Bits::default(),
            groups: Vec::new(),
            kernel: Pending::default(),
            guard: Guard::default(),
            candidates: Vec::new(),
        }
    }
}

/// LOCAL_PREF as it counts: a neighbour that is about to go away asks for the least (RFC 8326).
pub(crate) fn effective_pref(shared: &Shared, path: &Path) -> u32 {
    let header = shared.store.header(path.attrs);
    if path.peer != LOCAL && header.is(mark::GRACEFUL_SHUTDOWN) {
        return 0;
    }
    header.local_pref
}

fn candidate(shared: &Shared, at: u32, path: &Path) -> Option<Candidate> {
    if path.is(path_flag::FILTERED) {
        return None;
    }
    let header = shared.store.header(path.attrs);
    let Reach::Metric(metric) = shared.store.hops.reach(header.hop) else {
        return None;
    };
    let peer = shared.peer(path.peer).map(|p| &p.config);
    let router_id = if header.is(mark::HAS_ORIGINATOR) {
        header.originator
    } else {
        peer.map_or(shared.config.router_id, |p| p.router_id)
    };
    Some(Candidate {
        path: at,
        local: path.peer == LOCAL,
        local_pref: effective_pref(shared, path),
        path_len: header.path_len,
        origin: header.origin,
        med: header.med,
        neighbour_as: header.neighbour_as,
        external: peer.is_some_and(|p| p.export.kind == PeerKind::External),
        metric,
        router_id,
        clusters: header.clusters,
        address: peer.map_or(IpAddr::V4(shared.config.router_id), |p| p.address),
        path_id: path.path_id,
    })
}

impl<K: PrefixKey> Plane<K> {
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn touch(&mut self, net: u32) {
        if !self.dirty_set.set(net) {
            return;
        }
        let best = self.table.best(net).map(|p| (p.attrs, p.peer));
        let multi = |p: &u32| self.table.path(*p).is(path_flag::MULTI);
        let several = best.is_some() && self.table.paths_of(net).any(|p| multi(&p));
        self.dirty.push(Dirty { net, best, several });
    }

    /// Adds or replaces a path; `attrs` are those after import and those received. Whether it is new.
    pub(crate) fn announce(
        &mut self,
        shared: &mut Shared,
        peer: PeerId,
        path_id: u32,
        key: K,
        (attrs, raw): (AttrId, AttrId),
        flags: u8,
    ) -> bool {
        let net = self.table.find_or_insert(key);
        let found = self.table.find_path(net, peer, path_id);
        if let Some(at) = found {
            let used = path_flag::MULTI | path_flag::BEST;
            let path = self.table.path_mut(at);
            let same = path.attrs == attrs && path.raw == raw;
            if same && (path.flags ^ flags) & !(used | path_flag::STALE) == 0 {
                path.flags &= !path_flag::STALE;
                return false;
            }
        }
        self.touch(net);
        shared.store.retain(attrs);
        shared.store.retain(raw);
        match found {
            Some(at) => {
                let path = self.table.path_mut(at);
                shared.store.release(path.attrs);
                shared.store.release(path.raw);
                let was = path.flags;
                (path.attrs, path.raw) = (attrs, raw);
                path.flags = flags | was & (path_flag::MULTI | path_flag::BEST);
                count_filtered(shared, peer, K::FAMILY, was, flags);
            }
            None => {
                let path = Path {
                    next: 0,
                    attrs,
                    raw,
                    path_id,
                    peer,
                    flags,
                };
                self.table.add_path(net, path);
                count_filtered(shared, peer, K::FAMILY, 0, flags);
                if let Some(peer) = shared.peers.get_mut(peer) {
                    peer.counters.get_mut(K::FAMILY).received += 1;
                }
            }
        }
        found.is_none()
    }

    pub(crate) fn withdraw(&mut self, shared: &mut Shared, peer: PeerId, path_id: u32, key: K) {
        if let Some(net) = self.table.find(key)
            && let Some(path) = self.table.find_path(net, peer, path_id)
        {
            self.remove(shared, net, path);
        }
    }

    fn remove(&mut self, shared: &mut Shared, net: u32, path: u32) {
        self.touch(net);
        let gone = self.table.remove_path(net, path);
        shared.store.release(gone.attrs);
        shared.store.release(gone.raw);
        count_filtered(shared, gone.peer, K::FAMILY, gone.flags, 0);
        if let Some(peer) = shared.peers.get_mut(gone.peer) {
            let received = &mut peer.counters.get_mut(K::FAMILY).received;
            *received = received.saturating_sub(1);
        }
    }

    fn paths_where(&self, wanted: impl Fn(&Path) -> bool) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        for net in 0..self.table.end() {
            let paths = self.table.paths_of(net);
            found.extend(
                paths
                    .filter(|p| wanted(self.table.path(*p)))
                    .map(|p| (net, p)),
            );
        }
        found
    }

    /// Removes a neighbour's paths that have all of `with`.
    pub(crate) fn remove_of(&mut self, shared: &mut Shared, peer: PeerId, with: u8) {
        for (net, path) in self.paths_where(|p| p.peer == peer && p.flags & with == with) {
            self.remove(shared, net, path);
        }
    }

    pub(crate) fn mark_stale(&mut self, peer: PeerId) {
        for (_, path) in self.paths_where(|p| p.peer == peer) {
            self.table.path_mut(path).flags |= path_flag::STALE;
        }
    }

    /// A next hop is reached differently.
    pub(crate) fn touch_hop(&mut self, shared: &Shared, hop: &NextHop) {
        for (net, _) in self.paths_where(|p| shared.store.next_hop(p.attrs) == *hop) {
            self.touch(net);
        }
    }

    /// Judges a neighbour's paths again.
    pub(crate) fn rejudge(&mut self, shared: &mut Shared, peer: PeerId) {
        for (net, path) in self.paths_where(|p| p.peer == peer) {
            self.rejudge_one(shared, net, path);
        }
    }

    /// As [`Plane::rejudge`] for one learnt path.
    pub(crate) fn rejudge_one(&mut self, shared: &mut Shared, net: u32, path: u32) {
        let (key, old) = (self.table.key(net), *self.table.path(path));
        let (attrs, flags) = match self.guard.stance(key) {
            Stance::Refused => (old.raw, path_flag::FILTERED | path_flag::GUARDED),
            _ => import::judge_again(shared, old.peer, key, old.raw),
        };
        let verdict = path_flag::FILTERED | path_flag::GUARDED;
        // To announce it would mean that it was heard again.
        if attrs != old.attrs || flags != old.flags & verdict {
            let flags = flags | old.flags & path_flag::STALE;
            let attrs = (attrs, old.raw);
            self.announce(shared, old.peer, old.path_id, key, attrs, flags);
        }
    }

    /// One pass over everything that changed.
    pub(crate) fn decide(&mut self, shared: &Shared) {
        for dirty in std::mem::take(&mut self.dirty) {
            self.dirty_set.clear(dirty.net);
            let several = self.decide_one(shared, dirty.net);
            let best = self.table.best(dirty.net).map(|p| (p.attrs, p.peer));
            let changed = best != dirty.best;
            if changed || several || dirty.several {
                self.kernel.insert(dirty.net);
            }
            for group in &mut self.groups {
                group.changed(dirty.net, changed);
            }
        }
    }

    /// Chooses among the paths of a prefix. Whether several are used.
    fn decide_one(&mut self, shared: &Shared, net: u32) -> bool {
        self.candidates.clear();
        let mut at = self.table.nets[net].head;
        while let Some(path) = self.table.paths.get_mut(at) {
            path.flags &= !(path_flag::BEST | path_flag::MULTI);
            self.candidates.extend(candidate(shared, at, path));
            at = path.next;
        }
        decision::select(&mut self.candidates, &shared.config.decision);
        let several = self.candidates.len() > 1;
        for (place, candidate) in self.candidates.iter().enumerate() {
            let best = if place == 0 { path_flag::BEST } else { 0 };
            let multi = if several { path_flag::MULTI } else { 0 };
            self.table.path_mut(candidate.path).flags |= best | multi;
        }
        if let Some(best) = self.candidates.first() {
            self.table.move_first(net, best.path);
        }
        several
    }
}

fn count_filtered(shared: &mut Shared, peer: PeerId, family: model::Family, was: u8, is: u8) {
    if let Some(peer) = shared.peers.get_mut(peer) {
        let counters = peer.counters.get_mut(family);
        let count = |number: &mut u32, flag: u8| {
            *number = number.saturating_sub(u32::from(was & flag != 0));
            *number += u32::from(is & flag != 0);
        };
        count(&mut counters.filtered, path_flag::FILTERED);
        count(&mut counters.guarded, path_flag::GUARDED);
    }
}
