//! Two racks of one node each, and two switches that both racks hang on: one runs BIRD, the other FRR.
//!
//! ```text
//!   n1 ──┬── bird ──┬── server 198.51.100.1, 2001:db8:100::1 to 10
//!        ╳          ╳
//!   n2 ──┴── frr ───┴
//! ```
//! Each link has two sessions, one for IPv4 and one for IPv6.
//! A node has no way of its own to the other: what they need they learn from the switches.

mod fabric;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{Lab, Mesh, MeshSpec, Netns, Node, wait};
use integration::scenario;
use integration::screen::Screen;

use fabric::{Net, SERVER, SERVER6, SERVERS6, SWITCHES, fabric, nets};

/// Traffic has to have moved within this.
const GOAL: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(45);

pub(crate) fn show(lab: &Lab, steps: &mut Screen) -> Result<()> {
    steps.heading("Two racks: each node peers with a switch that runs BIRD and one that runs FRR");
    let mesh = steps.step(
        "two nodes in two subnets, pools without any overlay",
        || {
            let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
            scenario::start(&mut mesh, "Never")?;
            Ok((mesh, String::new()))
        },
    )?;
    let fabric = steps.step("two switches, and a server beyond them", || {
        Ok((fabric(lab, &mesh)?, SERVER.to_owned()))
    })?;
    steps.step(
        "a BGPPeer for each link and family, with BFD at 3 x 100 ms",
        || {
            mesh.node(0)?.apply(&peers())?;
            for node in &mesh.nodes {
                all_up(node)?;
            }
            Ok(((), "8 sessions Established, BFD Up".to_owned()))
        },
    )?;
    let workloads = scenario::populate(lab, &mesh, 1)?;
    let (Some(workload), Some(other)) = (workloads.first(), workloads.last()) else {
        anyhow::bail!("no workloads");
    };
    let (ip, ip6) = (workload.ip(false)?, workload.ip(true)?);
    steps.step(
        "workloads of the racks reach each other by learnt routes",
        || {
            for v6 in [false, true] {
                let there = other.ip(v6)?;
                wait("the racks to learn of each other", LIMIT, || {
                    workload.ns.output("ping", &format!("-c1 -W1 {there}"))
                })?;
            }
            let (there, there6) = (other.ip(false)?, other.ip(true)?);
            Ok(((), format!("{ip} to {there}, {ip6} to {there6}")))
        },
    )?;
    let server6 = format!("{SERVER6}1");
    steps.step("the server reaches a workload, and it the server", || {
        for (inside, outside) in [(ip, SERVER), (ip6, &server6)] {
            wait("the server's way to be learnt", LIMIT, || {
                fabric
                    .server
                    .output("ping", &format!("-c1 -W1 -I {outside} {inside}"))?;
                workload.ns.output("ping", &format!("-c1 -W1 {outside}"))
            })?;
        }
        Ok((
            (),
            format!("{ip} and {SERVER}, {ip6} and {server6} answered"),
        ))
    })?;
    sessions(mesh.node(0)?)?;
    let n1 = mesh.node(0)?;
    let device = workload.host_interface()?;
    wait("both switches to lead to the server", LIMIT, || {
        both_lead(n1)
    })?;
    let used = in_use(n1, device, ip, SERVER)?;
    // One that takes the same switch; as good as always there is one.
    let mut far6 = server6;
    for n in 1..=SERVERS6 {
        let to = format!("{SERVER6}{n:x}");
        if in_use(n1, device, ip6, &to)? == used {
            far6 = to;
        }
    }
    let start = |name, from, to: &str| {
        Stream::between(
            name,
            (&workload.ns, from),
            (&fabric.server, to.parse()?),
            1000,
        )
    };
    let streams = [start("IPv4", ip, SERVER)?, start("IPv6", ip6, &far6)?];
    let counters = streams.each_ref().map(Stream::counter);
    steps.live(Some(Box::new(move || {
        let said = counters.each_ref().map(|counter| {
            let (sent, answered) = counter();
            format!("{answered} of {sent}")
        });
        format!("answered {}", said.join(" and "))
    })));
    let flows = |what, more: u64| {
        let from = streams.each_ref().map(Stream::returned);
        wait(what, LIMIT, || {
            let now = streams.iter().map(Stream::returned);
            ensure!(now.zip(from).all(|(now, from)| now > from + more));
            Ok(())
        })
    };
    let name = ["BIRD", "FRR"].get(used).copied().unwrap_or_default();
    steps.step(
        &format!("the switch in use ({name}) dies without a word"),
        || {
            // BFD says that it is up before its intervals are short.
            flows("packets to flow", 3000)?;
            die(fabric.switches.get(used).context("no such switch")?)?;
            flows("packets to flow again", 1000)?;
            Ok(((), String::new()))
        },
    )?;
    steps.live(None);
    for (family, stream) in ["IPv4", "IPv6"].into_iter().zip(streams) {
        steps.step(&format!("longest time without an answer, {family}"), || {
            let report = stream.stop()?;
            ensure!(report.longest_gap <= GOAL, "{report}");
            let gap = report.longest_gap.as_millis();
            Ok(((), format!("{gap} ms, {} packets lost", report.lost())))
        })?;
    }
    Ok(())
}

/// Both nodes have one AS, so each hears its own number on the other's paths.
fn peers() -> String {
    let mut manifest = String::from(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
         spec: { nodeToNodeMeshEnabled: false }\n---\n",
    );
    for n in 1..=2 {
        for (s, switch) in (1..).zip(SWITCHES) {
            for Net { family, start, .. } in nets(n, s) {
                manifest += &format!(
                    "apiVersion: routerd/v1\nkind: BGPPeer\nmetadata: {{ name: n{n}-{s}-{family} }}\n\
                     spec: {{ node: n{n}, peerIP: \"{start}1\", asNumber: {switch}, sourceAddress: None, numAllowedLocalASNumbers: 1,\n  \
                     bfd: {{ transmitIntervalMs: 100, receiveIntervalMs: 100, multiplier: 3 }} }}\n---\n"
                );
            }
        }
    }
    manifest
}

fn all_up(node: &Node) -> Result<()> {
    wait(&format!("{}'s sessions", node.name), LIMIT, || {
        let shown = node.json(&["bgp", "peers"])?;
        let peers = scenario::list(&shown, "peers")?;
        ensure!(peers.len() == 2 * SWITCHES.len(), "{shown}");
        for peer in peers {
            ensure!(
                peer["state"] == "Established" && peer["bfd"] == "Up",
                "{peer}"
            );
        }
        Ok(())
    })
}

/// What `routerctl bgp peers` says.
fn sessions(node: &Node) -> Result<()> {
    let args = ["bgp", "peers"];
    println!();
    for line in node.ctl(&args)?.must_succeed(&args)?.stdout.lines() {
        println!("      {line}");
    }
    Ok(())
}

/// Whether the node has a way to the server over each switch, in both families.
fn both_lead(node: &Node) -> Result<()> {
    for (family, server) in [("-4", SERVER), ("-6", SERVER6)] {
        let routes = format!("{family} route show to match {server} proto 83");
        let routes = node.ns.output("ip", &routes)?;
        for switch in 1..=SWITCHES.len() {
            let over = |net: &Net| routes.contains(&format!("via {}1 ", net.start));
            ensure!(nets(1, switch).iter().any(over), "{routes}");
        }
    }
    Ok(())
}

/// Which switch the node uses from a workload to an address of the server.
fn in_use(node: &Node, device: &str, ip: IpAddr, to: &str) -> Result<usize> {
    let way = node
        .ns
        .output("ip", &format!("route get {to} from {ip} iif {device}"))?;
    let over = |net: &Net| way.contains(&format!("via {}1 ", net.start));
    Ok(usize::from(!nets(1, 1).iter().any(over)))
}

/// Nothing leaves it any more, and its links stay up.
fn die(switch: &Netns) -> Result<()> {
    switch.output("nft", "add table inet dead")?;
    for hook in ["output", "forward"] {
        let chain = format!(
            "add chain inet dead {hook} {{ type filter hook {hook} priority 0 ; policy drop ; }}"
        );
        switch.output("nft", &chain)?;
    }
    Ok(())
}
