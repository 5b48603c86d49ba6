//! One node and no other service: the embedded store, and a configuration with nothing in it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Lab, Node, Process, Workload, binaries, probe};
use integration::scenario::{self, CONVERGE};
use serde_json::json;

/// A host with an underlay address but nothing on the other end.
fn lone_host(lab: &Lab) -> Result<Node> {
    let ns = lab.netns("alone")?;
    let peer = lab.netns("switch")?;
    lab.veth((&ns, "eth0"), (&peer, "p1"), 1500)?;
    ns.ip("addr add 172.31.1.11/24 dev eth0\naddr add fd31:0:0:1::11/64 dev eth0 nodad")?;
    Node::new(lab, "alone", &ns, vec!["172.31.1.11".parse()?], None)
}

/// A pool of each family, unless the daemon made some by itself.
fn ensure_pools(node: &Node) -> Result<()> {
    if scenario::names(&node.json(&["get", "ippools"])?).is_empty() {
        node.apply(&scenario::pools("Never", false))?;
        scenario::pools_known(node)?;
    }
    Ok(())
}

#[test]
fn the_embedded_store_survives_restart_and_kill() -> Result<()> {
    lab::run("embedded", |lab| {
        let mut node = lone_host(lab)?;
        node.start_ready()?;
        ensure_pools(&node)?;
        let mut workloads = scenario::populate_node(lab, &node, 4)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        node.stop()?;
        node.start_ready()?;
        node.kill()?;
        node.start_ready()?;
        let cni = Cni::of(&node)?;
        workloads.push(cni.add(lab, "later")?);
        scenario::everyone_reaches_everyone(&workloads)?;
        scenario::ipam_is_clean(&node)?;
        for workload in &workloads {
            cni.del(workload)?;
        }
        ensure!(scenario::addresses_used(&node)? == 0);
        Ok(())
    })
}

#[test]
fn an_empty_config_file_is_enough() -> Result<()> {
    lab::run("empty config", |lab| {
        let node = lone_host(lab)?;
        node.write_config("")?;
        // The default paths, shown as the lab's own in the daemon's mount namespace only.
        let mut binds = Vec::new();
        for (own, path) in [
            ("run", "/run/routerd"),
            ("state", "/var/lib/routerd"),
            ("bpf", "/sys/fs/bpf"),
        ] {
            std::fs::create_dir_all(path).with_context(|| format!("make {path}"))?;
            let own = node.dir().join(own);
            std::fs::create_dir_all(&own)?;
            binds.push((own, PathBuf::from(path)));
        }
        let mut command = node
            .ns
            .command_with_binds(binaries::find("routerd")?, &binds);
        command.arg("run").arg("--config").arg(node.config());
        let log = node.dir().join("routerd.log");
        let mut daemon = Process::start("routerd with an empty config", command, &log)?;
        lab::wait_for(&mut daemon, "the daemon to be ready", CONVERGE, || {
            let status = node.status()?;
            ensure!(status.get("ready") == Some(&json!(true)), "{status}");
            Ok(())
        })?;
        ensure_pools(&node)?;
        let cni = Cni::of(&node)?;
        let (a, b) = (cni.add(lab, "a")?, cni.add(lab, "b")?);
        let all: Vec<&Workload> = vec![&a, &b];
        probe::all_pairs(&all, probe::Size::FullMtu, CONVERGE)?;
        for (_, path) in binds {
            // Goes only when it is empty: when it was made above.
            let _ = std::fs::remove_dir(path);
        }
        Ok(())
    })
}
