//! The store of a mesh: etcd's v3 API.
//!
//! ```text
//!  operation ─► Pool: endpoint in use ─(deadline, fail-over)─► etcd member
//!  watch     ─► task: stream, asked for progress when silent ─► WatchItem
//! ```
//!
//! Invariants:
//! * every call ends within the deadline, even when etcd hangs;
//! * a transaction that may have been sent is never repeated here;
//! * no password, token or value is in an error or a log line.

mod convert;
mod pool;
mod status;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use etcd_client::{GetOptions, ResponseHeader};
use model::kv::{KeyValue, LeaseId, Revision, Txn, TxnOutcome};
use tokio::sync::mpsc;

use crate::config::EtcdConfig;
use crate::error::{Error, Operation};
use crate::store::{Datastore, Health, Watch, WatchItem, check_txn, describe_txn, whole_seconds};
use convert::{Keyspace, range_end};
use pool::{Chosen, Pool};
use status::Context;

/// Pairs in a page of a listing.
const PAGE: i64 = 5_000;
/// Largest message taken from etcd; a page that is larger is asked for again in smaller pieces.
const MESSAGE_LIMIT: usize = 64 << 20;

/// A store in etcd.
pub struct Etcd {
    pool: Arc<Pool>,
    keys: Keyspace,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// Reads the certificates; connects at first use.
    pub async fn new(config: &EtcdConfig, deadline: Duration) -> Result<Etcd, Error> {
        Ok(Etcd {
            pool: Arc::new(Pool::new(config, deadline).await?),
            keys: Keyspace::new(&config.prefix),
        })
    }

    /// One page of a listing: the pairs from `start` on, and whether there are more.
    async fn page(
        &self,
        what: Context<'_>,
        start: &[u8],
        end: &[u8],
        at: Option<Revision>,
        limit: i64,
    ) -> Result<Page, Error> {
        self.pool
            .run(what, |chosen: Chosen| async move {
                let mut options = GetOptions::new().with_range(end).with_limit(limit);
                if let Some(revision) = at {
                    options = options.with_revision(revision);
                }
                let mut kv = chosen
                    .client
                    .kv_client()
                    .max_decoding_message_size(MESSAGE_LIMIT);
                let mut response = kv
                    .get(start, Some(options))
                    .await
                    .map_err(|e| what.error(e))?;
                Ok(Page {
                    revision: response.header().map_or(0, ResponseHeader::revision),
                    more: response.more(),
                    kvs: response.take_kvs(),
                })
            })
            .await
    }
}

struct Page {
    kvs: Vec<etcd_client::KeyValue>,
    more: bool,
    revision: Revision,
}

fn about(operation: Operation, object: &str) -> Context<'_> {
    Context {
        operation,
        object,
        lease: None,
    }
}

#[async_trait]
impl Datastore for Etcd {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        let what = about(Operation::Get, key);
        let full = &self.keys.full(key);
        let mut response = self
            .pool
            .run(what, |chosen: Chosen| async move {
                let mut kv = chosen.client.kv_client();
                let got = kv.get(full.clone(), None).await;
                got.map_err(|e| what.error(e))
            })
            .await?;
        let first = response.take_kvs().into_iter().next();
        Ok(first.and_then(|kv| self.keys.pair(kv)))
    }

    async fn list_pages(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<KeyValue>) + Send),
    ) -> Result<Revision, Error> {
        let what = about(Operation::List, prefix);
        let mut start = self.keys.full(prefix);
        let end = range_end(&start);
        let mut revision = None;
        let mut limit = PAGE;
        loop {
            let page = match self.page(what, &start, &end, revision, limit).await {
                Ok(page) => page,
                // A page that is too large for one message.
                Err(Error::Invalid { .. }) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let at = *revision.get_or_insert(page.revision);
            if let Some(last) = page.kvs.last() {
                start = last.key().to_vec();
                start.push(0);
            }
            let pairs: Vec<_> = page
                .kvs
                .into_iter()
                .filter_map(|kv| self.keys.pair(kv))
                .collect();
            if !pairs.is_empty() {
                sink(pairs);
            }
            if !page.more {
                return Ok(at);
            }
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        check_txn(&txn)?;
        let name = describe_txn(&txn);
        let lease = crate::store::lease_of(&txn);
        let what = Context {
            operation: Operation::Txn,
            object: &name,
            lease,
        };
        let txn = &txn;
        let response = self
            .pool
            .run(what, |chosen: Chosen| async move {
                let mut kv = chosen.client.kv_client();
                let done = kv.txn(self.keys.txn(txn)).await;
                done.map_err(|e| what.error(e))
            })
            .await?;
        Ok(self.keys.outcome(&response))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let what = about(Operation::Watch, prefix);
        let (chosen, created) = self
            .pool
            .run(what, |chosen: Chosen| async move {
                let created = watch::create(&chosen, &self.keys, prefix, from, what).await?;
                Ok((chosen, created))
            })
            .await?;
        let (items, queue) = mpsc::channel(Watch::QUEUE);
        let (pool, keys, prefix) = (self.pool.clone(), self.keys.clone(), prefix.to_owned());
        let task = tokio::spawn(async move {
            let last = if created.compacted {
                Some(WatchItem::Compacted)
            } else {
                let patience = pool.deadline();
                watch::follow(created.stream, &keys, &prefix, from, patience, &items).await
            };
            if let Some(last) = last {
                if matches!(last, WatchItem::Failed(_)) {
                    pool.abandon(&chosen);
                }
                let _ = items.send(last).await;
            }
        });
        Ok(Watch::new(queue, task))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let what = about(Operation::Grant, "a lease");
        let seconds = i64::try_from(whole_seconds(ttl).as_secs()).unwrap_or(i64::MAX);
        self.pool
            .run(what, |chosen: Chosen| async move {
                let mut leases = chosen.client.lease_client();
                let granted = leases.grant(seconds, None).await;
                granted.map(|r| LeaseId(r.id())).map_err(|e| what.error(e))
            })
            .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, Error> {
        let object = format!("lease {:x}", lease.0);
        let what = Context {
            operation: Operation::KeepAlive,
            object: &object,
            lease: Some(lease),
        };
        self.pool
            .run(what, |chosen: Chosen| async move {
                let mut leases = chosen.client.lease_client();
                let opened = leases.keep_alive(lease.0).await;
                // The client keeps the first answer to itself, so ask once more for the time left.
                let (mut keeper, mut answers) = opened.map_err(|e| what.error(e))?;
                keeper.keep_alive().await.map_err(|e| what.error(e))?;
                let answer = answers.message().await.map_err(|e| what.error(e))?;
                match answer.map(|a| u64::try_from(a.ttl()).unwrap_or(0)) {
                    Some(0) => Err(Error::LeaseNotFound {
                        operation: Operation::KeepAlive,
                        lease,
                    }),
                    Some(seconds) => Ok(Duration::from_secs(seconds)),
                    None => Err(what.unavailable("etcd closed the keep-alive stream", true)),
                }
            })
            .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let object = format!("lease {:x}", lease.0);
        let what = Context {
            operation: Operation::Revoke,
            object: &object,
            lease: Some(lease),
        };
        let revoked = self
            .pool
            .run(what, |chosen: Chosen| async move {
                let mut leases = chosen.client.lease_client();
                let revoked = leases.revoke(lease.0).await;
                revoked.map(|_| ()).map_err(|e| what.error(e))
            })
            .await;
        match revoked {
            Err(Error::LeaseNotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn health(&self) -> Result<Health, Error> {
        let what = about(Operation::Health, "etcd");
        self.pool
            .run(what, |chosen: Chosen| async move {
                let begin = Instant::now();
                let mut maintenance = chosen.client.maintenance_client();
                let status = maintenance.status().await.map_err(|e| what.error(e))?;
                let header = status.header();
                Ok(Health {
                    endpoint: chosen.url,
                    cluster_id: header.map_or(0, ResponseHeader::cluster_id),
                    leader: status.leader() != 0,
                    revision: header.map_or(0, ResponseHeader::revision),
                    latency: begin.elapsed(),
                })
            })
            .await
    }
}
