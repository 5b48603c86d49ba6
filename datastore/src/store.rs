//! The trait that both backends implement, and what it talks about.

use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use model::kv::{Event, KeyValue, LeaseId, Op, Revision, Txn, TxnOutcome};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{Error, Operation};

/// Longest an operation may take unless configured otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// A store of keys with revisions, transactions, leases and watches.
///
/// Keys are relative to the configured prefix. Every operation ends within the store's deadline
/// and is linearizable: what was answered is seen by every read that begins later.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// One key, or `None`.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error>;

    /// Everything under a prefix at one revision, in key order, read in pages.
    ///
    /// `sink` gets each page, so memory stays bounded; the deadline holds for each page. After an
    /// error the pages given so far are worthless (the revision they were read at may be gone).
    /// Returns the revision of the listing.
    async fn list_pages(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<KeyValue>) + Send),
    ) -> Result<Revision, Error>;

    /// Everything under a prefix at one revision, held in memory at once.
    async fn list(&self, prefix: &str) -> Result<Listing, Error> {
        let mut items = Vec::new();
        let revision = self
            .list_pages(prefix, &mut |mut page| items.append(&mut page))
            .await?;
        Ok(Listing { items, revision })
    }

    /// Runs a transaction; durable when this returns.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error>;

    /// Events under a prefix with revision >= `from`, in revision order, without gap or repeat.
    ///
    /// The watch ends with [`WatchItem::Compacted`] or [`WatchItem::Failed`]; it never resumes by
    /// itself.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error>;

    /// A lease that lives for `ttl` (whole seconds, at least one) from now and from each keep-alive.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Renews a lease; returns the time it has left. [`Error::LeaseNotFound`] when it is gone.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error>;

    /// Ends a lease and deletes its keys; a lease that is gone already is no error.
    async fn revoke(&self, lease: LeaseId) -> Result<(), Error>;

    /// Asks the store for its state.
    async fn health(&self) -> Result<Health, Error>;
}

/// All pairs under a prefix at one revision, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The pairs.
    pub items: Vec<KeyValue>,
    /// The revision that all of them were read at.
    pub revision: Revision,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What answered: an endpoint, or the file of the embedded store.
    pub endpoint: String,
    /// Identity of the store; another one means other data. Zero when the store has none.
    pub cluster_id: u64,
    /// Whether the store has a leader, so that it can write.
    pub leader: bool,
    /// Latest revision.
    pub revision: Revision,
    /// Time that the answer took.
    pub latency: Duration,
}

/// What a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Changes, whole revisions only.
    Events {
        /// In revision order.
        events: Vec<Event>,
        /// Revision up to which everything was reported.
        revision: Revision,
    },
    /// Everything up to this revision was reported; nothing else happened.
    Progress(Revision),
    /// The revisions to report next are gone: list again. The watch is over.
    Compacted,
    /// The watch broke. The watch is over.
    Failed(Error),
}

/// A running watch; dropping it cancels it.
#[derive(Debug)]
pub struct Watch {
    items: mpsc::Receiver<WatchItem>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Items wait here until they are taken; a full queue stops the reading from the store.
    pub(crate) const QUEUE: usize = 64;

    /// A watch fed by `task`, which is ended when the watch is dropped.
    pub fn new(items: mpsc::Receiver<WatchItem>, task: JoinHandle<()>) -> Watch {
        Watch { items, task }
    }

    /// The next item; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<WatchItem> {
        self.items.recv().await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        self.items.poll_recv(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Refuses what etcd would refuse, so that both backends say the same.
pub(crate) fn check_txn(txn: &Txn) -> Result<(), Error> {
    let invalid = |message: String| {
        Err(Error::Invalid {
            operation: Operation::Txn,
            object: describe_txn(txn),
            message,
        })
    };
    let longest = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    if longest > Txn::MAX_OPS {
        return invalid(format!(
            "{longest} entries, at most {} are possible; split it",
            Txn::MAX_OPS
        ));
    }
    for branch in [&txn.success, &txn.failure] {
        let mut written = std::collections::HashSet::new();
        for op in branch {
            let key = op_key(op);
            if key.is_empty() {
                return invalid("an empty key".into());
            }
            if !matches!(op, Op::Get(_)) && !written.insert(key) {
                return invalid(format!("key {key} is written twice"));
            }
        }
    }
    Ok(())
}

/// Names a transaction in errors by the first key that it touches.
pub(crate) fn describe_txn(txn: &Txn) -> String {
    let first = txn.success.first().or(txn.failure.first()).map(op_key);
    let n = txn.success.len().max(txn.failure.len());
    match (first, n) {
        (Some(key), 0 | 1) => key.to_owned(),
        (Some(key), n) => format!("{key} and {} more", n - 1),
        (None, _) => "nothing".to_owned(),
    }
}

pub(crate) fn op_key(op: &Op) -> &str {
    match op {
        Op::Put { key, .. } | Op::Delete(key) | Op::Get(key) => key,
    }
}

/// Leases are counted in whole seconds, as etcd does.
pub(crate) fn whole_seconds(ttl: Duration) -> Duration {
    let up = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs((ttl.as_secs() + up).max(1))
}

/// The lease that a transaction's keys hang on, for messages.
pub(crate) fn lease_of(txn: &Txn) -> Option<LeaseId> {
    txn.success
        .iter()
        .chain(&txn.failure)
        .find_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete(_) | Op::Get(_) => None,
        })
}
