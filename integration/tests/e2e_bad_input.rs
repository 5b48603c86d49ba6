//! Bad input from every side: a clear error, nothing changed, nothing lost.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::cni::Call;
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Node, wait};
use integration::scenario::{self, CONVERGE, text};
use serde_json::{Value, json};

const STORE: &str = "/routerd/v1/";

fn one_node(lab: &Lab) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    Ok(mesh)
}

/// Kind, `spec` in YAML's flow style, and the field that the error must name.
const OUT_OF_RANGE: &[(&str, &str, &str)] = &[
    ("IPPool", "cidr: 10.80.0.1/16", "cidr"),
    ("IPPool", "cidr: 10.80.0.0/33", "cidr"),
    ("IPPool", "cidr: nonsense", "cidr"),
    ("IPPool", "cidr: 10.80.0.0", "10.80.0.0/32"),
    ("IPPool", "cidr: 224.0.0.0/8", "cidr"),
    ("IPPool", "cidr: 127.0.0.0/16", "cidr"),
    ("IPPool", "cidr: \"ff02::/64\"", "cidr"),
    ("IPPool", "cidr: \"fe80::/64\"", "cidr"),
    ("IPPool", "blockSize: 26", "cidr"),
    ("IPPool", "cidr: 10.80.0.0/16, blockSize: -1", "blockSize"),
    ("IPPool", "cidr: 10.80.0.0/16, blockSize: 300", "blockSize"),
    ("IPPool", "cidr: 10.80.0.0/16, blockSize: 33", "blockSize"),
    ("IPPool", "cidr: 10.80.0.0/16, blockSize: 15", "blockSize"),
    ("IPPool", "cidr: 10.80.0.0/28, blockSize: 26", "blockSize"),
    ("IPPool", "cidr: \"fd80::/48\", blockSize: 26", "blockSize"),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, blockSize: \"26\"",
        "blockSize",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, vxlanMode: always",
        "vxlanMode",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, natOutgoing: 1",
        "natOutgoing",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, disabled: perhaps",
        "disabled",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, nodeSelector: \"rack in\"",
        "nodeSelector",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, namespaceSelector: \"((\"",
        "namespaceSelector",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, allowedUses: [Play]",
        "allowedUses",
    ),
    (
        "IPPool",
        "cidr: 10.80.0.0/16, assignmentMode: Random",
        "assignmentMode",
    ),
    ("IPPool", "cidr: 10.80.0.0/16, colour: red", "colour"),
    (
        "IPReservation",
        "reservedCIDRs: [10.0.0.999]",
        "reservedCIDRs",
    ),
    ("IPReservation", "reservedCIDRs: 10.0.0.1", "reservedCIDRs"),
    (
        "IPReservation",
        "reservedCidrs: [10.0.0.1]",
        "reservedCidrs",
    ),
    (
        "IPAMConfiguration",
        "cooldownSeconds: -1",
        "cooldownSeconds",
    ),
    (
        "IPAMConfiguration",
        "cooldownSeconds: 86401",
        "cooldownSeconds",
    ),
    (
        "IPAMConfiguration",
        "maxBlocksPerHost: -1",
        "maxBlocksPerHost",
    ),
    (
        "IPAMConfiguration",
        "maxBlocksPerHost: 1000001",
        "maxBlocksPerHost",
    ),
    ("IPAMConfiguration", "strictAffinity: 2", "strictAffinity"),
    ("MeshConfiguration", "mtu: 100", "mtu"),
    ("MeshConfiguration", "mtu: 70000", "mtu"),
    ("MeshConfiguration", "mtu: big", "mtu"),
    ("MeshConfiguration", "vxlanPort: 0", "vxlanPort"),
    ("MeshConfiguration", "vxlanPort: 65536", "vxlanPort"),
    ("MeshConfiguration", "vxlanVNI: 0", "vxlanVNI"),
    ("MeshConfiguration", "vxlanVNI: 16777216", "vxlanVNI"),
    ("MeshConfiguration", "encryption: Sometimes", "encryption"),
    (
        "MeshConfiguration",
        "defaultEndpointToHostAction: Drop",
        "defaultEndpointToHostAction",
    ),
    ("WorkloadEndpoint", "interfaceName: tap0", "node"),
    (
        "WorkloadEndpoint",
        "node: \"a/b\", interfaceName: tap0",
        "node",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: sixteen-letters0",
        "interfaceName",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: ../tap",
        "interfaceName",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, ipNetworks: [10.65.0.0/24]",
        "ipNetworks",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, ipNetworks: [224.0.0.1/32]",
        "ipNetworks",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, mac: \"01:00:5e:00:00:01\"",
        "mac",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, mac: \"no\"",
        "mac",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, ipv4Gateway: \"fd00::1\"",
        "ipv4Gateway",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, ports: [{ name: web, protocol: TCP, port: 70000 }]",
        "port",
    ),
    (
        "WorkloadEndpoint",
        "node: n1, interfaceName: t, ports: [{ name: web, protocol: XYZ, port: 80 }]",
        "protocol",
    ),
    ("Node", "bgp: { ipv4Address: 10.0.0.300 }", "ipv4Address"),
    (
        "Node",
        "bgp: { ipv4Address: \"fd00::1/64\" }",
        "ipv4Address",
    ),
    ("Node", "bgp: { asNumber: 0 }", "asNumber"),
    ("Node", "bgp: { asNumber: 4294967296 }", "asNumber"),
    (
        "Node",
        "vxlanTunnelMACAddr: \"ff:ff:ff:ff:ff:ff\"",
        "vxlanTunnelMACAddr",
    ),
    ("Node", "unschedulable: maybe", "unschedulable"),
    ("Namespace", "labels: {}", "labels"),
];

/// Metadata that no object may have, and a word of the error.
const BAD_METADATA: &[(&str, &str)] = &[
    ("name: \"\"", "name"),
    ("name: Upper", "name"),
    ("name: \"a b\"", "name"),
    ("name: ..", "name"),
    ("name: a/../b", "name"),
    ("name: \"a\\0b\"", "name"),
    ("name: \"a%2fb\"", "name"),
    ("namespace: x", "name"),
    ("name: good, labels: { \"-x\": y }", "-x"),
    ("name: good, labels: { x: \"a b\" }", "x"),
    ("name: good, labels: [a]", "labels"),
    ("name: good, finalizer: a", "finalizer"),
];

#[test]
fn no_field_out_of_range_gets_into_the_store() -> Result<()> {
    lab::run("out of range", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let before = mesh.etcd.list(STORE)?;
        let mut wrong = Vec::new();
        let mut refuse = |manifest: &str, word: &str| -> Result<()> {
            for verb in ["validate", "apply", "diff"] {
                let out = node.ctl_stdin(&[verb, "-f", "-"], manifest)?;
                let named = out.stderr.contains(word) && !out.stderr.contains("panicked");
                if out.code != Some(1) || !named {
                    wrong.push(format!("{verb} of {manifest:?}, {word}: {out:?}"));
                }
            }
            Ok(())
        };
        for (kind, spec, word) in OUT_OF_RANGE {
            let name = match *kind {
                "IPAMConfiguration" | "MeshConfiguration" => "default",
                _ => "bad",
            };
            refuse(
                &format!(
                    "apiVersion: routerd/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
                ),
                word,
            )?;
        }
        for (metadata, word) in BAD_METADATA {
            refuse(
                &format!(
                    "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ {metadata} }}\nspec: {{ cidr: 10.80.0.0/16 }}\n"
                ),
                word,
            )?;
        }
        // One bad object among good ones: none is written.
        let good = "apiVersion: routerd/v1\nkind: Namespace\nmetadata: { name: fine }\n";
        let mixed = format!(
            "{good}---\napiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ name: p }}\nspec: {{ cidr: 1 }}\n"
        );
        refuse(&mixed, "cidr")?;
        // Ten megabytes of objects that are good one by one.
        let line = format!("{good}---\n");
        let huge = line.repeat((10 << 20) / line.len());
        let out = node.ctl_stdin(&["apply", "-f", "-"], &huge)?;
        ensure!(out.code == Some(1) && !out.stderr.is_empty(), "{out:?}");

        ensure!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(
            mesh.etcd.list(STORE)? == before,
            "something refused was written"
        );
        ensure!(node.status()?.get("ready") == Some(&json!(true)));
        Ok(())
    })
}

/// Bytes that are no value of the store.
fn junk(good: &str) -> Vec<Vec<u8>> {
    let half = good.len() / 2;
    vec![
        Vec::new(),
        good.as_bytes().get(..half).unwrap_or_default().to_vec(),
        b"{\"hello\": \"world\"}".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"[]".to_vec(),
        b"null".to_vec(),
        vec![b'['; 100_000],
    ]
}

#[test]
fn broken_address_records_are_named_and_nothing_is_lost() -> Result<()> {
    lab::run("broken records", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let cni = Cni::of(mesh.node(0)?)?;
        let mut standing = scenario::populate(lab, &mesh, 1)?;
        let records = mesh.etcd.list(&format!("{STORE}ipam/"))?;
        let find = |what: &str, holder: &str| {
            let wanted = format!("{STORE}ipam/{what}/");
            let found = records.iter().find(|(k, v)| {
                k.starts_with(&wanted) && (k.contains(holder) || v.contains(holder))
            });
            found
                .cloned()
                .with_context(|| format!("no {what} of {holder}"))
        };
        let block = find("blocks", "\"n1\"")?;
        let handle = find("handles", "n1-w0")?;
        for (key, good) in [block, handle] {
            for (i, bad) in junk(&good).into_iter().enumerate() {
                mesh.etcd.put(&key, &bad)?;
                let node = mesh.node(0)?;
                let out = node.ctl(&["ipam", "check", "-o", "json"])?;
                let report = out.json().with_context(|| out.stderr.clone())?;
                let short = key.strip_prefix(STORE).unwrap_or(&key);
                ensure!(
                    out.code == Some(1) && report.to_string().contains(short),
                    "{short} = {bad:?}: {report}"
                );
                // Others go on; nothing that stands is disturbed.
                if i % 3 == 1 {
                    let name = format!("during-{i}-{}", key.len());
                    Cni::of(mesh.node(1)?)?.add(lab, &format!("other-{name}"))?;
                    let more = wait("ADD to work beside it", CONVERGE, || cni.add(lab, &name))?;
                    let old = standing.first().context("no workload")?.clone();
                    scenario::everyone_reaches_everyone(&[old, more])?;
                }
            }
            // A daemon starts over it as well.
            mesh.node_mut(0)?.kill()?;
            mesh.node_mut(0)?.start_ready()?;
            mesh.etcd.put(&key, good.as_bytes())?;
            scenario::everyone_reaches_everyone(&standing)?;
        }
        // Junk where no record is.
        let keys = [
            "ipam/blocks/10.65.77.0/26",
            "ipam/blocks/../../x",
            "ipam/handles/stray",
            "ipam/affinity/n1/nonsense",
            "resources/unknownkind/x",
            "resources/ippools/a/b/c",
        ];
        for key in keys {
            mesh.etcd.put(&format!("{STORE}{key}"), b"{")?;
        }
        standing.push(cni.add(lab, "beside-junk")?);
        scenario::everyone_reaches_everyone(&standing)?;
        let first = mesh.node(0)?;
        let out = first.ctl(&["ipam", "check", "-o", "json"])?;
        ensure!(out.code == Some(1), "{}", out.stdout);
        for key in &keys[..3] {
            ensure!(
                out.stdout.contains(key),
                "{key} is not named: {}",
                out.stdout
            );
        }
        for key in keys {
            mesh.etcd.delete(&format!("{STORE}{key}"))?;
        }
        wait("the records to be clean", CONVERGE, || {
            scenario::ipam_is_clean(mesh.node(0)?)
        })
    })
}

/// Sends raw bytes and reads what comes, up to the end of the connection or a second.
fn raw(node: &Node, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(node.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    // The daemon may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

#[test]
fn the_socket_withstands_garbage_tricks_and_a_crowd() -> Result<()> {
    lab::run("socket abuse", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let before = mesh.etcd.list(STORE)?;
        let pool =
            json!({ "apiVersion": "routerd/v1", "kind": "IPPool", "metadata": { "name": "p" },
            "spec": { "cidr": "10.80.0.0/16" } })
            .to_string();
        let tricks = [
            ("PUT", "/v1/resources/ippools/..%2f..%2fowners%2fn1"),
            ("PUT", "/v1/resources/ippools/%2e%2e"),
            ("PUT", "/v1/resources/ippools/a%00b"),
            ("PUT", "/v1/resources/ippools/../nodes/n1"),
            ("PUT", "/v1/resources/ippools/q"),
            ("PUT", "/v1/resources/ippools/p?dryRun=perhaps"),
            ("PUT", "/v1/resources/ippools/p?force=true"),
            ("PUT", "/v1/resources/%ff%fe/p"),
            ("DELETE", "/v1/resources/ippools/..%2f..%2fowners%2fn1"),
            ("DELETE", "/v1/resources/nodes/..%2f..%2fippools%2fv4"),
            ("DELETE", "/v1/resources/workloadendpoints/..%2fippools/v4"),
            ("DELETE", "/v1/resources/owners/n1"),
            ("GET", "/v1/resources/ippools/..%2fnodes%2fn1"),
            ("GET", "/v1/ipam/addresses/..%2f..%2fstatus"),
            ("GET", "/v1/ipam/addresses/10.0.0.999"),
            ("GET", "/v1/ipam?blocks=many"),
            ("GET", "/v1/resources/ippools?labelSelector=((("),
            ("POST", "/v1/ipam/release"),
            ("POST", "/v1/cni/add"),
            ("POST", "/v1/cni/explode"),
            ("POST", "/v1/status"),
            ("PATCH", "/v1/resources/ippools/v4"),
            ("POST", "/v1/datastore/accept"),
        ];
        for (method, path) in tricks {
            let answer = node.http(method, path, pool.as_bytes())?;
            ensure!(
                (400..500).contains(&answer.status),
                "{method} {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let error: Value = serde_json::from_slice(&answer.body).with_context(|| {
                format!("{method} {path}: {}", String::from_utf8_lossy(&answer.body))
            })?;
            ensure!(
                !text(&error, "error")?.is_empty(),
                "{method} {path}: {error}"
            );
        }
        for args in [
            vec!["delete", "ippool", "../../owners/n1"],
            vec!["get", "ippool", "../nodes/n1"],
            vec!["get", "workloadendpoint", "x", "-n", "../.."],
            vec!["get", "ippools", "-l", "((("],
        ] {
            let out = node.ctl(&args)?;
            ensure!(
                out.code == Some(1) && !out.stderr.trim().is_empty(),
                "{args:?}: {out:?}"
            );
        }

        let head = "GET /v1/status HTTP/1.1\r\nHost: x\r\n";
        let garbage: Vec<Vec<u8>> = vec![
            vec![0; 4096],
            vec![0xff; 4096],
            b"\r\n\r\n\r\n".to_vec(),
            b"GET".to_vec(),
            b"GET / HTTP/9.9\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            format!("{head}X: {}\r\n\r\n", "a".repeat(4 << 20)).into_bytes(),
            format!("{head}{}\r\n", "A: b\r\n".repeat(100_000)).into_bytes(),
            format!("{head}Content-Length: -5\r\n\r\n").into_bytes(),
            format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello").into_bytes(),
            b"PUT /v1/resources/ippools/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            b"PUT /v1/resources/ippools/p HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        ];
        for bytes in garbage {
            let answer = raw(node, &bytes)?;
            ensure!(
                !answer.starts_with(b"HTTP/1.1 2"),
                "garbage was served: {}",
                String::from_utf8_lossy(&answer)
            );
        }

        // A thousand at once, all answered.
        let mut crowd = Vec::new();
        for _ in 0..1000 {
            let mut stream = UnixStream::connect(node.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
            crowd.push(stream);
        }
        for (i, mut stream) in crowd.into_iter().enumerate() {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "request {i} of 1000");
        }
        ensure!(mesh.etcd.list(STORE)? == before, "something was written");
        scenario::ipam_is_clean(node)
    })
}

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
