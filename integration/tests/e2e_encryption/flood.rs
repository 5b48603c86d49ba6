//! Handshakes from nobody: standing sessions do not notice, and real handshakes come through.

use std::net::{IpAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::lab::flood::Flood;
use integration::lab::{self, MeshSpec};

use super::*;

/// Spoofed initiations a second.
const SPOOFED: u32 = 20_000;
/// How long; the span is what is tested.
const SPAN: Duration = Duration::from_secs(5);

/// Resident memory of the tunnel's process, KiB.
fn memory(node: &Node) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", node.holder()?))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    Ok(kib.context("no memory")?.trim().parse()?)
}

#[test]
fn twenty_thousand_spoofed_handshakes_a_second() -> Result<()> {
    lab::run("flood", |lab| {
        let (mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(2))?;
        let (from, to) = ends(&workloads)?;
        let target = mesh.node(1)?;
        let IpAddr::V4(ip) = target.ips.first().context("no address")? else {
            anyhow::bail!("no IPv4 address");
        };
        let key = target.wg_show("public-key")?;
        let before = memory(target)?;
        let all = streams(from, to)?;
        flow(&all)?;
        let flood = Flood::start(&mesh.router, SocketAddrV4::new(*ip, 51820), &key, SPOOFED)?;
        let begun = Instant::now();
        while begun.elapsed() < SPAN {
            flow(&all)?;
        }
        for stream in all {
            let report = stream.stop()?;
            println!("{report}");
            ensure!(report.lost() * 100 < report.sent, "{report}");
        }
        // A real handshake: it has to prove its address first, as everybody does now, and its first word may be one
        // of those that find the queue full; it is sent again every five seconds.
        mesh.node(0)?.ns.output("ip", "link del rtd.wg")?;
        lab::wait_until("a real handshake", 4 * CONVERGE, || pings(from, to))?;
        let rate = flood.stop();
        ensure!(
            rate > 0.5 * f64::from(SPOOFED),
            "only {rate:.0} a second were sent"
        );
        let grown = memory(target)?.saturating_sub(before);
        ensure!(grown < 8 << 10, "{grown} KiB more than before");
        capture.stop()?.must_be_encrypted()
    })
}
