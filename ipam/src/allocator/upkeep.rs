//! Housekeeping: blocks that stay empty go back; handles that the runtime no longer lists are found.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cidr, Family};

use super::Allocator;
use super::pending::{Origin, Work};
use crate::blocks::{Next, Rest, hash, next_address};

/// How often empty blocks are looked for, milliseconds.
const TICK: u64 = 10_000;

/// A workload's handle of this node that the runtime does not list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// The handle, to be released.
    pub handle: String,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

impl Allocator {
    pub(super) fn upkeep_due(&self) -> Option<u64> {
        let any = !self.world.own.is_empty() || !self.world.orphans.is_empty();
        (any && self.view.is_some()).then_some(self.next_tick)
    }

    /// Asks for the release of blocks that were empty for long enough. Of each family one block in a
    /// pool that serves this node stays: the next workload shall not wait for a claim.
    pub(super) fn upkeep(&mut self, now: u64) {
        let Some(view) = self.view.as_ref().filter(|_| now >= self.next_tick) else {
            return;
        };
        self.next_tick = now.saturating_add(TICK);
        let cooldown = u64::from(view.config.cooldown_seconds) * 1000;
        let wait = self.options.grace_ms.max(cooldown);
        let rest = Rest { now, cooldown };
        let serves = |cidr: &Cidr| {
            let pool = view.pools.iter().find(|p| p.spec.cidr.covers(cidr));
            let block = self.world.blocks.get(cidr).and_then(|k| k.full.as_ref());
            // One that is wholly reserved keeps nothing warm.
            block.is_some_and(|b| next_address(b, &self.world.reserved, rest) != Next::Full)
                && pool.is_some_and(|p| !p.spec.disabled && p.selects_node)
        };
        let mut warm: BTreeMap<Family, usize> = BTreeMap::new();
        for cidr in self.world.own.iter().filter(|c| serves(c)) {
            *warm.entry(cidr.family()).or_default() += 1;
        }
        let mut due = Vec::new();
        let known = |cidr: &Cidr| self.world.blocks.get(cidr)?.empty_since;
        for cidr in &self.world.own {
            if known(cidr).is_none_or(|since| since.saturating_add(wait) > now) {
                continue;
            }
            if serves(cidr) {
                let left = warm.entry(cidr.family()).or_default();
                if *left <= 1 {
                    continue;
                }
                *left -= 1;
            }
            due.push(*cidr);
        }
        for cidr in &self.world.orphans {
            // Whoever comes first; the spread keeps the nodes from coming together.
            let spread = u64::try_from(hash(&self.options.node, cidr, 3) % 60_000).unwrap_or(0);
            let wait = wait.saturating_add(spread);
            if known(cidr).is_some_and(|since| since.saturating_add(wait) <= now) {
                due.push(*cidr);
            }
        }
        for cidr in due {
            if self.going_back.insert(cidr) {
                self.enqueue(
                    now,
                    u64::MAX,
                    Origin::Upkeep,
                    Work::ReleaseBlock(cidr),
                    None,
                );
            }
        }
    }

    /// The handles of this node that begin with `prefix` (such as `cni.<network>.`) and are not
    /// `valid`: what CNI's GC is to release. Handles still being assigned are not among them.
    pub fn stale(&self, prefix: &str, valid: &BTreeSet<String>) -> Vec<Stale> {
        let mut found: BTreeMap<&str, Vec<std::net::IpAddr>> = BTreeMap::new();
        for (cidr, known) in &self.world.blocks {
            let Some(block) = &known.full else { continue };
            for (place, allocation) in &block.used {
                let mine = allocation.node.as_deref() == Some(&self.options.node);
                let live = allocation.live().filter(|h| mine && h.starts_with(prefix));
                if let Some(handle) = live.filter(|h| !valid.contains(*h)) {
                    let ip = cidr.nth(u128::from(*place));
                    found.entry(handle).or_default().extend(ip);
                }
            }
        }
        let stale = found.into_iter().map(|(handle, addresses)| Stale {
            handle: handle.to_owned(),
            addresses,
        });
        stale.collect()
    }
}
