//! Turns one request into a [`Step`] on top of what is known and what the transaction under
//! construction already does. Pure: reads state, changes none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use model::block::Block;
use model::kv::Compare;
use model::{Cidr, Family, keys};

use super::draft::{Draft, Step, Why};
use super::pending::{Pending, Work};
use super::world::{IdentityState, World};
use crate::blocks::Rest;
use crate::error::AllocError;
use crate::request::{Extra, Reply};
use crate::view::IpamView;

/// Why a request is not a step yet.
pub(crate) enum Halt {
    /// These keys must be read first.
    Read(Vec<String>),
    /// Something must happen first.
    Wait(&'static str),
    /// It is answered, provided that these keys were read since it came.
    Answer(Result<Reply, AllocError>, Vec<String>),
    /// These must be done first.
    Spawn(Vec<Work>),
}

impl Halt {
    pub(crate) fn refuse(error: AllocError, depends: Vec<String>) -> Halt {
        Halt::Answer(Err(error), depends)
    }
}

pub(crate) type Planned = Result<Step, Halt>;

/// Everything that a plan reads.
pub(crate) struct Planner<'a> {
    pub node: &'a str,
    pub world: &'a World,
    pub view: &'a IpamView,
    pub draft: &'a Draft,
    pub now: u64,
    /// How far pools were searched for a block to claim.
    pub searched: &'a RefCell<BTreeMap<Cidr, Searched>>,
}

/// No block of a pool can be claimed before a place in the order of candidates, as long as nothing
/// was removed. Blocks of the transaction under construction count as taken: should it fail, that
/// is a removal.
#[derive(Clone, Copy)]
pub(crate) struct Searched {
    /// The count of removals.
    pub removals: u64,
    /// The place.
    pub from: u128,
}

impl<'a> Planner<'a> {
    pub(crate) fn plan(&self, pending: &Pending) -> Planned {
        let mut step = match &pending.work {
            Work::Assign(assign) => self.assign(assign)?,
            Work::Release(release) => self.release(release)?,
            Work::ReleaseAddress(ip) => self.release_address(*ip)?,
            Work::ReleaseBlock(cidr) => self.release_block(cidr)?,
            Work::Reclaim(reclaim) => self.reclaim(reclaim)?,
        };
        if let Some(gone) = &pending.only_if_gone {
            step.compares
                .push((Compare::Absent(node_key(gone)), Why::NodeGone));
        }
        check_form(&step, &pending.subject())?;
        Ok(step)
    }

    pub(crate) fn rest(&self) -> Rest {
        Rest {
            now: self.now,
            cooldown: u64::from(self.view.config.cooldown_seconds) * 1000,
        }
    }

    /// A block as it will stand: the transaction's version, else the one known.
    pub(crate) fn block(&self, cidr: &Cidr) -> Result<Option<&'a Block>, Halt> {
        if let Some(draft) = self.draft.blocks.get(cidr) {
            return Ok(draft.block.as_ref());
        }
        let Some(known) = self.world.blocks.get(cidr) else {
            return Ok(None);
        };
        let key = keys::block(cidr);
        match (&known.full, &known.unreadable) {
            (Some(block), _) => Ok(Some(block)),
            (None, None) => Err(Halt::Read(vec![key])),
            (None, Some(why)) => {
                let (handle, message) = (format!("block {cidr}"), why.to_string());
                let error = AllocError::Unreadable {
                    handle,
                    key,
                    message,
                };
                Err(Halt::refuse(error, vec![keys::block(cidr)]))
            }
        }
    }

    /// The condition that a block is as known, unknown ones absent.
    pub(crate) fn as_known(&self, cidr: &Cidr) -> Compare {
        let key = keys::block(cidr);
        match self.world.blocks.get(cidr) {
            Some(known) => Compare::ModRevision(key, known.rev),
            None => Compare::Absent(key),
        }
    }

    /// An identity as known; `None` when it was not read.
    pub(crate) fn identity(&self, id: &str) -> Result<Option<&'a IdentityState>, Halt> {
        match self.world.identities.get(id) {
            Some(IdentityState::Unreadable(message)) => {
                let (key, message) = (keys::identity(id), message.clone());
                let handle = id.to_owned();
                let error = AllocError::Unreadable {
                    handle,
                    key,
                    message,
                };
                Err(Halt::refuse(error, vec![keys::identity(id)]))
            }
            other => Ok(other),
        }
    }

    /// Blocks of this node in a family, counting those of this transaction.
    pub(crate) fn own_count(&self, family: Family) -> usize {
        let own = self.world.own.iter().filter(|c| c.family() == family);
        let new = self.draft.created(self.node);
        own.count() + new.filter(|c| c.family() == family).count()
    }

    /// Whether this node may claim one more block.
    pub(crate) fn may_claim(&self, family: Family) -> bool {
        let config = &self.view.config;
        let max = config.max_blocks_per_host as usize;
        config.auto_allocate_blocks && (max == 0 || self.own_count(family) < max)
    }

    /// The condition that the pools are as this node knows them.
    pub(crate) fn pools_unchanged(&self) -> Result<(Compare, Why), Halt> {
        if self.world.guard > self.view.pools_guard {
            return Err(Halt::Wait("the newest pools to arrive from the datastore"));
        }
        let key = keys::POOLS_GUARD.to_owned();
        let compare = match self.view.pools_guard {
            Some(rev) => Compare::ModRevision(key, rev),
            None => Compare::Absent(key),
        };
        Ok((compare, Why::Pools))
    }
}

/// Key of a Node resource.
pub(crate) fn node_key(node: &str) -> String {
    format!("{}{node}", keys::resources_of(model::Kind::Node))
}

/// The caller's conditions, marked as such.
pub(crate) fn caller(extra: &Extra) -> impl Iterator<Item = (Compare, Why)> + '_ {
    extra.compares.iter().map(|c| (c.clone(), Why::Caller))
}

/// Refuses what the store would refuse, so that it never fails a transaction of others.
fn check_form(step: &Step, subject: &str) -> Result<(), Halt> {
    use super::draft::{key_of, op_key};
    let mut message = None;
    let mut written: Vec<&str> = step.writes.iter().map(op_key).collect();
    written.sort_unstable();
    if let Some(twice) = written.windows(2).find(|w| w[0] == w[1]) {
        message = Some(format!("writes {} twice", twice[0]));
    }
    let mut compared: Vec<&Compare> = step.compares.iter().map(|(c, _)| c).collect();
    compared.sort_unstable_by_key(|c| key_of(c));
    let differ = |w: &&[&Compare]| key_of(w[0]) == key_of(w[1]) && w[0] != w[1];
    if let Some(twice) = compared.windows(2).find(differ) {
        message = Some(format!("compares {} in two ways", key_of(twice[0])));
    }
    let ours = |k: &&&str| k.starts_with(keys::BLOCKS) || k.starts_with(keys::IDENTITIES);
    if let Some(key) = written.iter().find(ours) {
        message = Some(format!(
            "extra operations write {key}, which is the allocator's"
        ));
    }
    match message {
        None => Ok(()),
        Some(message) => {
            let handle = subject.to_owned();
            Err(Halt::refuse(
                AllocError::Invalid { handle, message },
                vec![],
            ))
        }
    }
}
