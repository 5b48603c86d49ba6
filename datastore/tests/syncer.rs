//! The syncer over the embedded store, and over stores that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/follower.rs"]
mod follower;
#[path = "support/pages.rs"]
mod pages;

use std::sync::Arc;
use std::time::Duration;

use datastore::embedded::ManualClock;
use datastore::{Datastore, Embedded, Guard, SyncConfig};
use faulty::{Faults, Faulty};
use follower::Follower;
use model::kv::{Op, Txn};
use pages::Pages;

const PREFIXES: [&str; 2] = ["n/", "b/"];

fn config() -> SyncConfig {
    SyncConfig {
        prefixes: PREFIXES.map(String::from).to_vec(),
        guard: Guard {
            prefixes: vec!["n/".into()],
            ..Guard::default()
        },
        silence: Duration::from_secs(30),
        relist: Duration::from_millis(20),
        pause: (Duration::from_millis(1), Duration::from_millis(10)),
        ..SyncConfig::default()
    }
}

fn memory() -> Arc<Embedded> {
    Arc::new(Embedded::in_memory().unwrap())
}

async fn put(store: &dyn Datastore, key: &str, value: &str) {
    store
        .txn(Txn::new().then(Op::put(key, value)))
        .await
        .unwrap();
}

async fn put_all(store: &dyn Datastore, keys: &[&str]) {
    let success = keys.iter().map(|k| Op::put(*k, "v")).collect();
    store
        .txn(Txn {
            success,
            ..Txn::default()
        })
        .await
        .unwrap();
}

async fn delete_all(store: &dyn Datastore, keys: &[&str]) {
    let success = keys.iter().map(|k| Op::Delete((*k).into())).collect();
    store
        .txn(Txn {
            success,
            ..Txn::default()
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_there_is_told_then_what_changes() {
    let store = memory();
    put_all(&*store, &["n/1", "b/1", "c/1"]).await;
    let mut f = Follower::new(store.clone(), config());
    f.until(|f| f.listings == 1).await;
    assert_eq!(f.contents.keys().collect::<Vec<_>>(), ["b/1", "n/1"]);
    f.until_state(|s| s.in_sync && s.connected && s.guarded == 1)
        .await;
    put(&*store, "n/1", "new").await;
    delete_all(&*store, &["b/1"]).await;
    put(&*store, "c/2", "not ours").await;
    put(&*store, "b/2", "v").await;
    f.until_same(&*store, &PREFIXES).await;
    assert_eq!(f.listings, 1, "the watch was enough");
}

/// The consumer stalls while far more happens than the history keeps.
#[tokio::test]
async fn compaction_loses_and_repeats_nothing() {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(Embedded::in_memory_with(clock, 5).unwrap());
    let mut f = Follower::new(store.clone(), config());
    f.until_state(|s| s.in_sync).await;
    for i in 0..300 {
        put(&*store, &format!("n/{}", i % 7), &i.to_string()).await;
        put(&*store, &format!("b/{i}"), "v").await;
        delete_all(&*store, &[&format!("b/{}", i / 2)]).await;
    }
    f.until_same(&*store, &PREFIXES).await;
    // Only compaction makes it list again.
    f.until(|f| f.listings > 1).await;
}

#[tokio::test]
async fn a_large_loss_is_held_until_the_objects_are_back() {
    let store = memory();
    put_all(&*store, &["n/1", "n/2", "n/3", "b/1"]).await;
    let mut f = Follower::new(store.clone(), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;
    let before = f.contents.clone();

    delete_all(&*store, &["n/1", "n/2"]).await;
    let state = f.until_state(|s| s.held.is_some()).await;
    let held = state.held.unwrap();
    assert_eq!((held.removed, held.known), (2, 3));
    assert!(held.message.contains("2 of 3 keys below n/"), "{held}");
    assert!(state.connected && !state.in_sync);
    // Prefixes come in any order, so only what is written from here on is surely held as well.
    put(&*store, "b/2", "not told while it is held").await;
    delete_all(&*store, &["n/3"]).await;
    f.until_state(|s| s.held.as_ref().is_some_and(|h| h.removed == 3))
        .await;
    assert!(f.updates.try_recv().is_err() && f.contents == before);

    put_all(&*store, &["n/1", "n/2", "n/3"]).await;
    f.until_same(&*store, &PREFIXES).await;
    f.until_state(|s| s.held.is_none() && s.in_sync).await;
}

#[tokio::test]
async fn a_large_loss_passes_when_accepted() {
    let store = memory();
    put_all(&*store, &["n/1", "n/2", "n/3", "b/1"]).await;
    let mut f = Follower::new(store.clone(), config());
    f.until_state(|s| s.in_sync).await;
    assert!(!f.handle.accept(), "nothing is held yet");
    for round in 0..2 {
        delete_all(&*store, &["n/1", "n/2", "n/3"]).await;
        // An earlier accept must not let a later loss pass.
        f.until_state(|s| s.held.is_some()).await;
        assert!(f.handle.accept());
        f.until_same(&*store, &PREFIXES).await;
        assert!(!f.contents.contains_key("n/1"), "{round}");
        f.until_state(|s| s.held.is_none() && s.in_sync).await;
        put_all(&*store, &["n/1", "n/2", "n/3"]).await;
        f.until_same(&*store, &PREFIXES).await;
    }
}

#[tokio::test]
async fn one_by_one_everything_may_go() {
    let store = memory();
    let nodes = ["n/1", "n/2", "n/3"];
    put_all(&*store, &nodes).await;
    let mut f = Follower::new(store.clone(), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;
    for node in nodes {
        delete_all(&*store, &[node]).await;
        f.until(|f| !f.contents.contains_key(node)).await;
    }
    assert!(f.handle.state().borrow().held.is_none());
}

/// The same endpoint answers, but it is another store: empty, or with the same revisions.
#[tokio::test]
async fn another_store_is_compared_not_trusted() {
    let full = memory();
    put_all(&*full, &["n/1", "n/2", "n/3", "b/1"]).await;
    put(&*full, "n/1", "from the first store").await;
    let faulty = Faulty::new(full.clone(), Faults::default());
    let mut f = Follower::new(Arc::new(faulty.clone()), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;
    let before = f.contents.clone();

    faulty.replace(memory());
    f.until_state(|s| s.held.is_some()).await;
    assert_eq!(f.contents, before);

    // Rebuilt with the same keys at the same revisions, one with another value.
    let rebuilt = memory();
    put_all(&*rebuilt, &["n/1", "n/2", "n/3", "b/1"]).await;
    put(&*rebuilt, "n/1", "from the second store").await;
    faulty.replace(rebuilt.clone());
    f.until_same(&*rebuilt, &PREFIXES).await;
    f.until_state(|s| s.held.is_none() && s.in_sync).await;
    assert_eq!(f.contents["n/1"].1, b"from the second store");
}

/// Lists break off, watches fail, end and lie still, at every few calls, while others write.
#[tokio::test]
async fn failures_lose_and_repeat_nothing() {
    let store = memory();
    for (lists, watches, silent) in [(3, 0, 2), (0, 2, 0), (0, 0, 2), (3, 2, 3), (5, 3, 2)] {
        let faults = Faults {
            lists,
            watches,
            silent,
        };
        let faulty = Faulty::new(store.clone(), faults);
        let silence = Duration::from_millis(30);
        let mut f = Follower::new(
            Arc::new(faulty.clone()),
            SyncConfig {
                silence,
                ..config()
            },
        );
        for i in 0..200 {
            put(&*store, &format!("n/{}", i % 11), &i.to_string()).await;
            put(&*store, &format!("b/{}", i % 50), &i.to_string()).await;
            delete_all(&*store, &[&format!("b/{}", (i * 7) % 50)]).await;
            f.step().await;
        }
        f.until_same(&*store, &PREFIXES).await;
        assert!(faulty.injected() > 0, "{faults:?}: no failure happened");
    }
}

#[tokio::test]
async fn an_outage_is_visible_and_ends() {
    let store = memory();
    put_all(&*store, &["n/1", "b/1"]).await;
    let faulty = Faulty::new(store.clone(), Faults::default());
    let mut f = Follower::new(Arc::new(faulty.clone()), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;
    faulty.cut(true);
    let state = f.until_state(|s| !s.connected).await;
    assert!(!state.in_sync);
    assert!(state.last_error.unwrap().contains("cut"));
    put(&*store, "b/2", "written meanwhile").await;
    faulty.cut(false);
    f.until_same(&*store, &PREFIXES).await;
    let state = f.until_state(|s| s.in_sync && s.connected).await;
    assert_eq!(state.last_error, None);
    assert_eq!(f.listings, 1, "the same store needs no second listing");
}

/// However large the store, only a few pages wait for a consumer that is busy.
#[tokio::test]
async fn start_up_reads_no_faster_than_the_consumer() {
    let pages = Arc::new(Pages::new(500));
    let config = SyncConfig {
        queue: 1,
        prefixes: vec![String::new()],
        ..config()
    };
    let mut f = Follower::new(pages.clone(), config);
    while f.listings == 0 {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let ahead = pages.given() - f.contents.len() / Pages::SIZE;
        assert!(ahead <= 4, "{ahead} pages lie in memory");
        f.step().await;
    }
    assert_eq!(f.contents.len(), 500 * Pages::SIZE);
}

#[tokio::test]
async fn dropping_the_handle_or_the_receiver_stops_it() {
    let store = memory();
    let f = Follower::new(store.clone(), config());
    let mut updates = f.updates;
    drop(f.handle);
    while updates.recv().await.is_some() {}

    let f = Follower::new(store, config());
    let mut state = f.handle.state();
    drop(f.updates);
    while state.changed().await.is_ok() {}
}
