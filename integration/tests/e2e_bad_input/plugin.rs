//! The plugin: tricks in names and configurations.

use anyhow::{Context, Result, ensure};
use integration::lab::cni::Call;
use integration::lab::{self, Cni};
use integration::scenario;
use serde_json::{Value, json};

use crate::{STORE, one_node};

#[test]
fn the_plugin_refuses_tricks_in_names() -> Result<()> {
    lab::run("plugin tricks", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let cni = Cni::of(node)?;
        let before = mesh.etcd.list(STORE)?;
        let ns = lab.workload_netns("victim")?;
        let good = Call {
            id: "c1".to_owned(),
            netns: ns.path().to_string_lossy().into_owned(),
            ..Call::default()
        };
        let pod = |args: &str| Call {
            args: args.to_owned(),
            ..good.clone()
        };
        let conf = |extra: Value| Call {
            extra,
            ..good.clone()
        };
        let calls = [
            Call {
                id: "../../owners/n1".to_owned(),
                ..good.clone()
            },
            Call {
                id: "a/b".to_owned(),
                ..good.clone()
            },
            Call {
                id: "x".repeat(5000),
                ..good.clone()
            },
            Call {
                netns: "/etc/passwd".to_owned(),
                ..good.clone()
            },
            Call {
                netns: "relative".to_owned(),
                ..good.clone()
            },
            Call {
                netns: "/nonexistent".to_owned(),
                ..good.clone()
            },
            pod("K8S_POD_NAMESPACE=../..;K8S_POD_NAME=x"),
            pod("K8S_POD_NAMESPACE=UPPER;K8S_POD_NAME=x"),
            pod("no equals sign"),
            conf(json!({ "name": "../mesh" })),
            conf(json!({ "ipv4Pools": ["../v4"] })),
            conf(json!({ "ipv4Pools": "v4" })),
            conf(json!({ "ipv4Pool": ["v4"] })),
            conf(json!({ "args": { "cni": { "ips": ["10.65.0.999"] } } })),
            conf(json!({ "args": { "cni": { "ips": ["192.0.2.1"] } } })),
            conf(json!({ "args": { "cni": { "labels": { "a b": "c" } } } })),
            conf(json!({ "socket": "/nonexistent" })),
            conf(json!({ "cniVersion": "9.9.9" })),
        ];
        for call in calls {
            let answer = cni.call("ADD", &call)?;
            let code = answer
                .code()
                .with_context(|| format!("{call:?} was served"))?;
            ensure!(
                code >= 1 && !answer.message().trim().is_empty(),
                "{call:?}: {}",
                answer.value
            );
        }
        for conf in ["", "{", "[]", "null", "\0"] {
            let answer = cni.call_raw("ADD", &good, conf.as_bytes())?;
            ensure!(answer.code().is_some(), "{conf:?}: {}", answer.value);
        }
        // Apart from what every address transaction writes, nothing came of it.
        let quiet = |pairs: Vec<(String, String)>| -> Vec<(String, String)> {
            let real = |(key, _): &(String, String)| {
                !key.contains("/ipam/fence")
                    && !key.contains("/ipam/blocks/")
                    && !key.contains("/ipam/affinity/")
            };
            pairs.into_iter().filter(real).collect()
        };
        ensure!(quiet(mesh.etcd.list(STORE)?) == quiet(before));
        ensure!(scenario::addresses_used(node)? == 0);
        cni.add(lab, "afterwards")?;
        scenario::ipam_is_clean(node)
    })
}
