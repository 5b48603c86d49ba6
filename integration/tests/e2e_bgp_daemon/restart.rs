//! A daemon that is replaced while packets flow through the switch.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, wait};
use integration::scenario;

use crate::fabric::{Cut, SERVER, Watch, fabric, gateway, own, peers, servers};
use crate::rig::{FAR, LIMIT, TOR, bird_tor, established, learns, learnt, peer, rack};

/// Waits until so many packets more have come back.
fn running(stream: &Stream, more: u64) -> Result<()> {
    let from = stream.returned();
    wait("packets to flow", LIMIT, || {
        ensure!(stream.returned() > from + more, "{}", stream.returned());
        Ok(())
    })
}

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

/// The kernel still has the ways over the dead switch when the daemon starts: those over the other one stay, whatever becomes of these.
#[test]
fn a_restart_beside_a_dead_switch_loses_no_packet_through_the_other() -> Result<()> {
    lab::run("bgp-restart-dead", |lab| {
        let mut mesh = rack(lab, 1)?;
        let fabric = fabric(lab, &mesh, Watch::Hold)?;
        let n1 = mesh.node(0)?;
        n1.apply(&peers(Watch::Hold))?;
        let gateways = [1, 2].map(gateway);
        let both = gateways.each_ref().map(String::as_str);
        for tor in both {
            established(n1, tor)?;
        }
        learns(n1, SERVER, &both)?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let workload = workloads.first().context("no workload")?;
        let ip = workload.ip(false)?;
        wait("the server to answer", LIMIT, || {
            let ping = |ip| workload.ns.output("ping", &format!("-c1 -W1 {ip}"));
            servers().try_for_each(|ip| ping(ip).map(drop))
        })?;
        // The server answers over one switch; that one stays, and it is looked for an address to which the node takes it too.
        let back = fabric.server.output("ip", &format!("route get {ip}"))?;
        let (living, dead) = if back.contains("via 10.2.1.1 ") {
            (1, 2)
        } else {
            (2, 1)
        };
        let device = workload.host_interface()?;
        let over = |to: IpAddr| -> Result<bool> {
            let way = n1
                .ns
                .output("ip", &format!("route get {to} from {ip} iif {device}"))?;
            Ok(way.contains(&format!("via {} ", gateway(living))))
        };
        let mut far = None;
        for to in servers() {
            if over(to)? {
                far = Some(to);
            }
        }
        let far = far.context("no flow takes the switch that stays")?;
        let stream = Stream::between(
            "over the other switch",
            (&workload.ns, ip),
            (&fabric.server, far),
            1000,
        )?;
        running(&stream, 500)?;
        let n1 = mesh.node_mut(0)?;
        n1.stop()?;
        let (tor, _bird) = fabric.tors.get(dead - 1).context("no such switch")?;
        Cut::Dead.make(tor)?;
        running(&stream, 1000)?;
        // Nobody has touched them.
        learns(n1, SERVER, &both)?;
        n1.start_ready()?;
        let alive = gateway(living);
        established(n1, &alive)?;
        let (mut stayed, mut kept) = (true, false);
        wait("what the dead switch said to be gone", LIMIT, || {
            let server = learnt(n1, SERVER)?;
            stayed &= server.contains(&alive) && learnt(n1, &own(living))? == [alive.as_str()];
            let lonely = learnt(n1, &own(dead))?;
            // It might only be slow: what nobody else says outlives the choice among what both have said.
            kept |= server == [alive.as_str()] && lonely == [gateway(dead)];
            ensure!(lonely.is_empty(), "by {lonely:?}");
            Ok(())
        })?;
        ensure!(stayed, "a route over the other switch was away");
        ensure!(kept, "it was gone as soon as routes were chosen");
        learns(n1, SERVER, &[&alive])?;
        running(&stream, 1000)?;
        let report = stream.stop()?;
        println!("{report}");
        ensure!(report.lost() == 0, "{report}");
        Ok(())
    })
}
