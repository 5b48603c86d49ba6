//! The start, nodes that join, nodes that cannot encrypt; and that the capture sees what there is to see.

use anyhow::{Result, ensure};
use integration::lab::{self, Mesh, MeshSpec};
use integration::scenario::{self, CONVERGE};

use super::*;

/// Waits until the kernel, which comes after what is wanted, sends by a link.
fn goes_by(from: &Node, to: &Workload, link: &str) -> Result<()> {
    let what = format!("{} to send to {} by {link}", from.name, to.name);
    wait(&what, CONVERGE, || {
        for v6 in [false, true] {
            let found = from.ns.ip_json(&format!("route get {}", to.ip(v6)?))?;
            ensure!(found[0]["dev"] == link, "{found}");
        }
        Ok(())
    })
}

/// Without encryption everything is seen, bare and in VXLAN.
#[test]
fn a_capture_sees_what_is_not_encrypted() -> Result<()> {
    lab::run("not encrypted", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let (from, to) = ends(&workloads)?;
        for mode in ["Never", "Always"] {
            mesh.node(0)?.apply(&scenario::pools(mode, false))?;
            let way = if mode == "Never" { "Direct" } else { "Vxlan" };
            path_is(mesh.node(0)?, mesh.node(1)?, way)?;
            let link = if mode == "Never" {
                "eth0"
            } else {
                "rtd.vxlan4"
            };
            goes_by(mesh.node(0)?, to, link)?;
            goes_by(mesh.node(1)?, from, link)?;
            let capture = capture(&mesh)?;
            for v6 in [false, true] {
                let stream = Stream::start(from, to, v6, RATE)?;
                flow(&[stream])?;
            }
            let seen = capture.stop()?;
            ensure!(seen.clear > 200 && seen.encrypted == 0, "{mode}: {seen}");
            let is_wrapped = seen.examples.iter().all(|e| e.contains("VXLAN"));
            ensure!(is_wrapped == (mode == "Always"), "{mode}: {seen}");
        }
        // All of it is: nothing is spent on counting.
        let shown = mesh.node(0)?.json(&["tunnels"])?;
        ensure!(shown["clearTextBytes"].is_null(), "{shown}");
        Ok(())
    })
}

/// Workloads speak from the moment they are there, before any tunnel is up.
#[test]
fn nothing_is_clear_at_the_start_and_when_a_node_joins() -> Result<()> {
    lab::run("start", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        let capture = capture(&mesh)?;
        scenario::start_encrypted(&mut mesh)?;
        let mut workloads = scenario::populate(lab, &mesh, 2)?;
        let (from, to) = ends(&workloads)?;
        let all = streams(from, to)?;
        flow(&all)?;

        let joined = mesh.add_node(lab, 1)?;
        joined.configure("[wireguard]\nbackend = \"userspace\"")?;
        joined.start_ready()?;
        workloads.extend(scenario::populate_node(lab, mesh.node(2)?, 1)?);
        let [_, from, .., to] = workloads.as_slice() else {
            anyhow::bail!("too few workloads");
        };
        let more = streams(to, from)?;
        flow(&more)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        drop((all, more));
        none_counts_clear_text(&mesh)?;
        capture.stop()?.must_be_encrypted()
    })
}

/// The last of three nodes has no WireGuard: barred where all must be encrypted, in clear where not.
#[test]
fn a_node_that_cannot_encrypt_is_barred_or_goes_plain_and_is_named() -> Result<()> {
    lab::run("without a key", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(3))?;
        for node in &mesh.nodes[..2] {
            node.configure("[wireguard]\nbackend = \"userspace\"")?;
        }
        // This kernel has none.
        mesh.node(2)?
            .configure("[wireguard]\nbackend = \"kernel\"")?;
        scenario::start(&mut mesh, "Never")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let [a, b, c] = workloads.as_slice() else {
            anyhow::bail!("not three workloads");
        };

        set_encryption(&mesh, "Required")?;
        for node in &mesh.nodes[..2] {
            path_is(node, mesh.node(2)?, "Barred")?;
            has_problem(node, "traffic to n3 is dropped")?;
        }
        path_is(mesh.node(0)?, mesh.node(1)?, "WireGuard")?;
        reaches(a, b)?;
        let lone = mesh.node(2)?;
        wait("the node to say that it is cut off", CONVERGE, || {
            let (state, message) = scenario::subsystem(lone, "tunnels")?;
            ensure!(
                state == "Failed" && message.contains("load the kernel's module"),
                "{state}: {message}"
            );
            let status = lone.status()?;
            ensure!(status["ready"] == false, "{status}");
            Ok(())
        })?;
        let watch = capture(&mesh)?;
        for (from, to) in [(a, c), (c, a), (b, c), (c, b)] {
            ensure!(!pings(from, to)?, "{} reaches {}", from.name, to.name);
        }
        reaches(a, b)?;
        none_counts_clear_text(&mesh)?;
        watch.stop()?.must_be_encrypted()?;

        set_encryption(&mesh, "Preferred")?;
        reaches(a, c)?;
        for node in &mesh.nodes[..2] {
            has_problem(node, "traffic to n3 is NOT encrypted")?;
        }
        let (state, message) = scenario::subsystem(mesh.node(2)?, "tunnels")?;
        ensure!(
            state == "Degraded" && message.contains("nothing is encrypted"),
            "{state}: {message}"
        );
        mesh.node_mut(2)?.wait_ready()?;
        let watch = capture(&mesh)?;
        let stream = Stream::start(a, b, false, RATE)?;
        flow(&[stream])?;
        watch.stop()?.must_be_encrypted()?;
        for (mode, way) in [("Never", "Direct"), ("Always", "Vxlan")] {
            mesh.node(0)?.apply(&scenario::pools(mode, false))?;
            path_is(mesh.node(0)?, mesh.node(2)?, way)?;
            path_is(mesh.node(2)?, mesh.node(0)?, way)?;
            let before = clear_bytes(mesh.node(0)?)?;
            let watch = capture(&mesh)?;
            let stream = Stream::start(a, c, false, RATE)?;
            flow(&[stream])?;
            let seen = watch.stop()?;
            ensure!(seen.clear > 50, "{mode}: {seen}");
            let counted = clear_bytes(mesh.node(0)?)?;
            ensure!(
                counted > before + 50 * 36,
                "{mode}: {before} and then {counted} bytes"
            );
        }
        Ok(())
    })
}

/// A configuration that cannot be read, after a boot: nobody knows that it says Required.
#[test]
fn an_unreadable_configuration_bars_after_a_boot() -> Result<()> {
    lab::run("unreadable", |lab| {
        let (mut mesh, workloads, watch) = encrypted(lab, &MeshSpec::flat(2))?;
        let (from, to) = ends(&workloads)?;
        let node = mesh.node_mut(0)?;
        node.stop()?;
        // All that a boot takes, but for the link of the workload, which goes on sending.
        node.ns.output("ip", "link del rtd.wg")?;
        for family in ["-4", "-6"] {
            node.ns
                .output("ip", &format!("{family} route flush proto 82"))?;
        }
        mesh.etcd.put(
            "/routerd/v1/resources/meshconfigurations/default",
            "{ unreadable",
        )?;
        let node = mesh.node_mut(0)?;
        node.start()?;
        has_problem(node, "no way to other nodes is opened")?;
        let (state, message) = scenario::subsystem(node, "tunnels")?;
        ensure!(
            state == "Degraded" && message.contains("apply it anew"),
            "{state}: {message}"
        );
        for _ in 0..3 {
            ensure!(!pings(from, to)?, "it is reached");
        }
        set_encryption(&mesh, "Required")?;
        reaches(from, to)?;
        none_counts_clear_text(&mesh)?;
        watch.stop()?.must_be_encrypted()
    })
}
