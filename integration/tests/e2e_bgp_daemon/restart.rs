//! A daemon that is replaced while packets flow through the switch.

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, wait};
use integration::scenario;

use crate::rig::{FAR, LIMIT, TOR, bird_tor, established, learns, peer, rack};

#[test]
fn a_restart_loses_no_packet_through_the_switch() -> Result<()> {
    lab::run("bgp-restart", |lab| {
        let mut mesh = rack(lab, 2)?;
        let _bird = bird_tor(lab, &mesh.router, "", "")?;
        mesh.node(0)?
            .apply(&peer("tor", &format!("peerIP: {TOR}, asNumber: 65001")))?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        for node in &mesh.nodes {
            established(node, TOR)?;
            learns(node, FAR, &[TOR])?;
        }
        let workload = workloads.first().context("no workload")?;
        let inside = (&workload.ns, workload.ip(false)?);
        let outside = (&mesh.outside, "172.31.0.10".parse()?);
        wait("the world outside to answer", LIMIT, || {
            let ip = workload.ip(false)?;
            mesh.outside
                .output("ping", &format!("-c1 -W1 {ip}"))
                .map(drop)
        })?;
        let stream = Stream::between("through the switch", outside, inside, 1000)?;
        let running = |stream: &Stream, more: u64| {
            let from = stream.returned();
            wait("packets to flow", LIMIT, || {
                ensure!(stream.returned() > from + more, "{}", stream.returned());
                Ok(())
            })
        };
        running(&stream, 500)?;
        let n1 = mesh.node_mut(0)?;
        n1.stop()?;
        running(&stream, 1000)?;
        n1.start_ready()?;
        established(n1, TOR)?;
        learns(n1, FAR, &[TOR])?;
        running(&stream, 1000)?;
        // And as it goes when it is killed.
        n1.kill()?;
        running(&stream, 500)?;
        n1.start_ready()?;
        established(n1, TOR)?;
        running(&stream, 1000)?;
        let report = stream.stop()?;
        println!("{report}");
        ensure!(report.lost() == 0, "{report}");
        Ok(())
    })
}
