//! Neighbours and forwarding entries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::kernel::{FdbEntry, LinkName, Mac, Neighbour};
use model::marks;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::Names;
use crate::Error;
use crate::attr::{Attrs, ip_of, mac_of, u16_at, u32_at};
use crate::encode::flags;
use crate::socket::{Batch, Socket};

/// `sizeof(struct ndmsg)`.
const HEADER: usize = 12;
/// `NDA_PROTOCOL`.
const PROTOCOL: u16 = 12;

/// A permanent entry of the neighbour table or a forwarding table.
struct Entry {
    index: u32,
    ip: Option<IpAddr>,
    mac: Mac,
    protocol: u8,
}

/// Permanent neighbours on our interfaces, and on others those with our protocol; of one
/// interface when `index` is not 0.
pub(crate) fn neighbours(
    socket: &mut Socket,
    names: &Names,
    index: u32,
) -> Result<BTreeSet<Neighbour>, Error> {
    let mut m = NeighbourMessage::default();
    if index != 0 {
        m.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let mut request = Batch::of(&Message::GetNeighbour(m), flags::DUMP);
    let found = socket
        .dump(&mut request, |_, payload| {
            let e = entry(payload)?;
            let dev = *names.get(&e.index)?;
            let ours = e.protocol == marks::ROUTE_PROTOCOL || marks::is_our_link(dev.as_str());
            ours.then_some(Neighbour {
                dev,
                ip: e.ip?,
                mac: e.mac,
            })
        })
        .map_err(|e| e.during("dump", "neighbours"))?;
    Ok(found.into_iter().collect())
}

/// Permanent forwarding entries of a VXLAN device.
pub(crate) fn fdb(
    socket: &mut Socket,
    index: u32,
    dev: LinkName,
) -> Result<BTreeSet<FdbEntry>, Error> {
    let mut m = NeighbourMessage::default();
    m.header.family = AddressFamily::Bridge;
    m.attributes.push(NeighbourAttribute::IfIndex(index));
    let mut request = Batch::of(&Message::GetNeighbour(m), flags::DUMP);
    let found = socket
        .dump(&mut request, |_, payload| {
            let e = entry(payload).filter(|e| e.index == index)?;
            Some(FdbEntry {
                dev,
                mac: e.mac,
                dst: e.ip?,
            })
        })
        .map_err(|e| e.during("dump", format!("forwarding entries of {dev}")))?;
    Ok(found.into_iter().collect())
}

fn entry(payload: &[u8]) -> Option<Entry> {
    let state = u16_at(payload, 8)?;
    if state & libc::NUD_PERMANENT == 0 {
        return None;
    }
    let attrs = Attrs::after(payload, HEADER);
    Some(Entry {
        index: u32_at(payload, 4)?,
        ip: attrs.find(libc::NDA_DST).and_then(ip_of),
        mac: attrs.find(libc::NDA_LLADDR).and_then(mac_of)?,
        protocol: attrs
            .find(PROTOCOL)
            .and_then(|v| v.first().copied())
            .unwrap_or(0),
    })
}
