//! What restarts cost a flow through the encrypted tunnel in userspace.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Row, Section};
use crate::lab::probe::{Report, Stream};
use crate::lab::{Lab, Mesh, MeshSpec, Node, Workload, wait};
use crate::scenario::{self, CONVERGE};

/// Packets a second, each of which is sent back.
const RATE: u32 = 1000;
/// Restarts by either signal.
const RESTARTS: usize = 10;
const UPGRADES: usize = 5;
/// Times that the process which holds the tunnel is ended.
const LOSSES: usize = 5;

/// Restarts the daemons of two nodes in turn under a stream, then upgrades them.
///
/// # Errors
/// When a daemon does not come back.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::routed(&[1, 1]))?;
    for node in &mut mesh.nodes {
        node.install()?;
    }
    scenario::start_encrypted(&mut mesh)?;
    let workloads = scenario::populate(&lab, &mesh, 1)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    let holders = holders(&mesh)?;

    let stopped = under_stream(&mut mesh, &workloads, RESTARTS, |node| {
        node.stop()?;
        node.start_ready()
    })?;
    let killed = under_stream(&mut mesh, &workloads, RESTARTS, |node| {
        node.kill()?;
        node.start_ready()
    })?;
    let upgraded = under_stream(&mut mesh, &workloads, UPGRADES, |node| {
        node.install()?;
        node.stop()?;
        node.start_ready()
    })?;
    ensure!(
        holders == self::holders(&mesh)?,
        "the tunnel has changed its process"
    );
    let lost = under_stream(&mut mesh, &workloads, LOSSES, lose_tunnel)?;

    let reports = [&stopped, &killed, &upgraded];
    let sent: u64 = reports.iter().map(|r| r.sent).sum();
    let total: u64 = reports.iter().map(|r| r.lost()).sum();
    let none = |what: String, report: &Report| {
        let measured = format!("{} of {}", report.lost(), report.sent);
        Row::goal(what, measured, "0", report.lost() == 0)
    };
    let gap = reports.iter().map(|r| r.longest_gap).max();
    Ok(Section {
        title: "Restarts under encryption",
        how: "Two nodes with `encryption: Required` and the tunnel in userspace; 1,000 packets a second between their \
              workloads, each sent back, a loss in either direction counts. The daemons are restarted in turn, each until it \
              is ready again. An upgrade puts new files in place of both programs before a restart. Last the process that holds the \
              tunnel is ended itself, by removing its interface: what that costs is only shown.",
        rows: vec![
            none(
                format!("packets lost over {RESTARTS} restarts by SIGTERM"),
                &stopped,
            ),
            none(
                format!("packets lost over {RESTARTS} restarts by SIGKILL"),
                &killed,
            ),
            none(format!("packets lost over {UPGRADES} upgrades"), &upgraded),
            Row::goal(
                "packets lost, all of these",
                format!("{total} of {sent}"),
                "0",
                total == 0,
            ),
            Row::shown(
                "longest time without a packet, all of these",
                format!("{:.1} ms", gap.unwrap_or_default().as_secs_f64() * 1e3),
            ),
            Row::shown(
                format!("packets lost for each of {LOSSES} new tunnel processes"),
                format!("{:.0}", per(lost.lost(), LOSSES)),
            ),
        ],
    })
}

#[allow(clippy::cast_precision_loss)] // thousands
fn per(count: u64, times: usize) -> f64 {
    count as f64 / times.max(1) as f64
}

fn holders(mesh: &Mesh) -> Result<Vec<i32>> {
    let pids = mesh.nodes.iter().map(|node| Ok(node.holder()?.as_raw()));
    pids.collect()
}

/// Does something to one node after the other, with packets flowing in between.
fn under_stream(
    mesh: &mut Mesh,
    workloads: &[Workload],
    times: usize,
    mut act: impl FnMut(&mut Node) -> Result<()>,
) -> Result<Report> {
    let ends = workloads.first().zip(workloads.last());
    let (from, to) = ends.context("no workloads")?;
    let stream = Stream::start(from, to, false, RATE)?;
    flows(&stream)?;
    for turn in 0..times {
        act(mesh.node_mut(turn % 2)?)?;
        flows(&stream)?;
    }
    stream.stop()
}

/// Waits for half a second's packets.
fn flows(stream: &Stream) -> Result<()> {
    let enough = stream.returned() + u64::from(RATE) / 2;
    wait("packets to come back", CONVERGE, || {
        let now = stream.returned();
        ensure!(now >= enough, "{now} of {enough}");
        Ok(())
    })
}

fn lose_tunnel(node: &mut Node) -> Result<()> {
    let before = node.holder()?;
    node.ns.ip("link delete rtd.wg")?;
    wait("another tunnel process", Duration::from_secs(10), || {
        ensure!(node.holder()? != before, "still the same");
        Ok(())
    })
}
