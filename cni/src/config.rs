//! The network configuration on stdin: one plugin's, as the runtime derived it from a list.

mod fields;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::api::cni::Attachment;
use model::kernel::Mac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::environment::Verb;
use crate::failure::{Code, Failure};
use crate::version::Version;

use fields::Fields;
pub(crate) use values::{address, unicast};

/// Largest configuration taken, bytes.
pub(crate) const MAX_CONFIG: u64 = 4 << 20;

const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// What a draft of 1.1.0 called them; runtimes of that time still do.
const DRAFT_ATTACHMENTS: &str = "cni.dev/attachments";

/// All that removing something needs.
const NEEDED_TO_REMOVE: [&str; 4] = ["cniVersion", "name", "socket", "timeoutSeconds"];

/// A configuration whose form is checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) version: Version,
    /// Name of the network.
    pub(crate) name: String,
    pub(crate) socket: String,
    /// For the whole exchange with the daemon.
    pub(crate) timeout: Duration,
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Of `args.cni.ips` and `runtimeConfig.ips`.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) mac: Option<Mac>,
    pub(crate) sticky: bool,
    pub(crate) dns: Dns,
    /// `prevResult`, unless it says nothing.
    pub(crate) previous: Option<Value>,
    /// What the runtime still has; `None` when it does not say.
    pub(crate) valid_attachments: Option<Vec<Attachment>>,
}

/// Settings of resolvers, passed through into the result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

impl Dns {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

impl Config {
    /// Decodes and checks a configuration as far as `verb` needs it.
    pub(crate) fn parse(verb: Verb, bytes: &[u8]) -> Result<Config, Failure> {
        let mut map = decode(bytes)?;
        let version = version(verb, &map)?;
        let valid_attachments = attachments(verb, &mut map)?;
        if matches!(verb, Verb::Del | Verb::Gc) {
            map.retain(|key, _| NEEDED_TO_REMOVE.contains(&key.as_str()));
        }
        // Go writes null for what is empty.
        map.retain(|_, value| !value.is_null());
        fields::check_keys(&map)?;
        let fields: Fields = serde_path_to_error::deserialize(Value::Object(map))
            .map_err(|e| Failure::config(format!("{}: {}", e.path(), e.inner())))?;
        fields.check(version, valid_attachments)
    }
}

fn decode(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CONFIG {
        return Err(Failure::config(format!(
            "the network configuration is larger than {MAX_CONFIG} bytes"
        )));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        Failure::new(
            Code::Decode,
            "cannot decode the network configuration",
            format!("stdin is no JSON object: {e}"),
        )
    })
}

/// A configuration without a version is of the first one.
fn version(verb: Verb, map: &Map<String, Value>) -> Result<Version, Failure> {
    let incompatible =
        |details: String| Failure::new(Code::Version, "incompatible CNI version", details);
    let given = match map.get("cniVersion") {
        None | Some(Value::Null) => Version::V0_1_0.as_str(),
        Some(Value::String(text)) => text,
        Some(other) => {
            return Err(Failure::config(format!("cniVersion: {other} is no text")));
        }
    };
    let version = Version::parse(given).ok_or_else(|| {
        incompatible(format!(
            "the configuration is of version {given:?}: routerd-cni speaks {}",
            Version::ALL.map(Version::as_str).join(", ")
        ))
    })?;
    if version < verb.since() {
        return Err(incompatible(format!(
            "{verb} came with version {}, the configuration is of {given}: raise its cniVersion",
            verb.since().as_str()
        )));
    }
    Ok(version)
}

/// What the runtime still has; taking silence for an empty list would free everything.
fn attachments(
    verb: Verb,
    map: &mut Map<String, Value>,
) -> Result<Option<Vec<Attachment>>, Failure> {
    let draft = map.remove(DRAFT_ATTACHMENTS);
    let list = map.remove(VALID_ATTACHMENTS).or(draft);
    if verb != Verb::Gc {
        return Ok(None);
    }
    match list {
        None => Err(Failure::config(format!(
            "{VALID_ATTACHMENTS}: missing: GC needs the list of what is still valid"
        ))),
        Some(Value::Null) => Ok(Some(Vec::new())),
        Some(list) => serde_path_to_error::deserialize(list)
            .map(Some)
            .map_err(|e| {
                Failure::config(format!("{VALID_ATTACHMENTS}: {}: {}", e.path(), e.inner()))
            }),
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
