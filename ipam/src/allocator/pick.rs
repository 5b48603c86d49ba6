//! Chooses one address. In order: an own block with room; a new block; an ownerless block; an address
//! borrowed from another node's block. No step looks at more blocks than it must.

use std::net::IpAddr;

use model::block::Block;
use model::{Cidr, Family, keys};

use super::assign::{Pick, no_address, owner_of, place_of};
use super::draft::Change;
use super::plan::{Halt, Planner, Searched};
use super::world::{Room, World};
use crate::blocks::{Next, block_count, candidates, next_address};
use crate::error::{AllocError, PoolVerdict};
use crate::request::Assign;
use crate::view::PoolView;

impl Planner<'_> {
    /// Any address of a family.
    pub(crate) fn pick_automatic(&self, wanted: &Assign, family: Family) -> Result<Pick, Halt> {
        let (pools, mut verdicts) = self.usable(wanted, family);
        let mut rested_at = None;
        if let Some(pick) = self.pick_own(&pools, &mut rested_at)? {
            return Ok(pick);
        }
        if self.may_claim(family) {
            for pool in &pools {
                if let Some(pick) = self.pick_claim(pool)? {
                    return Ok(pick);
                }
            }
            for pool in &pools {
                if let Some(pick) = self.pick_adopt(pool, &mut rested_at)? {
                    return Ok(pick);
                }
            }
        }
        if !self.view.config.strict_affinity {
            for pool in &pools {
                if let Some(pick) = self.pick_borrow(pool, &mut rested_at)? {
                    return Ok(pick);
                }
            }
        }
        verdicts.extend(pools.iter().map(|pool| self.verdict(pool, rested_at)));
        Err(no_address(wanted, &family.to_string(), verdicts))
    }

    fn pick_own(
        &self,
        pools: &[&PoolView],
        rested_at: &mut Option<u64>,
    ) -> Result<Option<Pick>, Halt> {
        for pool in pools {
            let pool = &pool.spec.cidr;
            let new = self.draft.created(self.node).filter(|c| pool.covers(c));
            for cidr in World::within(&self.world.mine.roomy, pool).chain(new) {
                if let Some(pick) = self.pick_in(&cidr, None, rested_at)? {
                    return Ok(Some(pick));
                }
            }
        }
        for pool in pools {
            let pick = self.pick_rested(&self.world.mine, &pool.spec.cidr, rested_at)?;
            if pick.is_some() {
                return Ok(pick);
            }
        }
        Ok(None)
    }

    /// The address that was freed first, of blocks that have only resting ones.
    fn pick_rested(
        &self,
        room: &Room,
        pool: &Cidr,
        rested_at: &mut Option<u64>,
    ) -> Result<Option<Pick>, Halt> {
        let rest = self.rest();
        let mut resting = room
            .resting
            .iter()
            .filter(|(_, c)| pool.covers(c))
            .peekable();
        while let Some((_, cidr)) = resting.next_if(|(freed, _)| rest.over(*freed)) {
            if let Some(pick) = self.pick_in(cidr, None, rested_at)? {
                return Ok(Some(pick));
            }
        }
        if let Some((freed, _)) = resting.peek() {
            let until = freed.saturating_add(rest.cooldown);
            *rested_at = Some(rested_at.unwrap_or(until).min(until));
        }
        Ok(None)
    }

    /// The next address of a block that stands.
    fn pick_in(
        &self,
        cidr: &Cidr,
        change: Option<Change>,
        rested_at: &mut Option<u64>,
    ) -> Result<Option<Pick>, Halt> {
        let Some(block) = self.block(cidr)? else {
            return Ok(None);
        };
        match next_address(block, &self.world.reserved, self.rest()) {
            Next::Place(place) => Ok(pick(cidr, place, change)),
            Next::Full => Ok(None),
            Next::Resting(until) => {
                *rested_at = Some(rested_at.unwrap_or(until).min(until));
                Ok(None)
            }
        }
    }

    /// A block that does not exist yet.
    fn pick_claim(&self, pool: &PoolView) -> Result<Option<Pick>, Halt> {
        let (cidr, removals) = (pool.spec.cidr, self.world.removals);
        let reserved = &self.world.reserved;
        if reserved.covers(&cidr) {
            return Ok(None);
        }
        let known = self.searched.borrow().get(&cidr).copied();
        let from = known.filter(|s| s.removals == removals);
        let from = from.map_or(0, |s| s.from);
        for (from, new) in candidates(cidr, pool.spec.block_len(), self.node, from) {
            if reserved.covers(&new) || self.stands(&new).is_some() {
                continue;
            }
            let node = Some(self.node.to_owned());
            let next = next_address(&Block::new(new, None), reserved, self.rest());
            if let Next::Place(place) = next {
                self.pools_unchanged()?;
                let searched = Searched { removals, from };
                self.searched.borrow_mut().insert(cidr, searched);
                return Ok(pick(&new, place, Some(Change::Create(node))));
            }
        }
        let from = u128::MAX;
        let searched = Searched { removals, from };
        self.searched.borrow_mut().insert(cidr, searched);
        Ok(None)
    }

    /// A block that stands where `cidr` would, now or after this transaction.
    fn stands(&self, cidr: &Cidr) -> Option<Cidr> {
        let known = self.world.overlap(cidr);
        known.or_else(|| self.draft.blocks.keys().find(|c| c.overlaps(cidr)).copied())
    }

    fn pick_adopt(
        &self,
        pool: &PoolView,
        rested_at: &mut Option<u64>,
    ) -> Result<Option<Pick>, Halt> {
        for cidr in World::within(&self.world.orphans, &pool.spec.cidr) {
            // Taken over by this transaction already: then it was tried as an own block.
            let orphan = self.block(&cidr)?.is_some_and(|b| b.node.is_none());
            let adopt = Change::Adopt(self.node.to_owned());
            if orphan && let Some(pick) = self.pick_in(&cidr, Some(adopt), rested_at)? {
                return Ok(Some(pick));
            }
        }
        Ok(None)
    }

    fn pick_borrow(
        &self,
        pool: &PoolView,
        rested_at: &mut Option<u64>,
    ) -> Result<Option<Pick>, Halt> {
        let cidr = &pool.spec.cidr;
        // Borrowers start at different blocks too, or all would contend for one.
        let start = candidates(*cidr, pool.spec.block_len(), self.node, 0).next();
        let start = start.map_or(*cidr, |(_, start)| start);
        let after = self.world.lenders.roomy.range(start..);
        let after = after.copied().take_while(|c| cidr.covers(c));
        let before = World::within(&self.world.lenders.roomy, cidr).take_while(|c| *c < start);
        for lender in after.chain(before) {
            if let Some(pick) = self.pick_in(&lender, None, rested_at)? {
                return Ok(Some(pick));
            }
        }
        self.pick_rested(&self.world.lenders, cidr, rested_at)
    }

    /// Why a pool that may be used has no address to give.
    fn verdict(&self, pool: &PoolView, rested_at: Option<u64>) -> PoolVerdict {
        let config = &self.view.config;
        let cidr = &pool.spec.cidr;
        let total = block_count(cidr, pool.spec.block_len());
        let taken = self.world.blocks.range(cidr..);
        let taken = taken.take_while(|(c, _)| cidr.covers(c)).count();
        let mut why = if self.world.reserved.covers(cidr) {
            "wholly reserved by an IPReservation".to_owned()
        } else if !config.auto_allocate_blocks {
            "autoAllocateBlocks is false and no block of this node has room".to_owned()
        } else if !self.may_claim(cidr.family()) {
            let max = config.max_blocks_per_host;
            format!("maxBlocksPerHost {max} is reached and this node's blocks are full")
        } else {
            format!("full, {taken} of {total} blocks claimed")
        };
        if config.strict_affinity {
            why.push_str(", and strictAffinity forbids borrowing");
        }
        if let Some(at) = rested_at {
            let seconds = at.saturating_sub(self.now).div_ceil(1000);
            why.push_str(&format!("; a freed address is ready in {seconds} s"));
        }
        PoolVerdict::new(&pool.name, why)
    }

    /// One address asked for by number. Neither reservations nor the cooldown stand in its way.
    pub(crate) fn pick_requested(&self, wanted: &Assign, ip: IpAddr) -> Result<Pick, Halt> {
        let handle = wanted.handle.clone();
        let refuse = |pools| {
            let handle = wanted.handle.clone();
            Halt::refuse(AllocError::NotInPool { handle, ip, pools }, vec![])
        };
        let pool = self.view.pools.iter().find(|p| p.spec.cidr.contains(ip));
        let Some(pool) = pool else {
            let outside = self.view.pools.iter().map(|p| {
                let why = format!("{} does not contain it", p.spec.cidr);
                PoolVerdict::new(&p.name, why)
            });
            return Err(refuse(outside.collect()));
        };
        if let Some(verdict) = pool.unusable(self.node, wanted, true) {
            return Err(refuse(vec![verdict]));
        }
        let family = Family::of(ip);
        let mut named = wanted.pools.iter().filter(|(f, _)| *f == family).peekable();
        if named.peek().is_some() && !named.any(|(_, name)| pool.is_called(name)) {
            let verdict = PoolVerdict::new(&pool.name, "is not one of the pools asked for");
            return Err(refuse(vec![verdict]));
        }
        let standing = self
            .world
            .find(ip)
            .filter(|c| !self.draft.blocks.contains_key(c));
        let drafted = self.draft.blocks.keys().find(|c| c.contains(ip)).copied();
        let usual = Cidr::containing(ip, pool.spec.block_len());
        let Some(cidr) = drafted.or(standing).or(usual) else {
            return Err(refuse(vec![]));
        };
        let Some(place) = place_of(&cidr, ip) else {
            return Err(refuse(vec![]));
        };
        let block = self.block(&cidr)?;
        let owner = block.and_then(|b| b.node.as_deref());
        if let Some(held) = block.and_then(|b| b.used.get(&place)) {
            let holder = held.handle.clone();
            let error = AllocError::InUse { handle, ip, holder };
            return Err(Halt::refuse(error, vec![keys::block(&cidr)]));
        }
        let me = || self.node.to_owned();
        let change = match block {
            Some(_) if owner == Some(self.node) => None,
            None if self.stands(&cidr).is_some() => {
                let why =
                    format!("blocks of an earlier size stand in {cidr}; wait for them to empty");
                return Err(refuse(vec![PoolVerdict::new(&pool.name, why)]));
            }
            None if self.may_claim(family) => Some(Change::Create(Some(me()))),
            Some(_) if owner.is_none() && self.may_claim(family) => Some(Change::Adopt(me())),
            _ if self.view.config.strict_affinity => {
                let (block, owner) = (cidr, owner_of(owner));
                let error = AllocError::Strict {
                    handle,
                    ip,
                    block,
                    owner,
                };
                return Err(Halt::refuse(error, vec![keys::block(&cidr)]));
            }
            None => Some(Change::Create(None)),
            Some(_) => None,
        };
        if matches!(change, Some(Change::Create(_))) {
            self.pools_unchanged()?;
        }
        pick(&cidr, place, change).ok_or_else(|| refuse(vec![]))
    }
}

fn pick(cidr: &Cidr, place: u32, block: Option<Change>) -> Option<Pick> {
    let (cidr, ip) = (*cidr, cidr.nth(u128::from(place))?);
    Some(Pick {
        cidr,
        place,
        ip,
        block,
    })
}
