//! Two switches, one of which dies without a word, or hears without being heard, or speaks without hearing.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, Netns, wait};
use integration::scenario;

use crate::fabric::{Cut, SERVER, Watch, fabric, gateway, peers};
use crate::rig::{LIMIT, established, learns, rack};

/// The goal: three intervals of 100 ms, and what a busy machine adds.
const GOAL: Duration = Duration::from_millis(400);

#[test]
fn traffic_moves_from_a_dead_switch_in_time() -> Result<()> {
    moves_in_time(Cut::Dead)
}

#[test]
fn traffic_moves_from_a_switch_that_is_not_heard_in_time() -> Result<()> {
    moves_in_time(Cut::ToNode)
}

#[test]
fn traffic_moves_from_a_switch_that_does_not_hear_in_time() -> Result<()> {
    moves_in_time(Cut::FromNode)
}

fn moves_in_time(cut: Cut) -> Result<()> {
    lab::run("bgp-failover", |lab| {
        let mesh = rack(lab, 1)?;
        let fabric = fabric(lab, &mesh, Watch::Bfd)?;
        let n1 = mesh.node(0)?;
        n1.apply(&peers(Watch::Bfd))?;
        let both = [1, 2].map(gateway);
        let both = both.each_ref().map(String::as_str);
        for tor in both {
            wait("BFD to be up", LIMIT, || {
                let session = established(n1, tor)?;
                ensure!(session["bfd"] == "Up", "{session}");
                Ok(())
            })?;
        }
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let workload = workloads.first().context("no workload")?;
        let ip = workload.ip(false)?;
        let far: IpAddr = "198.51.100.1".parse()?;
        wait("the server to answer", LIMIT, || {
            workload.ns.output("ping", "-c1 -W1 198.51.100.1").map(drop)
        })
        .with_context(|| {
            let routes = |ns: &Netns| ns.output("ip", "route").unwrap_or_default();
            let all = [&n1.ns, &fabric.tors[0].0, &fabric.tors[1].0, &fabric.server];
            all.map(routes).join("\n")
        })?;
        // Both ways are used, each for some flows.
        learns(n1, SERVER, &both)?;
        let device = workload.host_interface()?;
        // Which one carries what the cut is about: packets of the workload, or the answers.
        let used = match cut {
            Cut::Dead | Cut::FromNode => {
                let way = format!("route get {far} from {ip} iif {device}");
                n1.ns.output("ip", &way)?
            }
            Cut::ToNode => {
                let way = format!("route get {ip} from {far}");
                fabric.server.output("ip", &way)?
            }
        };
        let (dying, left) = match used.contains("via 10.1.1.1 ") || used.contains("via 10.2.1.1 ") {
            true => (&fabric.tors[0], "10.1.2.1"),
            false => (&fabric.tors[1], "10.1.1.1"),
        };
        let stream = Stream::between(
            "to the server",
            (&workload.ns, ip),
            (&fabric.server, far),
            1000,
        )?;
        // Up is said before the intervals are fast: until then a side may send once a second.
        let from = stream.returned();
        wait("packets to flow", LIMIT, || {
            ensure!(stream.returned() > from + 3000, "{}", stream.returned());
            Ok(())
        })?;
        let (tor, _bird) = dying;
        cut.make(tor)?;
        learns(n1, SERVER, &[left])?;
        let from = stream.returned();
        wait("packets to flow again", LIMIT, || {
            ensure!(stream.returned() > from + 500, "{}", stream.returned());
            Ok(())
        })?;
        let report = stream.stop()?;
        println!("{cut:?}: {report}");
        ensure!(report.longest_gap <= GOAL, "{report}");
        Ok(())
    })
}
