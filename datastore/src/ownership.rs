//! Which daemon is a node: a leased key, so that two daemons never act under one name.
//!
//! ```text
//!  claim ─► owners/<node> = {instance, host, since} on a lease
//!            │ ours already (restart): taken over at once
//!            │ another's: refused
//!            ▼
//!  task: every third of the time to live: renew, look whether the key is still ours
//!            │ lease or key gone: claim again          │ another's: Lost, and the task ends
//! ```
//!
//! Invariant: while the state is [`Held`](OwnershipState::Held) no other instance has claimed the
//! node at the last look; nothing but the lease's expiry or [`Ownership::release`] frees it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::keys;
use model::kv::{Compare, KeyValue, LeaseId, Op, Revision, Txn};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::{Backoff, random};
use crate::error::Error;
use crate::store::Datastore;

/// Who claims, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Differs between daemons, and stays the same over restarts of one (kept in its state_dir).
    pub instance: String,
    /// The host it runs on, for people.
    #[serde(default)]
    pub hostname: String,
    /// Boot of that host, for people.
    #[serde(default)]
    pub boot_id: String,
    /// When it claimed first, in seconds since 1970.
    #[serde(default)]
    pub since: u64,
}

impl Owner {
    /// An owner from now on.
    pub fn new(instance: impl Into<String>, hostname: impl Into<String>) -> Owner {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Owner {
            instance: instance.into(),
            hostname: hostname.into(),
            boot_id: String::new(),
            since: since.map_or(0, |d| d.as_secs()),
        }
    }
}

/// Why a node could not be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another daemon is this node.
    #[error(
        "node {node} is already run by another routerd on host {} (instance {}); \
         stop that one or set another `node` in routerd.toml",
        owner.hostname, owner.instance
    )]
    TakenBy {
        /// The node.
        node: String,
        /// The other daemon.
        owner: Owner,
    },
    /// The key holds something that is no owner.
    #[error(
        "node {node}: the stored key {key} is unreadable ({message}); delete it if no routerd runs as {node}"
    )]
    Unreadable {
        /// The node.
        node: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// The store failed.
    #[error("cannot claim node {node}: {source}")]
    Store {
        /// The node.
        node: String,
        /// Why.
        source: Error,
    },
}

impl ClaimError {
    /// Whether trying again later makes sense without anybody doing something.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ClaimError::Store { source, .. } if source.is_retryable())
    }
}

/// How the claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipState {
    /// The node was ours at the last look.
    Held,
    /// The store does not answer since the last look; the lease may run out.
    Unconfirmed(String),
    /// Somebody else is this node now. Final.
    Lost(ClaimError),
}

/// What a node is claimed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lease that its key hangs on.
    pub lease: LeaseId,
    /// Revision that wrote its key.
    pub revision: Revision,
}

/// A claimed node; dropping it stops the renewing but leaves the lease to run out, so that a
/// restart finds it still there.
#[derive(Debug)]
pub struct Ownership {
    state: watch::Receiver<OwnershipState>,
    claim: watch::Receiver<Claim>,
    store: Store,
    task: JoinHandle<()>,
}

impl Ownership {
    /// How the claim stands; changes can be awaited.
    pub fn state(&self) -> watch::Receiver<OwnershipState> {
        self.state.clone()
    }

    /// The claim in force: a transaction that compares its revision is not carried out once somebody
    /// else is the node. It changes when the lease was lost and the node is claimed anew.
    pub fn claim(&self) -> watch::Receiver<Claim> {
        self.claim.clone()
    }

    /// Gives the node up at once, so that another daemon may claim it.
    pub async fn release(self) -> Result<(), Error> {
        self.task.abort();
        let lease = self.claim.borrow().lease;
        self.store.0.revoke(lease).await
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Only so that `Ownership` can be printed.
#[derive(Clone)]
struct Store(Arc<dyn Datastore>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Datastore")
    }
}

/// Claims a node for this daemon and keeps it claimed.
///
/// The same instance claims again at once, also while an earlier lease of its own still lives. A
/// lost answer needs no care: claiming again finds the own instance.
pub async fn claim(
    store: Arc<dyn Datastore>,
    node: &str,
    owner: Owner,
    ttl: Duration,
) -> Result<Ownership, ClaimError> {
    let claimer = Claimer {
        store: Store(store),
        node: node.to_owned(),
        owner,
        ttl,
    };
    let claim = claimer.claim().await?;
    tracing::info!(node, instance = %claimer.owner.instance, "node claimed");
    let (state_sender, state) = watch::channel(OwnershipState::Held);
    let (claims, claim) = watch::channel(claim);
    let store = claimer.store.clone();
    let task = tokio::spawn(claimer.keep(state_sender, claims));
    Ok(Ownership {
        state,
        claim,
        store,
        task,
    })
}

struct Claimer {
    store: Store,
    node: String,
    owner: Owner,
    ttl: Duration,
}

impl Claimer {
    async fn claim(&self) -> Result<Claim, ClaimError> {
        let store = &self.store.0;
        let lease = store.grant(self.ttl).await.map_err(|e| self.failed(e))?;
        let claimed = self.put(lease).await;
        if claimed.is_err() {
            // It runs out by itself if this fails as well.
            let _ = store.revoke(lease).await;
        }
        claimed.map(|revision| Claim { lease, revision })
    }

    /// Writes our key unless somebody else's is there.
    async fn put(&self, lease: LeaseId) -> Result<Revision, ClaimError> {
        let key = keys::owner(&self.node);
        let mut expected = Compare::Absent(key.clone());
        let mut owner = self.owner.clone();
        loop {
            let value = serde_json::to_vec(&owner).map_err(|e| self.unreadable(&e))?;
            let put = Op::Put {
                key: key.clone(),
                value,
                lease: Some(lease),
            };
            let txn = Txn::new()
                .when(expected)
                .then(put)
                .otherwise(Op::Get(key.clone()));
            let outcome = self.store.0.txn(txn).await.map_err(|e| self.failed(e))?;
            if outcome.succeeded {
                return Ok(outcome.revision);
            }
            // Each round is one change by somebody else, or its expiry.
            expected = match outcome.gets.into_iter().next().flatten() {
                None => Compare::Absent(key.clone()),
                Some(kv) => {
                    owner.since = self.ours(&kv)?.since;
                    Compare::ModRevision(key.clone(), kv.mod_revision)
                }
            };
        }
    }

    /// The stored owner, if it is this instance.
    fn ours(&self, kv: &KeyValue) -> Result<Owner, ClaimError> {
        let stored: Owner = serde_json::from_slice(&kv.value).map_err(|e| self.unreadable(&e))?;
        if stored.instance == self.owner.instance {
            return Ok(stored);
        }
        Err(self.taken(kv))
    }

    /// Renews until somebody else is the node.
    async fn keep(self, state: watch::Sender<OwnershipState>, claims: watch::Sender<Claim>) {
        let every = self.ttl / 3;
        let mut backoff = Backoff::new(every / 8, every);
        let mut claim = *claims.borrow();
        let mut pause = every;
        loop {
            tokio::time::sleep(pause).await;
            match self.renew(claim.lease).await {
                Ok(renewed) => {
                    if renewed != claim {
                        tracing::info!(node = %self.node, "node claimed again after its lease was lost");
                    }
                    claim = renewed;
                    claims.send_replace(claim);
                    set(&state, OwnershipState::Held);
                    backoff.reset();
                    pause = every;
                }
                Err(ClaimError::Store { source, .. }) => {
                    let unconfirmed = OwnershipState::Unconfirmed(source.to_string());
                    if *state.borrow() == OwnershipState::Held {
                        tracing::warn!(node = %self.node, error = %source, "cannot renew the node's claim");
                    }
                    set(&state, unconfirmed);
                    pause = backoff.pause(random());
                }
                Err(lost) => {
                    tracing::error!(error = %lost, "this daemon is no longer its node");
                    set(&state, OwnershipState::Lost(lost));
                    return;
                }
            }
        }
    }

    /// Renews the lease and looks at the key; claims again when either is gone.
    async fn renew(&self, lease: LeaseId) -> Result<Claim, ClaimError> {
        let store = &self.store.0;
        match store.keep_alive(lease).await {
            Ok(_) => {}
            Err(Error::LeaseNotFound { .. }) => return self.claim().await,
            Err(e) => return Err(self.failed(e)),
        }
        let found = store.get(&keys::owner(&self.node)).await;
        match found.map_err(|e| self.failed(e))? {
            Some(kv) if kv.lease == Some(lease) => Ok(Claim {
                lease,
                revision: kv.mod_revision,
            }),
            // Also when it has our instance: that is a copy of us, and it came later.
            Some(kv) => Err(self.taken(&kv)),
            None => {
                let revision = self.put(lease).await?;
                Ok(Claim { lease, revision })
            }
        }
    }

    fn taken(&self, kv: &KeyValue) -> ClaimError {
        match serde_json::from_slice(&kv.value) {
            Ok(owner) => ClaimError::TakenBy {
                node: self.node.clone(),
                owner,
            },
            Err(e) => self.unreadable(&e),
        }
    }

    fn failed(&self, source: Error) -> ClaimError {
        ClaimError::Store {
            node: self.node.clone(),
            source,
        }
    }

    fn unreadable(&self, e: &serde_json::Error) -> ClaimError {
        ClaimError::Unreadable {
            node: self.node.clone(),
            key: keys::owner(&self.node),
            message: e.to_string(),
        }
    }
}

fn set(state: &watch::Sender<OwnershipState>, new: OwnershipState) {
    state.send_if_modified(|s| {
        let changed = *s != new;
        *s = new;
        changed
    });
}
