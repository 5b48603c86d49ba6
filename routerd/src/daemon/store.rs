//! Opens the store that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use datastore::{Config as StoreConfig, Datastore, EtcdConfig, StoreKind};

use crate::config::{Config, DatastoreConfig, DatastoreKind};
use crate::state_dir::StateDir;

/// Opens the store. etcd need not answer yet.
pub(super) async fn open(config: &Config, state: &StateDir) -> anyhow::Result<Arc<dyn Datastore>> {
    let kind = match config.datastore.kind {
        DatastoreKind::Embedded => StoreKind::Embedded {
            path: state.store(),
        },
        DatastoreKind::Etcd => StoreKind::Etcd(etcd(&config.datastore)?),
    };
    datastore::open(&StoreConfig::new(kind))
        .await
        .context("opening the datastore")
}

fn etcd(config: &DatastoreConfig) -> anyhow::Result<EtcdConfig> {
    let password = match &config.password_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("datastore.password_file: reading {}", path.display()))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
    };
    Ok(EtcdConfig {
        endpoints: config.endpoints.clone(),
        prefix: config.prefix.clone(),
        ca: config.ca.clone(),
        cert: config.cert.clone(),
        key: config.key.clone(),
        username: config.username.clone(),
        password,
    })
}
