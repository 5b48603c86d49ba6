//! TLS, users and tokens of a real etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/follower.rs"]
mod follower;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use datastore::testing::{EtcdCluster, EtcdOptions, free_loopback};
use datastore::{DEFAULT_DEADLINE, Datastore, Error, Etcd, EtcdConfig, SyncConfig, WatchItem};
use follower::Follower;
use model::kv::{Op, Txn};

const PASSWORD: &str = "correct-horse";

fn with_tls() -> EtcdOptions {
    EtcdOptions {
        tls: true,
        ..EtcdOptions::members(1)
    }
}

/// Makes users and switches authentication on: `routerd` may do everything below `/test/`.
fn enable_auth(cluster: &mut EtcdCluster) {
    for args in [
        &["user", "add", "root:top-secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", &format!("routerd:{PASSWORD}")],
        &["role", "add", "routerd"],
        &[
            "role",
            "grant-permission",
            "--prefix=true",
            "routerd",
            "readwrite",
            "/test/",
        ],
        &["user", "grant-role", "routerd", "routerd"],
        &["auth", "enable"],
    ] {
        cluster.etcdctl(0, args).unwrap();
    }
    cluster.log_in_as("root:top-secret");
}

fn user(cluster: &EtcdCluster, prefix: &str, password: &str) -> EtcdConfig {
    EtcdConfig {
        username: Some("routerd".into()),
        password: Some(password.into()),
        ..cluster.config(prefix)
    }
}

async fn open(config: &EtcdConfig) -> Arc<Etcd> {
    Arc::new(Etcd::new(config, DEFAULT_DEADLINE).await.unwrap())
}

async fn put(store: &dyn Datastore, key: &str) -> Result<i64, Error> {
    let done = store.txn(Txn::new().then(Op::put(key, "v"))).await;
    done.map(|outcome| outcome.revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_who_they_are() {
    let cluster = EtcdCluster::start(with_tls()).unwrap();
    let good = cluster.config("/test");
    let store = open(&good).await;
    put(&*store, "a").await.unwrap();
    assert!(
        store
            .health()
            .await
            .unwrap()
            .endpoint
            .starts_with("https://")
    );

    // No certificate of our own; and an authority that did not sign etcd's.
    let nameless = EtcdConfig {
        cert: None,
        key: None,
        ..good.clone()
    };
    let other_dir = tempfile::tempdir().unwrap();
    let other = datastore::testing::Certificates::make(other_dir.path(), &[free_loopback()]);
    let distrustful = EtcdConfig {
        ca: Some(other.unwrap().ca),
        ..good
    };
    for config in [nameless, distrustful] {
        let store = open(&config).await;
        let e = put(&*store, "a").await.unwrap_err();
        assert!(matches!(e, Error::Unavailable { .. }), "{e}");
        assert!(e.to_string().contains("https://"), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_the_field() {
    let good = EtcdConfig {
        endpoints: vec!["https://127.0.0.1:1".into()],
        ca: Some("/etc/hostname".into()),
        ..EtcdConfig::default()
    };
    let missing = || Some("/nonexistent".into());
    let cases = [
        (
            "endpoints",
            EtcdConfig {
                endpoints: vec![],
                ..good.clone()
            },
        ),
        (
            "endpoints",
            EtcdConfig {
                endpoints: vec!["127.0.0.1:2379".into()],
                ..good.clone()
            },
        ),
        (
            "endpoints",
            EtcdConfig {
                endpoints: vec!["http://".into()],
                ..good.clone()
            },
        ),
        (
            "endpoints",
            EtcdConfig {
                endpoints: vec![format!("http://root:{PASSWORD}@h:1")],
                ..good.clone()
            },
        ),
        (
            "ca",
            EtcdConfig {
                ca: missing(),
                ..good.clone()
            },
        ),
        (
            "cert",
            EtcdConfig {
                cert: missing(),
                key: missing(),
                ..good.clone()
            },
        ),
        (
            "key",
            EtcdConfig {
                cert: missing(),
                ..good.clone()
            },
        ),
        (
            "cert",
            EtcdConfig {
                key: missing(),
                ..good.clone()
            },
        ),
        (
            "ca",
            EtcdConfig {
                endpoints: vec!["http://127.0.0.1:1".into()],
                ..good.clone()
            },
        ),
        (
            "password_file",
            EtcdConfig {
                username: Some("u".into()),
                ..good.clone()
            },
        ),
        (
            "username",
            EtcdConfig {
                password: Some(PASSWORD.into()),
                ..good.clone()
            },
        ),
    ];
    for (field, config) in cases {
        let e = Etcd::new(&config, DEFAULT_DEADLINE).await.unwrap_err();
        assert!(
            matches!(&e, Error::Config { field: f, .. } if *f == field),
            "{field}: {e}"
        );
        assert!(!e.to_string().contains(PASSWORD), "{e}");
        assert!(
            !format!("{config:?}").contains(&format!("\"{PASSWORD}\"")),
            "{config:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_kept_to_their_prefix() {
    let mut cluster = EtcdCluster::start(with_tls()).unwrap();
    enable_auth(&mut cluster);
    let store = open(&user(&cluster, "/test", PASSWORD)).await;
    let revision = put(&*store, "a").await.unwrap();
    let mut watch = store.watch("", revision).await.unwrap();
    assert!(matches!(watch.next().await, Some(WatchItem::Events { .. })));
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    store.health().await.unwrap();

    let elsewhere = open(&user(&cluster, "/other", PASSWORD)).await;
    let impostor = open(&user(&cluster, "/test", "wrong-horse")).await;
    let anonymous = open(&cluster.config("/test")).await;
    for store in [elsewhere, impostor, anonymous] {
        for e in [
            put(&*store, "a").await.unwrap_err(),
            store.get("a").await.unwrap_err(),
            store.list("").await.unwrap_err(),
            store.watch("", 1).await.unwrap_err(),
        ] {
            assert!(matches!(e, Error::Denied { .. }), "{e}");
            assert!(!e.is_ambiguous() && !e.is_retryable());
            assert!(!e.to_string().contains("horse"), "{e}");
        }
    }
}

/// etcd forgets its tokens when it restarts.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_after_a_restart() {
    let mut cluster = EtcdCluster::single().unwrap();
    enable_auth(&mut cluster);
    let store = open(&user(&cluster, "/test", PASSWORD)).await;
    put(&*store, "n/1").await.unwrap();
    let config = SyncConfig {
        prefixes: vec!["n/".into()],
        ..SyncConfig::default()
    };
    let mut f = Follower::new(store.clone(), config);
    f.until_state(|s| s.in_sync).await;
    cluster.kill(0).unwrap();
    f.until_state(|s| !s.connected).await;
    cluster.restart(0).unwrap();
    // The watch first, before another call renews the token for it.
    f.until_state(|s| s.in_sync).await;
    put(&*store, "n/2").await.unwrap();
    f.until_same(&*store, &["n/"]).await;
}

/// Tokens that live for a second.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_when_they_expire() {
    let keys = tempfile::tempdir().unwrap();
    let (private, public) = (keys.path().join("key.pem"), keys.path().join("pub.pem"));
    openssl(&["genrsa", "-out"], &private, &["2048"]);
    openssl(
        &["rsa", "-pubout", "-out"],
        &public,
        &["-in", private.to_str().unwrap()],
    );
    let token = format!(
        "jwt,pub-key={},priv-key={},sign-method=RS256,ttl=1s",
        public.display(),
        private.display()
    );
    let mut cluster = EtcdCluster::start(EtcdOptions {
        args: vec!["--auth-token".into(), token],
        ..EtcdOptions::members(1)
    })
    .unwrap();
    enable_auth(&mut cluster);
    let store = open(&user(&cluster, "/test", PASSWORD)).await;
    let mut revision = put(&*store, "a").await.unwrap();
    for first in ["watch", "get", "txn", "list", "grant"] {
        // The one thing awaited here is time itself.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        match first {
            "watch" => {
                let mut watch = store.watch("", revision).await.unwrap();
                assert!(matches!(watch.next().await, Some(WatchItem::Events { .. })));
            }
            "get" => assert!(store.get("a").await.unwrap().is_some()),
            "txn" => revision = put(&*store, "a").await.unwrap(),
            "list" => assert_eq!(store.list("").await.unwrap().items.len(), 1),
            _ => drop(store.grant(Duration::from_secs(60)).await.unwrap()),
        }
    }
}

fn openssl(before: &[&str], file: &Path, after: &[&str]) {
    let output = Command::new("openssl")
        .args(before)
        .arg(file)
        .args(after)
        .output();
    let output = output.expect("install openssl: apt-get install openssl");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
