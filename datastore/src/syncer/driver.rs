//! The task that lists and watches, and feeds the [`View`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use model::kv::{Event, Op, Txn};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::guard::Held;
use super::view::{Verdict, View};
use super::{SyncConfig, SyncState, Update};
use crate::backoff::{Backoff, random};
use crate::error::{Error, Operation};
use crate::store::{Datastore, Watch, WatchItem};

/// Most events in one update.
const CHUNK: usize = 1000;

/// Why listing or watching ended.
enum Stop {
    /// Nobody listens any more.
    Gone,
    /// The store failed.
    Failed(Error),
    /// What was watched is no longer enough.
    ListAgain(&'static str),
    /// The guard refuses an update.
    Held(Held),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

pub(super) struct Driver {
    store: Arc<dyn Datastore>,
    config: SyncConfig,
    view: View,
    updates: mpsc::Sender<Update>,
    state: watch::Sender<SyncState>,
    accepts: watch::Receiver<u64>,
    /// An operator lets the held update pass.
    accepted: bool,
    backoff: Backoff,
    /// Identity of the store that the view came from.
    cluster_id: Option<u64>,
    /// The store has another history than what was told last.
    rewound: bool,
}

impl Driver {
    pub(super) fn new(
        store: Arc<dyn Datastore>,
        config: SyncConfig,
        updates: mpsc::Sender<Update>,
        state: watch::Sender<SyncState>,
        accepts: watch::Receiver<u64>,
    ) -> Driver {
        let view = View::new(
            config.prefixes.len(),
            config.guard.clone(),
            config.remembered,
        );
        Driver {
            backoff: Backoff::new(config.pause.0, config.pause.1),
            store,
            config,
            view,
            updates,
            state,
            accepts,
            accepted: false,
            cluster_id: None,
            rewound: false,
        }
    }

    /// Follows until nobody listens.
    pub(super) async fn run(mut self) {
        let mut list_again = true;
        loop {
            match self.follow(list_again).await {
                Stop::Gone => return,
                Stop::ListAgain(why) => {
                    tracing::debug!(why, "listing the datastore again");
                    list_again = true;
                }
                Stop::Held(held) => {
                    self.hold(held).await;
                    list_again = true;
                }
                Stop::Failed(error) => {
                    self.failed(&error);
                    tokio::time::sleep(self.backoff.pause(random())).await;
                    list_again = false;
                }
            }
        }
    }

    /// Brings the view up to date, then watches; says why that ended.
    async fn follow(&mut self, list_again: bool) -> Stop {
        let ready = async {
            let held = self.state.borrow().held.is_some();
            if list_again || held || !self.same_store().await? {
                self.list().await?;
            }
            self.open_watches().await
        };
        match ready.await {
            Ok(watches) => self.watch(watches).await,
            Err(stop) => stop,
        }
    }

    /// Whether the store is the one that the view came from, so that a watch may just go on.
    async fn same_store(&mut self) -> Result<bool, Stop> {
        if !self.view.is_complete() {
            return Ok(false);
        }
        let health = self.store.health().await?;
        let mut txn = Txn::new();
        let witness = self.view.witness();
        if let Some((key, _)) = witness {
            txn = txn.then(Op::Get(key.to_owned()));
        }
        let outcome = self.store.txn(txn).await?;
        let known = witness.is_none_or(|(_, revision)| {
            let found = outcome.gets.first().and_then(Option::as_ref);
            found.is_some_and(|kv| kv.mod_revision >= revision)
        });
        Ok(known
            && self.cluster_id == Some(health.cluster_id)
            && outcome.revision >= self.view.newest_position())
    }

    /// Lists every prefix and tells what is new, unless the guard objects.
    async fn list(&mut self) -> Result<(), Stop> {
        let health = self.store.health().await?;
        let another = self.cluster_id.is_some_and(|id| id != health.cluster_id);
        if another || health.revision < self.view.newest_position() {
            self.rewound = true;
            self.view.forget_revisions();
        }
        if another && !self.config.quiet {
            tracing::warn!(
                endpoint = %health.endpoint,
                "this is another datastore than before; comparing it with what is known"
            );
        }
        self.cluster_id = Some(health.cluster_id);
        self.view.begin_list();
        let mut revisions = Vec::new();
        for prefix in self.config.prefixes.clone() {
            revisions.push(self.list_prefix(&prefix).await?);
        }
        let oldest = revisions.iter().copied().min().unwrap_or(0);
        if oldest < self.view.newest_position() && !self.config.quiet {
            tracing::warn!(
                revision = oldest,
                before = self.view.newest_position(),
                "the datastore went back in time; comparing it with what is known"
            );
        }
        match self
            .view
            .end_list(&revisions, self.accepted, Instant::now().into_std())
        {
            Verdict::Hold(held) => Err(Stop::Held(held)),
            Verdict::Tell(events) => {
                if std::mem::take(&mut self.rewound) {
                    self.send(Update::Rewound).await?;
                }
                self.tell(events).await?;
                self.send(Update::InSync { revision: oldest }).await?;
                self.listed();
                Ok(())
            }
        }
    }

    /// Takes a prefix page by page. The listing is not driven on while the consumer is busy, so no
    /// more than a page or two is in memory.
    async fn list_prefix(&mut self, prefix: &str) -> Result<i64, Stop> {
        let store = self.store.clone();
        let (sender, mut pages) = mpsc::unbounded_channel();
        let mut sink = move |page| {
            // Fails only when this function is gone.
            let _ = sender.send(page);
        };
        let mut listing = store.list_pages(prefix, &mut sink);
        let revision = loop {
            tokio::select! {
                biased;
                Some(page) = pages.recv() => {
                    let news = self.view.page(page);
                    self.tell(news).await?;
                }
                revision = &mut listing => break revision?,
            }
        };
        drop(listing);
        while let Ok(page) = pages.try_recv() {
            let news = self.view.page(page);
            self.tell(news).await?;
        }
        Ok(revision)
    }

    async fn open_watches(&mut self) -> Result<Vec<Watch>, Stop> {
        let mut watches = Vec::new();
        for (i, prefix) in self.config.prefixes.iter().enumerate() {
            let from = self.view.position(i) + 1;
            watches.push(self.store.watch(prefix, from).await?);
        }
        Ok(watches)
    }

    /// Tells what the watches report until something is wrong.
    async fn watch(&mut self, mut watches: Vec<Watch>) -> Stop {
        self.connected();
        let mut heard = vec![Instant::now(); watches.len()];
        let mut turn = 0;
        loop {
            let quiet_since = heard.iter().min().copied().unwrap_or_else(Instant::now);
            turn += 1;
            let (i, item) = tokio::select! {
                biased;
                next = next_of(&mut watches, turn) => next,
                () = sleep_until(quiet_since + self.config.silence) => {
                    return match self.store.health().await {
                        Ok(_) => Stop::ListAgain("a watch fell silent"),
                        Err(e) => Stop::Failed(e),
                    };
                }
            };
            match item {
                Some(WatchItem::Events { events, revision }) => {
                    match self
                        .view
                        .events(i, events, revision, Instant::now().into_std())
                    {
                        Verdict::Hold(held) => return Stop::Held(held),
                        Verdict::Tell(events) => {
                            if let Err(stop) = self.tell(events).await {
                                return stop;
                            }
                        }
                    }
                }
                // Servers are known to run ahead with it, so it is a sign of life only.
                Some(WatchItem::Progress(_)) => {}
                Some(WatchItem::Compacted) => return Stop::ListAgain("compacted"),
                Some(WatchItem::Failed(e)) => return Stop::Failed(e),
                None => {
                    return Stop::Failed(Error::Closed {
                        operation: Operation::Watch,
                        object: self.config.prefixes.get(i).cloned().unwrap_or_default(),
                    });
                }
            }
            self.backoff.reset();
            if let Some(at) = heard.get_mut(i) {
                *at = Instant::now();
            }
        }
    }

    /// Tells events in updates of bounded size.
    async fn tell(&mut self, events: Vec<Event>) -> Result<(), Stop> {
        let mut rest = events.into_iter();
        loop {
            let events: Vec<Event> = rest.by_ref().take(CHUNK).collect();
            let Some(revision) = events.iter().map(|e| e.revision).max() else {
                break;
            };
            self.send(Update::Events { events, revision }).await?;
        }
        let revision = self.view.newest_position();
        let guarded = self.view.guarded();
        self.state.send_if_modified(|s| {
            let changed = (s.revision, s.guarded) != (revision, guarded);
            (s.revision, s.guarded) = (revision, guarded);
            changed
        });
        Ok(())
    }

    async fn send(&self, update: Update) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_| Stop::Gone)
    }

    /// A listing was told completely.
    fn listed(&mut self) {
        self.accepted = false;
        let (revision, keys) = (self.view.newest_position(), self.view.len());
        let before = self.state.borrow().clone();
        if let Some(held) = &before.held {
            tracing::info!(
                removed = held.removed,
                "the held datastore update is released"
            );
        }
        if !before.in_sync && !self.config.quiet {
            tracing::info!(revision, keys, "in sync with the datastore");
        }
        self.state.send_modify(|s| {
            s.held = None;
            s.revision = revision;
        });
    }

    fn connected(&mut self) {
        let before = self.state.borrow().clone();
        if let Some(error) = &before.last_error
            && !self.config.quiet
        {
            tracing::info!(after = %error, "the datastore answers again");
        }
        self.state.send_modify(|s| {
            s.connected = true;
            s.in_sync = true;
            s.last_error = None;
        });
    }

    fn failed(&mut self, error: &Error) {
        let error = error.to_string();
        // Once, not at every try.
        if self.state.borrow().last_error.is_none() && !self.config.quiet {
            tracing::warn!(%error, "the datastore does not answer; going on with what is known");
        }
        self.state.send_modify(|s| {
            s.connected = false;
            s.in_sync = false;
            s.last_error = Some(error);
        });
    }

    /// Shows what is held; returns when it is time to look again.
    async fn hold(&mut self, held: Held) {
        if self.state.borrow().held.is_none() {
            tracing::warn!(%held, "a datastore update is held back");
            // What was accepted before does not count for this one.
            self.accepts.mark_unchanged();
        }
        self.state.send_modify(|s| {
            s.connected = true;
            s.in_sync = false;
            s.last_error = None;
            s.held = Some(held);
        });
        tokio::select! {
            () = tokio::time::sleep(self.config.relist) => {}
            changed = self.accepts.changed() => self.accepted = changed.is_ok(),
        }
    }
}

/// The next item of any watch and which one it is from; `turn` keeps a busy one from going first
/// for ever.
async fn next_of(watches: &mut [Watch], turn: usize) -> (usize, Option<WatchItem>) {
    poll_fn(|cx| {
        let n = watches.len();
        for i in (0..n).map(|i| (i + turn) % n) {
            if let Some(watch) = watches.get_mut(i)
                && let Poll::Ready(item) = watch.poll_next(cx)
            {
                return Poll::Ready((i, item));
            }
        }
        Poll::Pending
    })
    .await
}
