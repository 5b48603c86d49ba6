//! A node changes its key, and nobody notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Mesh, MeshSpec, Netns};
use integration::scenario;

use super::*;

/// From the announcement to the end of the former key, with what is to spare.
const ROTATION: Duration = Duration::from_secs(70);

/// The published key, and the one that is announced.
fn keys(of: &Node, seen_by: &Node) -> Result<(String, Option<String>)> {
    let node = seen_by.json(&["get", "node", &of.name])?;
    let status = node.get("status").with_context(|| node.to_string())?;
    let next = status["wireguardNextPublicKey"].as_str();
    let key = scenario::text(status, "wireguardPublicKey")?;
    Ok((key.to_owned(), next.map(str::to_owned)))
}

/// The peers that a node's device has, each by one of its keys.
fn peers(node: &Node) -> Result<Vec<String>> {
    let shown = node.wg_show("peers")?;
    Ok(shown.lines().map(str::to_owned).collect())
}

fn dropped_by_device(ns: &Netns) -> Result<u64> {
    let shown = ns.output("ip", "-s -j link show rtd.wg")?;
    let value: Value = serde_json::from_str(&shown)?;
    let dropped = value
        .pointer("/0/stats64/tx/dropped")
        .and_then(Value::as_u64);
    dropped.with_context(|| shown.clone())
}

/// Under 1,000 packets a second in each direction and family, from before the announcement until after the
/// former key is forgotten; meanwhile a session is asked for anew by either end.
#[test]
fn a_key_is_replaced_without_losing_a_packet() -> Result<()> {
    lab::run("rotation", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        let capture = capture(&mesh)?;
        scenario::start_encrypted(&mut mesh)?;
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let ([a, b], [a1, a2, b1, b2]) = (mesh.nodes.as_slice(), workloads.as_slice()) else {
            anyhow::bail!("not two nodes of two workloads");
        };
        let (forth, back) = (streams(a1, b1)?, streams(b2, a2)?);
        flow(&forth)?;
        flow(&back)?;
        let before = dropped_by_device(&a.ns)?;
        let (old, _) = keys(a, b)?;
        let begun = a.json(&["tunnels", "rotate"])?;
        let new = scenario::text(&begun, "publicKey")?;
        ensure!(new != old);
        wait("the other to hear of the new key", CONVERGE, || {
            ensure!(
                keys(a, b)? == (old.clone(), Some(new.to_owned())),
                "{:?}",
                keys(a, b)?
            );
            Ok(())
        })?;
        let again = a.ctl(&["tunnels", "rotate"])?;
        ensure!(
            again.code == Some(1) && again.stderr.contains("changing already"),
            "{again:?}"
        );
        wait("the new key to be used", CONVERGE * 2, || {
            ensure!(keys(a, b)? == (new.to_owned(), None), "{:?}", keys(a, b)?);
            ensure!(a.wg_show("public-key")?.trim() == new);
            ensure!(peers(b)? == [new], "{:?}", peers(b)?);
            Ok(())
        })?;
        // Sessions of either key are as good as before; one that begins now is of the new key.
        let (handshakes, key) = (b.wg_show("latest-handshakes")?, a.dir().join("state"));
        ensure!(handshakes.contains(new), "{handshakes}");
        wait("the former key to be forgotten", ROTATION, || {
            ensure!(!key.join("wireguard.old").exists());
            Ok(())
        })?;
        for stream in forth.into_iter().chain(back) {
            let report = stream.stop()?;
            println!("{report}");
            ensure!(report.sent > 1000 && report.lost() == 0, "{report}");
        }
        ensure!(
            dropped_by_device(&a.ns)? == before,
            "the device dropped something"
        );
        for node in [a, b] {
            let drift = node.status()?;
            ensure!(scenario::list(&drift, "drift")?.is_empty(), "{drift}");
        }
        none_counts_clear_text(&mesh)?;
        capture.stop()?.must_be_encrypted()
    })
}

/// After the change, sessions of the new key alone carry everything: the tunnel's process is started anew.
#[test]
fn a_rotation_goes_on_after_a_crash_and_the_new_key_carries_all() -> Result<()> {
    lab::run("rotation and crash", |lab| {
        let (mut mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(3))?;
        let (old, _) = keys(mesh.node(0)?, mesh.node(1)?)?;
        let begun = mesh.node(0)?.json(&["tunnels", "rotate"])?;
        let new = scenario::text(&begun, "publicKey")?.to_owned();
        mesh.node_mut(0)?.kill()?;
        mesh.node_mut(0)?.start_ready()?;
        // And one that learns of it late.
        mesh.node_mut(1)?.kill()?;
        mesh.node_mut(1)?.start_ready()?;
        wait("the new key to be used", CONVERGE * 2, || {
            for other in &mesh.nodes[1..] {
                let seen = keys(mesh.node(0)?, other)?;
                ensure!(seen == (new.clone(), None), "{seen:?}");
                ensure!(peers(other)?.contains(&new) && !peers(other)?.contains(&old));
            }
            Ok(())
        })?;
        for node in &mesh.nodes {
            node.ns.output("ip", "link del rtd.wg")?;
        }
        scenario::everyone_reaches_everyone(&workloads)?;
        none_counts_clear_text(&mesh)?;
        capture.stop()?.must_be_encrypted()
    })
}
