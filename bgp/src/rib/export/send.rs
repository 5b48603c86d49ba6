//! One chunk of a subgroup's pending prefixes becomes messages.

use bytes::Bytes;

use super::super::Shared;
use super::super::peer::{Export, PeerId};
use super::super::routes::Advertised;
use super::super::table::{Table, path_flag};
use super::offer::{self, Offer};
use super::{CHUNK, SentPath, Sub};
use crate::attributes::AttrView;
use crate::prefix::PrefixKey;
use crate::wire::render::{self, TooLong};

/// What a chunk is made from.
pub(super) struct Work<'a, K> {
    pub(super) shared: &'a Shared,
    pub(super) table: &'a Table<K>,
    pub(super) export: &'a Export,
    pub(super) add_path: bool,
}

/// A prefix with the identifier of a path.
type Item<K> = (u32, K);

/// What a chunk comes to.
struct Plan<K> {
    announce: Vec<(Offer, u32, Item<K>)>,
    /// Withdrawn from all but one.
    withdraw: Vec<(PeerId, Item<K>)>,
    /// Withdrawn from one, which is now the path's source.
    only: Vec<(PeerId, Item<K>)>,
}

impl<K: PrefixKey> Work<'_, K> {
    /// What a subgroup should have of a prefix.
    fn offers(&self, net: u32, out: &mut Vec<(SentPath, Offer)>) {
        out.clear();
        let key = self.table.key(net);
        let max = if self.add_path {
            self.export.max_paths.max(1)
        } else {
            1
        };
        for at in self.table.paths_of(net) {
            let path = self.table.path(at);
            let wanted = if self.add_path {
                // The best is first in the list; the others follow as they came.
                !path.is(path_flag::FILTERED) && self.table.best(net).is_some()
            } else {
                path.is(path_flag::BEST)
            };
            if let Some(offer) = wanted
                .then(|| offer::offer(self.shared, self.export, key, path))
                .flatten()
            {
                let id = if self.add_path {
                    at.saturating_add(1)
                } else {
                    0
                };
                let from = offer.from;
                out.push((SentPath { id, from }, offer));
            }
            if out.len() >= usize::from(max) || !self.add_path {
                break;
            }
        }
    }

    /// What `peer`, a member of the group, has of a prefix when nothing is pending.
    pub(super) fn heard(&self, net: u32, peer: PeerId) -> Vec<Advertised> {
        let mut offers = Vec::new();
        self.offers(net, &mut offers);
        let others = offers.into_iter().filter(|(path, _)| path.from != peer);
        let shown = others.filter_map(|(path, offer)| {
            let mut block = Vec::new();
            let next_hop = offer::next_hop(self.shared, self.export, K::FAMILY, offer.attrs)?;
            let edit = offer::edit(self.shared, self.export, &offer);
            let view = self.shared.store.view(offer.attrs);
            edit.apply(view, &mut block).ok()?;
            Some(Advertised {
                prefix: self.table.key(net).cidr(),
                from: path.from,
                path_id: path.id,
                next_hop,
                attributes: AttrView::new(&block).into(),
            })
        });
        shown.collect()
    }

    fn plan(&self, sub: &mut Sub, nets: &[u32]) -> Plan<K> {
        let mut plan = Plan {
            announce: Vec::with_capacity(nets.len()),
            withdraw: Vec::new(),
            only: Vec::new(),
        };
        let (mut offers, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for net in nets {
            let key = self.table.key(*net);
            self.offers(*net, &mut offers);
            sub.sent.of(*net, self.add_path, &mut before);
            for (path, offer) in &offers {
                let old = before.iter().find(|old| old.id == path.id);
                if old.is_some_and(|old| old.from != path.from) && sub.members.contains(&path.from)
                {
                    plan.only.push((path.from, (path.id, key)));
                }
                plan.announce.push((*offer, *net, (path.id, key)));
            }
            for old in &before {
                if !offers.iter().any(|(path, _)| path.id == old.id) {
                    plan.withdraw.push((old.from, (old.id, key)));
                }
            }
            after.clear();
            after.extend(offers.iter().map(|(path, _)| *path));
            sub.sent.set(*net, self.add_path, &after);
        }
        plan
    }

    pub(super) fn run(&self, sub: &mut Sub, send: &mut impl FnMut(PeerId, &Bytes)) {
        let mut nets = Vec::new();
        sub.pending.take(CHUNK, &mut nets);
        let mut plan = self.plan(sub, &nets);
        // By attributes first, then by prefix number: neighbours in the feed stay neighbours.
        plan.announce
            .sort_unstable_by_key(|(offer, net, item)| (*offer, *net, item.0));
        let mut block = Vec::new();
        for bucket in plan.announce.chunk_by(|a, b| a.0 == b.0) {
            let Some((offer, _, _)) = bucket.first() else {
                continue;
            };
            if self.announce(sub, offer, bucket, &mut block, send).is_err() {
                // Nothing that this neighbour could use: what it had before is wrong now.
                for (offer, net, item) in bucket {
                    sub.sent.set(*net, self.add_path, &[]);
                    plan.withdraw.push((offer.from, *item));
                }
            }
        }
        plan.withdraw.sort_unstable_by_key(|(from, _)| *from);
        for bucket in plan.withdraw.chunk_by(|a, b| a.0 == b.0) {
            let Some((from, _)) = bucket.first() else {
                continue;
            };
            let items = bucket.iter().map(|(_, item)| *item);
            render::withdraw(&self.export.context, items, |message| {
                to_others(sub, *from, &message, send);
            });
        }
        plan.only.sort_unstable_by_key(|(to, _)| *to);
        for bucket in plan.only.chunk_by(|a, b| a.0 == b.0) {
            let Some((to, _)) = bucket.first() else {
                continue;
            };
            let items = bucket.iter().map(|(_, item)| *item);
            render::withdraw(&self.export.context, items, |message| send(*to, &message));
        }
    }

    fn announce(
        &self,
        sub: &Sub,
        offer: &Offer,
        bucket: &[(Offer, u32, Item<K>)],
        block: &mut Vec<u8>,
        send: &mut impl FnMut(PeerId, &Bytes),
    ) -> Result<(), TooLong> {
        let hop = offer::next_hop(self.shared, self.export, K::FAMILY, offer.attrs);
        let hop = hop.ok_or(TooLong)?;
        let edit = offer::edit(self.shared, self.export, offer);
        let view = self.shared.store.view(offer.attrs);
        edit.apply(view, block).map_err(|_| TooLong)?;
        let items = bucket.iter().map(|(_, _, item)| *item);
        render::announce(&self.export.context, block, &hop, items, |message| {
            to_others(sub, offer.from, &message, send);
        })
    }
}

fn to_others(sub: &Sub, from: PeerId, message: &Bytes, send: &mut impl FnMut(PeerId, &Bytes)) {
    for member in sub.members.iter().filter(|m| **m != from) {
        send(*member, message);
    }
}
