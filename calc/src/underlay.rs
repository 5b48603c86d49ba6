//! Which of this host's interfaces and addresses reach the other nodes.
//!
//! `auto` ranks every interface by what tells most first (see [`Rank`]) and explains its choice;
//! a configured address or interface is taken at its word, or refused with what there is instead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::kernel::{Address, Link, LinkKind, LinkName};
use model::resources::node::InterfaceAddress;
use model::state::{Underlay, UnderlayLink};
use model::{Family, marks};

/// `[underlay]` of `routerd.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Address over IPv4.
    pub ipv4: Choice,
    /// Address over IPv6.
    pub ipv6: Choice,
    /// The only interface to use.
    pub interface: Option<LinkName>,
}

/// How the address of a family is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best there is.
    #[default]
    Auto,
    /// This one. A full-length prefix stands for the one that the interface has.
    Address(InterfaceAddress),
}

/// What the host has.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Every interface.
    pub links: &'a BTreeMap<LinkName, Link>,
    /// Interfaces that a default route of a family leaves by.
    pub default_routes: &'a BTreeSet<(Family, LinkName)>,
}

/// Why no underlay can be chosen. None of them passes by itself unless an interface is still to come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configured interface does not exist.
    #[error("underlay.interface: there is no interface {interface}; write one of: {present}")]
    NoInterface {
        /// As configured.
        interface: LinkName,
        /// What there is.
        present: String,
    },
    /// The configured address is on no interface.
    #[error(
        "underlay.{field}: no interface has the address {address}; write auto or one of: {present}"
    )]
    NoAddress {
        /// `ipv4` or `ipv6`.
        field: &'static str,
        /// As configured.
        address: IpAddr,
        /// What there is.
        present: String,
    },
    /// An address of the other family.
    #[error("underlay.{field}: {address} is of the other family; write it in underlay.{other}")]
    WrongFamily {
        /// `ipv4` or `ipv6`.
        field: &'static str,
        /// As configured.
        address: IpAddr,
        /// The field meant.
        other: &'static str,
    },
    /// The configured address is on the loopback interface, which leads to no other node.
    #[error(
        "underlay.{field}: {address} is on {interface}, which leads nowhere; set underlay.interface to the one that reaches the other nodes"
    )]
    OnLoopback {
        /// `ipv4` or `ipv6`.
        field: &'static str,
        /// As configured.
        address: IpAddr,
        /// The loopback interface.
        interface: LinkName,
    },
}

/// Chooses the underlay; the lines say why, for the log.
pub fn choose(config: &Config, host: Host<'_>) -> Result<(Underlay, Vec<String>), Error> {
    if let Some(interface) = config.interface.filter(|i| !host.links.contains_key(i)) {
        return Err(Error::NoInterface {
            interface,
            present: list(usable(host.links).map(|l| l.name.to_string())),
        });
    }
    let mut why = Vec::new();
    let mut of = |family, choice| match choice {
        Choice::Auto => Ok(auto(config, host, family, &mut why)),
        Choice::Address(wanted) => explicit(config, host, family, wanted, &mut why).map(Some),
    };
    let underlay = Underlay {
        v4: of(Family::V4, config.ipv4)?,
        v6: of(Family::V6, config.ipv6)?,
    };
    Ok((underlay, why))
}

fn field(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// Takes the configured address, wherever it is.
fn explicit(
    config: &Config,
    host: Host<'_>,
    family: Family,
    wanted: InterfaceAddress,
    why: &mut Vec<String>,
) -> Result<UnderlayLink, Error> {
    let (address, field) = (wanted.ip, field(family));
    if Family::of(address) != family {
        let other = self::field(Family::of(address));
        return Err(Error::WrongFamily {
            field,
            address,
            other,
        });
    }
    let holder = host.links.values().find_map(|link| {
        let found = link.addresses.iter().find(|a| a.ip == address)?;
        Some((link, found))
    });
    let Some((holder, found)) = holder else {
        let all = usable(host.links).flat_map(|l| {
            let of_family = l
                .addresses
                .iter()
                .filter(move |a| Family::of(a.ip) == family);
            of_family.map(|a| format!("{}/{} ({})", a.ip, a.prefix, l.name))
        });
        return Err(Error::NoAddress {
            field,
            address,
            present: list(all),
        });
    };
    let link = config.interface.and_then(|i| host.links.get(&i));
    let link = match link {
        Some(link) => link,
        None if holder.kind == LinkKind::Loopback => {
            return Err(Error::OnLoopback {
                field,
                address,
                interface: holder.name,
            });
        }
        None => holder,
    };
    let prefix = if wanted.prefix == family.bits() {
        found.prefix
    } else {
        wanted.prefix
    };
    let down = if link.up && link.running {
        ""
    } else {
        ", which is down"
    };
    why.push(format!(
        "{family} underlay: {address}/{prefix} on {}{down}: configured",
        link.name
    ));
    Ok(UnderlayLink {
        interface: link.name,
        address: InterfaceAddress {
            ip: address,
            prefix,
        },
        mtu: link.mtu,
    })
}

/// Takes the best interface that has an address of the family, and says what it was preferred to.
fn auto(
    config: &Config,
    host: Host<'_>,
    family: Family,
    why: &mut Vec<String>,
) -> Option<UnderlayLink> {
    let only = |l: &&Link| config.interface.is_none_or(|i| i == l.name);
    let mut ranked = Vec::new();
    for link in host.links.values().filter(only) {
        // An interface without an address of the family was no candidate: not worth a line.
        let Some(address) = link.addresses.iter().find(|a| is_global(a, family)) else {
            continue;
        };
        match rank(link, family, host, config.interface.is_some()) {
            Ok(rank) => ranked.push((rank, link, address)),
            Err(reason) => why.push(format!("{family} underlay: not {}: {reason}", link.name)),
        }
    }
    // Greatest rank first; the sort is stable, so equal ranks stay in the order of names.
    ranked.sort_by_key(|(rank, ..)| std::cmp::Reverse(*rank));
    let mut ranked = ranked.into_iter();
    let Some((rank, link, address)) = ranked.next() else {
        why.push(format!("{family} underlay: none: no interface fits"));
        return None;
    };
    why.push(format!(
        "{family} underlay: {}/{} on {}: {rank}",
        address.ip, address.prefix, link.name
    ));
    for (rank, link, _) in ranked {
        why.push(format!("{family} underlay: not {}: only {rank}", link.name));
    }
    Some(UnderlayLink {
        interface: link.name,
        address: InterfaceAddress {
            ip: address.ip,
            prefix: address.prefix,
        },
        mtu: link.mtu,
    })
}

/// What makes one interface better than another; compared in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Up, with carrier.
    pub running: bool,
    /// A default route leaves by it.
    pub default_route: bool,
    /// What sort it is.
    pub sort: Sort,
}

/// Sorts of interfaces, the least likely underlay first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// A bridge: often of containers or virtual machines.
    Bridge,
    /// veth, macvlan, ipvlan: what a host has that is a container itself.
    Virtual,
    /// Hardware, or made of it: bond, team, VLAN.
    Physical,
}

impl std::fmt::Display for Rank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.sort {
            Sort::Bridge => "a bridge",
            Sort::Virtual => "virtual",
            Sort::Physical => "physical",
        })?;
        if self.default_route {
            f.write_str(", has a default route")?;
        }
        f.write_str(if self.running { ", up" } else { ", down" })
    }
}

/// Kinds that are, or may be, part of the network of the host; all others are tunnels and toys.
const PHYSICAL: [&str; 5] = ["", "bond", "team", "vlan", "hsr"];
const VIRTUAL: [&str; 4] = ["veth", "macvlan", "ipvlan", "netkit"];
/// Names that container runtimes and VPNs give to theirs.
const FOREIGN: [&str; 20] = [
    "docker",
    "br-",
    "virbr",
    "lxcbr",
    "lxdbr",
    "cni",
    "podman",
    "nerdctl",
    "flannel",
    "cali",
    "vxlan",
    "cilium",
    "lxc",
    "kube-",
    "weave",
    "tailscale",
    "wg",
    "zt",
    "tun",
    "tap",
];

/// How good an interface is, or why it is out of the question. A configured one is only ranked.
fn rank(link: &Link, family: Family, host: Host<'_>, configured: bool) -> Result<Rank, String> {
    let sort = match &link.kind {
        LinkKind::Other(kind) if PHYSICAL.contains(&kind.as_str()) => Some(Sort::Physical),
        LinkKind::Other(kind) if VIRTUAL.contains(&kind.as_str()) => Some(Sort::Virtual),
        LinkKind::Other(kind) if kind == "bridge" => Some(Sort::Bridge),
        LinkKind::Veth => Some(Sort::Virtual),
        LinkKind::Loopback | LinkKind::Vxlan(_) | LinkKind::Other(_) => None,
    };
    let name = link.name.as_str();
    if marks::is_our_link(name) {
        return Err("it is ours".to_owned());
    }
    if link.kind == LinkKind::Loopback {
        return Err("it leads nowhere".to_owned());
    }
    if !configured {
        if sort.is_none() {
            return Err("a tunnel, or not a network".to_owned());
        }
        if let Some(prefix) = FOREIGN.iter().find(|p| name.starts_with(**p)) {
            return Err(format!(
                "named {prefix}… as containers and tunnels are; set underlay.interface if it is meant"
            ));
        }
        if !link.up {
            return Err("it is down".to_owned());
        }
    }
    Ok(Rank {
        running: link.up && link.running,
        default_route: host.default_routes.contains(&(family, link.name)),
        sort: sort.unwrap_or(Sort::Virtual),
    })
}

/// Whether other nodes can send to an address.
fn is_global(address: &Address, family: Family) -> bool {
    let ip = address.ip;
    Family::of(ip) == family
        && !ip.is_loopback()
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && match ip {
            IpAddr::V4(a) => !a.is_link_local(),
            IpAddr::V6(a) => !a.is_unicast_link_local(),
        }
}

fn usable(links: &BTreeMap<LinkName, Link>) -> impl Iterator<Item = &Link> {
    (links.values())
        .filter(|l| l.kind != LinkKind::Loopback && !marks::is_our_link(l.name.as_str()))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.is_empty() {
        true => "(there is none)".to_owned(),
        false => items.join(", "),
    }
}

#[cfg(test)]
mod tests;
