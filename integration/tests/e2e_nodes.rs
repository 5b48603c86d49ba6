//! Nodes come, are cordoned and go; workloads move with their address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Mesh, MeshSpec, Node, Workload, probe, wait};
use integration::scenario::{self, CONVERGE};
use serde_json::{Value, json};

fn cordon(by: &Node, name: &str, yes: bool) -> Result<()> {
    let mut node = by.json(&["get", "nodes", name])?;
    let spec = node
        .get_mut("spec")
        .and_then(Value::as_object_mut)
        .context("no spec")?;
    spec.insert("unschedulable".to_owned(), json!(yes));
    // What the daemon wrote since does not matter here.
    if let Some(meta) = node.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
    }
    by.apply(&node.to_string())
}

#[test]
fn a_node_is_added_cordoned_and_deleted() -> Result<()> {
    lab::run("node life", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[2, 1]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        let mut workloads = scenario::populate(lab, &mesh, 3)?;
        scenario::everyone_reaches_everyone(&workloads)?;

        // Added: everyone reaches its workloads.
        mesh.add_node(lab, 1)?.start_ready()?;
        let added = mesh.node(3)?;
        scenario::pools_known(added)?;
        workloads.extend(scenario::populate_node(lab, added, 3)?);
        scenario::everyone_reaches_everyone(&workloads)?;

        // Cordoned: what stands goes on, a new ADD is refused and says why.
        cordon(mesh.node(0)?, "n4", true)?;
        let cni = Cni::of(added)?;
        let error = wait("n4 to refuse new workloads", CONVERGE, || {
            match cni.add(lab, "unwanted") {
                Err(e) => Ok(format!("{e:#}")),
                Ok(w) => {
                    cni.del(&w)?;
                    anyhow::bail!("n4 still takes workloads")
                }
            }
        })?;
        ensure!(
            error.contains("n4") && error.to_lowercase().contains("unschedulable"),
            "{error}"
        );
        scenario::everyone_reaches_everyone(&workloads)?;
        cordon(mesh.node(0)?, "n4", false)?;
        let back = wait("n4 to take workloads again", CONVERGE, || {
            cni.add(lab, "wanted")
        })?;
        cni.del(&back)?;

        // Deleted: its blocks go back and its routes vanish from the others.
        mesh.node_mut(3)?.stop()?;
        workloads.truncate(9);
        let first = mesh.node(0)?;
        let args = ["delete", "node", "n4"];
        first.ctl(&args)?.must_succeed(&args)?;
        let args = ["ipam", "release", "--node", "n4"];
        first.ctl(&args)?.must_succeed(&args)?;
        wait("n4's blocks to go back", CONVERGE, || {
            let show = first.json(&["ipam", "show", "--blocks"])?;
            let left = scenario::list(&show, "blocks")?
                .iter()
                .filter(|b| b.get("node") == Some(&json!("n4")))
                .count();
            ensure!(left == 0, "{show}");
            Ok(())
        })?;
        let gone = mesh.node(3)?.ips.clone();
        for node in mesh.nodes.iter().take(3) {
            wait(&format!("{} to forget n4", node.name), CONVERGE, || {
                let routes = Value::from(scenario::our_routes(node)?).to_string();
                ensure!(
                    !gone.iter().any(|ip| routes.contains(&format!("\"{ip}\""))),
                    "{routes}"
                );
                Ok(())
            })?;
        }
        ensure!(!scenario::names(&first.json(&["get", "nodes"])?).contains(&"n4".to_owned()));
        scenario::everyone_reaches_everyone(&workloads)?;
        scenario::ipam_is_clean(first)
    })
}

#[test]
fn a_workload_moves_with_its_address() -> Result<()> {
    lab::run("move", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 2]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        let plugins: Vec<Cni> = mesh.nodes.iter().map(Cni::of).collect::<Result<_>>()?;
        let standing = scenario::populate(lab, &mesh, 1)?;
        let sticky = json!({ "args": { "cni": { "sticky": true } } });
        let mut home: Option<Vec<_>> = None;
        // From node to node and back to where its block is.
        for place in [0, 1, 2, 0] {
            let cni = plugins.get(place).context("no plugin")?;
            let ns = lab.workload_netns(&format!("mover-{place}"))?;
            let mover = wait("the mover to be added", CONVERGE, || {
                cni.attach(lab, &ns, "mover", &sticky)
            })?;
            if let Some(home) = &home {
                ensure!(&mover.ips == home, "{home:?} became {:?}", mover.ips);
            }
            home = Some(mover.ips.clone());
            let mut all: Vec<&Workload> = standing.iter().collect();
            all.push(&mover);
            probe::all_pairs(&all, probe::Size::FullMtu, CONVERGE)
                .with_context(|| format!("with the mover on node {place}"))?;
            cni.del(&mover)?;
        }
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn an_address_of_another_nodes_block_may_be_asked_for() -> Result<()> {
    lab::run("borrow", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let standing = scenario::populate(lab, &mesh, 1)?;
        let show = mesh.node(0)?.json(&["ipam", "show", "--blocks"])?;
        let block = scenario::list(&show, "blocks")?
            .iter()
            .find(|b| b.get("node") == Some(&json!("n1")) && b.to_string().contains("10.65."))
            .context("n1 has no block")?
            .clone();
        let cidr: model::Cidr = scenario::text(&block, "cidr")?.parse()?;
        let ip = cidr.nth(50).context("the block is small")?;
        let extra = json!({ "args": { "cni": { "ips": [ip] } } });
        let borrower = Cni::of(mesh.node(1)?)?.add_with(lab, "borrower", &extra)?;
        ensure!(borrower.ip(false)? == ip, "{:?}", borrower.ips);
        let mut all: Vec<&Workload> = standing.iter().collect();
        all.push(&borrower);
        probe::all_pairs(&all, probe::Size::Small, CONVERGE)?;
        scenario::ipam_is_clean(mesh.node(1)?)
    })
}

#[test]
fn a_second_daemon_of_the_same_name_is_refused() -> Result<()> {
    lab::run("two of one name", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let standing = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&standing)?;

        mesh.add_node(lab, 1)?;
        let twin = mesh.node_mut(2)?;
        let config = std::fs::read_to_string(twin.config())?;
        twin.write_config(&config.replace("node = \"n3\"", "node = \"n1\""))?;
        twin.start()?;
        let said = wait("the twin to be refused", Duration::from_secs(30), || {
            let daemon = twin.daemon().context("not started")?;
            if let Some(status) = daemon.ended()? {
                ensure!(!status.success(), "the twin ended as if all was well");
                return Ok(daemon.last_lines(10));
            }
            let status = twin.status()?;
            ensure!(
                status.get("ready") == Some(&Value::Bool(false)),
                "the twin is ready: {status}"
            );
            let failed = status.to_string();
            ensure!(failed.contains("\"Failed\""), "{failed}");
            Ok(failed)
        })?;
        ensure!(said.contains("n1"), "the refusal names no node: {said}");
        let refused = Cni::of(mesh.node(2)?)?.add(lab, "nowhere");
        ensure!(refused.is_err(), "the twin handed out an address");
        // The first was not disturbed.
        mesh.node_mut(0)?.wait_ready()?;
        scenario::everyone_reaches_everyone(&standing)?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn a_daemon_that_lost_its_name_while_it_was_away_acts_no_more() -> Result<()> {
    lab::run("name lost", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let standing = scenario::populate(lab, &mesh, 1)?;
        let owner = "/routerd/v1/owners/n1";

        // A lease that ran out is no matter while nobody else took the name.
        mesh.etcd.revoke_lease_of(owner)?;
        wait("n1 to claim its name again", CONVERGE, || {
            mesh.etcd.get(owner)?.map(drop).context("nobody is n1")
        })?;
        mesh.node_mut(0)?.wait_ready()?;
        let cni = Cni::of(mesh.node(0)?)?;
        cni.add(lab, "again")?;

        // Cut off for long enough, another host takes the name.
        mesh.node_mut(0)?
            .daemon()
            .context("not started")?
            .signal(nix::sys::signal::Signal::SIGSTOP)?;
        mesh.etcd.revoke_lease_of(owner)?;
        mesh.add_node(lab, 1)?;
        let twin = mesh.node_mut(2)?;
        let config = std::fs::read_to_string(twin.config())?;
        twin.write_config(&config.replace("node = \"n3\"", "node = \"n1\""))?;
        twin.start_ready()?;
        let new = Cni::of(twin)?.add(lab, "of-the-new")?;
        let before = mesh.etcd.list("/routerd/v1/ipam/blocks/")?;

        // Back again, the former one hands out nothing, not even at once, and ends.
        let former = mesh.node_mut(0)?.daemon().context("not started")?;
        former.signal(nix::sys::signal::Signal::SIGCONT)?;
        let refused = cni.add(lab, "too-late");
        ensure!(refused.is_err(), "the former n1 handed out an address");
        let said = wait("the former n1 to end", CONVERGE, || {
            let former = mesh.node_mut(0)?.daemon().context("not started")?;
            let status = former.ended()?.context("it runs on")?;
            ensure!(!status.success(), "it ended as if all was well");
            Ok(former.last_lines(10))
        })?;
        ensure!(said.contains("n1"), "{said}");
        ensure!(mesh.etcd.list("/routerd/v1/ipam/blocks/")? == before);
        mesh.node_mut(2)?.wait_ready()?;
        let other = standing.get(1).context("w")?.clone();
        scenario::everyone_reaches_everyone(&[new, other]).map(drop)
    })
}

#[test]
fn a_node_that_says_in_sync_has_every_route() -> Result<()> {
    lab::run("in sync", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(3))?;
        for i in [0, 1] {
            mesh.node_mut(i)?.start_ready()?;
        }
        mesh.node(0)?.apply(&scenario::pools("Always", false))?;
        for i in [0, 1] {
            scenario::pools_known(mesh.node(i)?)?;
        }
        for i in [0, 1] {
            scenario::populate_node(lab, mesh.node(i)?, 1)?;
        }
        // The third has no tunnel address yet: its device and its routes come with one.
        let third = mesh.node_mut(2)?;
        third.start_ready()?;
        let routes = scenario::our_routes(third)?;
        let tunnelled = routes.iter().filter(|r| {
            let dev = r.get("dev").and_then(Value::as_str);
            dev.is_some_and(|d| d.starts_with("rtd.vxlan"))
        });
        ensure!(tunnelled.count() >= 4, "{routes:?}");
        Ok(())
    })
}
