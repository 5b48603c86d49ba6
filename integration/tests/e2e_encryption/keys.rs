//! Who may say what: a foreign source, a key of two nodes.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, MeshSpec};

use super::*;

/// What comes from n2 with an address of n3 is dropped by n1, though all three are peers.
#[test]
fn a_peer_cannot_send_from_what_another_owns() -> Result<()> {
    lab::run("foreign source", |lab| {
        let (mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(3))?;
        let [a, b, c] = workloads.as_slice() else {
            anyhow::bail!("not three workloads");
        };
        for v6 in [false, true] {
            let (to, owned, foreign) = (a.ip(v6)?, b.ip(v6)?, c.ip(v6)?);
            let inbox = a.ns.run(|| Ok(UdpSocket::bind((to, 7100))?))?;
            inbox.set_read_timeout(Some(Duration::from_secs(2)))?;
            // The host of n2 takes the address, so that the packet enters the tunnel there.
            let host = &mesh.node(1)?.ns;
            let bits = if v6 { 128 } else { 32 };
            let flag = if v6 { "nodad" } else { "" };
            host.output("ip", &format!("addr add {foreign}/{bits} dev lo {flag}"))?;
            let bad = host.run(|| Ok(UdpSocket::bind((foreign, 0))?))?;
            let good = b.ns.run(|| Ok(UdpSocket::bind((owned, 0))?))?;
            let rx = |mesh: &lab::Mesh| -> Result<u64> {
                let shown = mesh.node(0)?.json(&["tunnels"])?;
                let rows = shown["tunnels"].as_array().context("no tunnels")?;
                let row = rows.iter().find(|r| r["node"] == "n2").context("no n2")?;
                row["rxBytes"].as_u64().context("no bytes")
            };
            let mut buffer = [0; 2048];
            let mut arrives = |wanted: Option<SocketAddr>| -> Result<()> {
                match (inbox.recv_from(&mut buffer), wanted) {
                    (Ok((_, from)), Some(wanted)) => ensure!(from == wanted, "from {from}"),
                    (Err(_), None) => {}
                    (Ok((_, from)), None) => anyhow::bail!("a packet from {from} came through"),
                    (Err(e), Some(_)) => return Err(e).context("the control packet"),
                }
                Ok(())
            };
            good.send_to(b"good", (to, 7100))?;
            arrives(Some(good.local_addr()?))?;
            let before = rx(&mesh)?;
            for _ in 0..10 {
                bad.send_to(&[0; 1000], (to, 7100))?;
            }
            arrives(None)?;
            // They came, authenticated, and went no further.
            let came = rx(&mesh)? - before;
            ensure!(
                came > 10_000,
                "only {came} bytes came to n1: nothing was tested"
            );
            good.send_to(b"good", (to, 7100))?;
            arrives(Some(good.local_addr()?))?;
            host.output("ip", &format!("addr del {foreign}/{bits} dev lo"))?;
        }
        capture.stop()?.must_be_encrypted()
    })
}

/// A key that two nodes have published is an alarm on both and on others, and neither is used.
#[test]
fn a_key_of_two_nodes_bars_both() -> Result<()> {
    lab::run("copied key", |lab| {
        let (mut mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(3))?;
        let [a, b, c] = workloads.as_slice() else {
            anyhow::bail!("not three workloads");
        };
        let key = |node: &Node| node.dir().join("state/wireguard.key");
        let (original, other) = (key(mesh.node(0)?), key(mesh.node(1)?));
        let own = std::fs::read(&other)?;
        mesh.node_mut(1)?.stop()?;
        std::fs::copy(&original, &other)?;
        mesh.node_mut(1)?.start()?;
        for encryption in ["Required", "Preferred"] {
            set_encryption(&mesh, encryption)?;
            for node in &mesh.nodes {
                has_problem(node, "ALARM")?;
                for peer in mesh.nodes.iter().filter(|p| p.name != node.name) {
                    path_is(node, peer, "Barred")?;
                }
            }
            for (from, to) in [(a, b), (b, a), (a, c), (c, a), (b, c), (c, b)] {
                ensure!(
                    !pings(from, to)?,
                    "{encryption}: {} reaches {}",
                    from.name,
                    to.name
                );
            }
            ensure!(capture.clear() == 0, "{encryption}: {}", capture.stop()?);
        }
        // As the alarm says: stop, delete the key, start.
        set_encryption(&mesh, "Required")?;
        mesh.node_mut(1)?.stop()?;
        std::fs::remove_file(&other)?;
        mesh.node_mut(1)?.start_ready()?;
        for (from, to) in [(a, b), (a, c), (b, c)] {
            reaches(from, to)?;
        }
        ensure!(std::fs::read(&other)? != own, "the key is the old one");
        capture.stop()?.must_be_encrypted()
    })
}
