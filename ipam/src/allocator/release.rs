//! Plans releases: of a handle, an address, a block.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::block::{Allocation, Identity};
use model::kv::Compare;
use model::{Cidr, keys};

use super::assign::place_of;
use super::draft::{Change, Step, Why};
use super::plan::{Halt, Planned, Planner, caller};
use super::world::IdentityState;
use crate::error::AllocError;
use crate::request::{Holder, Release, Released, Reply};

impl Planner<'_> {
    pub(crate) fn release(&self, wanted: &Release) -> Planned {
        let id = &wanted.handle;
        let mut step = Step::answering(Reply::Released(Released::default()));
        let mut released = Released::default();
        let mut holder = Holder {
            handle: id.clone(),
            workload: None,
        };
        for cidr in &wanted.blocks {
            // Should it hold nothing there, that must be so as of now.
            step.compares.push((self.as_known(cidr), Why::Record));
        }
        for (cidr, place, allocation) in self.held_by(wanted)? {
            holder.workload.clone_from(&allocation.workload);
            if allocation.identity().is_some() {
                step.changes.push((cidr, Change::Vacate(place)));
                step.touches.push(allocation.handle.clone());
            } else {
                step.changes.push((cidr, Change::Free(place)));
                released.addresses.extend(cidr.nth(u128::from(place)));
            }
        }
        if step.changes.is_empty() {
            self.release_identity(id, &mut step, &mut released)?;
        }
        if !step.changes.is_empty() || !step.identities.is_empty() {
            released.holders.push(holder.clone());
        }
        let extra = wanted.cleanup.make(&holder);
        step.compares.extend(caller(&extra));
        step.writes.extend(extra.ops);
        // One that does nothing is carried out too: its fence is the proof that nothing was held.
        step.reply = Reply::Released(released);
        Ok(step)
    }

    /// What a handle holds: of this node by what is known, of others in the blocks that are named.
    fn held_by(&self, wanted: &Release) -> Result<Vec<(Cidr, u32, &Allocation)>, Halt> {
        let is_its = |a: &Allocation| {
            let there = wanted.node.is_none() || a.node == wanted.node;
            there && a.live() == Some(&wanted.handle)
        };
        let own = self.world.held(&wanted.handle).iter().map(|(cidr, _)| cidr);
        let blocks: BTreeSet<&Cidr> = own.chain(&wanted.blocks).collect();
        let (mut held, mut unread) = (Vec::new(), Vec::new());
        for cidr in blocks {
            match self.block(cidr) {
                Ok(block) => {
                    let used = block.into_iter().flat_map(|b| &b.used);
                    let its = used.filter(|(_, a)| is_its(a));
                    held.extend(its.map(|(place, a)| (*cidr, *place, a)));
                }
                Err(Halt::Read(keys)) => unread.extend(keys),
                Err(other) => return Err(other),
            }
        }
        match unread.is_empty() {
            true => Ok(held),
            false => Err(Halt::Read(unread)),
        }
    }

    /// Frees the addresses of an identity, also under a workload that lives on them.
    fn release_identity(
        &self,
        id: &str,
        step: &mut Step,
        released: &mut Released,
    ) -> Result<(), Halt> {
        let key = keys::identity(id);
        let Some(IdentityState::Is(identity, rev)) = self.identity(id)? else {
            step.compares.push((Compare::Absent(key), Why::Record));
            return Ok(());
        };
        let unchanged = Compare::ModRevision(key, *rev);
        step.compares.push((unchanged, Why::Record));
        step.identities.push((id.to_owned(), None));
        for (ip, cidr) in identity.addresses.iter().zip(&identity.blocks) {
            let held = self.block(cidr)?.and_then(|block| {
                let place = place_of(cidr, *ip)?;
                Some((place, block.used.get(&place)?))
            });
            let Some((place, held)) = held.filter(|(_, a)| a.identity() == Some(id)) else {
                // A block that does not agree is left alone, and the identity goes; but first it is
                // made sure that the block is as known: it may just not have been seen yet.
                step.compares.push((self.as_known(cidr), Why::Record));
                continue;
            };
            step.changes.push((*cidr, Change::Free(place)));
            released.addresses.push(*ip);
            if let Some(handle) = &held.holder
                && !step.touches.contains(handle)
            {
                step.touches.push(handle.clone());
                released.holders.push(Holder {
                    handle: handle.clone(),
                    workload: held.workload.clone(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn release_address(&self, ip: IpAddr) -> Planned {
        let pool = self.view.pools.iter().find(|p| p.spec.cidr.contains(ip));
        let usual = pool.and_then(|p| Cidr::containing(ip, p.spec.block_len()));
        let Some(cidr) = self.world.find(ip).or(usual) else {
            return Err(nothing(vec![]));
        };
        let held = self.block(&cidr)?.and_then(|block| {
            let place = place_of(&cidr, ip)?;
            Some((place, block.used.get(&place)?))
        });
        let Some((place, held)) = held else {
            return Err(nothing(vec![keys::block(&cidr)]));
        };
        let mut step = Step::answering(Reply::Released(Released {
            addresses: vec![ip],
            ..Released::default()
        }));
        step.changes.push((cidr, Change::Free(place)));
        step.touches.push(held.handle.clone());
        step.touches.extend(held.holder.clone());
        if let Some(id) = held.identity() {
            let key = keys::identity(id);
            match self.identity(id)? {
                None => return Err(Halt::Read(vec![key])),
                Some(IdentityState::Is(identity, rev)) => {
                    let unchanged = Compare::ModRevision(key, *rev);
                    step.compares.push((unchanged, Why::Record));
                    step.identities.push((id.to_owned(), without(identity, ip)));
                }
                Some(_) => step.compares.push((Compare::Absent(key), Why::Record)),
            }
        }
        Ok(step)
    }

    pub(crate) fn release_block(&self, cidr: &Cidr) -> Planned {
        let depends = vec![keys::block(cidr)];
        let Some(block) = self.block(cidr)? else {
            return Err(nothing(depends));
        };
        let refuse = |why: String| {
            let block = *cidr;
            Halt::refuse(AllocError::BlockInUse { block, why }, depends.clone())
        };
        let used = block.used.values();
        let own = used
            .filter(|a| a.node.is_some() && a.node == block.node)
            .count();
        if own > 0 {
            return Err(refuse(format!("its node uses {own} of its addresses")));
        }
        let rest = self.rest();
        // A block takes its cooldowns along when it goes, so it stays until they are over.
        let rested = block.cooldown.values().all(|freed| rest.over(*freed));
        let change = match (&block.node, block.used.is_empty()) {
            (_, true) if rested => Change::Delete,
            (Some(_), _) => Change::Disown,
            (None, true) => return Err(refuse("its addresses rest after use".into())),
            (None, false) => {
                let used = block.used.len();
                return Err(refuse(format!("{used} of its addresses are used")));
            }
        };
        let blocks = vec![*cidr];
        let mut step = Step::answering(Reply::Released(Released {
            blocks,
            ..Released::default()
        }));
        step.changes.push((*cidr, change));
        Ok(step)
    }
}

/// An identity without an address; `None` when it has no other.
fn without(identity: &Identity, ip: IpAddr) -> Option<Identity> {
    let both = identity.addresses.iter().zip(&identity.blocks);
    let (addresses, blocks): (Vec<_>, Vec<_>) = both
        .filter(|(a, _)| **a != ip)
        .map(|(a, b)| (*a, *b))
        .unzip();
    (!addresses.is_empty()).then(|| Identity {
        addresses,
        blocks,
        ..identity.clone()
    })
}

fn nothing(depends: Vec<String>) -> Halt {
    Halt::Answer(Ok(Reply::Released(Released::default())), depends)
}
