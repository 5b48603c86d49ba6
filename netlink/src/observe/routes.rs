//! Routes, ours and those that a route of ours could meet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::kernel::{NextHop, Route, RouteKey, RouteTarget};
use model::marks;
use model::{Cidr, Family};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::Names;
use crate::attr::{Attrs, align, ip_of, u16_at, u32_at, u32_of};
use crate::describe::TABLE_MAIN;
use crate::encode::flags;
use crate::lookup::Found;
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, encode};

/// `sizeof(struct rtmsg)`.
const HEADER: usize = 12;
/// `sizeof(struct rtnexthop)`.
const HOP_HEADER: usize = 8;
/// `RTAX_MTU`.
const METRIC_MTU: u16 = 2;
/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;
/// Offset of `rtm_type`.
const KIND: usize = 7;

/// Routes by whose they are.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// With one of our protocols.
    pub(crate) ours: BTreeMap<RouteKey, Route>,
    /// Of others in the main table and in ours, and their protocol.
    pub(crate) aliens: BTreeMap<RouteKey, u8>,
}

/// All routes of both families but those of the local table.
pub(crate) fn routes(socket: &mut Socket, names: &Names) -> Result<Routes, Error> {
    routes_of(socket, names, 0)
}

/// Those out of one interface, unless `oif` is 0.
pub(crate) fn routes_of(socket: &mut Socket, names: &Names, oif: u32) -> Result<Routes, Error> {
    let mut routes = Routes::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut m = RouteMessage::default();
        m.header.address_family = family;
        if oif != 0 {
            m.attributes.push(RouteAttribute::Oif(oif));
        }
        let mut request = Batch::of(&Message::GetRoute(m), flags::DUMP);
        let found = socket
            .dump(&mut request, |_, payload| route(payload, names))
            .map_err(|e| e.during("dump", "routes"))?;
        for found in found {
            match found {
                Sort::Ours(key, route) => {
                    routes.ours.insert(key, route);
                }
                Sort::Alien(key, protocol) => {
                    routes.aliens.entry(key).or_insert(protocol);
                }
            }
        }
    }
    Ok(routes)
}

/// The routes that BGP learnt, of both families. The kernel picks them out where it can (Linux 4.20).
pub(crate) fn learnt(
    socket: &mut Socket,
    names: &Names,
) -> Result<Vec<(RouteKey, RouteTarget)>, Error> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let wanted = encode::get_routes_of(family, marks::BGP_ROUTE_PROTOCOL);
        let mut request = Batch::of(&wanted, flags::DUMP);
        let found = socket.dump(&mut request, |_, payload| {
            let &[_, _, src_len, tos, _, protocol, _, kind] = payload.first_chunk()?;
            if protocol != marks::BGP_ROUTE_PROTOCOL || src_len != 0 || tos != 0 {
                return None;
            }
            let attrs = Attributes::read(payload)?;
            Some((key(payload, &attrs)?, target(kind, &attrs, names)?))
        });
        all.extend(found.map_err(|e| e.during("dump", "learnt routes"))?);
    }
    Ok(all)
}

/// The answer to "which way do packets go": protocol and hops; `None` inside when they go to nobody else.
pub(crate) fn resolved(payload: &[u8], names: &Names) -> Option<Option<(u8, RouteTarget)>> {
    let &[_, _, _, _, _, protocol, _, kind] = payload.first_chunk()?;
    let attrs = Attributes::read(payload)?;
    Some(match i32::from(kind) == i32::from(libc::RTN_UNICAST) {
        true => target(kind, &attrs, names).map(|target| (protocol, target)),
        false => None,
    })
}

/// The entry of the routing table that a packet goes by.
pub(crate) fn matched(payload: &[u8], names: &Names) -> Option<Found> {
    let &[_, _, _, _, _, protocol, _, kind] = payload.first_chunk()?;
    let attrs = Attributes::read(payload)?;
    Some(match kind {
        libc::RTN_LOCAL => Found::Local,
        libc::RTN_BLACKHOLE => Found::Blackhole,
        libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT => Found::Unreachable,
        _ => match (key(payload, &attrs), target(kind, &attrs, names)) {
            (Some(key), Some(target)) => {
                let route = Route {
                    protocol,
                    target,
                    src: attrs.src,
                    mtu: attrs.mtu,
                };
                Found::Route(key, route)
            }
            _ => Found::Other,
        },
    })
}

/// Whether packets to an address are for this namespace itself.
pub(crate) fn is_local(socket: &mut Socket, ip: Ipv6Addr) -> Result<bool, Error> {
    let answer = socket.get(&mut Batch::of(&encode::get_route(ip), 0), |_, payload| {
        payload.get(KIND).copied()
    });
    match answer {
        Ok(kind) => Ok(kind == Some(libc::RTN_LOCAL)),
        // No way there at all.
        Err(Refusal {
            errno: libc::ENETUNREACH | libc::EHOSTUNREACH,
            ..
        }) => Ok(false),
        Err(e) => Err(e.during("get", format!("route to {ip}"))),
    }
}

enum Sort {
    Ours(RouteKey, Route),
    Alien(RouteKey, u8),
}

/// Reads a route, if it is of interest. The header says that of most, before anything is decoded.
fn route(payload: &[u8], names: &Names) -> Option<Sort> {
    let &[_, _, src_len, tos, table, protocol, _, kind] = payload.first_chunk()?;
    // What BGP learnt is `LearntRoutes`' to look after, and there may be a million of them.
    if table == libc::RT_TABLE_LOCAL || protocol == marks::BGP_ROUTE_PROTOCOL {
        return None;
    }
    let attrs = Attributes::read(payload)?;
    let key = key(payload, &attrs)?;
    // What we never make is not ours, whatever number it carries: source routes, TOS, other types.
    let ordinary = src_len == 0 && tos == 0 && protocol == marks::ROUTE_PROTOCOL;
    match ordinary.then(|| target(kind, &attrs, names)).flatten() {
        Some(target) => {
            let route = Route {
                protocol,
                target,
                src: attrs.src,
                mtu: attrs.mtu,
            };
            Some(Sort::Ours(key, route))
        }
        None => {
            let near = key.table == TABLE_MAIN
                || (marks::TABLE_FIRST..=marks::TABLE_LAST).contains(&key.table)
                || protocol == marks::ROUTE_PROTOCOL;
            (near && tos == 0 && src_len == 0).then_some(Sort::Alien(key, protocol))
        }
    }
}

fn key(payload: &[u8], attrs: &Attributes<'_>) -> Option<RouteKey> {
    let &[family, dst_len, _, _, table] = payload.first_chunk()?;
    let unspecified = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    Some(RouteKey {
        table: attrs.table.unwrap_or(u32::from(table)),
        dst: Cidr::containing(attrs.dst.unwrap_or(unspecified), dst_len)?,
        metric: attrs.metric,
    })
}

#[derive(Default)]
struct Attributes<'a> {
    table: Option<u32>,
    dst: Option<IpAddr>,
    metric: u32,
    src: Option<IpAddr>,
    mtu: Option<u32>,
    oif: Option<u32>,
    via: Option<IpAddr>,
    onlink: bool,
    hops: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    fn read(payload: &'a [u8]) -> Option<Attributes<'a>> {
        let mut a = Attributes {
            onlink: u32_at(payload, 8)? & u32::from(ONLINK) != 0,
            ..Attributes::default()
        };
        for (kind, value) in Attrs::after(payload, HEADER) {
            match kind {
                libc::RTA_TABLE => a.table = u32_of(value),
                libc::RTA_DST => a.dst = ip_of(value),
                libc::RTA_PRIORITY => a.metric = u32_of(value)?,
                libc::RTA_PREFSRC => a.src = ip_of(value),
                libc::RTA_OIF => a.oif = u32_of(value),
                libc::RTA_METRICS => a.mtu = Attrs::new(value).find(METRIC_MTU).and_then(u32_of),
                libc::RTA_MULTIPATH => a.hops = Some(value),
                _ => a.via = gateway(kind, value).or(a.via),
            }
        }
        Some(a)
    }
}

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        libc::RTA_GATEWAY => ip_of(value),
        // Two bytes of family first.
        libc::RTA_VIA => ip_of(value.get(2..)?),
        _ => None,
    }
}

fn target(kind: u8, a: &Attributes<'_>, names: &Names) -> Option<RouteTarget> {
    match kind {
        libc::RTN_BLACKHOLE => Some(RouteTarget::Blackhole),
        libc::RTN_UNREACHABLE => Some(RouteTarget::Unreachable),
        libc::RTN_UNICAST => match a.hops {
            None => {
                let dev = *names.get(&a.oif?)?;
                Some(RouteTarget::Hop(NextHop {
                    via: a.via,
                    dev,
                    onlink: a.onlink,
                }))
            }
            Some(bytes) => {
                let mut hops = multipath(bytes, names)?;
                hops.sort_unstable();
                Some(RouteTarget::Multipath(hops))
            }
        },
        _ => None,
    }
}

fn multipath(mut bytes: &[u8], names: &Names) -> Option<Vec<NextHop>> {
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let len = usize::from(u16_at(bytes, 0)?);
        let hop = bytes.get(..len).filter(|_| len >= HOP_HEADER)?;
        let via = Attrs::after(hop, HOP_HEADER).find_map(|(kind, value)| gateway(kind, value));
        hops.push(NextHop {
            via,
            dev: *names.get(&u32_at(hop, 4)?)?,
            onlink: hop.get(2)? & ONLINK != 0,
        });
        bytes = bytes.get(align(len)..).unwrap_or_default();
    }
    Some(hops)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_route_or_none(
            mut bytes in prop::collection::vec(any::<u8>(), 12..200), family in any::<bool>()
        ) {
            bytes[0] = if family { 2 } else { 10 };
            let names = Names::from([(1, "lo".parse().unwrap())]);
            let _ = route(&bytes, &names);
            let _ = multipath(&bytes, &names);
            let _ = matched(&bytes, &names);
        }
    }
}
