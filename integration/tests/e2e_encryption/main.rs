//! Encryption that fails closed, proved on the wire: every frame between the nodes is looked at, all the time.

mod faults;
mod flood;
mod guard;
mod keys;
mod paths;
mod rotation;
mod start;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, Capture, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE, POOL_V4, POOL_V6};
use serde_json::Value;

/// Packets a second of a stream.
const RATE: u32 = 1000;

/// Looks at all that passes between the nodes of a mesh.
fn capture(mesh: &Mesh) -> Result<Capture> {
    Capture::start(&mesh.router, &[POOL_V4, POOL_V6])
}

/// A mesh that encrypts everything, captured since before its start, whose workloads reach each other.
fn encrypted(lab: &Lab, spec: &MeshSpec) -> Result<(Mesh, Vec<Workload>, Capture)> {
    let mut mesh = Mesh::build(lab, spec)?;
    let capture = capture(&mesh)?;
    scenario::start_encrypted(&mut mesh)?;
    let workloads = scenario::populate(lab, &mesh, 1)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    Ok((mesh, workloads, capture))
}

/// A stream in each family between two workloads.
fn streams(from: &Workload, to: &Workload) -> Result<Vec<Stream>> {
    let each = [false, true].map(|v6| Stream::start(from, to, v6, RATE));
    each.into_iter().collect()
}

fn ends(workloads: &[Workload]) -> Result<(&Workload, &Workload)> {
    let ends = workloads.first().zip(workloads.last());
    ends.context("no workloads")
}

/// Waits until packets of every stream come back.
fn flow(streams: &[Stream]) -> Result<()> {
    for stream in streams {
        let before = stream.returned();
        wait("packets to come back", CONVERGE, || {
            ensure!(
                stream.returned() > before + 50,
                "{} came",
                stream.returned() - before
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// Sets `encryption`, and waits until every node knows.
fn set_encryption(mesh: &Mesh, encryption: &str) -> Result<()> {
    mesh.node(0)?.apply(&format!(
        "apiVersion: routerd/v1\nkind: MeshConfiguration\nmetadata: {{ name: default }}\n\
         spec: {{ encryption: {encryption} }}"
    ))?;
    for node in &mesh.nodes {
        wait(
            &format!("{} to have {encryption}", node.name),
            CONVERGE,
            || {
                let status = node.status()?;
                ensure!(status["encryption"] == *encryption, "{status}");
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// What `routerctl tunnels` says of the way from a node to another.
fn path(from: &Node, to: &Node) -> Result<String> {
    let shown = from.json(&["tunnels"])?;
    let rows = scenario::list(&shown, "tunnels")?;
    let row = rows.iter().find(|r| r["node"] == *to.name);
    scenario::text(row.with_context(|| shown.to_string())?, "path").map(str::to_owned)
}

fn path_is(from: &Node, to: &Node, wanted: &str) -> Result<()> {
    wait(
        &format!("{} to {} by {wanted}", from.name, to.name),
        CONVERGE,
        || {
            let path = path(from, to)?;
            ensure!(path == wanted, "it is {path}");
            Ok(())
        },
    )
}

/// What a node says has left it in clear.
fn clear_bytes(node: &Node) -> Result<u64> {
    let shown = node.json(&["tunnels"])?;
    shown["clearTextBytes"]
        .as_u64()
        .with_context(|| shown.to_string())
}

fn none_counts_clear_text(mesh: &Mesh) -> Result<()> {
    for node in &mesh.nodes {
        let bytes = clear_bytes(node)?;
        ensure!(bytes == 0, "{} counts {bytes} bytes in clear", node.name);
    }
    Ok(())
}

/// Waits until a node names a problem.
fn has_problem(node: &Node, part: &str) -> Result<()> {
    wait(&format!("{} to say {part:?}", node.name), CONVERGE, || {
        let status = node.status()?;
        let problems = Value::from(scenario::list(&status, "problems")?.clone()).to_string();
        ensure!(problems.contains(part), "{problems}");
        Ok(())
    })
}

/// Whether a ping arrives and comes back.
fn pings(from: &Workload, to: &Workload) -> Result<bool> {
    for v6 in [false, true] {
        let to = to.ip(v6)?;
        if from.ns.output("ping", &format!("-c1 -W1 {to}")).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn reaches(from: &Workload, to: &Workload) -> Result<()> {
    lab::wait_until(
        &format!("{} to reach {}", from.name, to.name),
        CONVERGE,
        || pings(from, to),
    )
}
