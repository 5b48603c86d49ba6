//! Objects as rtnetlink requests.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::RawFd;

use model::Family;
use model::kernel::{
    Address, FdbEntry, LinkName, Mac, NextHop, Route, RouteKey, RouteTarget, Vxlan,
};
use model::marks;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use crate::lookup::Asked;
use crate::workload::WorkloadAttach;

/// Request flags of `linux/netlink.h`.
pub(crate) mod flags {
    /// Answer, also when all went well.
    pub(crate) const ACK: u16 = 0x4;
    /// All objects.
    pub(crate) const DUMP: u16 = 0x300;
    /// Make it if it does not exist.
    pub(crate) const CREATE: u16 = 0x400;
    /// Behind the others.
    pub(crate) const APPEND: u16 = 0x800;
    /// Make it; it must not exist.
    pub(crate) const ADD: u16 = ACK | CREATE | 0x200;
    /// Make it, in place of what exists.
    pub(crate) const REPLACE: u16 = ACK | CREATE | 0x100;
}

/// The index of an interface in a next hop.
pub(crate) type IndexOf<'a> = &'a dyn Fn(&NextHop) -> u32;

fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// An empty message about the link with an index; 0 when it has none yet.
pub(crate) fn link_message(index: u32) -> LinkMessage {
    let mut m = LinkMessage::default();
    m.header.index = index;
    m
}

/// Adds "administratively up".
pub(crate) fn set_up(m: &mut LinkMessage) {
    m.header.flags |= LinkFlags::Up;
    m.header.change_mask |= LinkFlags::Up;
}

/// Adds "the kernel makes up no IPv6 address": no duplicate address detection to wait for, and
/// no multicast chatter on tunnels.
pub(crate) fn no_address_generation(m: &mut LinkMessage) {
    let inet6 = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    m.attributes
        .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            inet6,
        )]));
}

/// A change of an existing link.
pub(crate) fn set_link(m: LinkMessage) -> (Message, u16) {
    (Message::SetLink(m), flags::ACK)
}

/// Deletes a link by name, so that a link remade under the same name is met as well.
pub(crate) fn delete_link(name: &str) -> (Message, u16) {
    let mut m = link_message(0);
    m.attributes.push(LinkAttribute::IfName(name.to_owned()));
    (Message::DelLink(m), flags::ACK)
}

/// Asks for a link by name.
pub(crate) fn get_link(name: &str) -> Message {
    let mut m = link_message(0);
    m.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Message::GetLink(m)
}

/// A VXLAN device, down, that does not learn.
///
/// Outer UDP checksums are on: IPv6 requires them and network cards compute them. Those of other
/// makes may send zero over IPv6 (RFC 6935), which is accepted.
pub(crate) fn create_vxlan(v: &Vxlan, parent: u32) -> (Message, u16) {
    let s = &v.settings;
    let local = match s.local {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    };
    let data = vec![
        InfoVxlan::Id(s.vni),
        InfoVxlan::Link(parent),
        local,
        InfoVxlan::Port(s.port),
        InfoVxlan::Learning(s.learning),
        InfoVxlan::UDPCsum(true),
        InfoVxlan::UDPZeroCsumTX(false),
        InfoVxlan::UDPZeroCsumRX(true),
    ];
    let mut m = link_message(0);
    m.attributes = vec![
        LinkAttribute::IfName(v.name.to_string()),
        LinkAttribute::Mtu(v.mtu),
        LinkAttribute::Address(v.mac.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ];
    (Message::NewLink(m), flags::ADD)
}

/// Sets a link up. Before that it is told to get no address of the kernel's making; one message
/// with both would do it the other way round.
pub(crate) fn bring_up(index: u32) -> [(Message, u16); 2] {
    bring_up_as(&link_message(index))
}

/// The same for a link that is made in the same batch, so by name.
pub(crate) fn bring_up_by_name(name: &str) -> [(Message, u16); 2] {
    let mut m = link_message(0);
    m.attributes.push(LinkAttribute::IfName(name.to_owned()));
    bring_up_as(&m)
}

fn bring_up_as(link: &LinkMessage) -> [(Message, u16); 2] {
    let (mut quiet, mut up) = (link.clone(), link.clone());
    no_address_generation(&mut quiet);
    set_up(&mut up);
    [set_link(quiet), set_link(up)]
}

/// A veth pair, both ends down, the far one in the namespace that a file stands for.
pub(crate) fn create_veth(w: &WorkloadAttach, namespace: RawFd) -> (Message, u16) {
    let end = |name: LinkName, mac: Mac| {
        let mut m = link_message(0);
        m.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Mtu(w.mtu),
            LinkAttribute::Address(mac.0.to_vec()),
        ];
        m
    };
    let mut peer = end(w.container_ifname, w.mac);
    peer.attributes.push(LinkAttribute::NetNsFd(namespace));
    let mut m = end(w.host_ifname, w.host_mac);
    m.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    (Message::NewLink(m), flags::ADD)
}

/// An address. IPv6 ones are usable at once (no duplicate address detection). None brings a
/// route to its subnet along, for routes are planned; but for link-local ones. Each has our
/// protocol, which Linux keeps since 5.18 and ignores before.
pub(crate) fn address(index: u32, a: Address) -> AddressMessage {
    let mut m = AddressMessage::default();
    m.header.family = family(Family::of(a.ip));
    m.header.prefix_len = a.prefix;
    m.header.index = index;
    let (scope, flags) = match a.ip {
        IpAddr::V4(ip) if ip.is_link_local() => (AddressScope::Link, AddressFlags::Noprefixroute),
        IpAddr::V4(_) => (AddressScope::Universe, AddressFlags::Noprefixroute),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => (AddressScope::Link, AddressFlags::Nodad),
        IpAddr::V6(_) => (
            AddressScope::Universe,
            AddressFlags::Noprefixroute | AddressFlags::Nodad,
        ),
    };
    m.header.scope = scope;
    m.attributes = vec![
        AddressAttribute::Local(a.ip),
        AddressAttribute::Address(a.ip),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(marks::ROUTE_PROTOCOL.into()),
    ];
    m
}

/// Adds an address.
pub(crate) fn add_address(index: u32, a: Address) -> (Message, u16) {
    (Message::NewAddress(address(index, a)), flags::ADD)
}

/// Deletes an address.
pub(crate) fn delete_address(index: u32, a: Address) -> (Message, u16) {
    (Message::DelAddress(address(index, a)), flags::ACK)
}

/// The message that adds, replaces or deletes a route.
pub(crate) fn route(key: &RouteKey, route: &Route, index_of: IndexOf<'_>) -> RouteMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = family(key.dst.family());
    m.header.destination_prefix_length = key.dst.prefix_len();
    // Eight bits there; the attribute has room for every number.
    m.header.table = u8::try_from(key.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    m.header.protocol = RouteProtocol::from(route.protocol);
    m.header.kind = match route.target {
        RouteTarget::Blackhole => RouteType::BlackHole,
        RouteTarget::Unreachable => RouteType::Unreachable,
        RouteTarget::Hop(_) | RouteTarget::Multipath(_) => RouteType::Unicast,
    };
    m.header.scope = match route.target {
        // What has no gateway ends on the link. IPv6 has no scopes of routes.
        RouteTarget::Hop(NextHop { via: None, .. }) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    m.attributes.push(RouteAttribute::Table(key.table));
    if key.dst.prefix_len() > 0 {
        m.attributes
            .push(RouteAttribute::Destination(key.dst.network().into()));
    }
    if key.metric != 0 {
        m.attributes.push(RouteAttribute::Priority(key.metric));
    }
    m.attributes
        .extend(route.src.map(|src| RouteAttribute::PrefSource(src.into())));
    m.attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    match &route.target {
        RouteTarget::Hop(hop) => {
            m.attributes.push(RouteAttribute::Oif(index_of(hop)));
            m.attributes.extend(gateway(key, hop));
            if hop.onlink {
                m.header.flags |= RouteFlags::Onlink;
            }
        }
        RouteTarget::Multipath(hops) => {
            let hops = hops.iter().map(|hop| {
                let mut nh = RouteNextHop::default();
                nh.interface_index = index_of(hop);
                nh.attributes.extend(gateway(key, hop));
                if hop.onlink {
                    nh.flags |= RouteNextHopFlags::Onlink;
                }
                nh
            });
            m.attributes.push(RouteAttribute::MultiPath(hops.collect()));
        }
        RouteTarget::Blackhole | RouteTarget::Unreachable => {}
    }
    m
}

fn gateway(key: &RouteKey, hop: &NextHop) -> Option<RouteAttribute> {
    let via = hop.via?;
    // A gateway of the other family (RFC 8950) has an attribute of its own.
    Some(match Family::of(via) == key.dst.family() {
        true => RouteAttribute::Gateway(via.into()),
        false => RouteAttribute::Via(via.into()),
    })
}

/// Asks which way packets to an address go.
pub(crate) fn get_route(ip: Ipv6Addr) -> Message {
    let mut m = RouteMessage::default();
    m.header.address_family = AddressFamily::Inet6;
    m.header.destination_prefix_length = 128;
    m.attributes
        .push(RouteAttribute::Destination(IpAddr::V6(ip).into()));
    Message::GetRoute(m)
}

/// Asks for the entry of the routing table by which packets to an address go.
pub(crate) fn get_fib(ip: IpAddr) -> Message {
    let mut m = RouteMessage::default();
    m.header.address_family = family(Family::of(ip));
    m.header.destination_prefix_length = Family::of(ip).bits();
    m.header.flags = RouteFlags::FibMatch;
    m.attributes.push(RouteAttribute::Destination(ip.into()));
    Message::GetRoute(m)
}

/// Asks for the entry of the routing table by which a packet goes that came in by an interface of this index, or that
/// this host makes.
pub(crate) fn get_way(asked: &Asked, came_by: Option<u32>) -> Message {
    let mut m = RouteMessage::default();
    let bits = Family::of(asked.destination).bits();
    m.header.address_family = family(Family::of(asked.destination));
    m.header.destination_prefix_length = bits;
    m.header.flags = RouteFlags::FibMatch;
    let destination = RouteAttribute::Destination(asked.destination.into());
    m.attributes.push(destination);
    if let Some(source) = asked.source {
        m.header.source_prefix_length = bits;
        m.attributes.push(RouteAttribute::Source(source.into()));
    }
    m.attributes.extend(came_by.map(RouteAttribute::Iif));
    Message::GetRoute(m)
}

/// Asks for all routes of a family with a protocol.
pub(crate) fn get_routes_of(of: Family, protocol: u8) -> Message {
    let mut m = RouteMessage::default();
    m.header.address_family = family(of);
    m.header.protocol = RouteProtocol::from(protocol);
    Message::GetRoute(m)
}

/// Deletes a route by key and protocol.
pub(crate) fn delete_route(key: &RouteKey, r: &Route, index_of: IndexOf<'_>) -> (Message, u16) {
    let mut m = route(key, r, index_of);
    m.header.scope = RouteScope::NoWhere;
    // More would only make the kernel compare more, and spare what drifted.
    m.attributes.retain(|a| {
        matches!(
            a,
            RouteAttribute::Table(_) | RouteAttribute::Destination(_) | RouteAttribute::Priority(_)
        )
    });
    m.header.flags = RouteFlags::empty();
    (Message::DelRoute(m), flags::ACK)
}

/// A permanent neighbour, with our protocol.
pub(crate) fn neighbour(index: u32, ip: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = family(Family::of(ip));
    m.header.ifindex = index;
    m.header.state = NeighbourState::Permanent;
    m.header.kind = RouteType::Unicast;
    m.attributes = vec![
        NeighbourAttribute::Destination(ip.into()),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Protocol(RouteProtocol::from(marks::ROUTE_PROTOCOL)),
    ];
    m
}

/// Adds or replaces a permanent neighbour.
pub(crate) fn set_neighbour(index: u32, ip: IpAddr, mac: Mac) -> (Message, u16) {
    (
        Message::NewNeighbour(neighbour(index, ip, mac)),
        flags::REPLACE,
    )
}

/// Deletes a neighbour.
pub(crate) fn delete_neighbour(index: u32, ip: IpAddr, mac: Mac) -> (Message, u16) {
    let mut m = neighbour(index, ip, mac);
    m.attributes.truncate(1);
    (Message::DelNeighbour(m), flags::ACK)
}

fn fdb(index: u32, e: &FdbEntry) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = AddressFamily::Bridge;
    m.header.ifindex = index;
    m.header.state = NeighbourState::Permanent;
    m.header.flags = NeighbourFlags::Own;
    m.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(e.mac.0.to_vec()),
        NeighbourAttribute::Destination(e.dst.into()),
    ];
    m
}

/// Adds or replaces a forwarding entry.
pub(crate) fn set_fdb(index: u32, e: &FdbEntry) -> (Message, u16) {
    (Message::NewNeighbour(fdb(index, e)), flags::REPLACE)
}

/// Deletes a forwarding entry.
pub(crate) fn delete_fdb(index: u32, e: &FdbEntry) -> (Message, u16) {
    (Message::DelNeighbour(fdb(index, e)), flags::ACK)
}
