//! A store that is nothing but a long listing, and counts how far it was read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use datastore::{Datastore, Error, Health, Operation, Watch};
use model::kv::{KeyValue, LeaseId, Revision, Txn, TxnOutcome};

pub(crate) struct Pages {
    pages: usize,
    given: AtomicUsize,
}

impl Pages {
    /// Pairs in a page.
    pub(crate) const SIZE: usize = 10;

    pub(crate) fn new(pages: usize) -> Pages {
        let given = AtomicUsize::new(0);
        Pages { pages, given }
    }

    /// Pages read so far.
    pub(crate) fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

fn unsupported<T>(operation: Operation) -> Result<T, Error> {
    let object = "pages".into();
    Err(Error::Closed { operation, object })
}

#[async_trait]
impl Datastore for Pages {
    async fn list_pages(
        &self,
        _: &str,
        sink: &mut (dyn FnMut(Vec<KeyValue>) + Send),
    ) -> Result<Revision, Error> {
        for page in 0..self.pages {
            let pair = |i| KeyValue {
                key: format!("{page:05}/{i}"),
                value: Vec::new(),
                create_revision: 1,
                mod_revision: 1,
                lease: None,
            };
            self.given.fetch_add(1, Ordering::SeqCst);
            sink((0..Pages::SIZE).map(pair).collect());
            // As a request for the next page would.
            tokio::task::yield_now().await;
        }
        Ok(1)
    }

    async fn health(&self) -> Result<Health, Error> {
        Ok(Health {
            endpoint: "pages".into(),
            cluster_id: 1,
            leader: true,
            revision: 1,
            latency: Duration::ZERO,
        })
    }

    async fn get(&self, _: &str) -> Result<Option<KeyValue>, Error> {
        unsupported(Operation::Get)
    }

    async fn txn(&self, _: Txn) -> Result<TxnOutcome, Error> {
        unsupported(Operation::Txn)
    }

    async fn watch(&self, _: &str, _: Revision) -> Result<Watch, Error> {
        unsupported(Operation::Watch)
    }

    async fn grant(&self, _: Duration) -> Result<LeaseId, Error> {
        unsupported(Operation::Grant)
    }

    async fn keep_alive(&self, _: LeaseId) -> Result<Duration, Error> {
        unsupported(Operation::KeepAlive)
    }

    async fn revoke(&self, _: LeaseId) -> Result<(), Error> {
        unsupported(Operation::Revoke)
    }
}
