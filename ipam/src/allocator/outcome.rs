//! What the outcome of a transaction means: who is answered, who is planned again.

use std::collections::BTreeSet;

use model::keys;
use model::kv::{Compare, KeyValue, Op, Revision, Txn, TxnOutcome};

use super::draft::{Draft, Why, key_of};
use super::pending::Pending;
use super::{Allocator, InDoubt, TxnId, What};
use crate::error::AllocError;

/// Attempts lost against other nodes after which a request is given up.
const MAX_ATTEMPTS: u32 = 30;

/// Pause after another daemon turned out to have the node's name.
const CLAIM_PAUSE_MS: u64 = 500;

/// Why a transaction has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may have been applied, or may still be: the answer is lost.
    Ambiguous(String),
    /// It was not applied and the store cannot be used now.
    Unavailable(String),
    /// It was not applied: the store does not take it, and would not take it later.
    Refused(String),
}

impl Allocator {
    /// What became of a transaction from [`Allocator::poll_txn`].
    pub fn handle_outcome(&mut self, now: u64, id: TxnId, result: Result<TxnOutcome, Failure>) {
        let Some(flight) = self.flight.take_if(|f| f.id == id) else {
            return;
        };
        match &result {
            Ok(_) => self.failures = 0,
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                // 50 ms doubling to 1.6 s: the store's own client has tried before.
                self.retry_at = now.saturating_add(25 << self.failures.min(6)).max(1);
            }
        }
        match (flight.what, result) {
            (What::Take, Ok(outcome)) => self.taken(now, &outcome),
            (What::Batch(batch), Ok(outcome)) if outcome.succeeded => {
                if !batch.draft.entries.is_empty() {
                    self.fence.seen = Some(outcome.revision);
                    self.fence.own = self.fence.seen;
                }
                self.committed(*batch, outcome.revision, &outcome);
            }
            (What::Batch(batch), Ok(outcome)) => self.lost(*batch, &outcome),
            (What::Settle, Ok(outcome)) => self.settled(&outcome),
            (What::Batch(batch), Err(Failure::Ambiguous(_))) => {
                // A read that got no answer did nothing; its readers ask again.
                if !batch.draft.entries.is_empty() {
                    self.in_doubt = Some(batch);
                }
            }
            (What::Batch(batch), Err(failure)) => self.failed(batch.draft, &failure),
            (What::Take | What::Settle, Err(failure)) => self.unavailable(&failure),
        }
    }

    fn taken(&mut self, now: u64, outcome: &TxnOutcome) {
        let compared = self.fence.seen;
        self.fence.held = outcome.succeeded;
        if outcome.succeeded && compared > Some(self.known_to).max(self.fence.own) {
            // Whoever held it before may have handed out what is not known here yet.
            self.fence.unseen = Some(outcome.revision);
        }
        self.fence.seen = match outcome.gets.first() {
            _ if outcome.succeeded => {
                self.fence.own = Some(outcome.revision);
                Some(outcome.revision)
            }
            Some(Some(kv)) => Some(kv.mod_revision),
            _ => None,
        };
        if !outcome.succeeded && self.fence.seen == compared {
            // Not the fence but the claim: no use to ask again at once.
            self.retry_at = now.saturating_add(CLAIM_PAUSE_MS);
            let node = &self.options.node;
            let why = format!("this daemon is not known to be Node/{node}: another may be");
            self.unavailable(&Failure::Unavailable(why));
        }
    }

    fn committed(&mut self, batch: InDoubt, at: Revision, outcome: &TxnOutcome) {
        let InDoubt {
            draft,
            reads,
            readers,
            ..
        } = batch;
        draft.commit(&mut self.world, at);
        self.learn(reads.iter().zip(&outcome.gets), outcome.revision);
        self.mark_read(readers);
        let identities: Vec<String> = draft.identities().map(str::to_owned).collect();
        for entry in draft.entries {
            self.finish(&entry.pending, Ok(entry.reply.committed(at)));
        }
        for identity in identities {
            self.world.forget(&identity);
        }
    }

    fn learn<'a>(
        &mut self,
        read: impl Iterator<Item = (&'a String, &'a Option<KeyValue>)>,
        at: Revision,
    ) {
        for (key, kv) in read {
            self.world.learn_key(key, kv.as_ref(), at);
        }
    }

    fn mark_read(&mut self, readers: Vec<(u64, Vec<String>)>) {
        for (seq, keys) in readers {
            if let Some(pending) = self.queue.get_mut(&seq) {
                pending.read.extend(keys);
            }
        }
    }

    /// A compare did not hold: learn what stands, answer those who cannot go on, plan the rest anew.
    fn lost(&mut self, batch: InDoubt, outcome: &TxnOutcome) {
        let InDoubt {
            draft,
            compared,
            reads,
            readers,
            ..
        } = batch;
        let keys: Vec<String> = compared.iter().map(|c| key_of(c).to_owned()).collect();
        let failed: BTreeSet<&str> = compared
            .iter()
            .zip(&outcome.gets)
            .filter(|(compare, kv)| !holds(compare, kv.as_ref()))
            .map(|(compare, _)| key_of(compare))
            .collect();
        let fence = keys::fence(&self.options.node);
        if failed.contains(fence.as_str()) {
            let stands = keys.iter().zip(&outcome.gets).find(|(k, _)| **k == fence);
            self.fence.seen = stands
                .and_then(|(_, kv)| kv.as_ref())
                .map(|kv| kv.mod_revision);
            self.fence.held = false;
        }
        let read = keys.iter().chain(&reads);
        self.learn(read.zip(&outcome.gets), outcome.revision);
        self.mark_read(readers);
        // What this transaction would have taken is free again.
        self.world.removals += 1;
        let view = self.view.as_ref();
        let pools_to_come = self.world.guard > view.and_then(|v| v.pools_guard);
        for entry in draft.entries {
            let mut pending = entry.pending;
            let blocks = entry.blocks.iter().map(keys::block);
            let blocks: Vec<String> = blocks.collect();
            let own = entry.compares.iter().map(|(c, _)| key_of(c).to_owned());
            pending.read.extend(own.chain(blocks.iter().cloned()));
            let failing = |why: Why| {
                let mut of = entry.compares.iter().filter(move |(_, w)| *w == why);
                of.find(|(c, _)| failed.contains(key_of(c)))
            };
            let stale = failing(Why::Record).is_some()
                || blocks.iter().any(|b| failed.contains(b.as_str()));
            let handle = pending.subject();
            if failing(Why::NodeGone).is_some() {
                let node = pending.only_if_gone.clone().unwrap_or_default();
                self.finish(&pending, Err(AllocError::NodeExists { node }));
            } else if stale {
                self.again(pending);
            } else if failing(Why::NodeExists).is_some() {
                let node = self.options.node.clone();
                self.finish(&pending, Err(AllocError::NodeUnknown { handle, node }));
            } else if let Some((compare, _)) = failing(Why::Caller) {
                let key = key_of(compare).to_owned();
                self.finish(&pending, Err(AllocError::Condition { handle, key }));
            } else if failed.is_empty() || (failing(Why::Pools).is_some() && !pools_to_come) {
                // What neither waiting nor looking again mends must not be asked for ever.
                self.again(pending);
            } else {
                self.queue.insert(pending.seq, pending);
            }
        }
    }

    /// Plans a request again, unless it lost too often.
    fn again(&mut self, mut pending: Pending) {
        pending.attempts += 1;
        if pending.attempts < MAX_ATTEMPTS {
            self.queue.insert(pending.seq, pending);
            return;
        }
        let (handle, attempts) = (pending.subject(), pending.attempts);
        self.finish(&pending, Err(AllocError::Contended { handle, attempts }));
    }

    /// A transaction that was surely not applied.
    pub(super) fn failed(&mut self, draft: Draft, failure: &Failure) {
        self.world.removals += 1;
        let Failure::Refused(refused) = failure else {
            let entries = draft.entries.into_iter().map(|e| e.pending);
            self.queue.extend(entries.map(|p| (p.seq, p)));
            return self.unavailable(failure);
        };
        // One of several may be what the store does not take: each is tried on its own.
        let several = draft.entries.len() > 1;
        if draft.entries.is_empty() {
            return self.unavailable(failure);
        }
        // The store works: nobody else has to wait.
        self.retry_at = 0;
        for entry in draft.entries {
            let mut pending = entry.pending;
            if several {
                pending.alone = true;
                self.queue.insert(pending.seq, pending);
            } else {
                let (handle, message) = (pending.subject(), refused.clone());
                let retryable = false;
                self.finish(
                    &pending,
                    Err(AllocError::Store {
                        handle,
                        message,
                        retryable,
                    }),
                );
            }
        }
    }

    /// The store cannot be used: all who wait are told at once, and may ask again.
    fn unavailable(&mut self, failure: &Failure) {
        let message = match failure {
            // Asked again, with the patience of those who wait.
            Failure::Ambiguous(_) => return,
            Failure::Unavailable(message) | Failure::Refused(message) => message,
        };
        let mut waiting: Vec<Pending> = std::mem::take(&mut self.queue).into_values().collect();
        if let Some(doubt) = &mut self.in_doubt {
            let entries = std::mem::take(&mut doubt.draft.entries);
            waiting.extend(entries.into_iter().map(|e| e.pending));
        }
        for pending in waiting {
            let (handle, message) = (pending.subject(), message.clone());
            let retryable = true;
            self.finish(
                &pending,
                Err(AllocError::Store {
                    handle,
                    message,
                    retryable,
                }),
            );
        }
    }

    /// Asks what became of the transaction in doubt, and keeps it from being applied from now on.
    pub(super) fn settle_txn(&self, id: TxnId) -> Option<Txn> {
        let doubt = self.in_doubt.as_ref()?;
        let key = keys::fence(&self.options.node);
        let mut txn = Txn::new()
            .when(Compare::ModRevision(key.clone(), self.fence.seen?))
            .then(Op::put(key.clone(), self.fence_value(id)))
            .otherwise(Op::Get(key.clone()));
        for other in doubt.compared.iter().map(key_of).filter(|k| *k != key) {
            txn.success.push(Op::Get(other.to_owned()));
            txn.failure.push(Op::Get(other.to_owned()));
        }
        Some(txn)
    }

    fn settled(&mut self, outcome: &TxnOutcome) {
        let Some(doubt) = self.in_doubt.take() else {
            return;
        };
        let key = keys::fence(&self.options.node);
        let others = doubt.compared.iter().map(|c| key_of(c).to_owned());
        let others: Vec<String> = others.filter(|k| *k != key).collect();
        let (fence, gets) = if outcome.succeeded {
            (None, outcome.gets.as_slice())
        } else {
            match outcome.gets.split_first() {
                Some((fence, gets)) => (fence.as_ref(), gets),
                None => (None, outcome.gets.as_slice()),
            }
        };
        let ours = fence.filter(|kv| kv.value == self.fence_value(doubt.id));
        self.fence.held = outcome.succeeded || ours.is_some();
        self.fence.seen = if outcome.succeeded {
            Some(outcome.revision)
        } else {
            fence.map(|kv| kv.mod_revision)
        };
        if self.fence.held {
            self.fence.own = self.fence.seen;
        }
        let applied_at = ours.map(|kv| kv.mod_revision);
        if let Some(at) = applied_at {
            doubt.draft.commit(&mut self.world, at);
        }
        for (key, kv) in others.iter().zip(gets) {
            self.world.learn_key(key, kv.as_ref(), outcome.revision);
        }
        self.world.removals += 1;
        let identities: Vec<String> = doubt.draft.identities().map(str::to_owned).collect();
        for entry in doubt.draft.entries {
            match applied_at {
                Some(at) => self.finish(&entry.pending, Ok(entry.reply.committed(at))),
                None => {
                    self.queue.insert(entry.pending.seq, entry.pending);
                }
            }
        }
        for identity in identities {
            self.world.forget(&identity);
        }
    }
}

fn holds(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    match compare {
        Compare::Absent(_) => kv.is_none(),
        Compare::Present(_) => kv.is_some(),
        Compare::ModRevision(_, rev) => kv.is_some_and(|kv| kv.mod_revision == *rev),
    }
}
