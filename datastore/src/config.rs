//! Which store to open, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::embedded::Embedded;
use crate::error::Error;
use crate::etcd::Etcd;
use crate::store::{DEFAULT_DEADLINE, Datastore};

/// How to reach the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which store.
    pub kind: StoreKind,
    /// Longest an operation may take.
    pub deadline: Duration,
}

impl Config {
    /// A store with the default deadline.
    pub fn new(kind: StoreKind) -> Config {
        Config {
            kind,
            deadline: DEFAULT_DEADLINE,
        }
    }
}

/// The two stores there are.
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// A shared etcd.
    Etcd(EtcdConfig),
    /// A file of this node; its directory must exist.
    Embedded {
        /// The file.
        path: PathBuf,
    },
}

/// Where etcd is and who we are to it.
#[derive(Clone, Default)]
pub struct EtcdConfig {
    /// `http://` or `https://` URLs of the members.
    pub endpoints: Vec<String>,
    /// Put before every key; ends without a slash.
    pub prefix: String,
    /// File with the PEM certificates of the authorities to trust.
    pub ca: Option<PathBuf>,
    /// File with our PEM certificate.
    pub cert: Option<PathBuf>,
    /// File with the PEM key of our certificate.
    pub key: Option<PathBuf>,
    /// User.
    pub username: Option<String>,
    /// Its password; never shown.
    pub password: Option<String>,
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .field("key", &self.key)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// Opens the configured store.
pub async fn open(config: &Config) -> Result<Arc<dyn Datastore>, Error> {
    match &config.kind {
        StoreKind::Embedded { path } => Ok(Arc::new(Embedded::open(path, config.deadline).await?)),
        StoreKind::Etcd(etcd) => Ok(Arc::new(Etcd::new(etcd, config.deadline).await?)),
    }
}
