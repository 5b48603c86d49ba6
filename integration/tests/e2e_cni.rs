//! The CNI plugin as runtimes call it: every verb, every version, and what goes wrong.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::lab::cni::Call;
use integration::lab::{
    self, Cni, Containerd, Lab, Mesh, MeshSpec, Netns, Node, Podman, Workload, binaries, wait,
};
use integration::scenario::{self, CONVERGE, text};
use serde_json::{Value, json};

/// One node, pools, and its plugin.
fn one_node(lab: &Lab) -> Result<(Mesh, Cni)> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    let cni = Cni::of(mesh.node(0)?)?;
    Ok((mesh, cni))
}

#[test]
fn add_answers_as_the_specification_says() -> Result<()> {
    lab::run("result", |lab| {
        let (_mesh, mut cni) = one_node(lab)?;
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            cni.conf["cniVersion"] = json!(version);
            let name = format!("v{}", version.replace('.', "-"));
            let workload = cni.add(lab, &name)?;
            let result = &workload.result;
            ensure!(text(result, "cniVersion")? == version, "{result}");
            let interfaces = scenario::list(result, "interfaces")?;
            let inside: Vec<_> = interfaces
                .iter()
                .filter(|i| i.get("sandbox").is_some_and(|s| s != ""))
                .collect();
            ensure!(
                inside.len() == 1 && text(inside[0], "name")? == "eth0",
                "{result}"
            );
            let ips = scenario::list(result, "ips")?;
            for (ip, version_4) in ips.iter().zip([true, false]) {
                let length = if version_4 { "/32" } else { "/128" };
                ensure!(text(ip, "address")?.ends_with(length), "{ip}");
                let place = ip
                    .get("interface")
                    .and_then(Value::as_u64)
                    .context("no interface")?;
                let named = interfaces
                    .get(usize::try_from(place)?)
                    .context("no such interface")?;
                ensure!(text(named, "name")? == "eth0", "{result}");
            }
            ensure!(ips.len() == 2 && workload.ips.len() == 2, "{result}");
            let checked = cni.check(&workload)?;
            // CHECK came with 0.4.0.
            if version >= "0.4.0" {
                ensure!(checked.ok, "{version}: {}", checked.value);
            }
            cni.del(&workload)?;
        }
        Ok(())
    })
}

#[test]
fn version_lists_every_released_version() -> Result<()> {
    lab::run("version", |lab| {
        // Needs no daemon.
        let host = lab.netns("host")?;
        let node = Node::new(lab, "n1", &host, Vec::new(), None)?;
        let answer = Cni::of(&node)?
            .call("VERSION", &Call::default())?
            .must_succeed("VERSION", "-")?;
        let versions = scenario::list(&answer, "supportedVersions")?;
        for version in [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ] {
            ensure!(
                versions.contains(&json!(version)),
                "{version} is not in {answer}"
            );
        }
        Ok(())
    })
}

#[test]
fn del_is_idempotent_and_needs_no_namespace() -> Result<()> {
    lab::run("del", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let workload = cni.add(lab, "w")?;
        let link = workload.host_interface()?.to_owned();
        cni.del(&workload)?;
        cni.del(&workload)?;
        ensure!(!scenario::our_links(mesh.node(0)?)?.contains(&link));
        ensure!(scenario::addresses_used(mesh.node(0)?)? == 0);

        let other = cni.add(lab, "other")?;
        let call = Call {
            netns: String::new(),
            ..other.call()
        };
        cni.call("DEL", &call)?.must_succeed("DEL", "other")?;
        ensure!(scenario::addresses_used(mesh.node(0)?)? == 0);
        let call = Call {
            id: "never-added".to_owned(),
            netns: "/run/netns/no-such".to_owned(),
            ..Call::default()
        };
        cni.call("DEL", &call)?.must_succeed("DEL", "never-added")?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn a_repeated_add_gets_the_same_addresses() -> Result<()> {
    lab::run("repeat", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let first = cni.add(lab, "w")?;
        let again = cni.attach(lab, &first.ns, "w", &Value::Null)?;
        ensure!(
            first.ips == again.ips,
            "{:?} became {:?}",
            first.ips,
            again.ips
        );
        ensure!(scenario::addresses_used(mesh.node(0)?)? == 2);
        ensure!(cni.check(&again)?.ok);
        Ok(())
    })
}

#[test]
fn an_add_without_an_address_leaves_no_interface() -> Result<()> {
    lab::run("noip", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let node = mesh.node(0)?;
        let ns = lab.workload_netns("w")?;
        let call = Call {
            id: "w".to_owned(),
            netns: ns.path().to_string_lossy().into_owned(),
            extra: json!({ "runtimeConfig": { "ips": ["192.0.2.77"] } }),
            ..Call::default()
        };
        let refused = cni.call("ADD", &call)?;
        ensure!(!refused.ok, "{}", refused.value);
        ensure!(
            text(&refused.value, "details")?.contains("192.0.2.77"),
            "{}",
            refused.value
        );
        let veths = |ns: &Netns| ns.output("ip", "-o link show type veth");
        let (host, inside) = (veths(&node.ns)?, veths(&ns)?);
        ensure!(!host.contains("rtd"), "left on the host: {host}");
        ensure!(inside.is_empty(), "left in the workload: {inside}");
        let attached = cni.attach(lab, &ns, "w", &Value::Null)?;
        ensure!(cni.check(&attached)?.ok);
        Ok(())
    })
}

#[test]
fn check_compares_with_the_kernel() -> Result<()> {
    lab::run("check", |lab| {
        let (_mesh, cni) = one_node(lab)?;
        let breakages: [(&str, &str); 4] = [
            ("route", "-4 route del default"),
            ("address", "-4 addr flush dev eth0"),
            ("down", "link set eth0 down"),
            ("gone", "link del eth0"),
        ];
        for (name, breakage) in breakages {
            let workload = cni.add(lab, name)?;
            let before = cni.check(&workload)?;
            ensure!(before.ok, "{name}: {}", before.value);
            workload.ns.output("ip", breakage)?;
            let after = cni.check(&workload)?;
            ensure!(
                !after.ok && after.code().is_some(),
                "{name}: CHECK saw nothing"
            );
            ensure!(!after.message().trim().is_empty());
            cni.del(&workload)?;
        }
        Ok(())
    })
}

#[test]
fn gc_frees_what_the_runtime_no_longer_lists() -> Result<()> {
    lab::run("gc", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let node = mesh.node(0)?;
        let keep = cni.add(lab, "keep")?;
        let lost = cni.add(lab, "lost")?;
        let answer = cni.gc(&[&keep])?;
        ensure!(answer.ok, "{}", answer.value);
        ensure!(scenario::addresses_used(node)? == 2);
        ensure!(scenario::address_state(node, keep.ip(false)?)? == "Used");
        ensure!(scenario::address_state(node, lost.ip(false)?)? == "Cooldown");
        ensure!(
            !scenario::our_links(node)?
                .iter()
                .any(|l| Some(l.as_str()) == lost.host_interface().ok())
        );
        ensure!(cni.check(&keep)?.ok);
        scenario::ipam_is_clean(node)
    })
}

#[test]
fn without_a_daemon_the_runtime_is_told_to_try_again() -> Result<()> {
    lab::run("no daemon", |lab| {
        let (mut mesh, cni) = one_node(lab)?;
        let standing = cni.add(lab, "standing")?;
        let status = cni.call("STATUS", &Call::default())?;
        ensure!(status.ok, "{}", status.value);
        mesh.node_mut(0)?.stop()?;

        let ns = lab.workload_netns("w")?;
        let call = Call {
            id: "w".to_owned(),
            netns: ns.path().to_string_lossy().into_owned(),
            ..Call::default()
        };
        let answer = cni.call("ADD", &call)?;
        ensure!(answer.code() == Some(11), "{}", answer.value);
        ensure!(
            answer.message().contains("routerd.sock"),
            "{}",
            answer.message()
        );
        ensure!(answer.took < Duration::from_secs(15));
        // A DEL that cannot be recorded must not be taken for done.
        ensure!(cni.call("DEL", &standing.call())?.code() == Some(11));
        let status = cni.call("STATUS", &Call::default())?;
        ensure!(
            !status.ok && matches!(status.code(), Some(11 | 50 | 51)),
            "{}",
            status.value
        );

        mesh.node_mut(0)?.start_ready()?;
        cni.call("ADD", &call)?.must_succeed("ADD", "w")?;
        cni.del(&standing)
    })
}

#[test]
fn a_bad_configuration_is_code_7() -> Result<()> {
    lab::run("bad config", |lab| {
        let (_mesh, cni) = one_node(lab)?;
        let ns = lab.workload_netns("w")?;
        let call = |extra: Value| Call {
            id: "w".to_owned(),
            netns: ns.path().to_string_lossy().into_owned(),
            args: String::new(),
            extra,
        };
        for extra in [
            json!({ "socket": 5 }),
            json!({ "ipv4Pools": "not-a-list" }),
            json!({ "args": { "cni": { "ips": ["10.65.0.300"] } } }),
            json!({ "runtimeConfig": { "mac": "zz" } }),
        ] {
            let answer = cni.call("ADD", &call(extra.clone()))?;
            ensure!(answer.code() == Some(7), "{extra}: {}", answer.value);
        }
        // JSON that is cut short is content that cannot be decoded.
        let answer = cni.call_raw("ADD", &call(Value::Null), b"{\"cniVersion\": \"1.1.0\", ")?;
        ensure!(answer.code() == Some(6), "{}", answer.value);
        // A version that is none of ours.
        let answer = cni.call("ADD", &call(json!({ "cniVersion": "9.9.9" })))?;
        ensure!(answer.code() == Some(1), "{}", answer.value);
        // An environment without a container.
        let answer = cni.call("ADD", &Call::default())?;
        ensure!(answer.code() == Some(4), "{}", answer.value);
        Ok(())
    })
}

#[test]
fn asked_for_addresses_mac_and_labels_are_given() -> Result<()> {
    lab::run("asked for", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let node = mesh.node(0)?;
        let extra = json!({
            "args": { "cni": { "labels": { "app": "web", "tier": "front" } } },
            "runtimeConfig": { "ips": ["10.65.0.77", "fd65:1::77"], "mac": "02:11:22:33:44:55" },
        });
        let workload = cni.add_with(lab, "fixed", &extra)?;
        ensure!(
            workload.ips
                == [
                    "10.65.0.77".parse::<std::net::IpAddr>()?,
                    "fd65:1::77".parse()?
                ]
        );
        let link = workload.ns.ip_json("link show dev eth0")?;
        ensure!(
            link.pointer("/0/address") == Some(&json!("02:11:22:33:44:55")),
            "{link}"
        );
        let found = node.json(&[
            "get",
            "workloadendpoints",
            "-n",
            "default",
            "-l",
            "app == 'web'",
        ])?;
        ensure!(scenario::list(&found, "items")?.len() == 1, "{found}");
        let taken = cni.add_with(
            lab,
            "second",
            &json!({ "args": { "cni": { "ips": ["10.65.0.77"] } } }),
        );
        let error = taken.err().context("one address was given twice")?;
        ensure!(format!("{error:#}").contains("10.65.0.77"), "{error:#}");
        Ok(())
    })
}

/// ADD or DEL for many at once, one thread each, as a runtime after a reboot.
fn at_once<T: Send>(
    count: usize,
    call: impl Fn(usize) -> Result<T> + Sync,
) -> Result<(Vec<T>, Duration)> {
    let start = Instant::now();
    let all: Result<Vec<T>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|i| {
                scope.spawn({
                    let call = &call;
                    move || call(i)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect()
    });
    Ok((all?, start.elapsed()))
}

#[test]
fn two_hundred_at_once() -> Result<()> {
    lab::run("200 ADDs", |lab| {
        let (mesh, cni) = one_node(lab)?;
        let node = mesh.node(0)?;
        let spaces: Vec<_> = (0..200)
            .map(|i| lab.workload_netns(&format!("w{i}")))
            .collect::<Result<_>>()?;
        let tag = lab.tag();
        let (added, took) = at_once(200, |i| {
            let ns = spaces.get(i).context("no namespace")?;
            let call = Call {
                id: format!("{tag}-{i}"),
                netns: ns.path().to_string_lossy().into_owned(),
                args: format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=w{i}"),
                extra: Value::Null,
            };
            let result = cni.call("ADD", &call)?.must_succeed("ADD", &call.id)?;
            Ok((call, result))
        })?;
        println!("200 ADDs at once took {took:?}");
        let mut ips = BTreeSet::new();
        for (_, result) in &added {
            for ip in scenario::list(result, "ips")? {
                ensure!(
                    ips.insert(text(ip, "address")?.to_owned()),
                    "{ip} was given twice"
                );
            }
        }
        ensure!(ips.len() == 400, "{} addresses", ips.len());
        ensure!(scenario::addresses_used(node)? == 400);
        scenario::ipam_is_clean(node)?;

        let (_, took) = at_once(200, |i| {
            let (call, _) = added.get(i).context("no such call")?;
            cni.call("DEL", call)?.must_succeed("DEL", &call.id)
        })?;
        println!("200 DELs at once took {took:?}");
        ensure!(scenario::addresses_used(node)? == 0);
        let links = scenario::our_links(node)?;
        ensure!(links.is_empty(), "left: {links:?}");
        scenario::ipam_is_clean(node)
    })
}

#[test]
fn containers_of_a_real_runtime() -> Result<()> {
    lab::run("containerd", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Always")?;
        let containerd = Containerd::start(lab)?;
        let plugin = binaries::find("routerd-cni")?;
        let bin = plugin.parent().context("the plugin has no directory")?;
        let mut containers = Vec::new();
        let mut all: Vec<Workload> = scenario::populate(lab, &mesh, 1)?;
        for node in &mesh.nodes {
            let list = conflist(node);
            for i in 0..2 {
                let name = format!("{}-c{i}", node.name);
                let container = containerd.run(&node.ns, &name, &[bin], &list)?;
                all.push(container.workload.clone());
                containers.push(container);
            }
        }
        scenario::everyone_reaches_everyone(&all)?;
        let used = scenario::addresses_used(mesh.node(0)?)?;
        for container in containers {
            containerd.stop(container)?;
        }
        wait("the containers' addresses to be free", CONVERGE, || {
            let now = scenario::addresses_used(mesh.node(0)?)?;
            ensure!(now == used - 8, "{now} of {used} used");
            Ok(())
        })?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn containers_of_podman() -> Result<()> {
    lab::run("podman", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Always")?;
        let plugin = binaries::find("routerd-cni")?;
        let bin = plugin.parent().context("the plugin has no directory")?;
        let mut all: Vec<Workload> = scenario::populate(lab, &mesh, 1)?;
        let mut running = Vec::new();
        for node in &mesh.nodes {
            let mut podman = Podman::new(lab, &node.ns, &[bin], &conflist(node))?;
            for i in 0..2 {
                all.push(podman.run(&format!("{}-p{i}", node.name), "mesh")?);
            }
            running.push(podman);
        }
        scenario::everyone_reaches_everyone(&all)?;
        let node = mesh.node(0)?;
        let used = scenario::addresses_used(node)?;
        let containers = all.split_off(mesh.nodes.len());
        for (podman, own) in running.iter_mut().zip(containers.chunks(2)) {
            for workload in own {
                podman.stop(workload)?;
            }
        }
        ensure!(scenario::addresses_used(node)? == used - 8);
        scenario::everyone_reaches_everyone(&all)?;
        scenario::ipam_is_clean(node)
    })
}

/// The network as an operator writes it; 1.0.0 is the newest version that containerd 1.6 and
/// podman 4.3 know.
fn conflist(node: &Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "mesh",
        "plugins": [{ "type": "routerd-cni", "socket": node.socket(), "ipv4Pools": [], "ipv6Pools": [] }],
    })
}
