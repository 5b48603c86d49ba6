//! Two racks of one node each, and two switches that both racks hang on: one runs BIRD, the other FRR.
//!
//! ```text
//!   n1 ──┬── bird ──┬── server 198.51.100.1, 2001:db8:100::1 to 10
//!        ╳          ╳
//!   n2 ──┴── frr ───┴
//! ```
//! Each link has two sessions, one for IPv4 and one for IPv6.
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
/// The server has several addresses here: flows to some of them take one switch, those to others the other.
const SERVER6: &str = "2001:db8:100::";
const SERVERS6: u8 = 0x10;
/// AS numbers of the two switches; nodes have the one that they have by themselves.
const SWITCHES: [u32; 2] = [65001, 65002];
const NODES: u32 = 64512;
/// Of the server.
const SERVERS: u32 = 65100;
/// Where a node's number stands in the addresses of its links, the server has this.
const UP: usize = 9;
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

/// One family on a link of `who`, a node or the server, with a switch.
struct Net {
    family: &'static str,
    /// Followed by a host's number: 11 for the one below, 1 for the switch.
    start: String,
    mask: u8,
    /// Of an address here.
    flags: &'static str,
}

fn nets(who: usize, switch: usize) -> [Net; 2] {
    let v4 = Net {
        family: "ipv4",
        start: format!("10.{who}.{switch}."),
        mask: 24,
        flags: "",
    };
    // Until a kernel worker has looked for a duplicate, nothing can listen at an address.
    let v6 = Net {
        family: "ipv6",
        start: format!("fd10:{who}:{switch}::"),
        mask: 64,
        flags: "nodad",
    };
    [v4, v6]
}

fn fabric(lab: &Lab, mesh: &Mesh) -> Result<Fabric> {
    let server = lab.netns("server")?;
    server.ip(&format!("link set lo up\naddr add {SERVER}/32 dev lo"))?;
    for n in 1..=SERVERS6 {
        server.ip(&format!("addr add {SERVER6}{n:x}/128 dev lo"))?;
    }
    let mut below: Vec<(usize, &Netns, u32)> = Vec::new();
    for (n, node) in (1..).zip(&mesh.nodes) {
        below.push((n, &node.ns, NODES));
    }
    below.push((UP, &server, SERVERS));
    let mut switches = Vec::new();
    for (s, name) in (1..).zip(["bird", "frr"]) {
        let switch = lab.netns(name)?;
        switch.sysctl("net/ipv4/ip_forward", "1")?;
        switch.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for (who, end, _) in &below {
            let port = format!("port{who}");
            lab.veth((end, name), (&switch, &port), 1500)?;
            for net in nets(*who, s) {
                let (start, mask, flags) = (net.start, net.mask, net.flags);
                end.ip(&format!("addr add {start}11/{mask} dev {name} {flags}"))?;
                switch.ip(&format!("addr add {start}1/{mask} dev {port} {flags}"))?;
            }
        }
        switches.push(switch);
    }
    let [bird, frr] = switches.as_slice() else {
        anyhow::bail!("not two switches");
    };
    let others: Vec<(usize, u32)> = below.iter().map(|(who, _, asn)| (*who, *asn)).collect();
    let on_bird = Bird::start(lab, bird, "bird", &of_bird(&others))?;
    let on_frr = Frr::start(lab, frr, "frr", &of_frr(&others))?;
    let on_server = Bird::start(lab, &server, "server", &of_server())?;
    Ok(Fabric {
        server,
        _birds: [on_bird, on_server],
        _frr: on_frr,
        switches,
    })
}

/// What both of BIRD's configurations begin with: BFD, and what is learnt goes to the kernel.
fn bird_common() -> String {
    let mut config =
        String::from("protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }\n");
    for family in ["ipv4", "ipv6"] {
        config += &format!(
            "protocol kernel {{ {family} {{ import none; export where source = RTS_BGP; }}; }}\n"
        );
    }
    config
}

fn of_bird(others: &[(usize, u32)]) -> String {
    let [own, _] = SWITCHES;
    let mut config = bird_common();
    for (who, asn) in others {
        for Net { family, start, .. } in nets(*who, 1) {
            config += &format!(
                "protocol bgp port{who}_{family} {{ local {start}1 as {own}; neighbor {start}11 as {asn}; hold time 9; bfd on;\n\
                 {family} {{ import all; export all; }}; }}\n"
            );
        }
    }
    config
}

fn of_frr(others: &[(usize, u32)]) -> String {
    let [_, own] = SWITCHES;
    let mut config =
        format!("router bgp {own}\n bgp router-id 10.99.1.2\n no bgp ebgp-requires-policy\n");
    let mut six = String::from(" address-family ipv6 unicast\n");
    for (who, asn) in others {
        for Net { family, start, .. } in nets(*who, 2) {
            let neighbour = format!("neighbor {start}11");
            config += &format!(
                " {neighbour} remote-as {asn}\n {neighbour} timers 3 9\n {neighbour} timers connect 1\n \
                 {neighbour} bfd 3 100 100\n"
            );
            if family == "ipv6" {
                six += &format!("  {neighbour} activate\n");
            }
        }
    }
    config + &six + " exit-address-family\n"
}

fn of_server() -> String {
    let mut config = bird_common();
    config += &format!(
        "router id 10.99.1.9;\nprotocol static {{ ipv4; route {SERVER}/32 blackhole; }}\n\
         protocol static {{ ipv6; route {SERVER6}/64 blackhole; }}\n"
    );
    for (s, switch) in (1..).zip(SWITCHES) {
        for Net { family, start, .. } in nets(UP, s) {
            config += &format!(
                "protocol bgp up{s}_{family} {{ local {start}11 as {SERVERS}; neighbor {start}1 as {switch}; hold time 9; bfd on;\n\
                 {family} {{ import all; export where source = RTS_STATIC; }}; }}\n"
            );
        }
    }
    config
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
