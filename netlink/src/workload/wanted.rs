//! What a workload's link needs on either side, as data: what `attach` makes, `check` looks for.

use std::net::{IpAddr, Ipv6Addr};

use model::kernel::{Address, LinkName, Mac, Neighbour, NextHop, Route, RouteKey, RouteTarget};
use model::{Cidr, Family, marks};

use super::{PlainAttach, WorkloadAttach};
use crate::describe::{self, TABLE_MAIN};

/// One end of a link and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The interface.
    pub link: LinkName,
    /// What it needs, in the order in which it can be made.
    pub objects: Vec<Object>,
}

impl Side {
    /// This and then what `more` needs.
    fn with(mut self, more: Side) -> Side {
        self.objects.extend(more.objects);
        self
    }
}

/// Something that a side needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A kernel switch: path below `/proc/sys`, value.
    Sysctl(String, String),
    /// The link is up, with this Ethernet address and MTU where given.
    Up {
        /// Ethernet address.
        mac: Option<Mac>,
        /// MTU in bytes.
        mtu: Option<u32>,
    },
    /// An address.
    Address(Address),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A route.
    Route(RouteKey, Route),
}

impl Object {
    /// In the words of `ip`.
    pub(super) fn describe(&self, link: LinkName) -> String {
        match self {
            Object::Sysctl(path, _) => format!("sysctl {path}"),
            Object::Up { .. } => describe::link(&link),
            Object::Address(a) => format!("address {}/{} dev {link}", a.ip, a.prefix),
            Object::Neighbour(n) => describe::neighbour(n),
            Object::Route(key, route) => describe::route(key, route),
        }
    }
}

/// The metric that the kernel gives to routes that name none.
fn metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// The link's own IPv6 address, made of its Ethernet address (RFC 4291, appendix A).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let half = |x: u8, y: u8| u16::from_be_bytes([x, y]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        half(a ^ 2, b),
        half(c, 0xff),
        half(0xfe, d),
        half(e, f),
    )
}

fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => marks::GATEWAY_V4.into(),
        Family::V6 => marks::GATEWAY_V6.into(),
    }
}

fn route(dst: Cidr, via: Option<IpAddr>, dev: LinkName) -> Object {
    let key = RouteKey {
        table: TABLE_MAIN,
        dst,
        metric: metric(dst.family()),
    };
    // The gateway is on no subnet of the link.
    let onlink = via.is_some_and(|ip| ip.is_ipv4());
    let target = RouteTarget::Hop(NextHop { via, dev, onlink });
    let route = Route {
        protocol: marks::ROUTE_PROTOCOL,
        target,
        src: None,
        mtu: None,
    };
    Object::Route(key, route)
}

/// The switch of the check of sources, which the desired state has as well for workloads' links.
pub(crate) fn source_check(link: LinkName) -> String {
    format!("net/ipv4/conf/{link}/rp_filter")
}

fn switch(family: &str, table: &str, link: LinkName, name: &str, value: &str) -> Object {
    Object::Sysctl(
        format!("net/{family}/{table}/{link}/{name}"),
        value.to_owned(),
    )
}

/// The families of some addresses.
pub(super) fn families(ips: &[Cidr]) -> Vec<Family> {
    let has = |family: &Family| ips.iter().any(|ip| ip.family() == *family);
    Family::ALL.into_iter().filter(has).collect()
}

/// The workload's end: its addresses, and a way out through a gateway that is no host but a
/// permanent neighbour.
pub fn container_side(w: &WorkloadAttach) -> Side {
    container_base(w, &families(&w.ips)).with(container_own(w))
}

/// What of the workload's end hangs on the families alone.
pub(super) fn container_base(w: &WorkloadAttach, families: &[Family]) -> Side {
    let dev = w.container_ifname;
    let has_v6 = families.contains(&Family::V6);
    let mut objects = Vec::new();
    if has_v6 {
        // Runtimes disable IPv6 by default; a workload that is given an address wants it.
        for name in ["lo", dev.as_str()] {
            let path = format!("net/ipv6/conf/{name}/disable_ipv6");
            objects.push(Object::Sysctl(path, "0".to_owned()));
        }
    }
    objects.push(Object::Up {
        mac: Some(w.mac),
        mtu: Some(w.mtu),
    });
    if has_v6 {
        objects.push(Object::Address(Address {
            ip: link_local(w.mac).into(),
            prefix: 64,
        }));
    }
    for family in families {
        let ip = gateway(*family);
        objects.push(Object::Neighbour(Neighbour {
            dev,
            ip,
            mac: w.host_mac,
        }));
        if *family == Family::V4 {
            objects.push(route(Cidr::host(ip), None, dev));
        }
        // All of the family.
        objects.extend(Cidr::containing(ip, 0).map(|all| route(all, Some(ip), dev)));
    }
    Side { link: dev, objects }
}

/// The workload's addresses at its end.
pub(super) fn container_own(w: &WorkloadAttach) -> Side {
    let addresses = w.ips.iter().map(|ip| {
        let (ip, prefix) = (ip.network(), ip.prefix_len());
        Object::Address(Address { ip, prefix })
    });
    Side {
        link: w.container_ifname,
        objects: addresses.collect(),
    }
}

/// The host's end: a permanent neighbour and a route to each of the workload's addresses.
pub fn host_side(w: &WorkloadAttach) -> Side {
    host_base(w, &families(&w.ips)).with(host_own(w))
}

/// What of the host's end hangs on the families alone.
pub(super) fn host_base(w: &WorkloadAttach, families: &[Family]) -> Side {
    let up = Object::Up {
        mac: Some(w.host_mac),
        mtu: Some(w.mtu),
    };
    gateway_of(w.host_ifname, up, families)
}

/// The way to the workload's addresses.
pub(super) fn host_own(w: &WorkloadAttach) -> Side {
    ways(w.host_ifname, w.mac, &w.ips)
}

/// The host's end of an interface that somebody else made.
pub fn plain_side(p: &PlainAttach) -> Side {
    let up = Object::Up {
        mac: None,
        mtu: None,
    };
    gateway_of(p.interface, up, &families(&p.ips)).with(ways(p.interface, p.mac, &p.ips))
}

fn gateway_of(dev: LinkName, up: Object, families: &[Family]) -> Side {
    let has_v6 = families.contains(&Family::V6);
    let mut objects = vec![
        switch("ipv4", "conf", dev, "forwarding", "1"),
        // Packets with a source whose route does not lead back are dropped.
        Object::Sysctl(source_check(dev), "1".to_owned()),
        // For workloads that flush their neighbours: the host answers for the gateway at once.
        switch("ipv4", "conf", dev, "proxy_arp", "1"),
        switch("ipv4", "neigh", dev, "proxy_delay", "0"),
    ];
    if has_v6 {
        objects.push(switch("ipv6", "conf", dev, "disable_ipv6", "0"));
        objects.push(switch("ipv6", "conf", dev, "forwarding", "1"));
        // A workload is no router.
        objects.push(switch("ipv6", "conf", dev, "accept_ra", "0"));
    }
    objects.push(up);
    if has_v6 {
        // The same safety net for IPv6, where the gateway can be a real address: on the link only.
        let ip = marks::GATEWAY_V6.into();
        objects.push(Object::Address(Address { ip, prefix: 64 }));
    }
    Side { link: dev, objects }
}

fn ways(dev: LinkName, mac: Mac, ips: &[Cidr]) -> Side {
    let ways = ips.iter().flat_map(|ip| {
        let neighbour = Neighbour {
            dev,
            ip: ip.network(),
            mac,
        };
        [Object::Neighbour(neighbour), route(*ip, None, dev)]
    });
    Side {
        link: dev,
        objects: ways.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_made_of_the_mac() {
        let mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
        assert_eq!(link_local(mac).to_string(), "fe80::11:22ff:fe33:4455");
    }
}
