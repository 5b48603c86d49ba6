//! The store of a single node: one redb file (or memory), written by one thread.
//!
//! ```text
//!  get, list ─────────► read transaction (never waits for writers)
//!  txn, leases ──► Engine thread: group commit, fsync ──► History ──► watch tasks
//! ```
//!
//! Invariants:
//! * an answered write is on disk; concurrent writers share one fsync;
//! * revisions are kept across restarts, the history of changes is not (watches list again);
//! * only one process has the file open.

mod clock;
mod engine;
mod follow;
mod history;
mod reader;
mod tables;
#[cfg(test)]
mod tests;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::kv::{KeyValue, LeaseId, Revision, Txn, TxnOutcome};
use redb::Database;
use tokio::sync::{mpsc, oneshot};

pub use clock::{Clock, ManualClock, SystemClock};
use engine::{Command, Engine};

use crate::error::{Error, Operation};
use crate::store::{Datastore, Health, Watch, check_txn, describe_txn};

/// Changes kept for watches that begin in the past.
const HISTORY: usize = 10_000;
/// Memory for the database's own cache.
const CACHE_BYTES: usize = 32 << 20;

/// A store in one file, or in memory for tests.
pub struct Embedded {
    db: Arc<Database>,
    commands: std_mpsc::Sender<Command>,
    engine: Option<std::thread::JoinHandle<()>>,
    deadline: Duration,
    /// File name, for messages.
    name: String,
    id: u64,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens or creates the file; its directory must exist.
    pub async fn open(path: &Path, deadline: Duration) -> Result<Embedded, Error> {
        let clock = Arc::new(SystemClock::default());
        Embedded::open_with(path, deadline, clock, HISTORY).await
    }

    /// As [`open`](Embedded::open), with a clock for leases and the number of changes to keep.
    pub async fn open_with(
        path: &Path,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        history: usize,
    ) -> Result<Embedded, Error> {
        let path = path.to_owned();
        let name = path.display().to_string();
        blocking(Operation::Open, &name.clone(), move || {
            // Secrets may lie in it: for nobody but us.
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .map_err(|e| storage(Operation::Open, &path.display().to_string(), &e))?;
            let db = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&path)
                .map_err(|e| match e {
                    redb::DatabaseError::DatabaseAlreadyOpen => Error::Locked {
                        path: path.display().to_string(),
                    },
                    other => storage(Operation::Open, &path.display().to_string(), &other),
                })?;
            Embedded::start(db, name, deadline, clock, history)
        })
        .await?
    }

    /// A store that is gone when it is dropped.
    pub fn in_memory() -> Result<Embedded, Error> {
        Embedded::in_memory_with(Arc::new(SystemClock::default()), HISTORY)
    }

    /// As [`in_memory`](Embedded::in_memory), with a clock for leases and the number of changes to
    /// keep.
    pub fn in_memory_with(clock: Arc<dyn Clock>, history: usize) -> Result<Embedded, Error> {
        let backend = redb::backends::InMemoryBackend::new();
        Embedded::over(backend, clock, history)
    }

    /// A store over anything that keeps bytes.
    fn over(
        backend: impl redb::StorageBackend,
        clock: Arc<dyn Clock>,
        history: usize,
    ) -> Result<Embedded, Error> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|e| storage(Operation::Open, "memory", &e))?;
        let deadline = crate::DEFAULT_DEADLINE;
        Embedded::start(db, "memory".into(), deadline, clock, history)
    }

    fn start(
        db: Database,
        name: String,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        history: usize,
    ) -> Result<Embedded, Error> {
        let failed = |e: redb::Error| storage(Operation::Open, &name, &e);
        let begin = reader::prepare(&db).map_err(failed)?;
        let db = Arc::new(db);
        let engine = Engine::new(db.clone(), clock, begin.revision, begin.leases, history);
        let (commands, queue) = std_mpsc::channel();
        let engine = std::thread::Builder::new()
            .name("datastore".into())
            .spawn(move || engine.run(&queue))
            .map_err(|e| storage(Operation::Open, &name, &e))?;
        Ok(Embedded {
            db,
            commands,
            engine: Some(engine),
            deadline,
            name,
            id: begin.id,
        })
    }

    /// Expires the leases that are due now, without waiting for the timer.
    pub async fn expire(&self) -> Result<(), Error> {
        let leases = || "expired leases".to_owned();
        self.ask(Operation::Revoke, leases, Command::Expire).await?
    }

    async fn ask<T>(
        &self,
        operation: Operation,
        object: impl Fn() -> String,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let closed = || Error::Closed {
            operation,
            object: object(),
        };
        self.commands.send(command(reply)).map_err(|_| closed())?;
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(answer) => answer.map_err(|_| closed()),
            Err(_) => Err(Error::Timeout {
                operation,
                object: object(),
                after: self.deadline,
            }),
        }
    }

    async fn within<T>(
        &self,
        operation: Operation,
        object: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::time::timeout(self.deadline, work)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Timeout {
                    operation,
                    object: object.to_owned(),
                    after: self.deadline,
                })
            })
    }
}

impl Drop for Embedded {
    /// Ends the engine, so that the file is unlocked when this returns (reads still running keep
    /// it open until they end).
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
    }
}

#[async_trait]
impl Datastore for Embedded {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        let (db, wanted) = (self.db.clone(), key.to_owned());
        let read = blocking(Operation::Get, key, move || {
            reader::read_key(&db, &wanted).map_err(|e| storage(Operation::Get, &wanted, &e))
        });
        self.within(Operation::Get, key, read).await?
    }

    async fn list_pages(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<KeyValue>) + Send),
    ) -> Result<Revision, Error> {
        let (db, owned) = (self.db.clone(), prefix.to_owned());
        let (pages, mut incoming) = mpsc::channel(1);
        let reader = blocking(Operation::List, prefix, move || {
            reader::read_pages(&db, &owned, &pages)
                .map_err(|e| storage(Operation::List, &owned, &e))
        });
        let forward = async {
            loop {
                let page =
                    self.within(Operation::List, prefix, async { Ok(incoming.recv().await) });
                match page.await? {
                    Some(page) => sink(page),
                    None => return Ok(()),
                }
            }
        };
        let (revision, forwarded) = tokio::join!(reader, forward);
        forwarded?;
        revision?
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        check_txn(&txn)?;
        let name = describe_txn(&txn);
        let name = || name.clone();
        self.ask(Operation::Txn, name, |r| Command::Txn(txn, r))
            .await?
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let (items, queue) = mpsc::channel(Watch::QUEUE);
        let prefix = prefix.to_owned();
        let commands = self.commands.clone();
        let name = || prefix.clone();
        let first = self
            .ask(Operation::Watch, name, |r| Command::Follow(from, r))
            .await?;
        let task = tokio::spawn(async move {
            let last = follow::follow(&commands, &prefix, from, first, &items).await;
            if let Some(last) = last {
                let _ = items.send(last).await;
            }
        });
        Ok(Watch::new(queue, task))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let ttl = crate::store::whole_seconds(ttl);
        let name = || "a lease".to_owned();
        self.ask(Operation::Grant, name, |r| Command::Grant(ttl, r))
            .await?
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        let name = || format!("lease {:x}", lease.0);
        self.ask(Operation::KeepAlive, name, |r| Command::KeepAlive(lease, r))
            .await?
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let name = || format!("lease {:x}", lease.0);
        self.ask(Operation::Revoke, name, |r| Command::Revoke(lease, r))
            .await?
    }

    async fn health(&self) -> Result<Health, Error> {
        let begin = Instant::now();
        let (db, name) = (self.db.clone(), self.name.clone());
        let read = blocking(Operation::Health, &self.name, move || {
            reader::revision(&db).map_err(|e| storage(Operation::Health, &name, &e))
        });
        let revision = self.within(Operation::Health, &self.name, read).await??;
        Ok(Health {
            endpoint: self.name.clone(),
            cluster_id: self.id,
            leader: true,
            revision,
            latency: begin.elapsed(),
        })
    }
}

async fn blocking<T: Send + 'static>(
    operation: Operation,
    object: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| storage(operation, object, &e))
}

fn storage(operation: Operation, object: &str, error: &dyn std::error::Error) -> Error {
    Error::Storage {
        operation,
        object: object.to_owned(),
        message: error.to_string(),
        ambiguous: false,
    }
}
