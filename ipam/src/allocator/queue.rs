//! The waiting requests: planned in order into a transaction, done by others, ended.

use std::collections::HashSet;

use super::draft::{Draft, Entry, NoFit};
use super::pending::{Origin, Pending, Work};
use super::plan::{Halt, Planner};
use super::{Allocator, Parent};
use crate::error::AllocError;
use crate::request::Reply;

/// Requests by number, and the keys that are read for each.
pub(super) type Readers = Vec<(u64, Vec<String>)>;

impl Allocator {
    /// Plans the waiting requests in order, until the transaction is full.
    pub(super) fn fill(&mut self, now: u64) -> (Draft, Readers) {
        let mut draft = Draft::default();
        let mut readers = Vec::new();
        // Handles of requests passed over: later ones on the same handle must not overtake.
        let mut held: HashSet<String> = HashSet::new();
        let mut cursor = 0;
        while let Some((&seq, _)) = self.queue.range(cursor..).next() {
            cursor = seq + 1;
            let Some(mut pending) = self.queue.remove(&seq) else {
                break;
            };
            let blocked = |h: &str| held.contains(h) || draft.touches(h);
            let crowd = pending.alone && !draft.entries.is_empty();
            if crowd || pending.handles().any(blocked) {
                held.extend(pending.handles().map(str::to_owned));
                self.queue.insert(seq, pending);
                continue;
            }
            let planned = match &self.view {
                Some(view) => Planner {
                    node: &self.options.node,
                    world: &self.world,
                    view,
                    draft: &draft,
                    now,
                    searched: &self.searched,
                }
                .plan(&pending),
                None => Err(Halt::Wait("the first snapshot")),
            };
            let reads = match planned {
                Ok(step) => match draft.fits(&step) {
                    Ok(()) => {
                        let alone = pending.alone;
                        draft.add(&self.world, pending, step, now);
                        if alone {
                            break;
                        }
                        continue;
                    }
                    Err(NoFit::Full) if draft.is_empty() => {
                        let handle = pending.subject();
                        let message = "needs more operations than one transaction may have";
                        let message = message.to_owned();
                        self.finish(&pending, Err(AllocError::Invalid { handle, message }));
                        continue;
                    }
                    Err(NoFit::Full) => {
                        self.queue.insert(seq, pending);
                        break;
                    }
                    Err(NoFit::Conflict) => Vec::new(),
                },
                Err(Halt::Read(keys)) => keys,
                Err(Halt::Wait(what)) => {
                    pending.waiting_for = what;
                    Vec::new()
                }
                Err(Halt::Spawn(children)) => {
                    self.spawn(now, pending, children);
                    continue;
                }
                Err(Halt::Answer(result, depends)) => {
                    let fresh = |key: &String| pending.read.contains(key);
                    let unread: Vec<String> = depends.into_iter().filter(|k| !fresh(k)).collect();
                    // A refusal that rests on what this transaction takes waits for its outcome.
                    let premature = result.is_err() && !draft.entries.is_empty();
                    if unread.is_empty() && !premature {
                        self.finish(&pending, result);
                        continue;
                    }
                    if premature { Vec::new() } else { unread }
                }
            };
            held.extend(pending.handles().map(str::to_owned));
            let reads: Vec<String> = reads
                .into_iter()
                .filter(|k| draft.read(k.clone()))
                .collect();
            if !reads.is_empty() {
                readers.push((seq, reads));
            }
            self.queue.insert(seq, pending);
        }
        (draft, readers)
    }

    fn spawn(&mut self, now: u64, pending: Pending, children: Vec<Work>) {
        let (seq, deadline) = (pending.seq, pending.deadline);
        let gone = pending.only_if_gone.clone();
        let outstanding = children.len();
        for work in children {
            self.enqueue(now, deadline, Origin::Reclaim(seq), work, gone.clone());
        }
        let error = None;
        let parent = Parent {
            pending,
            outstanding,
            error,
        };
        self.parents.insert(seq, parent);
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, pending: &Pending, result: Result<Reply, AllocError>) {
        for handle in pending.handles() {
            self.world.forget(handle);
        }
        match pending.origin {
            Origin::Caller(id) => self.replies.push_back((id, result)),
            Origin::Reclaim(seq) => self.child_done(seq, result),
            Origin::Upkeep => {
                if let Work::ReleaseBlock(cidr) = &pending.work {
                    self.going_back.remove(cidr);
                }
            }
        }
    }

    fn child_done(&mut self, seq: u64, result: Result<Reply, AllocError>) {
        let Some(parent) = self.parents.get_mut(&seq) else {
            return;
        };
        parent.outstanding -= 1;
        match (result, &mut parent.pending.work) {
            (Ok(Reply::Released(released)), Work::Reclaim(reclaim)) => {
                reclaim.released.holders.extend(released.holders);
                reclaim.released.addresses.extend(released.addresses);
                reclaim.released.blocks.extend(released.blocks);
            }
            // Someone took an address of it meanwhile: the next round sees that.
            (Ok(_) | Err(AllocError::BlockInUse { .. }), _) => {}
            (Err(error), _) => parent.error = Some(error),
        }
        if parent.outstanding > 0 {
            return;
        }
        if let Some(mut parent) = self.parents.remove(&seq) {
            if let Some(error) = parent.error {
                return self.finish(&parent.pending, Err(error));
            }
            if let Work::Reclaim(reclaim) = &mut parent.pending.work {
                reclaim.rounds += 1;
            }
            self.queue.insert(seq, parent.pending);
            self.resumed = true;
        }
    }

    /// Answers the requests whose time is up.
    pub(super) fn expire(&mut self, now: u64) {
        let late = self.queue.values().filter(|p| p.deadline <= now);
        let late: Vec<u64> = late.map(|p| p.seq).collect();
        let mut expired: Vec<Pending> = late.iter().filter_map(|s| self.queue.remove(s)).collect();
        if let Some(doubt) = &mut self.in_doubt {
            let entries = std::mem::take(&mut doubt.draft.entries);
            let (late, rest) = entries.into_iter().partition(|e| e.pending.deadline <= now);
            doubt.draft.entries = rest;
            let late: Vec<Entry> = late;
            expired.extend(late.into_iter().map(|e| Pending {
                waiting_for: "the datastore to say whether it was done",
                ..e.pending
            }));
        }
        for pending in expired {
            let error = AllocError::Timeout {
                handle: pending.subject(),
                after_ms: now.saturating_sub(pending.since),
                waiting_for: pending.waiting_for.to_owned(),
            };
            self.finish(&pending, Err(error));
        }
    }
}
