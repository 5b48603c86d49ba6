//! Two switches beside a rack, and a server behind both.
//!
//! ```text
//!          ┌ 10.1.1.0/24 ─ tor1 ─ 10.2.1.0/24 ┐
//!   node ──┤                                  ├── server 198.51.100.1 to .16
//!          └ 10.1.2.0/24 ─ tor2 ─ 10.2.2.0/24 ┘
//! ```
//!
//! Each switch announces a network of its own too, see [`own`].

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use integration::lab::{Lab, Mesh, Netns};

use crate::rig::{Bird, no_mesh, peer};

/// The server's network, as it announces it.
pub(crate) const SERVER: &str = "198.51.100.0/24";
/// Addresses that the server has there.
const SERVERS: u8 = 16;

/// The server's addresses: flows to some of them take one switch, those to others the other.
pub(crate) fn servers() -> impl Iterator<Item = IpAddr> {
    (1..=SERVERS).map(|n| Ipv4Addr::new(198, 51, 100, n).into())
}

/// The address of a switch on its link to the node; switches are counted from 1.
pub(crate) fn gateway(n: usize) -> String {
    format!("10.1.{n}.1")
}

/// What only this switch announces.
pub(crate) fn own(n: usize) -> String {
    format!("203.0.113.{}/26", n * 64)
}

pub(crate) struct Fabric {
    pub(crate) tors: Vec<(Netns, Bird)>,
    pub(crate) server: Netns,
    _server_bird: Bird,
}

/// How the end of a switch is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By BFD at 3 × 100 ms.
    Bfd,
    /// By the hold time.
    Hold,
}

impl Watch {
    fn of_bird(self) -> &'static str {
        match self {
            Watch::Bfd => "bfd on;",
            Watch::Hold => "",
        }
    }

    /// In the `spec` of a `BGPPeer`.
    fn of_peer(self) -> &'static str {
        match self {
            Watch::Bfd => {
                ", bfd: { transmitIntervalMs: 100, receiveIntervalMs: 100, multiplier: 3 }"
            }
            Watch::Hold => "",
        }
    }
}

/// The resources for a node that peers with both switches and nobody else.
pub(crate) fn peers(watch: Watch) -> String {
    let mut manifest = no_mesh();
    for n in [1, 2] {
        let spec = format!(
            "peerIP: {}, asNumber: 6500{n}, sourceAddress: None{}",
            gateway(n),
            watch.of_peer()
        );
        manifest.push_str(&peer(&format!("tor{n}"), &spec));
    }
    manifest
}

fn bird(lab: &Lab, ns: &Netns, name: &str, id: &str, bgp: &str) -> Result<Bird> {
    let config = format!(
        "router id {id};\n\
         protocol bfd {{ interface \"*\" {{ interval 100 ms; multiplier 3; }}; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n{bgp}"
    );
    Bird::start(lab, ns, name, &config)
}

/// Builds it.
pub(crate) fn fabric(lab: &Lab, mesh: &Mesh, watch: Watch) -> Result<Fabric> {
    let bfd = watch.of_bird();
    let node = &mesh.node(0)?.ns;
    let server = lab.netns("server")?;
    server.ip("link set lo up")?;
    for ip in servers() {
        server.ip(&format!("addr add {ip}/32 dev lo"))?;
    }
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
        let channel = format!("hold time 9; {bfd} ipv4 {{ import all; export all; }}; }}");
        let own = own(n);
        let bgp = format!(
            "protocol static {{ ipv4; route {own} blackhole; }}\n\
             protocol bgp node {{ local 10.1.{n}.1 as 6500{n}; neighbor 10.1.{n}.11 as 64512; {channel}\n\
             protocol bgp server {{ local 10.2.{n}.1 as 6500{n}; neighbor 10.2.{n}.11 as 65100; {channel}\n"
        );
        let daemon = bird(lab, &tor, &format!("tor{n}"), &format!("10.99.1.{n}"), &bgp)?;
        tors.push((tor, daemon));
    }
    let mut bgp = format!("protocol static {{ ipv4; route {SERVER} blackhole; }}\n");
    for n in [1, 2] {
        bgp.push_str(&format!(
            "protocol bgp tor{n} {{ local 10.2.{n}.11 as 65100; neighbor 10.2.{n}.1 as 6500{n}; hold time 9; {bfd}\n\
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
pub(crate) enum Cut {
    /// Nothing leaves it any more.
    Dead,
    /// Nothing of what it says arrives at the node; the node is heard.
    ToNode,
    /// Nothing of what the node says arrives there; the node hears it.
    FromNode,
}

impl Cut {
    pub(crate) fn make(self, switch: &Netns) -> Result<()> {
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
