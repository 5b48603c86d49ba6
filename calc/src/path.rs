//! How addresses of one family on another node are reached, and why so.
//!
//! | vxlanMode | on one subnet | else |
//! |---|---|---|
//! | `Never` | native | no route of ours: the network, or BGP, must have one |
//! | `CrossSubnet` | native | VXLAN |
//! | `Always` | VXLAN | VXLAN |
//!
//! Both ends decide alike, since each rule reads the same of both.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use model::Family;
use model::kernel::{Mac, NextHop};
use model::resources::VxlanMode;

use crate::peers::{Own, Peer};
use crate::tunnels::Tunnels;

/// A way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The node's underlay address is the next hop.
    Native(NextHop),
    /// Carried by VXLAN.
    Vxlan {
        /// Underlay that carries it.
        over: Family,
        /// Next hop beyond the tunnel.
        hop: NextHop,
    },
}

impl Path {
    /// The next hop.
    pub fn hop(&self) -> NextHop {
        match self {
            Path::Native(hop) | Path::Vxlan { hop, .. } => *hop,
        }
    }
}

/// Why there is no way to another node; reads as a clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unreachable {
    /// Native only, and no subnet is shared.
    OtherSubnet,
    /// Native only, and an IPv6 packet cannot have an IPv4 next hop.
    NoIpv6Underlay,
    /// No underlay family that both nodes have.
    NoCommonFamily,
    /// This host has no underlay address at all.
    OwnUnderlay,
    /// This node has not published what its VXLAN device needs.
    OwnVtep,
    /// The other node has published no underlay address.
    PeerUnderlay,
    /// The other node has published no VXLAN MAC address.
    PeerMac,
    /// The other node has published no IPv4 tunnel address.
    PeerTunnelAddress,
}

/// Which object has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The pool, or the network.
    Pool,
    /// The other node.
    Peer,
    /// This node.
    Own,
}

/// What to do for a node without a tunnel address.
pub(crate) const TUNNEL_ADDRESS_MEND: &str =
    "see that routerd runs there and that a pool with allowedUses Tunnel has a free address";

impl Unreachable {
    /// Which object has to change.
    pub fn blame(&self) -> Blame {
        match self {
            Unreachable::OtherSubnet | Unreachable::NoIpv6Underlay => Blame::Pool,
            Unreachable::OwnUnderlay | Unreachable::OwnVtep => Blame::Own,
            Unreachable::PeerUnderlay
            | Unreachable::PeerMac
            | Unreachable::PeerTunnelAddress
            | Unreachable::NoCommonFamily => Blame::Peer,
        }
    }

    /// What to do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Unreachable::OtherSubnet => {
                "set vxlanMode: CrossSubnet, or let the network route these blocks (BGP)"
            }
            Unreachable::NoIpv6Underlay => {
                "set vxlanMode: CrossSubnet, or give both nodes IPv6 addresses in one subnet"
            }
            Unreachable::NoCommonFamily => {
                "give both nodes an IPv4, or both an IPv6 underlay address"
            }
            Unreachable::OwnUnderlay => {
                "give the underlay interface an address, or set [underlay] in routerd.toml"
            }
            Unreachable::OwnVtep => "it should within seconds; else see the log of routerd here",
            Unreachable::PeerUnderlay => {
                "see that routerd runs there and finds its underlay address"
            }
            Unreachable::PeerMac => "see that routerd runs there",
            Unreachable::PeerTunnelAddress => TUNNEL_ADDRESS_MEND,
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreachable::OtherSubnet => "vxlanMode is Never and no subnet is shared with this node",
            Unreachable::NoIpv6Underlay => {
                "vxlanMode is Never, and IPv6 needs an IPv6 underlay to be routed natively"
            }
            Unreachable::NoCommonFamily => "it shares no underlay family with this node",
            Unreachable::OwnUnderlay => "this host has no underlay address",
            Unreachable::OwnVtep => "this node has not published its VXLAN MAC address yet",
            Unreachable::PeerUnderlay => "it has published no underlay address",
            Unreachable::PeerMac => "it has published no VXLAN MAC address",
            Unreachable::PeerTunnelAddress => "it has published no IPv4 tunnel address",
        })
    }
}

/// The way to addresses of `family` on `peer`.
pub(crate) fn decide(
    own: &Own<'_>,
    peer: &Peer<'_>,
    tunnels: &Tunnels<'_>,
    family: Family,
    mode: VxlanMode,
) -> Result<Path, Unreachable> {
    match mode {
        VxlanMode::Never => native(own, peer, family).map(Path::Native),
        VxlanMode::Always => vxlan(own, peer, tunnels, family),
        VxlanMode::CrossSubnet => match native(own, peer, family) {
            Ok(hop) => Ok(Path::Native(hop)),
            Err(_) => vxlan(own, peer, tunnels, family),
        },
    }
}

/// The peer as a next hop on a shared subnet; of the same family if it can be, and IPv4 packets
/// over an IPv6 next hop (RFC 8950) if not. The kernel has no such thing the other way round.
fn native(own: &Own<'_>, peer: &Peer<'_>, family: Family) -> Result<NextHop, Unreachable> {
    let on_link = |over: Family| {
        Some(NextHop {
            via: Some(peer.on_link(over)?),
            dev: own.underlay(over)?.interface,
            onlink: false,
        })
    };
    match family {
        Family::V4 => on_link(Family::V4).or_else(|| on_link(Family::V6)),
        Family::V6 => on_link(Family::V6),
    }
    .ok_or_else(|| match missing_underlay(own, peer) {
        Some(why) => why,
        None if family == Family::V6 && on_link(Family::V4).is_some() => {
            Unreachable::NoIpv6Underlay
        }
        None => Unreachable::OtherSubnet,
    })
}

/// The peer's VXLAN device as a next hop.
fn vxlan(
    own: &Own<'_>,
    peer: &Peer<'_>,
    tunnels: &Tunnels<'_>,
    family: Family,
) -> Result<Path, Unreachable> {
    let over = tunnel_family(own, peer)?;
    let device = tunnels.over(over).ok_or(Unreachable::OwnVtep)?;
    let mac = peer.spec.vtep_mac(over).ok_or(Unreachable::PeerMac)?;
    Ok(Path::Vxlan {
        over,
        hop: NextHop {
            via: Some(gateway(peer, family, mac)?),
            dev: device.name,
            onlink: true,
        },
    })
}

/// The underlay that VXLAN to a peer uses: the first that both ends are ready for.
pub(crate) fn tunnel_family(own: &Own<'_>, peer: &Peer<'_>) -> Result<Family, Unreachable> {
    let common = |f: &Family| own.underlay(*f).is_some() && peer.underlay(*f).is_some();
    let ready = |f: &Family| own.vtep(*f).is_some() && peer.spec.vtep_mac(*f).is_some();
    let mut families = Family::ALL.into_iter().filter(common);
    if let Some(over) = families.clone().find(ready) {
        return Ok(over);
    }
    Err(match families.next() {
        Some(f) if own.vtep(f).is_none() => Unreachable::OwnVtep,
        Some(_) => Unreachable::PeerMac,
        None => missing_underlay(own, peer).unwrap_or(Unreachable::NoCommonFamily),
    })
}

/// The address of a peer's VXLAN device as seen by a route of `family`.
///
/// IPv4 uses its tunnel address. IPv6 uses its link-local address, because the kernel refuses a global gateway
/// that another route claims for another device, as happens while a pool goes from native to VXLAN.
pub(crate) fn gateway(peer: &Peer<'_>, family: Family, mac: Mac) -> Result<IpAddr, Unreachable> {
    match family {
        Family::V4 => (peer.spec.tunnel_addr(Family::V4)).ok_or(Unreachable::PeerTunnelAddress),
        Family::V6 => Ok(link_local(mac).into()),
    }
}

/// The link-local address of a MAC address (modified EUI-64, RFC 4291 appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        ((a ^ 2) << 8) | b,
        (c << 8) | 0xff,
        0xfe00 | d,
        (e << 8) | f,
    )
}

/// Which end has no underlay address at all.
fn missing_underlay(own: &Own<'_>, peer: &Peer<'_>) -> Option<Unreachable> {
    let [v4, v6] = Family::ALL;
    if own.underlay(v4).or(own.underlay(v6)).is_none() {
        Some(Unreachable::OwnUnderlay)
    } else if peer.underlay(v4).or(peer.underlay(v6)).is_none() {
        Some(Unreachable::PeerUnderlay)
    } else {
        None
    }
}
