//! Two switches, one of which dies without a word.
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
const BFD: &str = "bfd { interval 100 ms; multiplier 3; }";

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

#[test]
fn traffic_moves_to_the_second_switch_in_time() -> Result<()> {
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
        let used = n1
            .ns
            .output("ip", &format!("route get {far} from {ip} iif {device}"))?;
        let (dying, left) = match used.contains("via 10.1.1.1 ") {
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
        // It dies without a word on any link: nothing comes in, nothing goes out, links stay up.
        let (tor, _bird) = dying;
        tor.output("nft", "add table inet dead")?;
        for hook in ["output", "forward"] {
            let chain = format!(
                "add chain inet dead {hook} {{ type filter hook {hook} priority 0 ; policy drop ; }}"
            );
            tor.output("nft", &chain)?;
        }
        learns(n1, "198.51.100.0/24", &[left])?;
        let from = stream.returned();
        wait("packets to flow again", LIMIT, || {
            ensure!(stream.returned() > from + 500, "{}", stream.returned());
            Ok(())
        })?;
        let report = stream.stop()?;
        println!("{report}; {BFD}");
        ensure!(report.longest_gap <= GOAL, "{report}");
        Ok(())
    })
}
