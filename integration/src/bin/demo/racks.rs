//! Two racks of one node each, and two switches that both racks hang on: one runs BIRD, the other FRR.
//!
//! ```text
//!   n1 ──┬── bird ──┬── server 198.51.100.1
//!        ╳          ╳
//!   n2 ──┴── frr ───┴
//! ```
//! A node has no way of its own to the other: what they need they learn from the switches.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::switches::{Bird, Frr};
use integration::lab::{Lab, Mesh, MeshSpec, Netns, Node, wait};
use integration::scenario;
use integration::screen::Screen;

const SERVER: &str = "198.51.100.1";
/// AS numbers of the two switches; nodes have the one that they have by themselves.
const SWITCHES: [u32; 2] = [65001, 65002];
const NODES: u32 = 64512;
/// Traffic has to have moved within this.
const GOAL: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(45);

/// The switches, and the daemons that run on them; they end with it.
struct Fabric {
    switches: Vec<Netns>,
    server: Netns,
    _birds: [Bird; 2],
    _frr: Frr,
}

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
    steps.step("a BGPPeer for each link, with BFD at 3 x 100 ms", || {
        mesh.node(0)?.apply(&peers())?;
        for node in &mesh.nodes {
            all_up(node)?;
        }
        Ok(((), "4 sessions Established, BFD Up".to_owned()))
    })?;
    let workloads = scenario::populate(lab, &mesh, 1)?;
    let (Some(workload), Some(other)) = (workloads.first(), workloads.last()) else {
        anyhow::bail!("no workloads");
    };
    let ip = workload.ip(false)?;
    steps.step(
        "workloads of the racks reach each other by learnt routes",
        || {
            let there = other.ip(false)?;
            wait("the racks to learn of each other", LIMIT, || {
                workload.ns.output("ping", &format!("-c1 -W1 {there}"))
            })?;
            Ok(((), format!("{ip} to {there}")))
        },
    )?;
    steps.step("the server reaches a workload, and it the server", || {
        wait("the server's way to be learnt", LIMIT, || {
            fabric
                .server
                .output("ping", &format!("-c1 -W1 -I {SERVER} {ip}"))?;
            workload.ns.output("ping", &format!("-c1 -W1 {SERVER}"))
        })?;
        Ok(((), format!("{ip} and {SERVER} answered")))
    })?;
    sessions(mesh.node(0)?)?;
    let stream = Stream::between(
        "workload to server",
        (&workload.ns, ip),
        (&fabric.server, SERVER.parse()?),
        1000,
    )?;
    let counter = stream.counter();
    steps.live(Some(Box::new(move || {
        let (sent, answered) = counter();
        format!("answered {answered} of {sent}")
    })));
    let used = in_use(mesh.node(0)?, workload.host_interface()?, ip)?;
    let name = ["BIRD", "FRR"].get(used).copied().unwrap_or_default();
    steps.step(
        &format!("the switch in use ({name}) dies without a word"),
        || {
            let from = stream.returned();
            wait("packets to flow", LIMIT, || {
                // BFD says that it is up before its intervals are short.
                ensure!(stream.returned() > from + 3000);
                Ok(())
            })?;
            die(fabric.switches.get(used).context("no such switch")?)?;
            let from = stream.returned();
            wait("packets to flow again", LIMIT, || {
                ensure!(stream.returned() > from + 1000);
                Ok(())
            })?;
            Ok(((), String::new()))
        },
    )?;
    steps.live(None);
    steps.step("longest time without an answer", || {
        let report = stream.stop()?;
        ensure!(report.longest_gap <= GOAL, "{report}");
        let gap = report.longest_gap.as_millis();
        Ok(((), format!("{gap} ms, {} packets lost", report.lost())))
    })?;
    Ok(())
}

fn fabric(lab: &Lab, mesh: &Mesh) -> Result<Fabric> {
    let server = lab.netns("server")?;
    server.ip(&format!("link set lo up\naddr add {SERVER}/32 dev lo"))?;
    let mut switches = Vec::new();
    for (s, name) in (1..).zip(["bird", "frr"]) {
        let switch = lab.netns(name)?;
        switch.sysctl("net/ipv4/ip_forward", "1")?;
        let mut links: Vec<(&Netns, String)> = Vec::new();
        for (n, node) in (1..).zip(&mesh.nodes) {
            links.push((&node.ns, format!("10.{n}.{s}")));
        }
        links.push((&server, format!("10.9.{s}")));
        for (place, (end, net)) in links.into_iter().enumerate() {
            let port = format!("port{place}");
            lab.veth((end, name), (&switch, &port), 1500)?;
            end.ip(&format!("addr add {net}.11/24 dev {name}"))?;
            switch.ip(&format!("addr add {net}.1/24 dev {port}"))?;
        }
        switches.push(switch);
    }
    let [bird, frr] = switches.as_slice() else {
        anyhow::bail!("not two switches");
    };
    let [first, second] = SWITCHES;
    let ports = [("10.1", NODES), ("10.2", NODES), ("10.9", 65100)];
    let bfd = "protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }\n";
    let mut config = format!(
        "{bfd}protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n"
    );
    for (place, (net, other)) in ports.iter().enumerate() {
        config += &format!(
            "protocol bgp port{place} {{ local {net}.1.1 as {first}; neighbor {net}.1.11 as {other}; hold time 9; bfd on;\n\
             ipv4 {{ import all; export all; }}; }}\n"
        );
    }
    let on_bird = Bird::start(lab, bird, "bird", &config)?;
    let mut config =
        format!("router bgp {second}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n");
    for (net, other) in ports {
        let neighbour = format!("neighbor {net}.2.11");
        config += &format!(
            " {neighbour} remote-as {other}\n {neighbour} timers 3 9\n {neighbour} timers connect 1\n \
             {neighbour} bfd 3 100 100\n"
        );
    }
    let on_frr = Frr::start(lab, frr, "frr", &config)?;
    let mut config = format!(
        "{bfd}router id 10.99.1.9;\nprotocol static {{ ipv4; route {SERVER}/32 blackhole; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n"
    );
    for (s, switch) in (1..).zip(SWITCHES) {
        config += &format!(
            "protocol bgp up{s} {{ local 10.9.{s}.11 as 65100; neighbor 10.9.{s}.1 as {switch}; hold time 9; bfd on;\n\
             ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        );
    }
    let on_server = Bird::start(lab, &server, "server", &config)?;
    Ok(Fabric {
        server,
        _birds: [on_bird, on_server],
        _frr: on_frr,
        switches,
    })
}

/// Both nodes have one AS, so each hears its own number on the other's paths.
fn peers() -> String {
    let mut manifest = String::from(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
         spec: { nodeToNodeMeshEnabled: false }\n---\n",
    );
    for n in 1..=2 {
        for (s, switch) in (1..).zip(SWITCHES) {
            manifest += &format!(
                "apiVersion: routerd/v1\nkind: BGPPeer\nmetadata: {{ name: n{n}-{s} }}\n\
                 spec: {{ node: n{n}, peerIP: 10.{n}.{s}.1, asNumber: {switch}, sourceAddress: None, numAllowedLocalASNumbers: 1,\n  \
                 bfd: {{ transmitIntervalMs: 100, receiveIntervalMs: 100, multiplier: 3 }} }}\n---\n"
            );
        }
    }
    manifest
}

fn all_up(node: &Node) -> Result<()> {
    wait(&format!("{}'s sessions", node.name), LIMIT, || {
        let shown = node.json(&["bgp", "peers"])?;
        let peers = scenario::list(&shown, "peers")?;
        ensure!(peers.len() == SWITCHES.len(), "{shown}");
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

/// Which switch the node uses from a workload to the server.
fn in_use(node: &Node, device: &str, ip: IpAddr) -> Result<usize> {
    let way = node
        .ns
        .output("ip", &format!("route get {SERVER} from {ip} iif {device}"))?;
    Ok(usize::from(!way.contains("via 10.1.1.1 ")))
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
