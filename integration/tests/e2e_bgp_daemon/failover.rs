//! Two switches, one of which dies without a word, or hears without being heard, or speaks without hearing.
//!
//! ```text
//!          ┌ 10.1.1.0/24 ─ tor1 ─ 10.2.1.0/24 ┐
//!   node ──┤                                  ├── server 198.51.100.1
//!          └ 10.1.2.0/24 ─ tor2 ─ 10.2.2.0/24 ┘
//! ```

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, Lab, Mesh, Netns, wait};
use integration::scenario;

use crate::rig::{Bird, LIMIT, established, learns, no_mesh, peer, rack};

/// The goal: three intervals of 100 ms, and what a busy machine adds.
const GOAL: Duration = Duration::from_millis(400);

struct Fabric {
    tors: Vec<(Netns, Bird)>,
    server: Netns,
    _server_bird: Bird,
}

fn bird(lab: &Lab, ns: &Netns, name: &str, id: &str, bgp: &str) -> Result<Bird> {
    let config = format!(
        "router id {id};\n\
         protocol bfd {{ interface \"*\" {{ interval 100 ms; multiplier 3; }}; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n{bgp}"
    );
    Bird::start(lab, ns, name, &config)
}

fn fabric(lab: &Lab, mesh: &Mesh) -> Result<Fabric> {
    let node = &mesh.node(0)?.ns;
    let server = lab.netns("server")?;
    server.ip("link set lo up\naddr add 198.51.100.1/32 dev lo")?;
    let mut tors = Vec::new();
    for n in [1, 2] {
        let tor = lab.netns(&format!("tor{n}"))?;
        tor.sysctl("net/ipv4/ip_forward", "1")?;
        let (up, down) = (format!("up{n}"), format!("tor{n}"));
        lab.veth((node, &down), (&tor, "rack"), 1500)?;
        lab.veth((&server, &up), (&tor, "spine"), 1500)?;
        node.ip(&format!("addr add 10.1.{n}.11/24 dev {down}"))?;
        server.ip(&format!("addr add 10.2.{n}.11/24 dev {up}"))?;
        tor.ip(&format!(
            "addr add 10.1.{n}.1/24 dev rack\naddr add 10.2.{n}.1/24 dev spine"
        ))?;
        let channel = "hold time 9; bfd on; ipv4 { import all; export all; }; }";
        let bgp = format!(
            "protocol bgp node {{ local 10.1.{n}.1 as 6500{n}; neighbor 10.1.{n}.11 as 64512; {channel}\n\
             protocol bgp server {{ local 10.2.{n}.1 as 6500{n}; neighbor 10.2.{n}.11 as 65100; {channel}\n"
        );
        let daemon = bird(lab, &tor, &format!("tor{n}"), &format!("10.99.1.{n}"), &bgp)?;
        tors.push((tor, daemon));
    }
    let mut bgp = String::from("protocol static { ipv4; route 198.51.100.0/24 blackhole; }\n");
    for n in [1, 2] {
        bgp.push_str(&format!(
            "protocol bgp tor{n} {{ local 10.2.{n}.11 as 65100; neighbor 10.2.{n}.1 as 6500{n}; hold time 9; bfd on;\n\
             ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        ));
    }
    let daemon = bird(lab, &server, "server", "10.99.1.9", &bgp)?;
    Ok(Fabric {
        tors,
        server,
        _server_bird: daemon,
    })
}

/// What happens to a switch. Its links stay up.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Nothing leaves it any more.
    Dead,
    /// Nothing of what it says arrives at the node; the node is heard.
    ToNode,
    /// Nothing of what the node says arrives there; the node hears it.
    FromNode,
}

impl Cut {
    fn make(self, switch: &Netns) -> Result<()> {
        let (family, chains) = match self {
            Cut::Dead => ("inet", vec!["hook output", "hook forward"]),
            Cut::ToNode => ("netdev", vec!["hook egress device rack"]),
            Cut::FromNode => ("netdev", vec!["hook ingress device rack"]),
        };
        switch.output("nft", &format!("add table {family} cut"))?;
        for (n, hook) in chains.into_iter().enumerate() {
            let drop = format!("{{ type filter {hook} priority 0 ; policy drop ; }}");
            switch.output("nft", &format!("add chain {family} cut c{n} {drop}"))?;
        }
        Ok(())
    }
}

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
        let fabric = fabric(lab, &mesh)?;
        let n1 = mesh.node(0)?;
        let mut manifest = no_mesh();
        for n in [1, 2] {
            manifest.push_str(&peer(
                &format!("tor{n}"),
                &format!(
                    "peerIP: 10.1.{n}.1, asNumber: 6500{n}, sourceAddress: None, \
                     bfd: {{ transmitIntervalMs: 100, receiveIntervalMs: 100, multiplier: 3 }}"
                ),
            ));
        }
        n1.apply(&manifest)?;
        for tor in ["10.1.1.1", "10.1.2.1"] {
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
        let both = ["10.1.1.1", "10.1.2.1"];
        learns(n1, "198.51.100.0/24", &both)?;
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
        learns(n1, "198.51.100.0/24", &[left])?;
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
