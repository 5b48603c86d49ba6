//! The cases, each with a store of its own in which nobody else writes keys.

use std::sync::Arc;
use std::time::Duration;

use datastore::{Datastore, Error, Watch, WatchItem};
use model::kv::{Compare, Event, LeaseId, Op, Revision, Txn};

type Store = Arc<dyn Datastore>;

/// Runs every case; `open` makes the store for the case of that name.
pub(crate) async fn run(open: impl AsyncFn(&str) -> Store) {
    macro_rules! cases {
        ($($case:ident),* $(,)?) => { $(
            let store = open(stringify!($case)).await;
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, $case(store)).await.expect(concat!(stringify!($case), " hangs"));
            println!(concat!("ok ", stringify!($case)));
        )* };
    }
    cases!(
        pairs_carry_their_revisions,
        values_and_keys_are_any_bytes,
        conditions_decide_the_branch,
        operations_of_a_transaction_see_each_other,
        what_changes_nothing_has_no_revision,
        transactions_have_limits,
        lists_keep_to_the_prefix,
        a_long_list_is_one_snapshot,
        watches_report_everything_once,
        a_watch_may_begin_in_the_future,
        watches_and_lists_join_without_a_gap,
        a_slow_watch_loses_nothing,
        a_dropped_watch_stops,
        leased_keys_vanish_when_nobody_renews,
        leased_keys_vanish_when_revoked,
        a_key_leaves_its_lease_when_rewritten,
        leases_that_are_not_there_are_named,
        concurrent_writers_lose_no_update,
        health_tells_the_revision,
    );
}

async fn put(store: &Store, key: &str, value: &str) -> Revision {
    let txn = Txn::new().then(Op::put(key, value));
    store.txn(txn).await.unwrap().revision
}

async fn delete(store: &Store, key: &str) -> Revision {
    let txn = Txn::new().then(Op::Delete(key.into()));
    store.txn(txn).await.unwrap().revision
}

fn leased(key: &str, lease: LeaseId) -> Txn {
    let (key, value, lease) = (key.into(), b"leased".to_vec(), Some(lease));
    Txn::new().then(Op::Put { key, value, lease })
}

fn changed(key: &str, value: &str, revision: Revision) -> Event {
    let (key, value) = (key.into(), Some(value.into()));
    Event {
        key,
        value,
        revision,
    }
}

fn gone(key: &str, revision: Revision) -> Event {
    let (key, value) = (key.into(), None);
    Event {
        key,
        value,
        revision,
    }
}

/// The next `n` events, whatever items they come in.
async fn next(watch: &mut Watch, n: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    while seen.len() < n {
        match watch.next().await {
            Some(WatchItem::Events { events, revision }) => {
                assert_eq!(events.last().map(|e| e.revision), Some(revision));
                seen.extend(events);
            }
            Some(WatchItem::Progress(_)) => {}
            other => panic!("the watch ended: {other:?}"),
        }
    }
    assert_eq!(seen.len(), n, "more than was written: {seen:?}");
    seen
}

async fn pairs_carry_their_revisions(store: Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    assert!(second > first);
    let pair = store.get("a").await.unwrap().unwrap();
    assert_eq!(pair.key, "a");
    assert_eq!(pair.value, b"2");
    assert_eq!((pair.create_revision, pair.mod_revision), (first, second));
    assert_eq!(pair.lease, None);

    let third = delete(&store, "a").await;
    assert!(third > second);
    assert_eq!(store.get("a").await.unwrap(), None);
    let fourth = put(&store, "a", "4").await;
    let pair = store.get("a").await.unwrap().unwrap();
    assert_eq!((pair.create_revision, pair.mod_revision), (fourth, fourth));
}

async fn values_and_keys_are_any_bytes(store: Store) {
    let all: Vec<u8> = (0..=255).collect();
    let large = vec![0xa5; 1 << 20];
    let keys = [
        "plain",
        "sp ace/ü/\u{1F980}",
        "a//b/",
        "\u{1}",
        "z\u{10FFFF}",
    ];
    for key in keys {
        for value in [&all, &large, &Vec::new()] {
            let txn = Txn::new().then(Op::put(key, value.clone()));
            store.txn(txn).await.unwrap();
            let pair = store.get(key).await.unwrap().unwrap();
            assert!(pair.key == key && pair.value == *value);
        }
    }
    assert_eq!(store.list("").await.unwrap().items.len(), keys.len());
}

async fn conditions_decide_the_branch(store: Store) {
    let revision = put(&store, "here", "v").await;
    let here = || "here".to_owned();
    let away = || "away".to_owned();
    for (compares, holds) in [
        (vec![Compare::Present(here())], true),
        (vec![Compare::Absent(here())], false),
        (vec![Compare::Present(away())], false),
        (vec![Compare::Absent(away())], true),
        (vec![Compare::ModRevision(here(), revision)], true),
        (vec![Compare::ModRevision(here(), revision - 1)], false),
        (vec![Compare::ModRevision(away(), revision)], false),
        (vec![Compare::ModRevision(away(), 0)], true),
        (
            vec![Compare::Present(here()), Compare::Absent(away())],
            true,
        ),
        (
            vec![Compare::Present(here()), Compare::Absent(here())],
            false,
        ),
        (vec![], true),
    ] {
        let shown = format!("{compares:?}");
        let txn = Txn {
            compares,
            success: vec![Op::Get(here()), Op::Get(away())],
            failure: vec![Op::Get(away())],
        };
        let outcome = store.txn(txn).await.unwrap();
        assert_eq!(outcome.succeeded, holds, "{shown}");
        let pair = store.get("here").await.unwrap();
        let gets = if holds { vec![pair, None] } else { vec![None] };
        assert_eq!(outcome.gets, gets, "{shown}");
    }
}

async fn operations_of_a_transaction_see_each_other(store: Store) {
    put(&store, "old", "v").await;
    let txn = Txn::new()
        .then(Op::Get("new".into()))
        .then(Op::put("new", "n"))
        .then(Op::Get("new".into()))
        .then(Op::Delete("old".into()))
        .then(Op::Get("old".into()));
    let outcome = store.txn(txn).await.unwrap();
    let new = store.get("new").await.unwrap();
    assert_eq!(new.as_ref().unwrap().mod_revision, outcome.revision);
    assert_eq!(outcome.gets, [None, new, None]);
}

async fn what_changes_nothing_has_no_revision(store: Store) {
    let revision = put(&store, "a", "1").await;
    for txn in [
        Txn::new(),
        Txn::new().then(Op::Get("a".into())),
        Txn::new().then(Op::Delete("nothing".into())),
        Txn::new()
            .when(Compare::Absent("a".into()))
            .then(Op::put("a", "2")),
    ] {
        let outcome = store.txn(txn).await.unwrap();
        assert_eq!(outcome.revision, revision);
    }
    assert_eq!(put(&store, "a", "2").await, revision + 1);
}

async fn transactions_have_limits(store: Store) {
    let keys = |n: usize| (0..n).map(|i| Op::put(format!("k{i:04}"), "v")).collect();
    let full = Txn {
        success: keys(Txn::MAX_OPS),
        ..Txn::default()
    };
    store.txn(full).await.unwrap();
    let before = store.list("").await.unwrap();
    assert_eq!(before.items.len(), Txn::MAX_OPS);

    let twice = Txn::new().then(Op::put("x", "1")).then(Op::put("x", "2"));
    let both = Txn::new()
        .then(Op::put("x", "1"))
        .then(Op::Delete("x".into()));
    let nameless = Txn::new().then(Op::put("", "1"));
    let more = Txn {
        success: keys(Txn::MAX_OPS + 1),
        ..Txn::default()
    };
    for txn in [twice, both, nameless, more] {
        let e = store.txn(txn).await.unwrap_err();
        assert!(matches!(e, Error::Invalid { .. }), "{e}");
        assert!(!e.is_ambiguous() && !e.is_retryable());
    }
    assert_eq!(store.list("").await.unwrap(), before);
}

async fn lists_keep_to_the_prefix(store: Store) {
    for key in ["a", "b/", "b/2", "b/1", "b0", "b/1/x", "c/1"] {
        put(&store, key, key).await;
    }
    let list = store.list("b/").await.unwrap();
    let keys: Vec<_> = list.items.iter().map(|kv| kv.key.as_str()).collect();
    assert_eq!(keys, ["b/", "b/1", "b/1/x", "b/2"]);
    assert!(list.items.iter().all(|kv| kv.value == kv.key.as_bytes()));
    assert_eq!(store.list("").await.unwrap().items.len(), 7);
    let none = store.list("nothing/").await.unwrap();
    assert!(none.items.is_empty());
    assert_eq!(none.revision, list.revision);
}

/// More than a page, while somebody rewrites the first and the last key together.
async fn a_long_list_is_one_snapshot(store: Store) {
    let n = 12_000;
    for chunk in (0..n).collect::<Vec<_>>().chunks(Txn::MAX_OPS) {
        let success = chunk
            .iter()
            .map(|i| Op::put(format!("m/{i:05}"), "v"))
            .collect();
        let txn = Txn {
            success,
            ..Txn::default()
        };
        store.txn(txn).await.unwrap();
    }
    let ends = async |i: u32| {
        let value = i.to_string();
        let txn = Txn::new()
            .then(Op::put("m/", value.clone()))
            .then(Op::put("m/z", value));
        store.txn(txn).await.unwrap().revision
    };
    ends(0).await;
    let lists = async {
        for _ in 0..5 {
            let mut pages = 0;
            let mut items = Vec::new();
            let revision = store
                .list_pages("m/", &mut |mut page| {
                    pages += 1;
                    items.append(&mut page);
                })
                .await
                .unwrap();
            assert!(pages > 1, "memory is not bounded");
            assert_eq!(items.len(), n + 2);
            let (first, last) = (&items[0], &items[n + 1]);
            assert_eq!(first.value, last.value);
            assert_eq!(first.mod_revision, last.mod_revision);
            assert!(items.windows(2).all(|w| w[0].key < w[1].key));
            assert!(items.iter().all(|kv| kv.mod_revision <= revision));
        }
    };
    tokio::select! {
        () = lists => {}
        () = async { for i in 1.. { ends(i).await; } } => {}
    }
}

async fn watches_report_everything_once(store: Store) {
    let first = put(&store, "a/1", "1").await;
    put(&store, "b/1", "1").await;
    let second = put(&store, "a/1", "2").await;
    let mut all = store.watch("a/", first).await.unwrap();
    let mut later = store.watch("a/", first + 1).await.unwrap();
    let both = Txn::new()
        .then(Op::Delete("a/1".into()))
        .then(Op::put("b/1", "2"))
        .then(Op::put("a/2", "3"));
    let third = store.txn(both).await.unwrap().revision;
    let fourth = delete(&store, "a/2").await;
    let tail = [
        changed("a/1", "2", second),
        gone("a/1", third),
        changed("a/2", "3", third),
        gone("a/2", fourth),
    ];
    assert_eq!(next(&mut later, 4).await, tail);
    let seen = next(&mut all, 5).await;
    assert_eq!(seen[0], changed("a/1", "1", first));
    assert_eq!(seen[1..], tail);
}

async fn a_watch_may_begin_in_the_future(store: Store) {
    let now = put(&store, "a", "1").await;
    let mut watch = store.watch("a", now + 3).await.unwrap();
    for value in ["2", "3", "4"] {
        put(&store, "a", value).await;
    }
    assert_eq!(next(&mut watch, 1).await, [changed("a", "4", now + 3)]);
}

/// Whatever is written around a listing is in the listing or in the watch after it, never in both.
async fn watches_and_lists_join_without_a_gap(store: Store) {
    let n = 300;
    let writer = async {
        for i in 0..n {
            put(&store, &format!("k/{i:04}"), "v").await;
        }
    };
    let reader = async {
        while store.list("k/").await.unwrap().items.len() < n / 10 {}
        let list = store.list("k/").await.unwrap();
        let mut watch = store.watch("k/", list.revision + 1).await.unwrap();
        let mut keys: Vec<_> = list.items.into_iter().map(|kv| kv.key).collect();
        let rest = next(&mut watch, n - keys.len()).await;
        keys.extend(rest.into_iter().map(|e| e.key));
        let expected: Vec<_> = (0..n).map(|i| format!("k/{i:04}")).collect();
        assert_eq!(keys, expected);
    };
    tokio::join!(writer, reader);
}

/// Far more revisions than any queue on the way holds.
async fn a_slow_watch_loses_nothing(store: Store) {
    let mut watch = store.watch("k", 1).await.unwrap();
    let n = 3_000;
    let mut revisions = Vec::new();
    for i in 0..n / 50 {
        let puts = (0..50).map(|j| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("k{j}"), &i.to_string()).await })
        });
        for put in puts.collect::<Vec<_>>() {
            revisions.push(put.await.unwrap());
        }
    }
    revisions.sort_unstable();
    let seen = next(&mut watch, n).await;
    let seen: Vec<_> = seen.iter().map(|e| e.revision).collect();
    assert_eq!(seen, revisions);
}

async fn a_dropped_watch_stops(store: Store) {
    for _ in 0..500 {
        drop(store.watch("a", 1).await.unwrap());
    }
    let mut watch = store.watch("a", 1).await.unwrap();
    let revision = put(&store, "a", "1").await;
    assert_eq!(next(&mut watch, 1).await, [changed("a", "1", revision)]);
}

async fn leased_keys_vanish_when_nobody_renews(store: Store) {
    let kept = store.grant(Duration::from_secs(2)).await.unwrap();
    let left = store.grant(Duration::from_secs(2)).await.unwrap();
    assert_ne!(kept, left);
    store.txn(leased("kept", kept)).await.unwrap();
    store.txn(leased("left/1", left)).await.unwrap();
    let revision = store.txn(leased("left/2", left)).await.unwrap().revision;
    assert_eq!(store.get("kept").await.unwrap().unwrap().lease, Some(kept));

    let mut watch = store.watch("left/", revision + 1).await.unwrap();
    let mut expired = Box::pin(next(&mut watch, 2));
    let events = loop {
        tokio::select! {
            events = &mut expired => break events,
            () = tokio::time::sleep(Duration::from_millis(300)) => {
                let ttl = store.keep_alive(kept).await.unwrap();
                assert!(ttl > Duration::from_secs(1) && ttl <= Duration::from_secs(3), "{ttl:?}");
            }
        }
    };
    let at = events[0].revision;
    assert_eq!(events, [gone("left/1", at), gone("left/2", at)]);
    assert!(store.get("kept").await.unwrap().is_some());
    assert!(store.get("left/1").await.unwrap().is_none());
    let e = store.keep_alive(left).await.unwrap_err();
    assert!(
        matches!(e, Error::LeaseNotFound { lease, .. } if lease == left),
        "{e}"
    );
}

async fn leased_keys_vanish_when_revoked(store: Store) {
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    store.txn(leased("a/1", lease)).await.unwrap();
    let revision = store.txn(leased("a/2", lease)).await.unwrap().revision;
    store.revoke(lease).await.unwrap();
    assert!(store.list("a/").await.unwrap().items.is_empty());
    let mut watch = store.watch("a/", revision + 1).await.unwrap();
    let events = next(&mut watch, 2).await;
    assert_eq!(events[0].revision, events[1].revision);
    assert!(store.keep_alive(lease).await.is_err());
    store
        .revoke(lease)
        .await
        .expect("revoking twice is no error");
}

async fn a_key_leaves_its_lease_when_rewritten(store: Store) {
    let one = store.grant(Duration::from_secs(3600)).await.unwrap();
    let two = store.grant(Duration::from_secs(3600)).await.unwrap();
    for key in ["plain", "moved", "deleted"] {
        store.txn(leased(key, one)).await.unwrap();
    }
    put(&store, "plain", "v").await;
    store.txn(leased("moved", two)).await.unwrap();
    delete(&store, "deleted").await;
    put(&store, "deleted", "again").await;
    store.revoke(one).await.unwrap();
    for (key, lease) in [("plain", None), ("moved", Some(two)), ("deleted", None)] {
        assert_eq!(store.get(key).await.unwrap().unwrap().lease, lease, "{key}");
    }
}

async fn leases_that_are_not_there_are_named(store: Store) {
    let lease = LeaseId(0x7777);
    let txn = Txn::new().then(Op::put("a", "1")).then(Op::Put {
        key: "b".into(),
        value: Vec::new(),
        lease: Some(lease),
    });
    for e in [
        store.txn(txn).await.unwrap_err(),
        store.keep_alive(lease).await.unwrap_err(),
    ] {
        assert!(
            matches!(e, Error::LeaseNotFound { lease: l, .. } if l == lease),
            "{e}"
        );
        assert!(e.to_string().contains("7777"), "{e}");
        assert!(!e.is_ambiguous() && !e.is_retryable());
    }
    assert!(store.list("").await.unwrap().items.is_empty());
}

async fn concurrent_writers_lose_no_update(store: Store) {
    put(&store, "counter", "0").await;
    let writers = (0..32).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                loop {
                    let pair = store.get("counter").await.unwrap().unwrap();
                    let value: u32 = String::from_utf8(pair.value).unwrap().parse().unwrap();
                    let txn = Txn::new()
                        .when(Compare::ModRevision("counter".into(), pair.mod_revision))
                        .then(Op::put("counter", (value + 1).to_string()));
                    if store.txn(txn).await.unwrap().succeeded {
                        break;
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let pair = store.get("counter").await.unwrap().unwrap();
    assert_eq!(pair.value, b"160");
}

async fn health_tells_the_revision(store: Store) {
    let revision = put(&store, "a", "1").await;
    let health = store.health().await.unwrap();
    assert!(health.leader && !health.endpoint.is_empty());
    assert_ne!(health.cluster_id, 0);
    assert_eq!(health.revision, revision);
    assert_eq!(store.health().await.unwrap().cluster_id, health.cluster_id);
}
