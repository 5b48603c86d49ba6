//! What the RIB shows: routes in use for the kernel, and everything for operators.

use std::ops::Range;

use model::Cidr;

use super::Shared;
use super::guard::Stance;
use super::peer::{LOCAL, PeerId};
use super::plane::Plane;
use super::table::{Path, path_flag};
use crate::attributes::{AttrView, Attributes, NextHop};
use crate::prefix::PrefixKey;

/// Where packets of a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelHop {
    /// The next hop.
    pub hop: NextHop,
    /// The neighbour that said so; its link is that of a link-local next hop.
    pub peer: PeerId,
}

/// A prefix whose use changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelChange {
    /// The prefix.
    pub prefix: Cidr,
    /// Next hops in use, the best first; empty when it is not to be installed, being gone, ours or only passed on.
    pub hops: Vec<KernelHop>,
}

/// One path of a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The prefix.
    pub prefix: Cidr,
    /// Where it comes from.
    pub peer: PeerId,
    /// The neighbour's identifier for it.
    pub path_id: u32,
    /// Its next hop.
    pub next_hop: NextHop,
    /// Its attributes after import.
    pub attributes: AttrView<'a>,
    /// It is the best.
    pub best: bool,
    /// It is used, alone or beside others.
    pub used: bool,
    /// The import filter refuses it, or the guard of our pools.
    pub filtered: bool,
    /// What the guard says of its prefix, where it was learnt.
    pub stance: Stance,
    /// It is from before a restart and was not heard again yet.
    pub stale: bool,
}

/// A path as a neighbour hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The prefix.
    pub prefix: Cidr,
    /// Where it comes from.
    pub from: PeerId,
    /// Our identifier for it; 0 where there is one path only.
    pub path_id: u32,
    /// The next hop that is announced.
    pub next_hop: NextHop,
    /// The attributes that are announced.
    pub attributes: Attributes,
}

fn is_used(path: &Path) -> bool {
    path.is(path_flag::BEST) || path.is(path_flag::MULTI)
}

impl<K: PrefixKey> Plane<K> {
    pub(crate) fn kernel_changes(&mut self, shared: &Shared, max: usize) -> Vec<KernelChange> {
        let mut nets = Vec::new();
        self.kernel.take(max, &mut nets);
        let changes = nets.iter().map(|net| {
            let paths = self.table.paths_of(*net).map(|p| self.table.path(p));
            let key = self.table.key(*net);
            let passed = self.guard.stance(key) == Stance::Passable;
            let used = paths.filter(|p| is_used(p) && p.peer != LOCAL && !passed);
            KernelChange {
                prefix: key.cidr(),
                hops: used
                    .map(|p| KernelHop {
                        hop: shared.store.next_hop(p.attrs),
                        peer: p.peer,
                    })
                    .collect(),
            }
        });
        let changes = changes.collect();
        self.bury();
        changes
    }

    pub(crate) fn routes<'a>(
        &'a self,
        shared: &'a Shared,
        rows: Range<u32>,
        peer: Option<PeerId>,
    ) -> Vec<Route<'a>> {
        let nets = rows.start..rows.end.min(self.table.end());
        let paths = nets.flat_map(|net| {
            let key = self.table.key(net);
            self.table
                .paths_of(net)
                .map(move |p| (key, self.table.path(p)))
        });
        paths
            .filter(|(_, path)| peer.is_none_or(|peer| path.peer == peer))
            .map(|(key, path)| Route {
                prefix: key.cidr(),
                peer: path.peer,
                path_id: path.path_id,
                next_hop: shared.store.next_hop(path.attrs),
                attributes: shared.store.view(path.attrs),
                best: path.is(path_flag::BEST),
                used: is_used(path),
                filtered: path.is(path_flag::FILTERED),
                stance: match path.peer {
                    LOCAL => Stance::Free,
                    _ => self.guard.stance(key),
                },
                stale: path.is(path_flag::STALE),
            })
            .collect()
    }
}
