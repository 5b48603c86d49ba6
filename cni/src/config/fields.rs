//! Which fields there are, and what they may say together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::api::cni::Attachment;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::values::{addresses, labels, mac, typed};
use super::{Config, Dns};
use crate::environment::is_identifier;
use crate::failure::{Code, Failure};
use crate::version::Version;

/// Ours, and what the specification gives every plugin.
pub(super) const KNOWN: [&str; 19] = [
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

const CAPABILITIES: [&str; 2] = ["ips", "mac"];
const ARGS_CNI: [&str; 3] = ["ips", "labels", "sticky"];

/// The fields as they stand in the JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fields {
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

pub(super) fn check_keys(map: &Map<String, Value>) -> Result<(), Failure> {
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
    /// The configuration that the fields make.
    pub(super) fn check(
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
                Some(value) => mac("runtimeConfig.mac", &value)?,
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
