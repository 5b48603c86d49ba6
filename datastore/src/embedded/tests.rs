//! The store over a disk that can be watched, stopped, broken and unplugged.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use model::kv::{Compare, Op, Txn};
use redb::StorageBackend;

use super::*;

#[derive(Debug, Default)]
struct State {
    bytes: Mutex<Vec<u8>>,
    /// What a power cut leaves.
    durable: Mutex<Vec<u8>>,
    syncs: AtomicUsize,
    broken: AtomicBool,
    stopped: Mutex<bool>,
    goes_on: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<State>);

impl Disk {
    /// A new disk with what a power cut would leave of this one.
    fn unplugged(&self) -> Disk {
        let durable = self.0.durable.lock().unwrap().clone();
        let disk = Disk::default();
        *disk.0.bytes.lock().unwrap() = durable.clone();
        *disk.0.durable.lock().unwrap() = durable;
        disk
    }

    fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::SeqCst)
    }

    fn stop(&self, stop: bool) {
        *self.0.stopped.lock().unwrap() = stop;
        self.0.goes_on.notify_all();
    }

    fn check(&self) -> io::Result<()> {
        match self.0.broken.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is broken")),
            false => Ok(()),
        }
    }

    fn open(&self) -> Embedded {
        let clock = Arc::new(ManualClock::default());
        Embedded::over(self.clone(), clock, 1000).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.bytes.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        let len = usize::try_from(len).unwrap();
        self.0.bytes.lock().unwrap().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let stopped = self.0.stopped.lock().unwrap();
        drop(self.0.goes_on.wait_while(stopped, |s| *s).unwrap());
        self.check()?;
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        let bytes = self.0.bytes.lock().unwrap().clone();
        *self.0.durable.lock().unwrap() = bytes;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let offset = usize::try_from(offset).unwrap();
        self.0.bytes.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn put(key: &str) -> Txn {
    Txn::new().then(Op::put(key, key))
}

#[tokio::test]
async fn what_was_answered_survives_a_power_cut() {
    let disk = Disk::default();
    let store = disk.open();
    for i in 0..30 {
        let key = format!("k{i}");
        let revision = store.txn(put(&key)).await.unwrap().revision;
        let lease = store.grant(Duration::from_secs(9)).await.unwrap();
        let after = disk.unplugged().open();
        let pair = after.get(&key).await.unwrap().unwrap();
        assert_eq!(pair.mod_revision, revision);
        assert_eq!(after.list("").await.unwrap().items.len(), i + 1);
        assert_eq!(after.health().await.unwrap().revision, revision);
        assert_eq!(after.keep_alive(lease).await.unwrap().as_secs(), 9);
    }
}

#[tokio::test]
async fn transactions_that_wait_share_a_commit() {
    let disk = Disk::default();
    let store = Arc::new(disk.open());
    let before = disk.syncs();
    store.txn(put("alone")).await.unwrap();
    let each = disk.syncs() - before;
    assert!(each > 0);

    disk.stop(true);
    let writers: Vec<_> = (0..200)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.txn(put(&format!("k{i}"))).await })
        })
        .collect();
    // On this one thread every writer has asked once each has had its turn.
    for _ in 0..writers.len() {
        tokio::task::yield_now().await;
    }
    let before = disk.syncs();
    disk.stop(false);
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.push(writer.await.unwrap().unwrap().revision);
    }
    // The one that was under way, and all others together.
    assert!(
        disk.syncs() - before <= 2 * each,
        "{} syncs",
        disk.syncs() - before
    );
    let expected: Vec<_> = (revisions[0]..revisions[0] + 200).collect();
    assert_eq!(
        revisions, expected,
        "each has a revision of its own, in order"
    );
    assert_eq!(
        disk.unplugged().open().list("k").await.unwrap().items.len(),
        200
    );
}

#[tokio::test]
async fn reads_do_not_wait_for_the_disk() {
    let disk = Disk::default();
    let store = Arc::new(disk.open());
    store.txn(put("a")).await.unwrap();
    disk.stop(true);
    let writer = tokio::spawn({
        let store = store.clone();
        async move { store.txn(put("b")).await }
    });
    tokio::task::yield_now().await;
    assert!(store.get("a").await.unwrap().is_some());
    assert!(
        store.get("b").await.unwrap().is_none(),
        "not durable, not seen"
    );
    disk.stop(false);
    writer.await.unwrap().unwrap();
    assert!(store.get("b").await.unwrap().is_some());
}

#[tokio::test]
async fn a_broken_disk_is_an_error_not_a_panic() {
    let disk = Disk::default();
    let store = disk.open();
    store.txn(put("a")).await.unwrap();
    let lease = store.grant(Duration::from_secs(1)).await.unwrap();
    disk.0.broken.store(true, Ordering::SeqCst);
    let e = store.txn(put("b")).await.unwrap_err();
    assert!(
        matches!(&e, Error::Storage { object, .. } if object == "b"),
        "{e}"
    );
    assert!(e.to_string().contains("broken"), "{e}");
    assert!(store.grant(Duration::from_secs(1)).await.is_err());
    assert!(store.revoke(lease).await.is_err());
    let after = disk.unplugged().open();
    assert!(after.get("a").await.unwrap().is_some());
    assert!(after.keep_alive(lease).await.is_ok());
}

#[tokio::test]
async fn leases_live_on_after_a_restart_and_then_expire() {
    let disk = Disk::default();
    let store = disk.open();
    let lease = store.grant(Duration::from_secs(10)).await.unwrap();
    let txn = Txn::new().then(Op::Put {
        key: "a".into(),
        value: Vec::new(),
        lease: Some(lease),
    });
    store.txn(txn).await.unwrap();
    drop(store);

    let clock = Arc::new(ManualClock::default());
    let store = Embedded::over(disk.clone(), clock.clone(), 1000).unwrap();
    let next = store.grant(Duration::from_secs(100)).await.unwrap();
    assert_ne!(next, lease, "ids are not given twice");
    clock.advance(Duration::from_millis(9_999));
    store.expire().await.unwrap();
    assert!(store.get("a").await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    store.expire().await.unwrap();
    assert!(store.get("a").await.unwrap().is_none());
    assert!(store.keep_alive(lease).await.is_err());
    drop(store);
    // Gone for good.
    let store = disk.open();
    assert!(store.keep_alive(lease).await.is_err());
    assert!(store.keep_alive(next).await.is_ok());
}

#[tokio::test]
async fn a_file_is_for_one_process_and_for_us_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let open = || Embedded::open(&path, crate::DEFAULT_DEADLINE);
    let store = open().await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let e = open().await.unwrap_err();
    assert!(matches!(e, Error::Locked { .. }), "{e}");
    assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");

    let revision = store.txn(put("a")).await.unwrap().revision;
    let before = store.health().await.unwrap();
    drop(store);
    let store = open().await.unwrap();
    let after = store.health().await.unwrap();
    assert_eq!(
        (after.cluster_id, after.revision),
        (before.cluster_id, revision)
    );
    // The history is gone, which a watch must be told.
    let mut watch = store.watch("", revision).await.unwrap();
    assert_eq!(watch.next().await, Some(crate::WatchItem::Compacted));
    let txn = put("a").when(Compare::ModRevision("a".into(), revision));
    assert!(store.txn(txn).await.unwrap().succeeded);
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for garbage in [&b"not a database"[..], &[0xff; 8192], &[0; 4096]] {
        std::fs::write(&path, garbage).unwrap();
        let e = Embedded::open(&path, crate::DEFAULT_DEADLINE)
            .await
            .unwrap_err();
        assert!(
            matches!(
                e,
                Error::Storage {
                    operation: Operation::Open,
                    ..
                }
            ),
            "{e}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), garbage, "left as it was");
    }
    let nowhere = dir.path().join("none/store");
    let e = Embedded::open(&nowhere, crate::DEFAULT_DEADLINE)
        .await
        .unwrap_err();
    assert!(e.to_string().contains("none/store"), "{e}");
}

#[tokio::test]
async fn a_closed_store_ends_its_watches() {
    let store = Embedded::in_memory().unwrap();
    let mut watch = store.watch("", 1).await.unwrap();
    drop(store);
    let last = watch.next().await;
    assert!(
        matches!(last, Some(crate::WatchItem::Failed(Error::Closed { .. }))),
        "{last:?}"
    );
    assert_eq!(watch.next().await, None);
}
