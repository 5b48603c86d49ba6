//! What an operator types and scripts read: the contract's words, shapes and exit statuses.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Node, binaries, http, wait};
use integration::scenario::{self, CONVERGE, list, text};
use serde_json::{Value, json};

fn one_node(lab: &Lab) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    Ok(mesh)
}

/// Fails unless every field is there with a value of the type of the sample's.
fn has_shape(value: &Value, sample: &Value) -> Result<()> {
    match (value, sample) {
        (Value::Object(have), Value::Object(want)) => {
            for (field, sample) in want {
                let value = have
                    .get(field)
                    .with_context(|| format!("no field {field:?} in {value}"))?;
                has_shape(value, sample).with_context(|| format!("in field {field:?}"))?;
            }
        }
        (Value::Array(have), Value::Array(want)) => {
            for (value, sample) in have.iter().flat_map(|v| want.first().map(|s| (v, s))) {
                has_shape(value, sample)?;
            }
        }
        (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => {}
        _ => anyhow::bail!("{value} is not like {sample}"),
    }
    Ok(())
}

#[test]
fn json_has_the_shapes_that_scripts_rely_on() -> Result<()> {
    lab::run("shapes", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let workload = Cni::of(node)?.add(lab, "w")?;

        let status = node.status()?;
        has_shape(
            &status,
            &json!({ "node": "n", "ready": true, "inSync": true, "revision": 1, "encryption": "Off",
                "subsystems": [{ "name": "n", "state": "Ok", "message": "m" }],
                "rejected": [{ "kind": "k", "name": "n", "message": "m" }], "drift": [] }),
        )?;
        ensure!(text(&status, "node")? == "n1" && text(&status, "encryption")? == "Off");
        ensure!(!list(&status, "subsystems")?.is_empty());

        for kind in [
            "nodes",
            "ippools",
            "workloadendpoints",
            "meshconfigurations",
            "ipreservations",
        ] {
            let found = node.json(&["get", kind])?;
            ensure!(
                text(&found, "apiVersion")? == "routerd/v1" && text(&found, "kind")? == "List",
                "{found}"
            );
            list(&found, "items")?;
        }
        let pool = node.json(&["get", "ippools", "v4"])?;
        has_shape(
            &pool,
            &json!({ "apiVersion": "routerd/v1", "kind": "IPPool", "metadata": { "name": "v4" },
                "spec": { "cidr": "c", "vxlanMode": "Never" } }),
        )?;
        ensure!(
            text(&pool, "kind")? == "IPPool"
                && pool.pointer("/metadata/name") == Some(&json!("v4"))
        );

        let show = node.json(&["ipam", "show"])?;
        has_shape(
            &show,
            &json!({ "pools": [{ "cidr": "c", "capacity": 1, "used": 1, "blocks": 1 }] }),
        )?;
        let v4 = list(&show, "pools")?
            .iter()
            .find(|p| p.get("cidr") == Some(&json!(scenario::POOL_V4)));
        ensure!(
            v4.and_then(|p| p.get("capacity")?.as_u64()) == Some(65536),
            "{show}"
        );
        let blocks = node.json(&["ipam", "show", "--blocks"])?;
        has_shape(
            &blocks,
            &json!({ "blocks": [{ "cidr": "c", "node": "n", "used": 1, "free": 1 }] }),
        )?;
        ensure!(list(&blocks, "blocks")?.len() == 2, "{blocks}");
        let ip = workload.ip(false)?.to_string();
        let address = node.json(&["ipam", "show", "--ip", &ip])?;
        has_shape(
            &address,
            &json!({ "ip": "i", "state": "Used", "handle": "h", "node": "n", "namespace": "n", "name": "n" }),
        )?;
        ensure!(
            [
                text(&address, "state")?,
                text(&address, "node")?,
                text(&address, "namespace")?,
                text(&address, "name")?
            ] == ["Used", "n1", "default", "w"],
            "{address}"
        );
        let check = node.json(&["ipam", "check"])?;
        has_shape(&check, &json!({ "clean": true, "problems": [] }))
    })
}

#[test]
fn address_states_follow_the_life_of_an_address() -> Result<()> {
    lab::run("address states", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        node.apply(
            "apiVersion: routerd/v1\nkind: IPReservation\nmetadata: { name: r }\n\
             spec: { reservedCIDRs: [10.65.7.0/24] }\n",
        )?;
        wait("the reservation to hold", CONVERGE, || {
            ensure!(scenario::address_state(node, "10.65.7.9".parse()?)? == "Reserved");
            Ok(())
        })?;
        ensure!(scenario::address_state(node, "10.65.9.9".parse()?)? == "Free");
        let cni = Cni::of(node)?;
        let workload = cni.add(lab, "w")?;
        let ip = workload.ip(false)?;
        ensure!(scenario::address_state(node, ip)? == "Used");
        cni.del(&workload)?;
        ensure!(scenario::address_state(node, ip)? == "Cooldown");
        let next = cni.add(lab, "next")?;
        ensure!(next.ip(false)? != ip, "{ip} was given again at once");
        Ok(())
    })
}

#[test]
fn apply_diff_delete_and_their_exit_statuses() -> Result<()> {
    lab::run("apply", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let pool = "apiVersion: routerd/v1\nkind: IPPool\nmetadata: { name: extra }\nspec: { cidr: 10.70.0.0/16 }\n";
        let changed = pool.replace("10.70.0.0/16 ", "10.70.0.0/16, disabled: true ");
        let run = |args: &[&str], stdin: &str, code: i32| -> Result<String> {
            let out = node.ctl_stdin(args, stdin)?;
            ensure!(
                out.code == Some(code),
                "{args:?}: exit {:?}, not {code}: {}{}",
                out.code,
                out.stdout,
                out.stderr
            );
            Ok(out.stdout)
        };
        ensure!(run(&["validate", "-f", "-"], pool, 0).is_ok());
        run(&["diff", "-f", "-"], pool, 1)?;
        ensure!(
            scenario::names(&node.json(&["get", "ippools"])?).len() == 2,
            "diff changed something"
        );
        let said = run(&["apply", "-f", "-"], pool, 0)?;
        ensure!(
            said.lines().count() == 1 && said.to_lowercase().contains("extra"),
            "{said}"
        );
        run(&["diff", "-f", "-"], pool, 0)?;
        let diff = run(&["diff", "-f", "-"], &changed, 1)?;
        ensure!(diff.contains("disabled"), "{diff}");
        run(&["apply", "-f", "-"], &changed, 0)?;
        let stored = node.json(&["get", "ippools", "extra"])?;
        ensure!(
            stored.pointer("/spec/disabled") == Some(&json!(true)),
            "{stored}"
        );
        run(&["delete", "ippool", "extra"], "", 0)?;
        run(&["get", "ippool", "extra"], "", 1)?;
        run(&["delete", "ippool", "extra"], "", 1)?;

        // A directory is applied whole.
        let dir = lab.subdir("manifests")?;
        std::fs::write(dir.join("a.yaml"), pool)?;
        std::fs::write(dir.join("b.json"), json!({
            "apiVersion": "routerd/v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": { "team": "a" } },
        }).to_string())?;
        let path = dir.to_string_lossy().into_owned();
        let said = run(&["apply", "-f", &path], "", 0)?;
        ensure!(said.lines().count() == 2, "{said}");
        run(&["delete", "-f", &path], "", 0)?;

        run(&["frobnicate"], "", 2)?;
        run(&["get", "ippools", "--no-such-option"], "", 2)?;
        ensure!(run(&["get", "ippools", "-o", "table"], "", 0)?.contains("10.65.0.0/16"));
        let wide = run(&["get", "ippools", "-o", "wide"], "", 0)?;
        ensure!(!wide.contains('\u{1b}'), "colour without a terminal");
        ensure!(
            run(&["get", "ippools", "v4", "-o", "yaml"], "", 0)?.contains("cidr: 10.65.0.0/16")
        );
        for shell in ["bash", "zsh", "fish"] {
            ensure!(run(&["completion", shell], "", 0)?.contains("routerctl"));
        }
        run(&["doctor"], "", 0).map(drop)
    })
}

#[test]
fn bad_manifests_are_refused_by_object_field_and_mend() -> Result<()> {
    lab::run("bad manifests", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let pool = |name: &str, spec: &str| {
            format!(
                "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
            )
        };
        // The manifest, and what the message must name.
        let bad = [
            (pool("p", "cidr: 10.0.0.1/8"), vec!["p", "cidr", "10.0.0.0/8"]),
            (pool("p", "cidr: 10.80.0.0/16, blockSize: 33"), vec!["p", "blockSize", "33"]),
            (pool("p", "cidr: 10.80.0.0/16, blocksize: 26"), vec!["blocksize", "blockSize"]),
            (pool("p", "cidr: 10.80.0.0/16, vxlanMode: Sometimes"), vec!["vxlanMode", "Sometimes"]),
            (pool("p", "cidr: 10.80.0.0/16, ipipMode: Always"), vec!["ipipMode", "vxlanMode"]),
            (pool("p", "cidr: 10.80.0.0/16, nodeSelector: \"a ==\""), vec!["p", "nodeSelector"]),
            (pool("../../owners/n1", "cidr: 10.80.0.0/16"), vec!["name", "../../owners/n1"]),
            (pool("overlapping", "cidr: 10.65.128.0/17"), vec!["overlapping", "cidr", "v4"]),
            (pool("p", "cidr: 10.80.0.0/16").replace("IPPool", "IPPoool"), vec!["IPPoool"]),
            (pool("p", "cidr: 10.80.0.0/16").replace("routerd/v1", "routerd/v9"), vec!["routerd/v9"]),
            ("{ this is no manifest".to_owned(), vec![]),
            ("apiVersion: routerd/v1\nkind: MeshConfiguration\nmetadata: { name: other }\nspec: {}\n".to_owned(), vec!["default"]),
        ];
        let before = node.json(&["get", "ippools"])?;
        for (manifest, named) in &bad {
            // What can be seen without the other objects is seen offline too.
            if !named.contains(&"overlapping") {
                let out = node.ctl_stdin(&["validate", "-f", "-"], manifest)?;
                ensure!(
                    out.code == Some(1),
                    "validate passed {manifest}: {}",
                    out.stdout
                );
            }
            let out = node.ctl_stdin(&["apply", "-f", "-"], manifest)?;
            ensure!(
                out.code == Some(1),
                "exit {:?} for {manifest}: {}",
                out.code,
                out.stdout
            );
            for word in named {
                ensure!(
                    out.stderr.contains(word),
                    "{word:?} is not named for {manifest}: {}",
                    out.stderr
                );
            }
            ensure!(
                !out.stderr.trim().is_empty() && !out.stderr.contains("panicked"),
                "{}",
                out.stderr
            );
        }
        let after = node.json(&["get", "ippools"])?;
        ensure!(
            scenario::names(&before) == scenario::names(&after),
            "a refused manifest changed something"
        );

        // Ten megabytes of comment, then of objects: an answer, in bounded time, and the daemon lives.
        let long = format!(
            "# {}\n{}",
            "x".repeat(10 << 20),
            pool("p", "cidr: 10.80.0.1/16")
        );
        let out = node.ctl_stdin(&["apply", "-f", "-"], &long)?;
        ensure!(
            out.code == Some(1) && !out.stderr.contains("panicked"),
            "{:?} {}",
            out.code,
            out.stderr
        );
        let body = vec![b'['; 10 << 20];
        let answer = node.http("PUT", "/v1/resources/ippools/p", &body);
        if let Ok(answer) = answer {
            ensure!((400..500).contains(&answer.status), "{}", answer.status);
        }
        ensure!(node.status()?.get("ready") == Some(&json!(true)));
        Ok(())
    })
}

#[test]
fn manifests_of_calico_are_accepted_unchanged() -> Result<()> {
    lab::run("calico", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        node.apply(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: my.ippool-1\nspec:\n  \
             cidr: 10.71.0.0/16\n  ipipMode: Never\n  vxlanMode: CrossSubnet\n  natOutgoing: true\n  disabled: false\n  \
             nodeSelector: all()\n  allowedUses:\n  - Workload\n  - Tunnel\n",
        )?;
        let stored = node.json(&["get", "ippool", "my.ippool-1"])?;
        ensure!(text(&stored, "apiVersion")? == "routerd/v1");
        ensure!(
            stored.pointer("/spec/vxlanMode") == Some(&json!("CrossSubnet")),
            "{stored}"
        );
        node.apply(
            "apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata:\n  name: my-ipreservation-1\nspec:\n  \
             reservedCIDRs:\n  - 192.168.2.3\n  - 10.0.2.3/32\n  - cafe:f00d::/123\n",
        )
    })
}

#[test]
fn watch_prints_what_changes() -> Result<()> {
    lab::run("watch", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let mut child = node
            .ns
            .command(binaries::find("routerctl")?)
            .args(["get", "ippools", "--watch", "-o", "json"])
            .env("ROUTERD_SOCKET", node.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("no output")?;
        let (lines, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let hear = |word: &str| -> Result<()> {
            loop {
                let line = heard
                    .recv_timeout(CONVERGE)
                    .with_context(|| format!("the watch said nothing of {word}"))?;
                if line.contains(word) {
                    return Ok(());
                }
            }
        };
        hear("v4")?;
        node.apply("apiVersion: routerd/v1\nkind: IPPool\nmetadata: { name: watched }\nspec: { cidr: 10.72.0.0/16 }\n")?;
        hear("watched")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    })
}

#[test]
fn a_bad_config_ends_with_78_and_touches_nothing() -> Result<()> {
    lab::run("bad config", |lab| {
        let host = lab.netns("host")?;
        let node = Node::new(lab, "n1", &host, Vec::new(), None)?;
        let good = std::fs::read_to_string(node.config())?;
        let out = node.routerd(&["check"])?;
        ensure!(out.code == Some(0), "a good file: {}", out.stderr);
        let bad = [
            (
                good.replace("state_dir", "statedir"),
                vec!["statedir", "state_dir"],
            ),
            (good.replace("\"embedded\"", "\"etcd\""), vec!["endpoints"]),
            (
                good.replace("\"embedded\"", "\"floppy\""),
                vec!["kind", "floppy"],
            ),
            (
                good.replace("node = \"n1\"", "node = \"a/b\""),
                vec!["node", "a/b"],
            ),
            ("this is no toml".to_owned(), vec![]),
        ];
        for (config, named) in bad {
            node.write_config(&config)?;
            for verb in ["check", "run"] {
                let out = node.routerd(&[verb])?;
                ensure!(
                    out.code == Some(78),
                    "{verb}: exit {:?} for {config}",
                    out.code
                );
                for word in &named {
                    let said = format!("{}{}", out.stdout, out.stderr);
                    ensure!(said.contains(word), "{word:?} is not named: {said}");
                }
            }
            ensure!(!node.socket().exists(), "a socket was opened");
            ensure!(
                scenario::our_links(&node)?.is_empty() && scenario::our_routes(&node)?.is_empty()
            );
        }
        Ok(())
    })
}

#[test]
fn metrics_and_health_are_served() -> Result<()> {
    lab::run("metrics", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let get = |path: &str| {
            node.ns.run(|| {
                let stream = std::net::TcpStream::connect("127.0.0.1:9091")?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                http::request(stream, "GET", path, b"")
            })
        };
        for path in ["/live", "/ready"] {
            ensure!(get(path)?.status == 200, "{path}");
        }
        let text = String::from_utf8_lossy(&get("/metrics")?.body).into_owned();
        ensure!(
            text.contains("# TYPE") && text.contains("routerd_"),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn the_socket_speaks_http_with_json() -> Result<()> {
    lab::run("socket", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let answer = node.http("GET", "/v1/status", b"")?;
        ensure!(answer.status == 200);
        let status: Value = serde_json::from_slice(&answer.body)?;
        ensure!(text(&status, "node")? == "n1");
        for (method, path, body) in [
            ("GET", "/v1/no-such-thing", ""),
            ("GET", "/v1/resources/ippools/no-such-pool", ""),
            ("PUT", "/v1/resources/ippools/p", "{\"kind\": 5}"),
            ("POST", "/v1/cni/add", "{}"),
        ] {
            let answer = node.http(method, path, body.as_bytes())?;
            ensure!(
                (400..500).contains(&answer.status),
                "{method} {path}: {}",
                answer.status
            );
            let error: Value = serde_json::from_slice(&answer.body)
                .with_context(|| String::from_utf8_lossy(&answer.body).into_owned())?;
            ensure!(!text(&error, "error")?.is_empty());
        }
        Ok(())
    })
}
