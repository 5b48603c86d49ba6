//! Learnt routes as requests, written byte by byte: a full table is a million of them.

use std::net::IpAddr;

use model::marks;
use model::{Cidr, Family};

use super::resolve::Hop;
use crate::attr::{align, put};
use crate::describe::TABLE_MAIN;
use crate::encode::flags;
use crate::socket::Batch;

/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;
/// `sizeof(struct rtnexthop)`.
const HOP_HEADER: usize = 8;

fn family(family: Family) -> u8 {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    u8::try_from(number).unwrap_or_default()
}

/// `struct rtmsg` and the key.
fn head(out: &mut Vec<u8>, prefix: &Cidr, scope: u8, hop_flags: u8) {
    let table = u8::try_from(TABLE_MAIN).unwrap_or_default();
    out.extend([family(prefix.family()), prefix.prefix_len(), 0, 0]);
    out.extend([table, marks::BGP_ROUTE_PROTOCOL, scope, libc::RTN_UNICAST]);
    out.extend(u32::from(hop_flags).to_ne_bytes());
    if prefix.prefix_len() > 0 {
        put_ip(out, libc::RTA_DST, prefix.network());
    }
    put(out, libc::RTA_PRIORITY, &marks::BGP_METRIC.to_ne_bytes());
}

fn put_ip(out: &mut Vec<u8>, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => put(out, kind, &ip.octets()),
        IpAddr::V6(ip) => put(out, kind, &ip.octets()),
    }
}

fn put_gateway(out: &mut Vec<u8>, prefix: &Cidr, hop: &Hop) {
    match hop.hop.via {
        Some(via) if Family::of(via) == prefix.family() => put_ip(out, libc::RTA_GATEWAY, via),
        // A gateway of the other family (RFC 8950): its family goes before it.
        Some(via) => {
            let mut value = u16::from(family(Family::of(via))).to_ne_bytes().to_vec();
            match via {
                IpAddr::V4(ip) => value.extend(ip.octets()),
                IpAddr::V6(ip) => value.extend(ip.octets()),
            }
            put(out, libc::RTA_VIA, &value);
        }
        None => {}
    }
}

fn hop_flags(hop: &Hop) -> u8 {
    if hop.hop.onlink { ONLINK } else { 0 }
}

/// Adds or, where one `stands`, replaces.
pub(super) fn write(batch: &mut Batch, prefix: &Cidr, hops: &[Hop], stands: bool) {
    // Without the answer that all went well; see `Socket::send_quietly`.
    let flags = !flags::ACK
        & match stands {
            true => flags::REPLACE,
            false => flags::ADD,
        };
    batch.push_raw(libc::RTM_NEWROUTE, flags, |out| match hops {
        [hop] => {
            head(out, prefix, libc::RT_SCOPE_UNIVERSE, hop_flags(hop));
            put(out, libc::RTA_OIF, &hop.index.to_ne_bytes());
            put_gateway(out, prefix, hop);
        }
        several => {
            head(out, prefix, libc::RT_SCOPE_UNIVERSE, 0);
            let mut nest = Vec::new();
            for hop in several {
                let start = nest.len();
                nest.extend([0, 0, hop_flags(hop), 0]);
                nest.extend(hop.index.to_ne_bytes());
                put_gateway(&mut nest, prefix, hop);
                let len = u16::try_from(nest.len() - start).unwrap_or_default();
                if let Some(room) = nest.get_mut(start..start + 2) {
                    room.copy_from_slice(&len.to_ne_bytes());
                }
                debug_assert_eq!(align(HOP_HEADER), HOP_HEADER);
            }
            put(out, libc::RTA_MULTIPATH, &nest);
        }
    });
}

/// Deletes, by key and protocol.
pub(super) fn delete(batch: &mut Batch, prefix: &Cidr) {
    batch.push_raw(libc::RTM_DELROUTE, 0, |out| {
        head(out, prefix, libc::RT_SCOPE_NOWHERE, 0);
    });
}
