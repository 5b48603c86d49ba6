//! `[datastore]`: which store, and who this node is to it.

use std::path::PathBuf;

use serde::Deserialize;

use super::Checked;

/// `[datastore]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatastoreConfig {
    /// Which backend.
    pub kind: DatastoreKind,
    /// URLs of etcd.
    pub endpoints: Vec<String>,
    /// Prefix of every key in etcd.
    pub prefix: String,
    /// PEM file of the authority that signed etcd's certificate.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// etcd user.
    pub username: Option<String>,
    /// File whose first line is the user's password.
    pub password_file: Option<PathBuf>,
}

impl Default for DatastoreConfig {
    fn default() -> Self {
        DatastoreConfig {
            kind: DatastoreKind::default(),
            endpoints: Vec::new(),
            prefix: "/routerd/v1".into(),
            ca: None,
            cert: None,
            key: None,
            username: None,
            password_file: None,
        }
    }
}

/// Which backend keeps the resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatastoreKind {
    /// A file below `state_dir`: one node, no other service.
    #[default]
    Embedded,
    /// etcd: a mesh.
    Etcd,
}

impl DatastoreConfig {
    /// The TCP ports of the endpoints.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.endpoints.iter().filter_map(|url| {
            let (scheme, host) = url.split_once("://")?;
            match host.rsplit_once(':').map(|(_, port)| port.parse()) {
                Some(Ok(port)) => Some(port),
                _ if scheme == "https" => Some(443),
                _ => Some(80),
            }
        })
    }

    pub(super) fn check(&self) -> Checked {
        if self.kind == DatastoreKind::Embedded {
            return match self.endpoints.is_empty() {
                true => Ok(()),
                false => Err((
                    "datastore.endpoints",
                    format!("{:?}", self.endpoints),
                    "endpoints are for etcd: set datastore.kind = \"etcd\", or leave them out"
                        .into(),
                )),
            };
        }
        if self.endpoints.is_empty() {
            return Err((
                "datastore.endpoints",
                "[]".into(),
                "name etcd's client URLs, such as [\"https://10.0.0.10:2379\"]".into(),
            ));
        }
        for url in &self.endpoints {
            let host = url
                .strip_prefix("http://")
                .or_else(|| url.strip_prefix("https://"));
            if host.is_none_or(|h| h.is_empty() || h.contains(['/', '@', ' '])) {
                return Err((
                    "datastore.endpoints",
                    format!("{url:?}"),
                    "write http://HOST:PORT or https://HOST:PORT".into(),
                ));
            }
        }
        if !self.prefix.starts_with('/') || self.prefix.ends_with('/') {
            return Err((
                "datastore.prefix",
                format!("{:?}", self.prefix),
                "start with '/' and do not end with it, such as \"/routerd/v1\"".into(),
            ));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err((
                "datastore.cert",
                format!("{:?}", self.cert),
                "give datastore.cert and datastore.key together".into(),
            ));
        }
        if self.username.is_some() != self.password_file.is_some() {
            return Err((
                "datastore.username",
                format!("{:?}", self.username),
                "give datastore.username and datastore.password_file together".into(),
            ));
        }
        let files = [
            ("datastore.ca", &self.ca),
            ("datastore.cert", &self.cert),
            ("datastore.key", &self.key),
            ("datastore.password_file", &self.password_file),
        ];
        for (field, file) in files {
            if let Some(path) = file
                && let Err(e) = std::fs::File::open(path)
            {
                return Err((
                    field,
                    format!("{:?}", path.display()),
                    format!("the file cannot be read: {e}"),
                ));
            }
        }
        Ok(())
    }
}
