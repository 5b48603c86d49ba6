//! `routerd.toml`: read once, checked whole before anything is opened.

mod datastore;
mod underlay;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use datastore::{DatastoreConfig, DatastoreKind};
pub use underlay::{UnderlayAddress, UnderlayConfig};

/// The field, its value and the mend of what cannot be.
type Checked = Result<(), (&'static str, String, String)>;

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
    /// Encryption between nodes.
    pub wireguard: WireguardConfig,
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
            wireguard: WireguardConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// `[wireguard]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WireguardConfig {
    /// Who implements the device: `auto`, `kernel` or `userspace`.
    pub backend: crate::tunnel::backend::Choice,
    /// Seconds between packets to every peer when there is nothing to send: what keeps a NAT in front of this host
    /// open. 0: none.
    pub persistent_keepalive: u16,
    /// The key of this node is replaced at this age; never where it is left out.
    pub rotate_every: Option<Age>,
    /// Post-quantum preshared keys are replaced before this age.
    pub preshared_rotate_every: Option<Age>,
}

/// A long time, such as `30d`, `12h`, `90m` or `60s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Duration);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Age, D::Error> {
        let text = String::deserialize(d)?;
        let parse = || {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 60 * 60,
                "d" => 24 * 60 * 60,
                _ => return None,
            };
            let number: u64 = number.parse().ok()?;
            let seconds = number.checked_mul(unit).filter(|s| *s >= 60)?;
            Some(Age(Duration::from_secs(seconds)))
        };
        parse().ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no time of a minute or more: write a number and s, m, h or d, such as 30d"
            ))
        })
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

    fn check(&self) -> Checked {
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
mod tests;
