//! Follows the store: list, watch, list again when needed, and tell every change exactly once.
//!
//! ```text
//!             ┌────────────── broken, same store: resume ───────────────┐
//!             ▼                                                         │
//!  list ─► View ─► watch ─► View ─► bounded channel of Update ─► consumer
//!   ▲        │       │ compacted, silent, another store
//!   │      guard     └──────────► list
//!   └─ timer or accept ◄─ held
//! ```
//!
//! Invariants:
//! * the consumer that applies every update in order holds what the store held at that revision;
//! * nothing is lost or told twice over reconnects, compaction, leader changes and re-listing;
//! * an update that would remove too much at once is held, not told, until the objects are back or
//!   an operator accepts;
//! * a slow consumer slows the reading; it never makes memory grow.

mod driver;
mod guard;
mod peak;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use model::keys;
use model::kv::{Event, Revision};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use guard::{Guard, Held};

use crate::store::Datastore;

/// What to follow and how.
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Prefixes to follow; none may begin with another.
    pub prefixes: Vec<String>,
    /// What may not vanish all at once.
    pub guard: Guard,
    /// How many guarded keys were applied when the process ran last; 0 when unknown. With it, a
    /// store found nearly empty at start is held as well: [`Update::InSync`] is not told.
    pub remembered: usize,
    /// Longest that a watch may say nothing before the store is probed and listed again.
    pub silence: Duration,
    /// How often to list again while an update is held.
    pub relist: Duration,
    /// First and longest pause after an error.
    pub pause: (Duration, Duration),
    /// Updates that may wait for the consumer.
    pub queue: usize,
    /// Log nothing above debug: another follower of the same store tells the operator.
    pub quiet: bool,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            prefixes: vec![keys::RESOURCES.to_owned(), keys::BLOCKS.to_owned()],
            guard: Guard::default(),
            remembered: 0,
            silence: Duration::from_secs(20),
            relist: Duration::from_secs(10),
            pause: (Duration::from_millis(100), Duration::from_secs(5)),
            queue: 16,
            quiet: false,
        }
    }
}

/// Told to the consumer, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Changes, at most a thousand; a large transaction may come in several updates.
    Events {
        /// In an order that may be applied one by one.
        events: Vec<Event>,
        /// The newest revision among them.
        revision: Revision,
    },
    /// The store has another history than before: restored from a copy, or lost and accepted. What
    /// follows, up to the next [`Update::InSync`], is all that it holds, and what was told and is gone;
    /// its revisions say nothing beside those told before.
    Rewound,
    /// Everything the store held at this revision was told. Comes after each complete listing.
    InSync {
        /// The revision.
        revision: Revision,
    },
}

/// How following goes, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncState {
    /// The store answers.
    pub connected: bool,
    /// Everything in the store was told and changes are told as they happen.
    pub in_sync: bool,
    /// The newest revision that was told.
    pub revision: Revision,
    /// Number of guarded keys told; see [`SyncConfig::remembered`].
    pub guarded: usize,
    /// Why the store does not answer; `None` while it does.
    pub last_error: Option<String>,
    /// The update that is held back.
    pub held: Option<Held>,
}

/// A running syncer; dropping it stops it.
#[derive(Debug)]
pub struct SyncHandle {
    state: watch::Receiver<SyncState>,
    accepts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl SyncHandle {
    /// How it goes; changes can be awaited.
    pub fn state(&self) -> watch::Receiver<SyncState> {
        self.state.clone()
    }

    /// Lets the held update pass, as an operator's decision. Returns whether one is held.
    ///
    /// What passes is what the store holds when it is listed next, at once.
    pub fn accept(&self) -> bool {
        let held = self.state.borrow().held.is_some();
        if held {
            self.accepts.send_modify(|n| *n += 1);
        }
        held
    }
}

impl Drop for SyncHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts following a store. Ends when the receiver or the handle is dropped.
pub fn spawn(
    store: Arc<dyn Datastore>,
    config: SyncConfig,
) -> (mpsc::Receiver<Update>, SyncHandle) {
    let (updates, receiver) = mpsc::channel(config.queue.max(1));
    let (state_sender, state) = watch::channel(SyncState::default());
    let (accepts, accepted) = watch::channel(0);
    let driver = driver::Driver::new(store, config, updates.clone(), state_sender, accepted);
    let task = tokio::spawn(async move {
        tokio::select! {
            () = driver.run() => {}
            () = updates.closed() => {}
        }
    });
    let handle = SyncHandle {
        state,
        accepts,
        task,
    };
    (receiver, handle)
}
