//! The store fails in every way it can; workloads do not notice, and afterwards everything is right.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::cni::Call;
use integration::lab::probe::Stream;
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Workload, wait};
use integration::scenario::{self, CONVERGE};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const RATE: u32 = 1000;

/// Three nodes with two workloads each, and a stream across in each family.
fn busy_mesh(lab: &Lab) -> Result<(Mesh, Vec<Workload>, Vec<Stream>)> {
    let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[2, 1]))?;
    scenario::start(&mut mesh, "CrossSubnet")?;
    let workloads = scenario::populate(lab, &mesh, 2)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    let (Some(a), Some(b)) = (workloads.first(), workloads.last()) else {
        anyhow::bail!("no workloads");
    };
    let streams = vec![
        Stream::start(a, b, false, RATE)?,
        Stream::start(b, a, true, RATE)?,
    ];
    Ok((mesh, workloads, streams))
}

fn nothing_lost(streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        let report = stream.stop()?;
        println!("{report}");
        ensure!(
            report.sent > 0 && report.lost() == 0,
            "packets were lost: {report}"
        );
    }
    Ok(())
}

/// An ADD that must fail in time, clearly and retryably; its container is free to be added later.
fn add_fails(lab: &Lab, cni: &Cni, name: &str) -> Result<()> {
    let ns = lab.workload_netns(name)?;
    let call = Call {
        id: format!("{}-{name}", lab.tag()),
        netns: ns.path().to_string_lossy().into_owned(),
        ..Call::default()
    };
    let answer = cni.call("ADD", &call)?;
    ensure!(
        answer.code() == Some(11),
        "ADD without a store: {}",
        answer.value
    );
    ensure!(!answer.message().trim().is_empty());
    ensure!(
        answer.took < Duration::from_secs(20),
        "the refusal took {:?}",
        answer.took
    );
    Ok(())
}

#[test]
fn etcd_is_away_for_thirty_seconds() -> Result<()> {
    lab::run("etcd away", |lab| {
        let (mut mesh, mut workloads, streams) = busy_mesh(lab)?;
        let cni = Cni::of(mesh.node(0)?)?;
        mesh.etcd.stop()?;
        let away = std::time::Instant::now();
        wait("the daemon to say that its store is away", CONVERGE, || {
            let status = mesh.node(0)?.status()?;
            ensure!(subsystem(&status, "datastore")? != "Ok", "{status}");
            Ok(())
        })?;
        add_fails(lab, &cni, "too-early")?;
        // The span is what is tested.
        std::thread::sleep(Duration::from_secs(30).saturating_sub(away.elapsed()));
        mesh.etcd.up()?;
        let late = wait("ADD to work again", CONVERGE, || cni.add(lab, "late"))?;
        workloads.push(late);
        scenario::everyone_reaches_everyone(&workloads)?;
        nothing_lost(streams)?;
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn etcd_freezes_and_thaws() -> Result<()> {
    lab::run("etcd frozen", |lab| {
        let (mesh, mut workloads, streams) = busy_mesh(lab)?;
        let cni = Cni::of(mesh.node(1)?)?;
        mesh.etcd.freeze()?;
        add_fails(lab, &cni, "frozen")?;
        mesh.etcd.thaw()?;
        workloads.push(wait("ADD to work again", CONVERGE, || {
            cni.add(lab, "thawed")
        })?);
        scenario::everyone_reaches_everyone(&workloads)?;
        nothing_lost(streams)?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn an_etcd_that_comes_back_empty_is_not_believed() -> Result<()> {
    lab::run("etcd empty", |lab| {
        let (mut mesh, workloads, streams) = busy_mesh(lab)?;
        mesh.etcd.stop()?;
        mesh.etcd.wipe()?;
        mesh.etcd.up()?;
        wait("the daemon to report what it holds back", CONVERGE, || {
            let status = mesh.node(0)?.status()?;
            ensure!(subsystem(&status, "datastore")? != "Ok", "{status}");
            Ok(())
        })?;
        scenario::everyone_reaches_everyone(&workloads)?;
        nothing_lost(streams)?;

        // An operator who has seen what it is about may accept the loss, on each node.
        let node = mesh.node(0)?;
        let status = node.status()?;
        ensure!(
            status.to_string().contains("routerctl accept-snapshot"),
            "the mend is not named: {status}"
        );
        let held = scenario::text(&status, "held")?;
        let shown = node.ctl(&["accept-snapshot"])?;
        ensure!(
            shown.code == Some(1) && shown.stdout.contains(held) && shown.stdout.contains("--yes"),
            "{shown:?}"
        );
        ensure!(
            node.status()?.get("held") == status.get("held"),
            "looking at it accepted it"
        );
        for node in &mesh.nodes {
            let args = ["accept-snapshot", "--yes"];
            node.ctl(&args)?.must_succeed(&args)?;
        }
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        let node = mesh.node(0)?;
        ensure!(node.status()?.get("held").is_none());
        let again = node.ctl(&["accept-snapshot", "--yes"])?;
        ensure!(
            again.code == Some(1) && again.stderr.contains("nothing to accept"),
            "{again:?}"
        );
        // The mesh begins anew.
        node.apply(&scenario::pools("CrossSubnet", false))?;
        for node in &mesh.nodes {
            scenario::pools_known(node)?;
        }
        let fresh: Vec<Workload> = mesh
            .nodes
            .iter()
            .map(|node| Cni::of(node)?.add(lab, &format!("fresh-{}", node.name)))
            .collect::<Result<_>>()?;
        scenario::everyone_reaches_everyone(&fresh)?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn a_daemon_that_missed_a_compaction_catches_up() -> Result<()> {
    lab::run("compaction", |lab| {
        let (mut mesh, mut workloads, streams) = busy_mesh(lab)?;
        let sleeper = mesh.node_mut(2)?.daemon().context("not started")?;
        sleeper.signal(Signal::SIGSTOP)?;
        let cni = Cni::of(mesh.node(0)?)?;
        // More than a block, so that a route is missed.
        for i in 0..70 {
            let workload = cni.add(lab, &format!("missed-{i}"))?;
            if i % 23 == 0 {
                workloads.push(workload);
            }
        }
        mesh.etcd.compact()?;
        mesh.etcd.stop()?;
        mesh.etcd.up()?;
        mesh.node_mut(2)?
            .daemon()
            .context("not started")?
            .signal(Signal::SIGCONT)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        nothing_lost(streams)?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn foreign_values_are_reported_and_skipped() -> Result<()> {
    lab::run("foreign", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let prefix = "/routerd/v1/resources";
        let good = json!({
            "apiVersion": "routerd/v1", "kind": "IPPool",
            "metadata": { "name": "cut" }, "spec": { "cidr": "10.99.0.0/16" },
        })
        .to_string();
        let bad: [(&str, &str, &[u8]); 6] = [
            ("ippools/cut", "cut", good.as_bytes().get(..40).context("short")?),
            ("ippools/foreign", "foreign", b"{\"hello\": \"world\"}"),
            ("nodes/noise", "noise", &[0xff, 0xfe, 0x00, 0x80]),
            ("ippools/empty", "empty", b""),
            ("ippools/huge-block", "huge-block",
             br#"{"kind":"IPPool","metadata":{"name":"huge-block"},"spec":{"cidr":"10.98.0.0/16","blockSize":99}}"#),
            ("workloadendpoints/default/list", "list", b"[1, 2, 3]"),
        ];
        for (key, _, value) in bad {
            mesh.etcd.put(&format!("{prefix}/{key}"), value)?;
        }
        for node in &mesh.nodes {
            wait("every foreign value to be reported", CONVERGE, || {
                let status = node.status()?;
                let rejected = scenario::list(&status, "rejected")?;
                for (key, name, _) in bad {
                    let found = rejected.iter().find(|r| {
                        r.get("name")
                            .and_then(Value::as_str)
                            .is_some_and(|n| n.ends_with(name))
                    });
                    let found = found.with_context(|| format!("{key} is not in {status}"))?;
                    ensure!(!scenario::text(found, "message")?.is_empty());
                    ensure!(!scenario::text(found, "kind")?.is_empty());
                }
                Ok(())
            })?;
        }
        // The rest goes on: also a daemon that starts over such a store.
        mesh.node_mut(0)?.stop()?;
        mesh.node_mut(0)?.start_ready()?;
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        // Repaired or removed, they are no longer reported.
        for (key, _, _) in bad {
            mesh.etcd.delete(&format!("{prefix}/{key}"))?;
        }
        wait("nothing to be reported", CONVERGE, || {
            let status = mesh.node(1)?.status()?;
            ensure!(scenario::list(&status, "rejected")?.is_empty(), "{status}");
            Ok(())
        })
    })
}

fn subsystem<'a>(status: &'a Value, name: &str) -> Result<&'a str> {
    let all = scenario::list(status, "subsystems")?;
    let one = all.iter().find(|s| s.get("name") == Some(&json!(name)));
    scenario::text(
        one.with_context(|| format!("no subsystem {name} in {status}"))?,
        "state",
    )
}
