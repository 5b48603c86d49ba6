//! Runs the plugin.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

/// Every released version.
pub(crate) const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// One invocation.
pub(crate) struct Run {
    variables: BTreeMap<&'static str, String>,
    stdin: Vec<u8>,
}

/// What it gave.
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
}

impl Outcome {
    /// Stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is no JSON: {e}: {:?}", self.stdout))
    }

    /// The error on stdout: its code, and message and details as one text.
    pub(crate) fn failure(&self) -> (u64, String) {
        assert!(!self.ok, "succeeded: {}", self.stdout);
        let json = self.json();
        assert!(json["cniVersion"].is_string(), "{json}");
        let part = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        (
            json["code"].as_u64().unwrap(),
            format!("{}; {}", part("msg"), part("details")),
        )
    }
}

impl Run {
    /// A verb for a container, with every variable that a runtime sets.
    pub(crate) fn new(verb: &str, config: &Value) -> Run {
        let variables = BTreeMap::from([
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", "c0ffee".to_owned()),
            ("CNI_NETNS", "/run/netns/blue".to_owned()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ]);
        Run {
            variables,
            stdin: serde_json::to_vec(config).unwrap(),
        }
    }

    pub(crate) fn var(mut self, name: &'static str, value: &str) -> Run {
        self.variables.insert(name, value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Run {
        self.variables.remove(name);
        self
    }

    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Run {
        self.stdin = bytes.to_vec();
        self
    }

    pub(crate) fn exec(&self) -> Outcome {
        let mut child = Command::new(env!("CARGO_BIN_EXE_routerd-cni"))
            .env_clear()
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It may stop reading early: a broken pipe is its right.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        let output = child.wait_with_output().unwrap();
        Outcome {
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
        }
    }
}

/// A configuration as a runtime derives it.
pub(crate) fn config(socket: &Path, version: &str) -> Value {
    json!({
        "cniVersion": version,
        "name": "mesh",
        "type": "routerd-cni",
        "socket": socket,
        "dns": {"nameservers": ["10.96.0.10"], "search": ["cluster.local"]},
    })
}

/// What the stand-in makes at ADD.
pub(crate) fn made() -> Value {
    json!({
        "hostInterface": "rtrc0ffee",
        "hostMac": "02:00:00:00:00:01",
        "interface": "eth0",
        "mac": "02:00:00:00:00:02",
        "sandbox": "/run/netns/blue",
        "mtu": 1450,
        "ips": ["10.0.0.5/32", "fd00::5/128"],
        "gateways": ["169.254.1.1", "fe80::1"],
    })
}

/// A stand-in that grants everything.
pub(crate) fn willing() -> FakeDaemon {
    FakeDaemon::start(|r| {
        if r.target == "/v1/cni/add" {
            Reply::ok(made())
        } else {
            Reply::Empty(204)
        }
    })
}
