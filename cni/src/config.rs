//! The network configuration on stdin: one plugin's, as the runtime derived it from a list.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::api::cni::Attachment;
use model::kernel::Mac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::environment::{Verb, is_identifier};
use crate::failure::{Code, Failure};
use crate::version::Version;

/// Largest configuration taken, bytes.
pub(crate) const MAX_CONFIG: u64 = 4 << 20;

const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// What a draft of 1.1.0 called them; runtimes of that time still do.
const DRAFT_ATTACHMENTS: &str = "cni.dev/attachments";

/// Ours, and what the specification gives every plugin.
const KNOWN: [&str; 19] = [
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipMasq",
    "ipam",
    "ipv4Pools",
    "ipv6Pools",
    "loadOnlyInlinedPlugins",
    "name",
    "plugins",
    "prevResult",
    "runtimeConfig",
    "socket",
    "timeoutSeconds",
    "type",
];

/// All that removing something needs.
const NEEDED_TO_REMOVE: [&str; 4] = ["cniVersion", "name", "socket", "timeoutSeconds"];

const CAPABILITIES: [&str; 2] = ["ips", "mac"];
const ARGS_CNI: [&str; 3] = ["ips", "labels", "sticky"];

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

/// The fields as they stand in the JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    name: String,
    socket: String,
    timeout_seconds: u64,
    ipv4_pools: Vec<String>,
    ipv6_pools: Vec<String>,
    capabilities: BTreeMap<String, bool>,
    args: Args,
    runtime_config: BTreeMap<String, Value>,
    ip_masq: bool,
    dns: Dns,
    prev_result: Map<String, Value>,
}

impl Default for Fields {
    fn default() -> Fields {
        Fields {
            name: String::new(),
            socket: client::DEFAULT_SOCKET.to_owned(),
            timeout_seconds: 30,
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            capabilities: BTreeMap::new(),
            args: Args::default(),
            runtime_config: BTreeMap::new(),
            ip_masq: false,
            dns: Dns::default(),
            prev_result: Map::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: BTreeMap<String, Value>,
}

/// Labels as a map, or as the list of pairs that CNI's conventions have.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Labels {
    Map(BTreeMap<String, String>),
    Pairs(Vec<Label>),
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
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
        check_keys(&map)?;
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

fn check_keys(map: &Map<String, Value>) -> Result<(), Failure> {
    let unknown = map
        .iter()
        .find(|(key, _)| !KNOWN.contains(&key.as_str()) && !key.starts_with("cni.dev/"));
    match unknown {
        Some((key, value)) => {
            let (nearest, _) = nearest(key, &KNOWN);
            Err(unsupported(
                key,
                value,
                &format!("the nearest known one is {nearest:?}"),
            ))
        }
        None => Ok(()),
    }
}

fn unsupported(key: &str, value: &Value, mend: &str) -> Failure {
    let mut value = value.to_string();
    if value.len() > 200 {
        value = value.chars().take(200).chain("…".chars()).collect();
    }
    Failure::new(
        Code::Field,
        format!("unsupported field {key:?}: {value} in the network configuration"),
        format!("{key}: routerd-cni has no such field: {mend}"),
    )
}

/// The most similar of `known`, and by how many edits it differs.
fn nearest<'a>(given: &str, known: &[&'a str]) -> (&'a str, usize) {
    // Of a name without end the beginning is enough to compare.
    let given = given.chars().take(64).collect::<String>().to_lowercase();
    known
        .iter()
        .map(|k| (*k, strsim::osa_distance(&given, &k.to_lowercase())))
        .min_by_key(|(_, distance)| *distance)
        .unwrap_or_default()
}

impl Fields {
    fn check(
        mut self,
        version: Version,
        valid_attachments: Option<Vec<Attachment>>,
    ) -> Result<Config, Failure> {
        if !is_identifier(&self.name) {
            return Err(Failure::config(format!(
                "name: {:?}: a network has a name: a letter or digit, then letters, digits, '_', '.' and '-'",
                self.name
            )));
        }
        if !self.socket.starts_with('/') {
            return Err(Failure::config(format!(
                "socket: {:?}: write the absolute path of routerd's socket, such as {}",
                self.socket,
                client::DEFAULT_SOCKET
            )));
        }
        if !(1..=600).contains(&self.timeout_seconds) {
            return Err(Failure::config(format!(
                "timeoutSeconds: {}: write 1 to 600",
                self.timeout_seconds
            )));
        }
        if self.ip_masq {
            let mend = "set natOutgoing: true in the spec of the IPPool";
            return Err(unsupported("ipMasq", &Value::Bool(true), mend));
        }
        self.check_capabilities()?;
        let mut ips = self.runtime_ips()?;
        let args = self.args()?;
        for ip in args.ips {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        Ok(Config {
            version,
            name: self.name,
            socket: self.socket,
            timeout: Duration::from_secs(self.timeout_seconds),
            ipv4_pools: self.ipv4_pools,
            ipv6_pools: self.ipv6_pools,
            labels: args.labels,
            ips,
            mac: match self.runtime_config.remove("mac") {
                None | Some(Value::Null) => None,
                Some(value) => take_mac(&value)?,
            },
            sticky: args.sticky,
            dns: self.dns,
            previous: says_something(&self.prev_result)
                .then(|| Value::Object(std::mem::take(&mut self.prev_result))),
            valid_attachments,
        })
    }

    /// A capability that is declared here and not built would be lost without a word.
    fn check_capabilities(&self) -> Result<(), Failure> {
        let declared = self
            .capabilities
            .iter()
            .filter(|(_, wanted)| **wanted)
            .map(|(key, _)| (key, "capabilities", Value::Bool(true)));
        let given = self
            .runtime_config
            .iter()
            .filter(|(_, value)| !is_empty(value))
            .map(|(key, value)| (key, "runtimeConfig", value.clone()));
        for (key, place, value) in declared.chain(given) {
            if !CAPABILITIES.contains(&key.as_str()) {
                let mend = match key.as_str() {
                    "portMappings" => "declare it at the portmap plugin, chained after this one",
                    "bandwidth" => "declare it at the bandwidth plugin, chained after this one",
                    _ => "capabilities here are ips and mac",
                };
                return Err(unsupported(&format!("{place}.{key}"), &value, mend));
            }
        }
        Ok(())
    }

    fn runtime_ips(&mut self) -> Result<Vec<IpAddr>, Failure> {
        match self.runtime_config.remove("ips") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(value) => addresses("runtimeConfig.ips", value),
        }
    }

    /// Keys of others pass, as CNI's conventions want; what looks like ours misspelt does not.
    fn args(&mut self) -> Result<CniArgs, Failure> {
        let mut args = CniArgs::default();
        for (key, value) in std::mem::take(&mut self.args.cni) {
            let place = format!("args.cni.{key}");
            match key.as_str() {
                _ if value.is_null() => {}
                "ips" => args.ips = addresses(&place, value)?,
                "labels" => args.labels = labels(&place, value)?,
                "sticky" => args.sticky = typed(&place, value)?,
                _ => {
                    let (known, distance) = nearest(&key, &ARGS_CNI);
                    if distance <= 2 {
                        let mend = format!("the nearest known one is \"args.cni.{known}\"");
                        return Err(unsupported(&place, &value, &mend));
                    }
                }
            }
        }
        Ok(args)
    }
}

/// What we take of `args.cni`.
#[derive(Default)]
struct CniArgs {
    ips: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    sticky: bool,
}

fn typed<T: serde::de::DeserializeOwned>(place: &str, value: Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| Failure::config(format!("{place}: {}", e.inner())))
}

fn labels(place: &str, value: Value) -> Result<BTreeMap<String, String>, Failure> {
    let labels: Labels = serde_json::from_value(value).map_err(|_| {
        Failure::config(format!(
            "{place}: write {{\"app\": \"web\"}} or [{{\"key\": \"app\", \"value\": \"web\"}}]"
        ))
    })?;
    Ok(match labels {
        Labels::Map(map) => map,
        Labels::Pairs(pairs) => pairs.into_iter().map(|l| (l.key, l.value)).collect(),
    })
}

fn addresses(place: &str, value: Value) -> Result<Vec<IpAddr>, Failure> {
    let mut ips = Vec::new();
    for text in typed::<Vec<String>>(place, value)? {
        let ip = address(&text).map_err(|e| Failure::config(format!("{place}: {text:?}: {e}")))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

/// An address; a prefix length is allowed and means nothing, for every address here is routed alone.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (text, None),
    };
    let mend = || "write an IP address, such as 10.0.0.5 or fd00::5".to_owned();
    let ip: IpAddr = ip.parse().map_err(|_| mend())?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    match length.map(str::parse::<u8>) {
        None => Ok(ip),
        Some(Ok(length)) if length <= bits => Ok(ip),
        Some(_) => Err(mend()),
    }
}

fn take_mac(value: &Value) -> Result<Option<Mac>, Failure> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) => unicast(text)
            .map(Some)
            .map_err(|e| Failure::config(format!("runtimeConfig.mac: {e}"))),
        None => Err(Failure::config(format!(
            "runtimeConfig.mac: {value} is no text"
        ))),
    }
}

/// A MAC address that an interface can have.
pub(crate) fn unicast(text: &str) -> Result<Mac, String> {
    let mac: Mac = text
        .parse()
        .map_err(|e: model::kernel::MacError| e.to_string())?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(format!(
            "{mac} is no unicast address: write one such as 02:00:00:00:00:01"
        ));
    }
    Ok(mac)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a result holds more than its version.
fn says_something(result: &Map<String, Value>) -> bool {
    result
        .iter()
        .any(|(key, value)| key != "cniVersion" && !is_empty(value))
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
