//! `routerd.toml`: read once, checked whole before anything is opened.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use calc::underlay::Choice;
use model::kernel::LinkName;
use serde::Deserialize;

/// Exit status for a bad configuration (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// The whole configuration, defaults applied.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this node; the hostname by default.
    pub node: String,
    /// Embedded store, instance id, what is put back on cleanup.
    pub state_dir: PathBuf,
    /// Holds `routerd.sock`.
    pub run_dir: PathBuf,
    /// Pinned maps and links.
    pub bpf_dir: PathBuf,
    /// Where resources are kept.
    pub datastore: DatastoreConfig,
    /// Which addresses of this host other nodes use.
    pub underlay: UnderlayConfig,
    /// Metrics and probes.
    pub metrics: MetricsConfig,
    /// Log level and format.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node: String::new(),
            state_dir: "/var/lib/routerd".into(),
            run_dir: "/run/routerd".into(),
            bpf_dir: "/sys/fs/bpf/routerd".into(),
            datastore: DatastoreConfig::default(),
            underlay: UnderlayConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

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

/// `[underlay]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnderlayConfig {
    /// IPv4 address that other nodes use.
    pub ipv4: UnderlayAddress,
    /// IPv6 address that other nodes use.
    pub ipv6: UnderlayAddress,
    /// Look at this interface only.
    pub interface: Option<LinkName>,
}

/// An underlay address: `"auto"`, or an address with or without prefix length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UnderlayAddress(pub Choice);

impl TryFrom<String> for UnderlayAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(UnderlayAddress(Choice::Auto)),
            _ => text
                .parse()
                .map(|a| UnderlayAddress(Choice::Address(a)))
                .map_err(|_| {
                    format!(
                        "{text:?} is not an underlay address: write \"auto\" or an address \
                     such as \"192.0.2.10/24\""
                    )
                }),
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address of `/metrics`, `/live` and `/ready`.
    pub listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 9091)),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Filter in the syntax of `tracing`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a configuration is not usable; the message names the file, the field and the mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not parse, or a field is unknown or of the wrong type.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A value cannot be.
    #[error("{}: {field} = {value}: {mend}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Dotted path of the field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        mend: String,
    },
}

impl Config {
    /// Reads and checks a file. Opens nothing else than the files that it names.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// Checks a text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let mut config: Config = toml::from_str(text).map_err(|e| ConfigError::Syntax {
            path: path.to_owned(),
            message: with_nearest_field(e.to_string().trim_end()),
        })?;
        if config.node.is_empty() {
            config.node = hostname();
        }
        config
            .check()
            .map_err(|(field, value, mend)| ConfigError::Value {
                path: path.to_owned(),
                field,
                value,
                mend,
            })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String, String)> {
        if !model::validate::is_name(&self.node) {
            return Err((
                "node",
                format!("{:?}", self.node),
                "use lower-case letters, digits, '-' and '.', at most 253, as in a host name"
                    .into(),
            ));
        }
        for (field, dir) in [
            ("state_dir", &self.state_dir),
            ("run_dir", &self.run_dir),
            ("bpf_dir", &self.bpf_dir),
        ] {
            if !dir.is_absolute() {
                return Err((
                    field,
                    format!("{:?}", dir.display()),
                    "use an absolute path".into(),
                ));
            }
        }
        // sockaddr_un holds 107 bytes and a NUL.
        if self.socket().as_os_str().len() > 107 {
            return Err((
                "run_dir",
                format!("{:?}", self.run_dir.display()),
                "use a shorter path: that of a unix socket has at most 107 bytes".into(),
            ));
        }
        self.underlay.check()?;
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&self.log.level) {
            return Err((
                "log.level",
                format!("{:?}", self.log.level),
                format!("{e}; use error, warn, info, debug, trace or a list of TARGET=LEVEL"),
            ));
        }
        self.datastore.check()
    }

    /// Path of the daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("routerd.sock")
    }
}

impl UnderlayConfig {
    /// As calculation wants it.
    pub fn choice(&self) -> calc::underlay::Config {
        calc::underlay::Config {
            ipv4: self.ipv4.0,
            ipv6: self.ipv6.0,
            interface: self.interface,
        }
    }

    fn check(&self) -> Result<(), (&'static str, String, String)> {
        for (field, address, v4) in [
            ("underlay.ipv4", self.ipv4, true),
            ("underlay.ipv6", self.ipv6, false),
        ] {
            let Choice::Address(a) = address.0 else {
                continue;
            };
            if a.ip.is_ipv4() != v4 {
                return Err((
                    field,
                    a.to_string(),
                    "write an address of this family".into(),
                ));
            }
            if a.ip.is_loopback()
                || a.ip.is_multicast()
                || a.ip.is_unspecified()
                || link_local(a.ip)
            {
                return Err((
                    field,
                    a.to_string(),
                    "write an address that other nodes can reach".into(),
                ));
            }
        }
        Ok(())
    }
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

impl DatastoreConfig {
    fn check(&self) -> Result<(), (&'static str, String, String)> {
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

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok())
        .unwrap_or_default()
        .to_ascii_lowercase()
}

/// Adds "did you mean" to the message that serde gives for an unknown field.
fn with_nearest_field(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.contains("unknown field") {
        return message.to_owned();
    }
    let Some(given) = quoted.next() else {
        return message.to_owned();
    };
    match quoted
        .max_by(|a, b| strsim::jaro_winkler(a, given).total_cmp(&strsim::jaro_winkler(b, given)))
    {
        Some(nearest) => format!("{message}\ndid you mean `{nearest}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("routerd.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_is_a_single_node() {
        let config = parse("").unwrap();
        assert!(!config.node.is_empty());
        assert_eq!(config.datastore.kind, DatastoreKind::Embedded);
        assert_eq!(config.socket(), Path::new("/run/routerd/routerd.sock"));
        assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9091");
    }

    #[test]
    fn the_documented_file_parses() {
        let config = parse(
            r#"
            node = "rack1-a"
            state_dir = "/var/lib/routerd"
            [datastore]
            kind = "etcd"
            endpoints = ["https://10.0.0.10:2379"]
            prefix = "/routerd/v1"
            [underlay]
            ipv4 = "192.0.2.7/24"
            ipv6 = "auto"
            interface = "eth0"
            [metrics]
            listen = "127.0.0.1:9091"
            [log]
            level = "info,datastore=debug"
            format = "json"
            "#,
        )
        .unwrap();
        assert_eq!(config.node, "rack1-a");
        assert_eq!(config.log.format, LogFormat::Json);
        let Choice::Address(address) = config.underlay.ipv4.0 else {
            panic!("not fixed")
        };
        assert_eq!(address.to_string(), "192.0.2.7/24");
    }

    #[test]
    fn an_unknown_field_is_named_with_the_nearest_known() {
        let e = parse("[datastore]\nendpoint = []\n").unwrap_err();
        assert!(e.contains("unknown field `endpoint`"), "{e}");
        assert!(e.ends_with("did you mean `endpoints`?"), "{e}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_with_the_mend() {
        for (text, field) in [
            ("node = \"../etc\"", "node = \"../etc\""),
            ("state_dir = \"var\"", "state_dir"),
            ("[datastore]\nkind = \"etcd\"", "datastore.endpoints"),
            (
                "[datastore]\nendpoints = [\"http://x\"]",
                "datastore.endpoints",
            ),
            (
                "[datastore]\nkind = \"etcd\"\nendpoints = [\"10.0.0.1:2379\"]",
                "datastore.endpoints",
            ),
            (
                "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\nprefix = \"x/\"",
                "datastore.prefix",
            ),
            (
                "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\ncert = \"/x\"",
                "datastore.cert",
            ),
            (
                "[datastore]\nkind = \"etcd\"\nendpoints = [\"http://a:1\"]\nca = \"/no/such\"",
                "datastore.ca",
            ),
            ("[underlay]\nipv4 = \"fd00::1/64\"", "underlay.ipv4"),
            ("[underlay]\nipv4 = \"nonsense\"", "ipv4"),
            (
                "[underlay]\ninterface = \"much-too-long-a-name\"",
                "interface",
            ),
            ("[log]\nlevel = \"info,=,\"", "log.level"),
            ("[metrics]\nlisten = \"nine\"", "listen"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(
                e.starts_with("routerd.toml: ") && e.contains(field),
                "{text}: {e}"
            );
        }
    }
}
