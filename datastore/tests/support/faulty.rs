//! Stores that misbehave on demand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use datastore::{Datastore, Error, Health, Operation, Watch, WatchItem};
use model::kv::{KeyValue, LeaseId, Revision, Txn, TxnOutcome};
use tokio::sync::{mpsc, watch};

/// Every how many calls something goes wrong; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A listing breaks off after its first page.
    pub(crate) lists: usize,
    /// A watch fails after a few items.
    pub(crate) watches: usize,
    /// A watch says nothing, ever.
    pub(crate) silent: usize,
}

/// Passes everything to another store, except for the faults.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<State>);

struct State {
    inner: RwLock<Arc<dyn Datastore>>,
    faults: Faults,
    /// Calls so far that could have had each of the faults.
    calls: [AtomicUsize; 3],
    injected: AtomicUsize,
    cut: AtomicBool,
    /// How many leases were renewed.
    renewals: watch::Sender<usize>,
    /// Ends all watches.
    broken: watch::Sender<()>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Datastore>, faults: Faults) -> Faulty {
        Faulty(Arc::new(State {
            inner: RwLock::new(inner),
            faults,
            calls: Default::default(),
            injected: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
            renewals: watch::Sender::new(0),
            broken: watch::Sender::new(()),
        }))
    }

    /// Another store answers from now on; all connections break.
    pub(crate) fn replace(&self, inner: Arc<dyn Datastore>) {
        *self.0.inner.write().unwrap() = inner;
        self.0.broken.send_replace(());
    }

    /// Whether nothing works.
    pub(crate) fn cut(&self, cut: bool) {
        self.0.cut.store(cut, Ordering::SeqCst);
        self.0.broken.send_replace(());
    }

    /// How many faults happened.
    pub(crate) fn injected(&self) -> usize {
        self.0.injected.load(Ordering::SeqCst)
    }

    /// How many leases were renewed; can be awaited.
    pub(crate) fn renewals(&self) -> watch::Receiver<usize> {
        self.0.renewals.subscribe()
    }

    fn inner(&self, operation: Operation) -> Result<Arc<dyn Datastore>, Error> {
        if self.0.cut.load(Ordering::SeqCst) {
            return Err(broken(operation, "cut"));
        }
        Ok(self.0.inner.read().unwrap().clone())
    }

    fn now(&self, fault: usize, every: usize) -> bool {
        let call = self.0.calls[fault].fetch_add(1, Ordering::SeqCst);
        let now = every > 0 && (call + 1).is_multiple_of(every);
        self.0
            .injected
            .fetch_add(usize::from(now), Ordering::SeqCst);
        now
    }
}

fn broken(operation: Operation, message: &str) -> Error {
    Error::Unavailable {
        operation,
        object: "test".into(),
        message: message.into(),
        sent: true,
    }
}

#[async_trait]
impl Datastore for Faulty {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        self.inner(Operation::Get)?.get(key).await
    }

    async fn list_pages(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<KeyValue>) + Send),
    ) -> Result<Revision, Error> {
        let inner = self.inner(Operation::List)?;
        if self.now(0, self.0.faults.lists) {
            let mut items = inner.list(prefix).await?.items;
            items.truncate(items.len() / 2);
            sink(items);
            return Err(broken(Operation::List, "half a listing"));
        }
        inner.list_pages(prefix, sink).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        self.inner(Operation::Txn)?.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let mut end = self.0.broken.subscribe();
        let mut inner = self.inner(Operation::Watch)?.watch(prefix, from).await?;
        let silent = self.now(1, self.0.faults.silent);
        let mut left = match self.now(2, self.0.faults.watches) {
            true => 3,
            false => usize::MAX,
        };
        let (items, queue) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                let item = tokio::select! {
                    _ = end.changed() => break,
                    item = inner.next(), if !silent => item,
                };
                let Some(item) = item else { return };
                if left == 0 || items.send(item).await.is_err() {
                    break;
                }
                left -= 1;
            }
            let failed = WatchItem::Failed(broken(Operation::Watch, "cut"));
            let _ = items.send(failed).await;
        });
        Ok(Watch::new(queue, task))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner(Operation::Grant)?.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        let left = self.inner(Operation::KeepAlive)?.keep_alive(lease).await?;
        self.0.renewals.send_modify(|n| *n += 1);
        Ok(left)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner(Operation::Revoke)?.revoke(lease).await
    }

    async fn health(&self) -> Result<Health, Error> {
        self.inner(Operation::Health)?.health().await
    }
}
