//! What every store must do, run against all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "contract/suite.rs"]
mod suite;

use std::sync::Arc;

use datastore::testing::EtcdCluster;
use datastore::{DEFAULT_DEADLINE, Datastore, Embedded, Etcd};

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    suite::run(async |_| Arc::new(Embedded::in_memory().unwrap()) as Arc<dyn Datastore>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file() {
    let dir = tempfile::tempdir().unwrap();
    suite::run(async |case| {
        let file = dir.path().join(case);
        let store = Embedded::open(&file, DEFAULT_DEADLINE).await.unwrap();
        Arc::new(store) as Arc<dyn Datastore>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd() {
    let cluster = EtcdCluster::single().unwrap();
    suite::run(async |case| {
        let config = cluster.config(&format!("/test/{case}"));
        let store = Etcd::new(&config, DEFAULT_DEADLINE).await.unwrap();
        Arc::new(store) as Arc<dyn Datastore>
    })
    .await;
}
