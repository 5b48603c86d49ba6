//! Links and their addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use model::kernel::{Address, Link, LinkKind, VxlanSettings};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use crate::attr::{Attrs, ip_of, mac_of, text_of, u16_at, u32_at, u32_of};
use crate::encode::{self, flags};
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal};

/// `sizeof(struct ifinfomsg)`.
const LINK_HEADER: usize = 16;
/// `sizeof(struct ifaddrmsg)`.
const ADDRESS_HEADER: usize = 8;
/// `IFA_PROTO`.
const IFA_PROTO: u16 = 11;
const ARPHRD_LOOPBACK: u16 = 772;

mod vxlan {
    //! `IFLA_VXLAN_*`.
    pub(super) const ID: u16 = 1;
    pub(super) const LOCAL: u16 = 4;
    pub(super) const LEARNING: u16 = 7;
    pub(super) const PORT: u16 = 15;
    pub(super) const LOCAL6: u16 = 17;
    pub(super) const LINK: u16 = 3;
}

/// A link, and what [`Link`] has no place for.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The link.
    pub(crate) link: Link,
    /// Index of the interface that a VXLAN device sends by.
    pub(crate) parent: Option<u32>,
    /// Index of the other end of a veth pair, in its own namespace.
    pub(crate) peer: Option<u32>,
    /// The other end is in another namespace: our number for that.
    pub(crate) peer_namespace: Option<i32>,
    /// The addresses that say whose they are: the kernel's protocol number of each.
    pub(crate) protocols: Vec<(Address, u8)>,
    /// It passes packets: the kernel has not only seen a carrier but acted on it (RFC 2863).
    pub(crate) operational: bool,
}

/// All links with their addresses.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Found>, Error> {
    let mut m = LinkMessage::default();
    m.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut request = Batch::of(&Message::GetLink(m), flags::DUMP);
    let mut found = socket
        .dump(&mut request, |header, payload| {
            (header.kind == libc::RTM_NEWLINK).then(|| link(payload))?
        })
        .map_err(|e| e.during("dump", "links"))?;
    let mut by_index: BTreeMap<u32, Vec<OnLink>> = BTreeMap::new();
    for on in addresses(socket, 0)? {
        by_index.entry(on.index).or_default().push(on);
    }
    for f in &mut found {
        let on = by_index.remove(&f.link.index).unwrap_or_default();
        f.link.addresses = on.iter().map(|on| on.address).collect();
        let protocols = on.iter().filter_map(|on| Some((on.address, on.protocol?)));
        f.protocols = protocols.collect();
    }
    Ok(found)
}

/// One link, without addresses; `None` when there is none.
pub(crate) fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Found>, Error> {
    let mut request = Batch::of(&encode::get_link(name), 0);
    match socket.get(&mut request, |_, payload| link(payload)) {
        Err(Refusal {
            errno: libc::ENODEV,
            ..
        }) => Ok(None),
        answer => answer.map_err(|e| e.during("get", format!("link {name}"))),
    }
}

/// An address and where it is.
pub(crate) struct OnLink {
    index: u32,
    pub(crate) address: Address,
    /// Who made it; the kernel knows that since Linux 5.18.
    protocol: Option<u8>,
}

/// All addresses, or those of one link when `index` is not 0.
pub(crate) fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<OnLink>, Error> {
    let mut m = AddressMessage::default();
    m.header.index = index;
    let mut request = Batch::of(&Message::GetAddress(m), flags::DUMP);
    socket
        .dump(&mut request, |_, payload| address(payload))
        .map_err(|e| e.during("dump", "addresses"))
}

/// Reads a link.
pub(crate) fn link(payload: &[u8]) -> Option<Found> {
    let (device_type, index) = (u16_at(payload, 2)?, u32_at(payload, 4)?);
    let state = u32_at(payload, 8)?.cast_signed();
    let attrs = Attrs::after(payload, LINK_HEADER);
    let info = Attrs::new(attrs.find(libc::IFLA_LINKINFO).unwrap_or_default());
    let data = Attrs::new(info.find(libc::IFLA_INFO_DATA).unwrap_or_default());
    let kind = match info.find(libc::IFLA_INFO_KIND).and_then(text_of) {
        None if device_type == ARPHRD_LOOPBACK => LinkKind::Loopback,
        None => LinkKind::Other(String::new()),
        Some("veth") => LinkKind::Veth,
        Some("vxlan") => LinkKind::Vxlan(vxlan_settings(data)),
        Some(other) => LinkKind::Other(other.to_owned()),
    };
    let is_vxlan = matches!(kind, LinkKind::Vxlan(_));
    let link = Link {
        name: attrs
            .find(libc::IFLA_IFNAME)
            .and_then(text_of)?
            .parse()
            .ok()?,
        index,
        mac: attrs.find(libc::IFLA_ADDRESS).and_then(mac_of),
        mtu: attrs.find(libc::IFLA_MTU).and_then(u32_of).unwrap_or(0),
        up: state & libc::IFF_UP != 0,
        running: state & libc::IFF_LOWER_UP != 0,
        kind,
        addresses: Vec::new(),
    };
    Some(Found {
        link,
        parent: is_vxlan
            .then(|| data.find(vxlan::LINK).and_then(u32_of))
            .flatten(),
        peer: attrs.find(libc::IFLA_LINK).and_then(u32_of),
        peer_namespace: attrs
            .find(libc::IFLA_LINK_NETNSID)
            .and_then(u32_of)
            .map(u32::cast_signed),
        protocols: Vec::new(),
        operational: state & libc::IFF_RUNNING != 0,
    })
}

fn vxlan_settings(data: Attrs<'_>) -> VxlanSettings {
    let port = data
        .find(vxlan::PORT)
        .and_then(|v| v.first_chunk().copied());
    let local = data.find(vxlan::LOCAL).or_else(|| data.find(vxlan::LOCAL6));
    VxlanSettings {
        vni: data.find(vxlan::ID).and_then(u32_of).unwrap_or(0),
        port: port.map_or(0, u16::from_be_bytes),
        local: local
            .and_then(ip_of)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        learning: data.find(vxlan::LEARNING).is_some_and(|v| v != [0]),
    }
}

fn address(payload: &[u8]) -> Option<OnLink> {
    let (prefix, index) = (*payload.get(1)?, u32_at(payload, 4)?);
    let attrs = Attrs::after(payload, ADDRESS_HEADER);
    // IFA_ADDRESS is the other side where there is one.
    let ip = attrs
        .find(libc::IFA_LOCAL)
        .or_else(|| attrs.find(libc::IFA_ADDRESS))?;
    let protocol = attrs.find(IFA_PROTO).and_then(|v| v.first().copied());
    Some(OnLink {
        index,
        address: Address {
            ip: ip_of(ip)?,
            prefix,
        },
        protocol,
    })
}
