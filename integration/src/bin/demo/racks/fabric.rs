//! The switches of the racks, what they are connected with, and what runs on them.

use anyhow::Result;
use integration::lab::switches::{Bird, Frr};
use integration::lab::{Lab, Mesh, Netns};

/// The server, and its network for IPv6.
pub(super) const SERVER: &str = "198.51.100.1";
/// The server has several addresses here: flows to some of them take one switch, those to others the other.
pub(super) const SERVER6: &str = "2001:db8:100::";
pub(super) const SERVERS6: u8 = 0x10;
/// AS numbers of the two switches; nodes have the one that they have by themselves.
pub(super) const SWITCHES: [u32; 2] = [65001, 65002];
const NODES: u32 = 64512;
/// Of the server.
const SERVERS: u32 = 65100;
/// Where a node's number stands in the addresses of its links, the server has this.
const UP: usize = 9;

/// The switches, and the daemons that run on them; they end with it.
pub(super) struct Fabric {
    pub(super) switches: Vec<Netns>,
    pub(super) server: Netns,
    _birds: [Bird; 2],
    _frr: Frr,
}

/// One family on a link of `who`, a node or the server, with a switch.
pub(super) struct Net {
    pub(super) family: &'static str,
    /// Followed by a host's number: 11 for the one below, 1 for the switch.
    pub(super) start: String,
    mask: u8,
    /// Of an address here.
    flags: &'static str,
}

/// Both families on the link of `who` with a switch, counted from 1.
pub(super) fn nets(who: usize, switch: usize) -> [Net; 2] {
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

/// Builds it, its daemons started.
pub(super) fn fabric(lab: &Lab, mesh: &Mesh) -> Result<Fabric> {
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
