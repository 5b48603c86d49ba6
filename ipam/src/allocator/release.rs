//! Plans releases: of a handle, an address, a block.

use std::net::IpAddr;

use model::block::{Allocation, Handle};
use model::kv::{Compare, Op};
use model::{Cidr, keys};

use super::assign::place_of;
use super::draft::{Change, Step, Why};
use super::plan::{Halt, Planned, Planner, caller, put_handle};
use super::world::HandleState;
use crate::error::AllocError;
use crate::request::{Release, Released, Reply};

impl Planner<'_> {
    pub(crate) fn release(&self, wanted: &Release) -> Planned {
        let id = &wanted.handle;
        let key = keys::handle(id);
        let mut step = empty_step();
        step.compares.extend(caller(&wanted.extra));
        step.writes.extend(wanted.extra.ops.iter().cloned());
        let mut released = Released::default();
        match self.handle(id)? {
            None => return Err(Halt::Read(vec![key])),
            Some(HandleState::Is(handle, rev)) => {
                let unchanged = Compare::ModRevision(key.clone(), *rev);
                step.compares.push((unchanged, Why::Record));
                for (ip, cidr) in handle.addresses.iter().zip(&handle.blocks) {
                    self.let_go(id, handle, *ip, cidr, &mut step, &mut released)?;
                }
                step.writes.push(Op::Delete(key));
                step.handles.push((id.clone(), None));
                released.handles.push(id.clone());
            }
            Some(_) if wanted.extra.ops.is_empty() && wanted.extra.compares.is_empty() => {
                return Err(Halt::Answer(Ok(Reply::Released(released)), vec![key]));
            }
            Some(_) => step.compares.push((Compare::Absent(key), Why::Record)),
        }
        step.reply = Reply::Released(released);
        Ok(step)
    }

    /// Frees one address of a handle, or leaves it with its identity.
    fn let_go(
        &self,
        id: &str,
        handle: &Handle,
        ip: IpAddr,
        cidr: &Cidr,
        step: &mut Step,
        released: &mut Released,
    ) -> Result<(), Halt> {
        // A block that does not agree is left alone, and the handle goes; but first it is made sure
        // that the block is as known: it may just not have been seen yet.
        let held = self.block(cidr)?.and_then(|block| {
            let place = place_of(cidr, ip)?;
            Some((place, block.used.get(&place)?))
        });
        let vacates = |a: &Allocation| {
            handle.identity.as_ref() == Some(&a.handle) && a.holder.as_deref() == Some(id)
        };
        let held = held.filter(|(_, a)| a.handle == id || vacates(a));
        let Some((place, held)) = held else {
            step.compares.push((self.as_known(cidr), Why::Record));
            return Ok(());
        };
        if vacates(held) {
            step.changes.push((*cidr, Change::Vacate(place)));
        } else {
            step.changes.push((*cidr, Change::Free(place)));
            released.addresses.push(ip);
            // An identity is released with a workload on it: that handle holds nothing any more.
            if let Some(holder) = &held.holder
                && !step.handles.iter().any(|(h, _)| h == holder)
            {
                step.writes.push(Op::Delete(keys::handle(holder)));
                step.handles.push((holder.clone(), None));
                released.handles.push(holder.clone());
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
        let mut step = empty_step();
        let mut released = Released::default();
        step.changes.push((cidr, Change::Free(place)));
        released.addresses.push(ip);
        // The handle, and the workload's handle on an identity, lose this address.
        for id in [Some(&held.handle), held.holder.as_ref()]
            .into_iter()
            .flatten()
        {
            let key = keys::handle(id);
            match self.handle(id)? {
                None => return Err(Halt::Read(vec![key])),
                Some(HandleState::Is(handle, rev)) => {
                    let unchanged = Compare::ModRevision(key.clone(), *rev);
                    step.compares.push((unchanged, Why::Record));
                    let rest = without(handle, ip);
                    if rest.addresses.is_empty() {
                        step.writes.push(Op::Delete(key));
                        step.handles.push((id.clone(), None));
                        released.handles.push(id.clone());
                    } else {
                        step.writes.push(put_handle(id, &rest));
                        step.handles.push((id.clone(), Some(rest)));
                    }
                }
                Some(_) => step.compares.push((Compare::Absent(key), Why::Record)),
            }
        }
        step.reply = Reply::Released(released);
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
        let mut step = empty_step();
        let change = match (&block.node, block.used.is_empty()) {
            (_, true) if rested => Change::Delete,
            (Some(_), _) => Change::Disown,
            (None, true) => return Err(refuse("its addresses rest after use".into())),
            (None, false) => {
                let used = block.used.len();
                return Err(refuse(format!("{used} of its addresses are used")));
            }
        };
        step.changes.push((*cidr, change));
        let blocks = vec![*cidr];
        step.reply = Reply::Released(Released {
            blocks,
            ..Released::default()
        });
        Ok(step)
    }
}

fn without(handle: &Handle, ip: IpAddr) -> Handle {
    let both = handle.addresses.iter().zip(&handle.blocks);
    let (addresses, blocks) = both
        .filter(|(a, _)| **a != ip)
        .map(|(a, b)| (*a, *b))
        .unzip();
    Handle {
        addresses,
        blocks,
        ..handle.clone()
    }
}

pub(crate) fn empty_step() -> Step {
    Step {
        changes: Vec::new(),
        compares: Vec::new(),
        writes: Vec::new(),
        handles: Vec::new(),
        reply: Reply::Released(Released::default()),
    }
}

fn nothing(depends: Vec<String>) -> Halt {
    Halt::Answer(Ok(Reply::Released(Released::default())), depends)
}
