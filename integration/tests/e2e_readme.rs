//! What the README tells to do with three hosts, done as it tells.

use anyhow::{Context, Result, anyhow, bail, ensure};
use datastore::testing::{EtcdCluster, EtcdOptions};
use integration::lab::{self, Mesh, MeshSpec};
use integration::scenario;

const README: &str = include_str!("../../README.md");

/// The text between two others, the first of them after a heading.
fn between(heading: &str, from: &str, to: &str) -> Result<&'static str> {
    let (_, rest) = README.split_once(heading).context(heading.to_owned())?;
    let (_, rest) = rest.split_once(from).context(from.to_owned())?;
    Ok(rest.split_once(to).context(to.to_owned())?.0)
}

#[test]
fn three_hosts_with_etcd() -> Result<()> {
    lab::run("readme", |lab| {
        const HEADING: &str = "## Three hosts with etcd";
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(3))?;
        let ip = "10.0.0.10";
        mesh.outside
            .ip(&format!("link set lo up\naddr add {ip}/32 dev lo"))?;
        mesh.router
            .ip(&format!("route add {ip}/32 via 172.31.0.10"))?;
        for node in &mesh.nodes {
            let gateway = node.ns.ip_json("route get 172.31.0.10")?;
            let gateway = gateway.pointer("/0/gateway").and_then(|g| g.as_str());
            let gateway = gateway.context("no way to the outside")?;
            node.ns.ip(&format!("route add {ip}/32 via {gateway}"))?;
        }
        let wrap = ["ip", "netns", "exec", mesh.outside.name()].map(str::to_owned);
        let etcd = EtcdCluster::start(EtcdOptions {
            addresses: vec![ip.parse()?],
            wrap: wrap.to_vec(),
            tls: true,
            args: Vec::new(),
        })
        .map_err(|e| anyhow!(e))?;
        let files = etcd.config("/routerd/v1");
        let mut store = between(HEADING, "```toml\n", "```")?.to_owned();
        for (name, path) in [
            ("ca.pem", files.ca),
            ("client.pem", files.cert),
            ("client.key", files.key),
        ] {
            let path = path.context("no certificate")?.display().to_string();
            let shown = format!("/etc/routerd/{name}");
            ensure!(store.contains(&shown), "{shown} is not in the README");
            store = store.replace(&shown, &path);
        }
        let pools = lab.dir().join("pools.yaml");
        std::fs::write(&pools, between("## One host", "<<'YAML'\n", "\nYAML\n")?)?;
        for node in &mesh.nodes {
            // Three hosts on one machine: each with a name and directories of its own.
            let config = std::fs::read_to_string(node.config())?;
            let (own, _) = config.split_once("[datastore]").context("no datastore")?;
            node.write_config(&format!("{own}\n{store}"))?;
        }

        let commands = between(HEADING, "```sh\n", "```")?;
        for line in commands.lines() {
            let (command, on) = line.split_once('#').context("where is it to be run?")?;
            let everywhere = on.contains("on each");
            let count = if everywhere { mesh.nodes.len() } else { 1 };
            let words: Vec<&str> = command.split_whitespace().collect();
            for i in 0..count {
                match words.as_slice() {
                    ["routerd", "check", ..] => {
                        let out = mesh.node(i)?.routerd(&["check"])?;
                        ensure!(out.code == Some(0), "{line}: {out:?}");
                    }
                    ["systemctl", "enable", "--now", "routerd"] => {
                        mesh.node_mut(i)?.start_ready()?;
                    }
                    ["routerctl", args @ ..] => {
                        let path = pools.display().to_string();
                        let args: Vec<&str> = args
                            .iter()
                            .map(|a| if *a == "pools.yaml" { &path } else { *a })
                            .collect();
                        let out = mesh.node(i)?.ctl(&args)?.must_succeed(&args)?;
                        if on.contains("all three are listed") {
                            let listed = mesh.nodes.iter().filter(|n| out.stdout.contains(&n.name));
                            ensure!(listed.count() == 3, "{}", out.stdout);
                        }
                    }
                    _ => bail!("no host of this test can run {line:?}"),
                }
            }
        }
        for node in &mesh.nodes {
            scenario::pools_known(node)?;
        }
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn the_endpoint_of_a_virtual_machine_is_valid() -> Result<()> {
    lab::run("readme endpoint", |lab| {
        let mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
        let manifest = between("### Virtual machines", "```yaml\n", "```")?;
        let args = ["validate", "-f", "-"];
        mesh.node(0)?
            .ctl_stdin(&args, manifest)?
            .must_succeed(&args)?;
        Ok(())
    })
}
