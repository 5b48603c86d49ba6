//! The etcd store and the syncer over a real etcd to which bad things happen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/follower.rs"]
mod follower;
#[path = "support/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datastore::testing::{EtcdCluster, EtcdOptions};
use datastore::{
    DEFAULT_DEADLINE, Datastore, Error, Etcd, EtcdConfig, Guard, Owner, SyncConfig, claim,
};
use follower::Follower;
use model::kv::{Op, Txn};
use proxy::Proxy;

const PREFIXES: [&str; 2] = ["n/", "b/"];
const SHORT: Duration = Duration::from_secs(1);

fn config() -> SyncConfig {
    SyncConfig {
        prefixes: PREFIXES.map(String::from).to_vec(),
        guard: Guard {
            prefixes: vec!["n/".into()],
            ..Guard::default()
        },
        relist: Duration::from_millis(100),
        pause: (Duration::from_millis(20), Duration::from_millis(200)),
        ..SyncConfig::default()
    }
}

async fn store(cluster: &EtcdCluster, deadline: Duration) -> Arc<Etcd> {
    open(&cluster.config("/test"), deadline).await
}

async fn open(config: &EtcdConfig, deadline: Duration) -> Arc<Etcd> {
    Arc::new(Etcd::new(config, deadline).await.unwrap())
}

async fn put(store: &dyn Datastore, key: &str, value: &str) {
    let txn = Txn::new().then(Op::put(key, value));
    store.txn(txn).await.unwrap();
}

/// Writes until it is done, as a daemon would: whatever is ambiguous is simply written again.
async fn put_surely(store: &dyn Datastore, key: &str, value: &str) {
    let begin = Instant::now();
    while let Err(e) = store.txn(Txn::new().then(Op::put(key, value))).await {
        assert!(e.is_retryable(), "{e}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{e}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn delete_all(store: &dyn Datastore, keys: &[&str]) {
    let success = keys.iter().map(|k| Op::Delete((*k).into())).collect();
    let txn = Txn {
        success,
        ..Txn::default()
    };
    store.txn(txn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_change_and_member_loss_lose_nothing() {
    let mut cluster = EtcdCluster::start(EtcdOptions::members(3)).unwrap();
    let store = store(&cluster, DEFAULT_DEADLINE).await;
    let mut f = Follower::new(store.clone(), config());
    f.until_state(|s| s.in_sync).await;

    let write = async |from: usize| {
        for i in from..from + 50 {
            put_surely(&*store, &format!("n/{}", i % 20), &i.to_string()).await;
            put_surely(&*store, &format!("b/{i}"), "v").await;
        }
    };
    write(0).await;
    for round in 1..4 {
        cluster.move_leader(round % 3).unwrap();
        write(round * 50).await;
    }
    f.until_same(&*store, &PREFIXES).await;

    // The member in use, then the leader, which may be another.
    for round in 4..6 {
        let victim = if round == 4 {
            0
        } else {
            cluster.leader().unwrap()
        };
        cluster.kill(victim).unwrap();
        write(round * 50).await;
        f.until_same(&*store, &PREFIXES).await;
        cluster.restart(victim).unwrap();
    }
    f.until_state(|s| s.in_sync && s.connected).await;
    assert_eq!(f.contents.len(), 20 + 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_while_the_watch_is_away_loses_nothing() {
    let cluster = EtcdCluster::single().unwrap();
    let direct = store(&cluster, DEFAULT_DEADLINE).await;
    let proxy = Proxy::start(&cluster.endpoints()[0]).await;
    let far = EtcdConfig {
        endpoints: vec![proxy.url.clone()],
        ..cluster.config("/test")
    };
    let far = open(&far, SHORT).await;
    for i in 0..10 {
        put(&*direct, &format!("n/{i}"), "v").await;
        put(&*direct, &format!("b/{i}"), "v").await;
    }
    let mut f = Follower::new(far, config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;

    // Away and back without compaction: the watch goes on where it was.
    proxy.cut(true);
    f.until_state(|s| !s.connected).await;
    put(&*direct, "n/1", "written meanwhile").await;
    delete_all(&*direct, &["b/1", "b/2"]).await;
    proxy.cut(false);
    f.until_same(&*direct, &PREFIXES).await;
    f.until_state(|s| s.in_sync && s.connected).await;
    assert_eq!(f.listings, 1);

    proxy.cut(true);
    f.until_state(|s| !s.connected).await;
    put(&*direct, "n/1", "written again").await;
    put(&*direct, "b/2", "back").await;
    delete_all(&*direct, &["b/3", "b/4"]).await;
    put(&*direct, "n/11", "new").await;
    let revision = direct.health().await.unwrap().revision;
    cluster
        .etcdctl(0, &["compact", &revision.to_string()])
        .unwrap();
    proxy.cut(false);
    f.until_same(&*direct, &PREFIXES).await;
    f.until(|f| f.listings == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_etcd_hangs_nobody() {
    let cluster = EtcdCluster::single().unwrap();
    let store = store(&cluster, SHORT).await;
    put(&*store, "n/1", "v").await;
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let mut f = Follower::new(store.clone(), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;

    cluster.pause(0).unwrap();
    let limit = SHORT * 3;
    let timely = async |e: Result<(), Error>, ambiguous: bool| {
        let e = e.unwrap_err();
        assert!(e.is_retryable() && e.is_ambiguous() == ambiguous, "{e}");
    };
    let begin = Instant::now();
    tokio::join!(
        async { timely(store.get("n/1").await.map(drop), false).await },
        async { timely(store.list("n/").await.map(drop), false).await },
        async { timely(store.watch("n/", 1).await.map(drop), false).await },
        async { timely(store.health().await.map(drop), false).await },
        async {
            let txn = Txn::new().then(Op::put("n/2", "v"));
            timely(store.txn(txn).await.map(drop), true).await;
        },
        async { timely(store.grant(SHORT).await.map(drop), true).await },
        async { timely(store.keep_alive(lease).await.map(drop), true).await },
        async { timely(store.revoke(lease).await, true).await },
    );
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
    // The watch is silent and asked; nobody answers.
    f.until_state(|s| !s.connected && !s.in_sync).await;

    cluster.resume(0).unwrap();
    f.until_state(|s| s.connected && s.in_sync).await;
    put_surely(&*store, "n/3", "v").await;
    f.until_same(&*store, &PREFIXES).await;
    assert!(f.contents.contains_key("n/3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_member_is_left_for_another() {
    let cluster = EtcdCluster::start(EtcdOptions::members(3)).unwrap();
    // The endpoint in use first is not the leader, so the others stay a quorum with a leader.
    cluster
        .move_leader(1)
        .or_else(|e| match cluster.leader() {
            Ok(1) => Ok(()),
            _ => Err(e),
        })
        .unwrap();
    let store = store(&cluster, SHORT).await;
    put(&*store, "n/1", "v").await;
    let mut f = Follower::new(store.clone(), config());
    f.until_state(|s| s.in_sync).await;
    cluster.pause(0).unwrap();
    assert!(
        store.get("n/1").await.unwrap().is_some(),
        "one deadline is enough"
    );
    put_surely(&*store, "n/2", "v").await;
    f.until_same(&*store, &PREFIXES).await;
    f.until_state(|s| s.in_sync && s.connected).await;
    cluster.resume(0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_empty_is_held() {
    let mut cluster = EtcdCluster::single().unwrap();
    let store = store(&cluster, SHORT).await;
    let nodes = ["n/1", "n/2", "n/3"];
    for key in nodes.iter().chain(&["b/1", "b/2"]) {
        put(&*store, key, "v").await;
    }
    let mut f = Follower::new(store.clone(), config());
    f.until(|f| f.listings == 1).await;
    f.until_state(|s| s.in_sync).await;
    let before = f.contents.clone();
    let mut wipe = || {
        cluster.kill(0).unwrap();
        cluster.wipe(0).unwrap();
        cluster.restart(0).unwrap();
    };

    wipe();
    let state = f.until_state(|s| s.held.is_some()).await;
    assert_eq!(state.held.map(|h| (h.removed, h.known)), Some((3, 3)));
    assert!(f.updates.try_recv().is_err() && f.contents == before);
    for key in nodes {
        put(&*store, key, "restored").await;
    }
    f.until_same(&*store, &PREFIXES).await;
    f.until_state(|s| s.held.is_none() && s.in_sync).await;

    wipe();
    f.until_state(|s| s.held.is_some()).await;
    assert!(f.handle.accept());
    f.until_same(&*store, &PREFIXES).await;
    assert!(f.contents.is_empty());
    f.until_state(|s| s.held.is_none() && s.in_sync).await;
    put(&*store, "n/9", "a new beginning").await;
    f.until_same(&*store, &PREFIXES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_etcd_is_told_apart_from_a_lost_answer() {
    let mut cluster = EtcdCluster::single().unwrap();
    let store = store(&cluster, DEFAULT_DEADLINE).await;
    put(&*store, "n/1", "v").await;
    cluster.kill(0).unwrap();
    // The first may have been on its way when the connection broke; the next never left.
    let _ = store.get("n/1").await;
    let begin = Instant::now();
    let e = store
        .txn(Txn::new().then(Op::put("n/1", "w")))
        .await
        .unwrap_err();
    assert!(e.is_retryable() && !e.is_ambiguous(), "{e}");
    assert!(
        begin.elapsed() < DEFAULT_DEADLINE,
        "refused connections need no waiting"
    );
    assert!(e.to_string().contains(&cluster.endpoints()[0]), "{e}");
    cluster.restart(0).unwrap();
    assert_eq!(store.get("n/1").await.unwrap().unwrap().value, b"v");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_and_huge_pages_are_survived() {
    let cluster = EtcdCluster::single().unwrap();
    let store = store(&cluster, DEFAULT_DEADLINE).await;
    let mut raw = etcd_client::Client::connect(cluster.endpoints(), None)
        .await
        .unwrap();
    let mut f = Follower::new(store.clone(), config());
    f.until_state(|s| s.in_sync).await;
    let foreign = [
        &b"/test/n/\xff\xfe"[..],
        b"/test/n/\xc3\x28/x",
        b"/test2/n/1",
        b"/tes",
    ];
    for key in foreign {
        raw.put(key, vec![0xff, 0x00], None).await.unwrap();
    }
    put(&*store, "n/1", "v").await;
    f.until_same(&*store, &PREFIXES).await;
    assert_eq!(f.contents.keys().collect::<Vec<_>>(), ["n/1"]);
    raw.delete(&b"/test/n/\xff\xfe"[..], None).await.unwrap();

    // Together more than the largest message.
    let value = "x".repeat(1 << 20);
    for i in 0..70 {
        put(&*store, &format!("b/{i}"), &value).await;
    }
    let list = store.list("b/").await.unwrap();
    assert_eq!(list.items.len(), 70);
    assert!(list.items.iter().all(|kv| kv.value.len() == value.len()));
    f.until(|f| f.contents.len() == 71).await;
    let mut late = Follower::new(store.clone(), config());
    late.until(|f| f.listings == 1).await;
    assert!(late.contents == f.contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_of_one_name_over_etcd() {
    let cluster = EtcdCluster::single().unwrap();
    let store = store(&cluster, DEFAULT_DEADLINE).await;
    let ttl = Duration::from_secs(30);
    let first = claim(store.clone(), "a", Owner::new("one", "h1"), ttl)
        .await
        .unwrap();
    let e = claim(store.clone(), "a", Owner::new("two", "h2"), ttl)
        .await
        .unwrap_err();
    assert!(e.to_string().contains("h1"), "{e}");
    drop(first);
    let again = claim(store.clone(), "a", Owner::new("one", "h1"), ttl)
        .await
        .unwrap();
    again.release().await.unwrap();
    claim(store, "a", Owner::new("two", "h2"), ttl)
        .await
        .unwrap();
}
