//! What neighbours hear: groups of equal neighbours, subgroups of equally far ones, and what is pending.

mod offer;
mod send;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use model::Family;

use super::Shared;
use super::peer::{Export, PeerId};
use super::pending::Pending;
use super::plane::Plane;
use super::routes::Advertised;
use crate::prefix::PrefixKey;
use crate::wire::refresh::{self, Refresh};
use crate::wire::render;

/// Prefixes taken from a pending set at a time.
const CHUNK: usize = 8192;
/// Prefixes without a path that are looked at in a turn, whether they can be freed.
const BURIED: usize = 4096;

/// A path of a prefix as it was sent: its identifier (0 where there is one path only) and its source, which
/// did not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentPath {
    id: u32,
    from: PeerId,
}

/// What was sent to a subgroup.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// By prefix: source of the path that was sent, plus one; 0 for none.
    one: Vec<u16>,
    /// With several paths: by prefix, all that were sent.
    several: HashMap<u32, Vec<SentPath>>,
    /// How many of all were sent of each source.
    by_source: HashMap<PeerId, usize>,
}

impl Sent {
    fn of(&self, net: u32, add_path: bool, out: &mut Vec<SentPath>) {
        out.clear();
        if add_path {
            out.extend(self.several.get(&net).into_iter().flatten());
        } else if let Some(from) = self.one.get(net as usize).and_then(|s| s.checked_sub(1)) {
            out.push(SentPath {
                id: 0,
                from: PeerId(from),
            });
        }
    }

    fn set(&mut self, net: u32, add_path: bool, paths: &[SentPath]) {
        for path in paths {
            *self.by_source.entry(path.from).or_default() += 1;
        }
        if add_path {
            let before = match paths {
                [] => self.several.remove(&net),
                _ => self.several.insert(net, paths.to_vec()),
            };
            for path in before.into_iter().flatten() {
                self.forget(path.from);
            }
            return;
        }
        let at = net as usize;
        let from = paths.first().map_or(0, |p| p.from.0.saturating_add(1));
        if from == 0 && at >= self.one.len() {
            return;
        }
        if at >= self.one.len() {
            self.one.resize(at + 1, 0);
        }
        let before = self
            .one
            .get_mut(at)
            .map(|slot| std::mem::replace(slot, from));
        if let Some(before) = before.and_then(|slot| slot.checked_sub(1)) {
            self.forget(PeerId(before));
        }
    }

    fn forget(&mut self, source: PeerId) {
        if let Some(count) = self.by_source.get_mut(&source) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many paths `peer` has of it, which did not get those that it is the source of.
    fn count(&self, peer: PeerId) -> usize {
        let others = self.by_source.iter().filter(|(from, _)| **from != peer);
        others.map(|(_, count)| count).sum()
    }

    fn has(&self, net: u32) -> bool {
        self.one.get(net as usize).is_some_and(|s| *s != 0) || self.several.contains_key(&net)
    }
}

/// What ends a subgroup's first round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The end of the initial routes (RFC 4724).
    EndOfRib,
    /// The end mark of a refresh (RFC 7313); `begun` once the begin mark is out.
    Refresh { begun: bool },
}

/// Neighbours that have heard the same.
#[derive(Clone, Debug)]
struct Sub {
    members: Vec<PeerId>,
    sent: Sent,
    pending: Pending,
    mark: Option<Mark>,
}

impl Sub {
    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.mark.is_none()
    }
}

/// Neighbours that hear the same.
#[derive(Debug)]
pub(crate) struct Group {
    export: Arc<Export>,
    add_path: bool,
    subs: Vec<Sub>,
}

impl Group {
    /// A prefix changed; `best` when its best path did.
    pub(crate) fn changed(&mut self, net: u32, best: bool) {
        if best || self.add_path {
            for sub in &mut self.subs {
                sub.pending.insert(net);
            }
        }
    }

    fn leave(&mut self, peer: PeerId) {
        for sub in &mut self.subs {
            sub.members.retain(|m| *m != peer);
        }
        self.subs.retain(|sub| !sub.members.is_empty());
    }

    fn needs(&self, net: u32) -> bool {
        let mut subs = self.subs.iter();
        subs.any(|sub| sub.pending.contains(net) || sub.sent.has(net))
    }

    /// Members that cannot be written to part from those that can.
    fn split(&mut self, writable: &mut impl FnMut(PeerId) -> bool) {
        let mut slow = Vec::new();
        for sub in &mut self.subs {
            if sub.is_idle() || sub.members.len() < 2 {
                continue;
            }
            let (ready, waiting): (Vec<_>, Vec<_>) =
                sub.members.iter().copied().partition(|m| writable(*m));
            if ready.is_empty() || waiting.is_empty() {
                continue;
            }
            slow.push(Sub {
                members: waiting,
                ..sub.clone()
            });
            sub.members = ready;
        }
        self.subs.extend(slow);
    }

    /// Subgroups that have heard everything have heard the same.
    fn merge(&mut self) {
        let Some(first) = self.subs.iter().position(Sub::is_idle) else {
            return;
        };
        let mut at = first + 1;
        while at < self.subs.len() {
            if self.subs.get(at).is_some_and(Sub::is_idle) {
                let other = self.subs.swap_remove(at);
                if let Some(first) = self.subs.get_mut(first) {
                    first.members.extend(other.members);
                }
            } else {
                at += 1;
            }
        }
    }
}

impl<K: PrefixKey> Plane<K> {
    /// A neighbour joins the group of its like, alone until it has heard everything.
    pub(crate) fn join(&mut self, peer: PeerId, export: &Export) {
        let sub = Sub {
            members: vec![peer],
            sent: Sent::default(),
            pending: Pending::all(self.table.end()),
            mark: Some(Mark::EndOfRib),
        };
        match self.groups.iter_mut().find(|g| *g.export == *export) {
            Some(group) => group.subs.push(sub),
            None => self.groups.push(Group {
                export: Arc::new(export.clone()),
                add_path: *export.context.add_path_out.get(K::FAMILY),
                subs: vec![sub],
            }),
        }
    }

    /// A neighbour that goes on joins another group. What it has heard by then is compared with what it should hear.
    pub(crate) fn regroup(&mut self, peer: PeerId, export: &Export) {
        let mut subs = self.groups.iter().flat_map(|g| &g.subs);
        let Some(old) = subs.find(|s| s.members.contains(&peer)) else {
            return;
        };
        let (sent, mark) = (old.sent.clone(), old.mark);
        self.leave(peer);
        self.join(peer, export);
        let mut subs = self.groups.iter_mut().flat_map(|g| &mut g.subs);
        if let Some(sub) = subs.find(|s| s.members.contains(&peer)) {
            (sub.sent, sub.mark) = (sent, mark);
        }
    }

    pub(crate) fn leave(&mut self, peer: PeerId) {
        for group in &mut self.groups {
            group.leave(peer);
        }
        self.groups.retain(|group| !group.subs.is_empty());
    }

    /// Sends a neighbour everything again.
    pub(crate) fn refresh(&mut self, peer: PeerId, enhanced: bool) {
        let end = self.table.end();
        for group in &mut self.groups {
            let Some(sub) = group.subs.iter().find(|s| s.members.contains(&peer)) else {
                continue;
            };
            let refresh = enhanced.then_some(Mark::Refresh { begun: false });
            let again = Sub {
                members: vec![peer],
                sent: sub.sent.clone(),
                pending: Pending::all(end),
                // The end of the initial routes comes first where it is still due.
                mark: sub.mark.filter(|m| *m == Mark::EndOfRib).or(refresh),
            };
            group.leave(peer);
            group.subs.push(again);
        }
    }

    /// See [`super::Rib::advertised_count`].
    pub(crate) fn advertised_count(&self, peer: PeerId) -> usize {
        let subs = self.groups.iter().flat_map(|g| &g.subs);
        let of_peer = subs.filter(|s| s.members.contains(&peer));
        of_peer.map(|s| s.sent.count(peer)).sum()
    }

    pub(crate) fn pending(&self, peer: PeerId) -> usize {
        let subs = self.groups.iter().flat_map(|g| &g.subs);
        let of_peer = subs.filter(|s| s.members.contains(&peer));
        of_peer.map(|s| s.pending.len()).sum()
    }

    /// See [`super::Rib::advertised`].
    pub(crate) fn advertised(
        &self,
        shared: &Shared,
        peer: PeerId,
        rows: Range<u32>,
    ) -> Vec<Advertised> {
        let has = |g: &&Group| g.subs.iter().any(|s| s.members.contains(&peer));
        let Some(group) = self.groups.iter().find(has) else {
            return Vec::new();
        };
        let work = send::Work {
            shared,
            table: &self.table,
            export: &group.export,
            add_path: group.add_path,
        };
        let nets = rows.start..rows.end.min(self.table.end());
        nets.flat_map(|net| work.heard(net, peer)).collect()
    }

    pub(crate) fn subgroups(&self) -> usize {
        self.groups.iter().map(|g| g.subs.len()).sum()
    }

    /// See [`super::Rib::transmit`].
    pub(crate) fn transmit(
        &mut self,
        shared: &Shared,
        writable: &mut impl FnMut(PeerId) -> bool,
        send: &mut impl FnMut(PeerId, &Bytes),
    ) -> bool {
        let mut more = false;
        for group in &mut self.groups {
            group.split(writable);
            for sub in &mut group.subs {
                if sub.is_idle() || !sub.members.iter().all(|m| writable(*m)) {
                    continue;
                }
                sub.begin(K::FAMILY, send);
                let work = send::Work {
                    shared,
                    table: &self.table,
                    export: &group.export,
                    add_path: group.add_path,
                };
                work.run(sub, send);
                sub.end(K::FAMILY, send);
                more |= !sub.is_idle();
            }
            group.merge();
        }
        self.bury();
        more
    }

    /// Frees prefixes that are gone and of which everybody has heard.
    pub(crate) fn bury(&mut self) {
        if self.table.dead() == 0 || self.is_dirty() {
            return;
        }
        let (groups, kernel) = (&self.groups, &self.kernel);
        let idle = kernel.is_empty() && groups.iter().flat_map(|g| &g.subs).all(Sub::is_idle);
        // While many are waited for, each call would ask about the same ones again.
        let most = if idle { usize::MAX } else { BURIED };
        self.table.bury(most, |net| {
            !kernel.contains(net) && !groups.iter().any(|g| g.needs(net))
        });
    }
}

impl Sub {
    fn begin(&mut self, family: Family, send: &mut impl FnMut(PeerId, &Bytes)) {
        if self.mark == Some(Mark::Refresh { begun: false }) {
            self.mark = Some(Mark::Refresh { begun: true });
            self.to_all(&refresh::encode(family, Refresh::Begin), send);
        }
    }

    fn end(&mut self, family: Family, send: &mut impl FnMut(PeerId, &Bytes)) {
        if !self.pending.is_empty() {
            return;
        }
        match self.mark.take() {
            Some(Mark::EndOfRib) => self.to_all(&render::end_of_rib(family), send),
            Some(Mark::Refresh { .. }) => self.to_all(&refresh::encode(family, Refresh::End), send),
            None => {}
        }
    }

    fn to_all(&self, message: &Bytes, send: &mut impl FnMut(PeerId, &Bytes)) {
        for member in &self.members {
            send(*member, message);
        }
    }
}
