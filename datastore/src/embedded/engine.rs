//! The thread that owns all writing: it commits everything that waits as one database transaction.
//!
//! ```text
//!  callers ──Command──► queue ──all that waits──► apply each ──► one commit (fsync) ──► answers
//!                                                                     └──► history ──► watches
//! ```
//!
//! One fsync carries as many transactions as arrived during the one before, so throughput grows
//! with the number of callers while a single caller still waits for one fsync only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use model::kv::{Event, LeaseId, Revision, Txn, TxnOutcome};
use redb::Database;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::history::{Follow, History};
use super::tables::{Refused, Tables};
use crate::error::{Error, Operation};
use crate::store::describe_txn;

/// Most commands that share one commit; bounds how long the first of them waits.
const BATCH: usize = 1024;

/// Asked of the engine.
pub(super) enum Command {
    Txn(Txn, oneshot::Sender<Result<TxnOutcome, Error>>),
    Grant(Duration, oneshot::Sender<Result<LeaseId, Error>>),
    KeepAlive(LeaseId, oneshot::Sender<Result<Duration, Error>>),
    Revoke(LeaseId, oneshot::Sender<Result<(), Error>>),
    Follow(Revision, oneshot::Sender<Option<Follow>>),
    Expire(oneshot::Sender<Result<(), Error>>),
    Stop,
}

/// An answer that waits for the commit.
enum Answer {
    Txn(
        oneshot::Sender<Result<TxnOutcome, Error>>,
        String,
        TxnOutcome,
    ),
    Grant(oneshot::Sender<Result<LeaseId, Error>>, LeaseId, Duration),
    Revoke(oneshot::Sender<Result<(), Error>>, LeaseId),
    Expire(oneshot::Sender<Result<(), Error>>),
}

struct Lease {
    ttl: Duration,
    expires: Duration,
}

pub(super) struct Engine {
    db: Arc<Database>,
    clock: Arc<dyn Clock>,
    leases: BTreeMap<LeaseId, Lease>,
    history: History,
    /// The last write failed.
    broken: bool,
}

impl Engine {
    /// Leases live on from now with their full time: nobody could renew them while we were down.
    pub(super) fn new(
        db: Arc<Database>,
        clock: Arc<dyn Clock>,
        revision: Revision,
        leases: Vec<(LeaseId, u64)>,
        history: usize,
    ) -> Engine {
        let now = clock.now();
        let leases = leases
            .into_iter()
            .map(|(id, ms)| {
                let ttl = Duration::from_millis(ms);
                let expires = now + ttl;
                (id, Lease { ttl, expires })
            })
            .collect();
        Engine {
            db,
            clock,
            leases,
            history: History::new(revision, history),
            broken: false,
        }
    }

    /// Serves commands until it is stopped or every sender is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let first = match commands.recv_timeout(self.until_next_expiry()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch: Vec<Command> = first.into_iter().collect();
            while batch.len() < BATCH {
                let Ok(command) = commands.try_recv() else {
                    break;
                };
                batch.push(command);
            }
            if self.serve(batch) {
                return;
            }
        }
    }

    fn until_next_expiry(&self) -> Duration {
        // A broken disk is not tried more often than this just for expired leases.
        let least = Duration::from_millis(if self.broken { 1000 } else { 1 });
        let now = self.clock.now();
        self.leases
            .values()
            .map(|l| l.expires.saturating_sub(now))
            .min()
            .unwrap_or(Duration::from_secs(3600))
            .max(least)
    }

    /// Returns whether to stop.
    fn serve(&mut self, batch: Vec<Command>) -> bool {
        let mut stop = false;
        let mut writes = Vec::new();
        for command in batch {
            match command {
                Command::Stop => stop = true,
                // A renewal changes memory only: a restart gives every lease its full time anyway.
                Command::KeepAlive(id, reply) => {
                    let _ = reply.send(self.keep_alive(id));
                }
                // After the writes that were asked before it, hence not answered here.
                other => writes.push(other),
            }
        }
        self.write(writes);
        stop
    }

    fn keep_alive(&mut self, id: LeaseId) -> Result<Duration, Error> {
        let now = self.clock.now();
        match self.leases.get_mut(&id) {
            Some(lease) if lease.expires > now => {
                lease.expires = now + lease.ttl;
                Ok(lease.ttl)
            }
            _ => Err(Error::LeaseNotFound {
                operation: Operation::KeepAlive,
                lease: id,
            }),
        }
    }

    fn due(&self) -> Vec<LeaseId> {
        let now = self.clock.now();
        self.leases
            .iter()
            .filter(|(_, l)| l.expires <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    fn write(&mut self, commands: Vec<Command>) {
        let due = self.due();
        let follows_only = commands.iter().all(|c| matches!(c, Command::Follow(..)));
        if due.is_empty() && follows_only {
            for command in commands {
                self.follow(command);
            }
            return;
        }
        let mut answers = Vec::new();
        let mut follows = Vec::new();
        let mut changes = Vec::new();
        let done = self.apply(&due, commands, &mut answers, &mut follows, &mut changes);
        // Whether it was carried out is open once the commit was begun.
        let failed = done.err().map(|(e, ambiguous)| (e.to_string(), ambiguous));
        if failed.is_none() {
            let now = self.clock.now();
            for id in due {
                self.leases.remove(&id);
            }
            for answer in &answers {
                match answer {
                    Answer::Grant(_, id, ttl) => {
                        let (ttl, expires) = (*ttl, now + *ttl);
                        self.leases.insert(*id, Lease { ttl, expires });
                    }
                    Answer::Revoke(_, id) => {
                        self.leases.remove(id);
                    }
                    Answer::Txn(..) | Answer::Expire(_) => {}
                }
            }
            for events in changes {
                self.history.push(events);
            }
        }
        for answer in answers {
            answer.send(failed.as_ref());
        }
        for follow in follows {
            self.follow(follow);
        }
        if let Some((message, _)) = &failed
            && !self.broken
        {
            tracing::error!(%message, "the embedded datastore cannot write");
        }
        self.broken = failed.is_some();
    }

    /// Applies all commands in one database transaction and commits it.
    fn apply(
        &self,
        due: &[LeaseId],
        commands: Vec<Command>,
        answers: &mut Vec<Answer>,
        follows: &mut Vec<Command>,
        changes: &mut Vec<Vec<Event>>,
    ) -> Result<(), (redb::Error, bool)> {
        let db = self.db.begin_write().map_err(|e| (e.into(), false))?;
        let mut broken = None;
        let dirty = {
            let mut tables = Tables::open(&db).map_err(|e| (e, false))?;
            for id in due {
                match tables.revoke(*id) {
                    Ok(events) => changes.push(events),
                    Err(e) => broken = Some(e),
                }
            }
            for command in commands {
                // After a broken one too, so that everybody gets an answer: all of it is undone.
                match command {
                    Command::Txn(txn, reply) => {
                        let name = describe_txn(&txn);
                        let unknown = TxnOutcome {
                            succeeded: false,
                            revision: 0,
                            gets: Vec::new(),
                        };
                        match tables.txn(&txn) {
                            Ok((outcome, events)) => {
                                changes.push(events);
                                answers.push(Answer::Txn(reply, name, outcome));
                            }
                            Err(Refused::NoLease(lease)) => {
                                let _ = reply.send(Err(Error::LeaseNotFound {
                                    operation: Operation::Txn,
                                    lease,
                                }));
                            }
                            Err(Refused::Storage(e)) => {
                                broken = Some(e);
                                answers.push(Answer::Txn(reply, name, unknown));
                            }
                        }
                    }
                    Command::Grant(ttl, reply) => {
                        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                        match tables.grant(ms) {
                            Ok(id) => answers.push(Answer::Grant(reply, id, ttl)),
                            Err(e) => {
                                broken = Some(e);
                                answers.push(Answer::Grant(reply, LeaseId(0), ttl));
                            }
                        }
                    }
                    Command::Revoke(id, reply) => {
                        match tables.revoke(id) {
                            Ok(events) => changes.push(events),
                            Err(e) => broken = Some(e),
                        }
                        answers.push(Answer::Revoke(reply, id));
                    }
                    Command::Expire(reply) => answers.push(Answer::Expire(reply)),
                    follow @ Command::Follow(..) => follows.push(follow),
                    Command::KeepAlive(..) | Command::Stop => {}
                }
            }
            tables.dirty
        };
        if let Some(e) = broken {
            // Dropping the database transaction undoes all of it.
            return Err((e, false));
        }
        if dirty {
            db.commit().map_err(|e| (e.into(), true))?;
        }
        Ok(())
    }

    fn follow(&self, command: Command) {
        if let Command::Follow(from, reply) = command {
            let _ = reply.send(self.history.follow(from));
        }
    }
}

impl Answer {
    /// Sends the answer; `failed` is the database's message and whether the fate is open.
    fn send(self, failed: Option<&(String, bool)>) {
        let error = |operation, object: String| {
            failed.map(|(message, ambiguous)| Error::Storage {
                operation,
                object,
                message: message.clone(),
                ambiguous: *ambiguous,
            })
        };
        // Nobody waiting any more is no error: its deadline passed.
        match self {
            Answer::Txn(reply, name, outcome) => {
                let _ = reply.send(error(Operation::Txn, name).map_or(Ok(outcome), Err));
            }
            Answer::Grant(reply, id, _) => {
                let e = error(Operation::Grant, "a lease".into());
                let _ = reply.send(e.map_or(Ok(id), Err));
            }
            Answer::Revoke(reply, id) => {
                let e = error(Operation::Revoke, format!("lease {:x}", id.0));
                let _ = reply.send(e.map_or(Ok(()), Err));
            }
            Answer::Expire(reply) => {
                let e = error(Operation::Revoke, "expired leases".into());
                let _ = reply.send(e.map_or(Ok(()), Err));
            }
        }
    }
}
