//! A consumer of the syncer that applies what it is told and minds what it must never be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datastore::syncer;
use datastore::{Datastore, SyncConfig, SyncHandle, SyncState, Update};
use model::kv::Revision;
use tokio::sync::mpsc;

pub(crate) type Contents = BTreeMap<String, (Revision, Vec<u8>)>;

/// Nothing here should take longer, however busy the machine.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Follower {
    pub(crate) contents: Contents,
    pub(crate) handle: SyncHandle,
    /// How often a complete listing was told.
    pub(crate) listings: usize,
    /// How often the store was told to have another history.
    pub(crate) rewinds: usize,
    pub(crate) updates: mpsc::Receiver<Update>,
}

impl Follower {
    pub(crate) fn new(store: Arc<dyn Datastore>, config: SyncConfig) -> Follower {
        let (updates, handle) = syncer::spawn(store, config);
        Follower {
            contents: Contents::new(),
            handle,
            listings: 0,
            rewinds: 0,
            updates,
        }
    }

    /// Takes one update.
    pub(crate) async fn step(&mut self) {
        match self.updates.recv().await.expect("the syncer ended") {
            Update::InSync { .. } => self.listings += 1,
            Update::Rewound => {
                self.rewinds += 1;
                self.contents.values_mut().for_each(|v| v.0 = Revision::MIN);
            }
            Update::Events { events, .. } => {
                for e in events {
                    match e.value {
                        Some(value) => {
                            let new = (e.revision, value);
                            let old = self.contents.insert(e.key.clone(), new.clone());
                            assert_ne!(old, Some(new), "told twice: {}", e.key);
                        }
                        None => {
                            let old = self.contents.remove(&e.key);
                            assert!(old.is_some(), "deleted but never told: {}", e.key);
                        }
                    }
                }
            }
        }
    }

    /// Takes updates until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Follower) -> bool) {
        let steps = async {
            while !done(self) {
                self.step().await;
            }
        };
        let ended = tokio::time::timeout(LIMIT, steps).await;
        assert!(ended.is_ok(), "never came: {:?}", self.handle.state());
    }

    /// Takes updates until everything is as in `store`, where nobody may write meanwhile.
    pub(crate) async fn until_same(&mut self, store: &dyn Datastore, prefixes: &[&str]) {
        let truth = contents(store, prefixes).await;
        self.until(|f| f.listings > 0 && f.contents == truth).await;
    }

    /// Waits for a state, taking no updates.
    pub(crate) async fn until_state(&self, wanted: impl Fn(&SyncState) -> bool) -> SyncState {
        let mut state = self.handle.state();
        let found = tokio::time::timeout(LIMIT, state.wait_for(|s| wanted(s))).await;
        match found {
            Ok(state) => state.expect("the syncer ended").clone(),
            Err(_) => panic!("never came: {:?}", self.handle.state()),
        }
    }
}

pub(crate) async fn contents(store: &dyn Datastore, prefixes: &[&str]) -> Contents {
    let mut all = Contents::new();
    for prefix in prefixes {
        let list = store.list(prefix).await.unwrap();
        let pairs = list.items.into_iter();
        all.extend(pairs.map(|kv| (kv.key, (kv.mod_revision, kv.value))));
    }
    all
}
