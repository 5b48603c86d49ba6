//! Workloads through a CNI plugin, called as a runtime calls it: by exec, with the standard's environment.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Lab, Netns, Node, binaries};

/// A plugin with its network configuration, on one host.
#[derive(Clone, Debug)]
pub struct Cni {
    plugin: PathBuf,
    /// Namespace of the host, in which the plugin runs.
    pub host: Netns,
    /// Network configuration; change it to test others.
    pub conf: Value,
}

/// A network namespace with an interface that a plugin made.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name, for messages and as `K8S_POD_NAME`.
    pub name: String,
    /// The runtime's id.
    pub id: String,
    /// Its namespace.
    pub ns: Netns,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// What ADD answered.
    pub result: Value,
}

/// One call of a plugin.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `CNI_CONTAINERID`.
    pub id: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// Fields put over those of the network configuration.
    pub extra: Value,
}

/// What a plugin answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit status was 0.
    pub ok: bool,
    /// What it printed, `null` when nothing.
    pub value: Value,
    /// Standard error.
    pub stderr: String,
    /// From before exec to exit.
    pub took: Duration,
}

impl Cni {
    /// Our plugin with the daemon of a node.
    ///
    /// # Errors
    /// When the plugin was not built.
    pub fn of(node: &Node) -> Result<Cni> {
        Ok(Cni {
            plugin: binaries::find("routerd-cni")?,
            host: node.ns.clone(),
            conf: json!({
                "cniVersion": "1.1.0",
                "name": "mesh",
                "type": "routerd-cni",
                "socket": node.socket(),
                "capabilities": { "ips": true, "mac": true },
            }),
        })
    }

    /// A reference plugin of the system, named by `type` of the configuration.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn reference(host: &Netns, conf: Value) -> Result<Cni> {
        let name = conf
            .get("type")
            .and_then(Value::as_str)
            .context("the configuration has no type")?;
        Ok(Cni {
            plugin: binaries::reference_plugin(name)?,
            host: host.clone(),
            conf,
        })
    }

    /// Calls the plugin with any verb.
    ///
    /// # Errors
    /// When it cannot be run or prints something that is not JSON.
    pub fn call(&self, verb: &str, call: &Call) -> Result<Answer> {
        self.call_raw(verb, call, &self.configuration(call)?)
    }

    /// Calls the plugin with these very bytes as its configuration.
    ///
    /// # Errors
    /// As [`Cni::call`].
    pub fn call_raw(&self, verb: &str, call: &Call, conf: &[u8]) -> Result<Answer> {
        let command = self.host.command(&self.plugin);
        self.exec(command, verb, call, conf)
    }

    /// As [`Cni::call`], from a thread that is inside the host's namespace already, and as quickly as
    /// a process can be started: what is measured is the plugin and not the lab.
    ///
    /// # Errors
    /// As [`Cni::call`].
    pub fn call_inside(&self, verb: &str, call: &Call) -> Result<Answer> {
        let conf = self.configuration(call)?;
        self.exec(Command::new(&self.plugin), verb, call, &conf)
    }

    fn configuration(&self, call: &Call) -> Result<Vec<u8>> {
        let mut conf = self.conf.clone();
        if let (Some(conf), Some(extra)) = (conf.as_object_mut(), call.extra.as_object()) {
            conf.extend(extra.clone());
        }
        Ok(serde_json::to_vec(&conf)?)
    }

    fn exec(&self, mut command: Command, verb: &str, call: &Call, conf: &[u8]) -> Result<Answer> {
        let start = Instant::now();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", binaries::REFERENCE_PLUGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in [
            ("CNI_CONTAINERID", &call.id),
            ("CNI_NETNS", &call.netns),
            ("CNI_ARGS", &call.args),
        ] {
            if !value.is_empty() {
                command.env(name, value);
            }
        }
        if !call.id.is_empty() {
            command.env("CNI_IFNAME", "eth0");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("run {}", self.plugin.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // The plugin may refuse its environment before it reads.
            let _ = stdin.write_all(conf);
        }
        let out = child.wait_with_output()?;
        let took = start.elapsed();
        let text = String::from_utf8_lossy(&out.stdout);
        let value = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).with_context(|| format!("{verb} printed {text:?}"))?
        };
        Ok(Answer {
            ok: out.status.success(),
            value,
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            took,
        })
    }

    /// Makes a namespace and attaches it as a pod of namespace `default`.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn add(&self, lab: &Lab, name: &str) -> Result<Workload> {
        self.add_with(lab, name, &Value::Null)
    }

    /// As [`Cni::add`], with fields put over the network configuration.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn add_with(&self, lab: &Lab, name: &str, extra: &Value) -> Result<Workload> {
        let ns = lab.workload_netns(name)?;
        self.attach(lab, &ns, name, extra)
    }

    /// Attaches a namespace that exists.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn attach(&self, lab: &Lab, ns: &Netns, name: &str, extra: &Value) -> Result<Workload> {
        let mut workload = Workload {
            name: name.to_owned(),
            id: format!("{}-{name}", lab.tag()),
            ns: ns.clone(),
            ips: Vec::new(),
            result: Value::Null,
        };
        let call = Call {
            extra: extra.clone(),
            ..workload.call()
        };
        workload.result = self.call("ADD", &call)?.must_succeed("ADD", name)?;
        workload.ips = addresses(&workload.result)?;
        Ok(workload)
    }

    /// Detaches a workload; its namespace stays until the lab ends.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn del(&self, workload: &Workload) -> Result<()> {
        let call = Call {
            extra: previous(workload),
            ..workload.call()
        };
        self.call("DEL", &call)?
            .must_succeed("DEL", &workload.name)
            .map(drop)
    }

    /// Asks whether a workload is as ADD left it.
    ///
    /// # Errors
    /// When the plugin cannot be run.
    pub fn check(&self, workload: &Workload) -> Result<Answer> {
        let call = Call {
            extra: previous(workload),
            ..workload.call()
        };
        self.call("CHECK", &call)
    }

    /// Tells the plugin that these are all the workloads there are.
    ///
    /// # Errors
    /// When the plugin cannot be run.
    pub fn gc(&self, alive: &[&Workload]) -> Result<Answer> {
        let list: Vec<Value> = alive
            .iter()
            .map(|w| json!({ "containerID": w.id, "ifname": "eth0" }))
            .collect();
        let extra = json!({ "cni.dev/valid-attachments": list });
        self.call(
            "GC",
            &Call {
                extra,
                ..Call::default()
            },
        )
    }
}

impl Workload {
    /// The environment of a call for this workload.
    pub fn call(&self) -> Call {
        Call {
            id: self.id.clone(),
            netns: self.ns.path().to_string_lossy().into_owned(),
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
                self.name
            ),
            extra: Value::Null,
        }
    }

    /// Its address of a family.
    ///
    /// # Errors
    /// When it has none.
    pub fn ip(&self, v6: bool) -> Result<IpAddr> {
        self.ips
            .iter()
            .copied()
            .find(|ip| ip.is_ipv6() == v6)
            .with_context(|| format!("{} has only {:?}", self.name, self.ips))
    }

    /// Name of its interface on the host, from the result of ADD.
    ///
    /// # Errors
    /// When the result names none.
    pub fn host_interface(&self) -> Result<&str> {
        self.result
            .get("interfaces")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|i| {
                i.get("sandbox")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .is_empty()
            })
            .and_then(|i| i.get("name")?.as_str())
            .with_context(|| format!("no host interface in {}", self.result))
    }

    /// MTU of its `eth0`, bytes.
    ///
    /// # Errors
    /// When it has none.
    pub fn mtu(&self) -> Result<usize> {
        let links = self.ns.ip_json("link show dev eth0")?;
        let mtu = links
            .pointer("/0/mtu")
            .and_then(Value::as_u64)
            .context("eth0 has no MTU")?;
        Ok(usize::try_from(mtu)?)
    }
}

impl Answer {
    /// The answer's value, or the plugin's error.
    ///
    /// # Errors
    /// When the plugin failed.
    pub fn must_succeed(self, verb: &str, name: &str) -> Result<Value> {
        if !self.ok {
            bail!("{verb} of {name}: {} {}", self.value, self.stderr);
        }
        Ok(self.value)
    }

    /// `code` of a CNI error.
    pub fn code(&self) -> Option<u64> {
        self.value
            .get("code")
            .and_then(Value::as_u64)
            .filter(|_| !self.ok)
    }

    /// `msg` and `details` of a CNI error.
    pub fn message(&self) -> String {
        let part = |name: &str| {
            self.value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        format!("{} {}", part("msg"), part("details"))
    }
}

/// Addresses in a result of ADD.
///
/// # Errors
/// When it has none, or one that is none.
pub fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    result
        .get("ips")
        .and_then(Value::as_array)
        .with_context(|| format!("no ips in {result}"))?
        .iter()
        .map(|ip| {
            let text = ip
                .get("address")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let (address, _) = text
                .split_once('/')
                .with_context(|| format!("{text:?} has no length"))?;
            Ok(address.parse()?)
        })
        .collect()
}

fn previous(workload: &Workload) -> Value {
    json!({ "prevResult": workload.result })
}
