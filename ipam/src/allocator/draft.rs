//! A transaction under construction: as many requests as etcd's limits allow, over shared blocks.

use std::collections::{BTreeMap, BTreeSet};

use model::block::{Allocation, Block, Identity};
use model::kv::{Compare, Op, Revision, Txn};
use model::{Cidr, keys};

use super::pending::Pending;
use super::world::{Seen, World};
use crate::request::Reply;

/// What a request does to a block.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Makes it, for a node or ownerless.
    Create(Option<String>),
    /// Gives it to a node.
    Adopt(String),
    /// Makes it nobody's.
    Disown,
    /// Removes it.
    Delete,
    /// Hands out a place.
    Take(u32, Allocation),
    /// Frees a place.
    Free(u32),
    /// Leaves a place with its identity.
    Vacate(u32),
}

/// Whose condition a compare is: decides what its failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A record as last seen: look again.
    Record,
    /// The pools as last seen: wait for them.
    Pools,
    /// This node exists: nothing is handed out otherwise.
    NodeExists,
    /// A reclaimed node is gone.
    NodeGone,
    /// The caller's.
    Caller,
}

/// What one request does, whole.
#[derive(Debug)]
pub(crate) struct Step {
    pub changes: Vec<(Cidr, Change)>,
    pub compares: Vec<(Compare, Why)>,
    pub writes: Vec<Op>,
    /// Handles whose addresses it changes, beside the request's own.
    pub touches: Vec<String>,
    /// Identities as they are after, which is written.
    pub identities: Vec<(String, Option<Identity>)>,
    pub reply: Reply,
}

impl Step {
    /// One that does nothing yet.
    pub(crate) fn answering(reply: Reply) -> Step {
        Step {
            changes: Vec::new(),
            compares: Vec::new(),
            writes: Vec::new(),
            touches: Vec::new(),
            identities: Vec::new(),
            reply,
        }
    }
}

/// Why a step did not go in.
pub(crate) enum NoFit {
    /// The transaction is full.
    Full,
    /// Another request of this transaction has to do with the same keys.
    Conflict,
}

pub(crate) struct DraftBlock {
    /// Revision and owner before; `None` when it is new.
    before: Option<(Revision, Option<String>)>,
    pub block: Option<Block>,
}

impl DraftBlock {
    fn affinity_ops(&self, cidr: &Cidr) -> Vec<Op> {
        let before = self.before.as_ref().and_then(|(_, node)| node.as_deref());
        let after = self.block.as_ref().and_then(|b| b.node.as_deref());
        if before == after {
            return Vec::new();
        }
        let gone = before.map(|n| Op::Delete(keys::affinity(n, cidr)));
        let new = after.map(|n| Op::put(keys::affinity(n, cidr), r#"{"version":1}"#));
        gone.into_iter().chain(new).collect()
    }
}

/// A request in a transaction.
pub(crate) struct Entry {
    pub pending: Pending,
    pub compares: Vec<(Compare, Why)>,
    pub blocks: Vec<Cidr>,
    pub reply: Reply,
}

#[derive(Default)]
pub(crate) struct Draft {
    pub blocks: BTreeMap<Cidr, DraftBlock>,
    compares: BTreeMap<String, Compare>,
    writes: BTreeMap<String, Op>,
    identities: BTreeMap<String, Option<Identity>>,
    /// Handles and identities that its requests have to do with.
    touched: BTreeSet<String>,
    /// Keys read on the way, for requests that are still waiting.
    pub reads: BTreeSet<String>,
    pub entries: Vec<Entry>,
    /// Operations on affinities, kept beside since every request asks for the size.
    affinities: usize,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.reads.is_empty()
    }

    /// Whether a request of this transaction has to do with a handle.
    pub(crate) fn touches(&self, handle: &str) -> bool {
        self.touched.contains(handle)
    }

    /// The identities that it writes.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &str> {
        self.identities.keys().map(String::as_str)
    }

    /// The new blocks of a node in this transaction.
    pub(crate) fn created<'a>(&'a self, node: &'a str) -> impl Iterator<Item = Cidr> + 'a {
        let new = self.blocks.iter().filter(move |(_, d)| {
            let was = d.before.as_ref().and_then(|(_, n)| n.as_deref());
            let is = d.block.as_ref().and_then(|b| b.node.as_deref());
            is == Some(node) && was != Some(node)
        });
        new.map(|(cidr, _)| *cidr)
    }

    /// Whether what a request does fits in with the rest.
    pub(crate) fn fits(&self, step: &Step) -> Result<(), NoFit> {
        if self.conflicts(step) {
            return Err(NoFit::Conflict);
        }
        let new_blocks: BTreeSet<&Cidr> = step.changes.iter().map(|(cidr, _)| cidr).collect();
        let new_blocks = new_blocks.iter().filter(|c| !self.blocks.contains_key(c));
        let new_compares = step.compares.iter();
        let new_compares = new_compares.filter(|(c, _)| !self.compares.contains_key(key_of(c)));
        let (blocks, compares) = (new_blocks.count(), new_compares.count());
        // One for the fence. The failure branch reads every key that is compared.
        let compares = 1 + self.blocks.len() + blocks + self.compares.len() + compares;
        let writes = self.writes.len() + step.writes.len() + step.identities.len();
        let writes = 1 + self.blocks.len() + blocks + writes + self.affinities + affinities(step);
        if compares.max(writes) + self.reads.len() > Txn::MAX_OPS {
            return Err(NoFit::Full);
        }
        Ok(())
    }

    /// Adds what a request does; to be asked before whether it fits.
    pub(crate) fn add(&mut self, world: &World, pending: Pending, step: Step, now: u64) {
        self.affinities += affinities(&step);
        let mut touched = Vec::with_capacity(step.changes.len());
        for (cidr, change) in step.changes {
            let draft = self.blocks.entry(cidr).or_insert_with(|| {
                let known = world.blocks.get(&cidr);
                let full = known.and_then(|k| Some((k.rev, k.full.as_ref()?)));
                DraftBlock {
                    before: full.map(|(rev, b)| (rev, b.node.clone())),
                    block: full.map(|(_, b)| Block::clone(b)),
                }
            });
            apply(&mut draft.block, cidr, change, now);
            touched.push(cidr);
        }
        for (compare, _) in &step.compares {
            let key = key_of(compare).to_owned();
            self.compares.insert(key, compare.clone());
        }
        for op in step.writes {
            self.writes.insert(op_key(&op).to_owned(), op);
        }
        self.touched.extend(pending.handles().map(str::to_owned));
        self.touched.extend(step.touches);
        for (id, identity) in step.identities {
            let key = keys::identity(&id);
            let op = match &identity {
                Some(identity) => Op::put(key.clone(), identity.encode()),
                None => Op::Delete(key.clone()),
            };
            self.writes.insert(key, op);
            self.touched.insert(id.clone());
            self.identities.insert(id, identity);
        }
        self.entries.push(Entry {
            pending,
            compares: step.compares,
            blocks: touched,
            reply: step.reply,
        });
    }

    /// etcd refuses to write a key twice, and a compare beside a write of another request would be
    /// judged by the state before both.
    fn conflicts(&self, step: &Step) -> bool {
        let compares = step.compares.iter().any(|(c, _)| {
            let key = key_of(c);
            self.writes.contains_key(key) || self.compares.get(key).is_some_and(|other| other != c)
        });
        let mut writes = step.writes.iter().map(op_key);
        let mut blocks = step.changes.iter().map(|(cidr, _)| keys::block(cidr));
        compares
            || writes.any(|key| self.writes.contains_key(key) || self.reads.contains(key))
            || (!self.reads.is_empty() && blocks.any(|key| self.reads.contains(&key)))
            || step.touches.iter().any(|h| self.touches(h))
            || step.identities.iter().any(|(id, _)| self.touches(id))
    }

    /// Adds a read when there is room and no request here writes the key.
    pub(crate) fn read(&mut self, key: String) -> bool {
        let writes = self.writes.len() + self.affinities;
        let size = 1 + self.blocks.len() + writes.max(self.compares.len());
        let room = size + self.reads.len() < Txn::MAX_OPS;
        let written = self.writes.contains_key(&key)
            || keys::parse_block(&key).is_some_and(|c| self.blocks.contains_key(&c));
        if room && !written {
            self.reads.insert(key);
        }
        room && !written
    }

    /// The transaction, and the keys that its failure branch reads, in order.
    pub(crate) fn txn(&self, fence: Option<(&str, Revision, Vec<u8>)>) -> Txn {
        let mut txn = Txn::new();
        if !self.entries.is_empty() {
            if let Some((key, rev, value)) = fence {
                txn = txn.when(Compare::ModRevision(key.to_owned(), rev));
                txn = txn.then(Op::put(key, value));
            }
            for (cidr, draft) in &self.blocks {
                let key = keys::block(cidr);
                txn = txn.when(match &draft.before {
                    Some((rev, _)) => Compare::ModRevision(key.clone(), *rev),
                    None => Compare::Absent(key.clone()),
                });
                txn = txn.then(match &draft.block {
                    Some(block) => Op::put(key, block.encode()),
                    None => Op::Delete(key),
                });
                txn.success.extend(draft.affinity_ops(cidr));
            }
            txn.compares.extend(self.compares.values().cloned());
            txn.success.extend(self.writes.values().cloned());
        }
        let compared: Vec<Op> = txn
            .compares
            .iter()
            .map(|c| Op::Get(key_of(c).into()))
            .collect();
        txn.failure.extend(compared);
        for key in &self.reads {
            txn.success.push(Op::Get(key.clone()));
            txn.failure.push(Op::Get(key.clone()));
        }
        txn
    }

    /// Takes note that the transaction was done at a revision.
    pub(crate) fn commit(&self, world: &mut World, rev: Revision) {
        use super::world::IdentityState;
        for (cidr, draft) in &self.blocks {
            match &draft.block {
                Some(block) => world.learn(*cidr, Seen::Is(block), rev),
                None => world.learn(*cidr, Seen::Gone, rev),
            };
        }
        for (id, identity) in &self.identities {
            let state = match identity {
                Some(i) => IdentityState::Is(i.clone(), rev),
                None => IdentityState::Absent,
            };
            world.identities.insert(id.clone(), state);
        }
    }
}

/// The most operations on affinities that a step brings.
fn affinities(step: &Step) -> usize {
    let owners = step.changes.iter().filter(|(_, change)| {
        use Change::{Adopt, Create, Delete, Disown};
        matches!(change, Create(_) | Adopt(_) | Disown | Delete)
    });
    2 * owners.count()
}

fn apply(slot: &mut Option<Block>, cidr: Cidr, change: Change, now: u64) {
    match change {
        Change::Delete => *slot = None,
        Change::Create(node) => {
            slot.get_or_insert_with(|| Block::new(cidr, node));
        }
        _ => {
            let Some(block) = slot else { return };
            match change {
                Change::Adopt(node) => block.node = Some(node),
                Change::Disown => block.node = None,
                Change::Take(place, allocation) => {
                    block.used.insert(place, allocation);
                    block.cooldown.remove(&place);
                    block.empty_since = None;
                }
                Change::Free(place) => {
                    if block.used.remove(&place).is_some() {
                        block.cooldown.insert(place, now);
                    }
                    if block.used.is_empty() {
                        block.empty_since = Some(now);
                    }
                }
                Change::Vacate(place) => {
                    if let Some(allocation) = block.used.get_mut(&place) {
                        allocation.node = None;
                        allocation.holder = None;
                        allocation.workload = None;
                    }
                }
                Change::Create(_) | Change::Delete => {}
            }
        }
    }
}

/// The key of a compare.
pub(crate) fn key_of(compare: &Compare) -> &str {
    match compare {
        Compare::Absent(key) | Compare::Present(key) | Compare::ModRevision(key, _) => key,
    }
}

/// The key of an operation.
pub(crate) fn op_key(op: &Op) -> &str {
    match op {
        Op::Put { key, .. } | Op::Delete(key) | Op::Get(key) => key,
    }
}
