//! Kernel objects as plain data: what calculation wants, what observation found, what a plan does.
//!
//! Interfaces are named, never numbered: an index is only known to the kernel that gave it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Cidr;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write six hexadecimal pairs, such as 02:00:00:00:00:01")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(s: &str) -> Result<Mac, MacError> {
        let bad = || MacError(s.to_owned());
        let mut mac = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        parts.next().is_none().then_some(Mac(mac)).ok_or_else(bad)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Mac, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Name of a network interface, 1 to 15 bytes, kept inline so that 10,000 routes share no heap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName {
    bytes: [u8; 15],
    len: u8,
}

/// The text cannot name an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an interface: 1 to 15 bytes without '/', ':' and white space")]
pub struct LinkNameError(String);

impl LinkName {
    /// A name of full length, known to be valid: lower-case letters and digits.
    pub(crate) const fn full(bytes: [u8; 15]) -> LinkName {
        LinkName { bytes, len: 15 }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only built from `str`, so always UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(s: &str) -> Result<LinkName, LinkNameError> {
        // The rules of dev_valid_name() in the kernel.
        let bad = s.is_empty()
            || s == "."
            || s == ".."
            || s.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
        let mut bytes = [0; 15];
        match (bad, bytes.get_mut(..s.len()), u8::try_from(s.len())) {
            (false, Some(slot), Ok(len)) => {
                slot.copy_from_slice(s.as_bytes());
                Ok(LinkName { bytes, len })
            }
            _ => Err(LinkNameError(s.to_owned())),
        }
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for LinkName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LinkName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<LinkName, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An interface as observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Name.
    pub name: LinkName,
    /// Kernel index.
    pub index: u32,
    /// Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has carrier.
    pub running: bool,
    /// Kind and its settings.
    pub kind: LinkKind,
    /// Addresses with the prefix length of their subnet, in the kernel's order.
    pub addresses: Vec<Address>,
}

/// What sort of interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkKind {
    /// Loopback.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A VXLAN device.
    Vxlan(VxlanSettings),
    /// Another kind by its `rtnl_link` name; empty for hardware.
    Other(String),
}

/// What cannot be changed on a VXLAN device without making it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VxlanSettings {
    /// Network identifier.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Outer source address.
    pub local: IpAddr,
    /// Learning of source addresses; ours never learn.
    pub learning: bool,
}

/// A VXLAN device as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vxlan {
    /// Name.
    pub name: LinkName,
    /// Settings fixed at creation.
    pub settings: VxlanSettings,
    /// Underlay interface that the outer packets leave by.
    pub parent: LinkName,
    /// Ethernet address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
}

/// The device of the encrypted tunnel as far as links go: who makes and keys it is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelLink {
    /// Name.
    pub name: LinkName,
    /// MTU in bytes.
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Address {
    /// Address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

/// What makes two routes the same to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RouteKey {
    /// Routing table; 254 is main.
    pub table: u32,
    /// Destination.
    pub dst: Cidr,
    /// Priority; lower wins. The kernel turns an IPv6 0 into 1024, so wanted IPv6 routes say 1024.
    pub metric: u32,
}

/// A route without its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// `rtm_protocol`: whose it is.
    pub protocol: u8,
    /// Where packets go.
    pub target: RouteTarget,
    /// Preferred source of locally made packets.
    pub src: Option<IpAddr>,
    /// MTU of the path, bytes.
    pub mtu: Option<u32>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteTarget {
    /// Out of one interface.
    Hop(NextHop),
    /// Spread over several, sorted.
    Multipath(Vec<NextHop>),
    /// Dropped silently.
    Blackhole,
    /// Answered with ICMP unreachable.
    Unreachable,
}

/// One next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NextHop {
    /// Gateway; none for what is on the link. May be of the other family (RFC 8950).
    pub via: Option<IpAddr>,
    /// Interface.
    pub dev: LinkName,
    /// The gateway is on the link though no address of it says so.
    pub onlink: bool,
}

/// A permanent neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Neighbour {
    /// Interface.
    pub dev: LinkName,
    /// Address.
    pub ip: IpAddr,
    /// Where it is.
    pub mac: Mac,
}

/// A forwarding entry of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FdbEntry {
    /// The VXLAN device.
    pub dev: LinkName,
    /// Inner destination.
    pub mac: Mac,
    /// Underlay address of the node it lives on.
    pub dst: IpAddr,
}

/// Our nftables table: masquerade, and nothing else.
///
/// A packet from `sources` to anything outside `exempt` leaves with the address of the interface it leaves by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Nat {
    /// Pools with `natOutgoing`.
    pub sources: BTreeSet<Cidr>,
    /// All pools.
    pub exempt: BTreeSet<Cidr>,
}

/// The nftables table that watches over what leaves in clear: packets from a pool to a pool that leave this
/// host by anything but the encrypted tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// All pools.
    pub pools: BTreeSet<Cidr>,
    /// Interfaces of workloads that are not named as ours are.
    pub inside: BTreeSet<LinkName>,
    /// Whether such packets are dropped; else they are counted.
    pub drop: bool,
}

/// What a [`Guard`] has seen since it stands, or since it drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClearText {
    /// Bytes that left in clear.
    pub left: u64,
    /// Bytes that would have, and were dropped.
    pub dropped: u64,
}

/// Everything of ours in the kernel, as wanted or as found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelState {
    /// VXLAN devices.
    pub vxlan: BTreeMap<LinkName, Vxlan>,
    /// The device of the encrypted tunnel: it must be up; the tunnel stage makes it.
    pub tunnel: Option<TunnelLink>,
    /// Host sides of workload links: each must be up; the CNI path makes them.
    pub workload_links: BTreeSet<LinkName>,
    /// Addresses of our interfaces.
    pub addresses: BTreeSet<(LinkName, Address)>,
    /// Routes with one of our protocols.
    #[serde(serialize_with = "pairs")]
    pub routes: BTreeMap<RouteKey, Route>,
    /// Permanent neighbours on our interfaces.
    pub neighbours: BTreeSet<Neighbour>,
    /// Forwarding entries of our VXLAN devices.
    pub fdb: BTreeSet<FdbEntry>,
    /// Masquerade; `None` when there is no table.
    pub nat: Option<Nat>,
    /// Watch over what leaves in clear; `None` when there is no table.
    pub guard: Option<Guard>,
    /// Kernel switches: path below `/proc/sys` to value.
    pub sysctls: BTreeMap<String, String>,
}

/// JSON has no structured keys: a map becomes a list of pairs.
fn pairs<S: Serializer, K: Serialize, V: Serialize>(
    map: &BTreeMap<K, V>,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.collect_seq(map.iter())
}

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every interface of the host, ours and others.
    pub links: BTreeMap<LinkName, Link>,
    /// What is ours.
    pub ours: KernelState,
    /// Keys of routes that are not ours, and their protocol: never to be replaced.
    pub alien_routes: BTreeMap<RouteKey, u8>,
}

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    /// Make a VXLAN device, up.
    CreateVxlan(Vxlan),
    /// Change MTU of a link of ours.
    SetMtu(LinkName, u32),
    /// Change the Ethernet address of a link of ours.
    SetMac(LinkName, Mac),
    /// Set a link of ours up.
    SetUp(LinkName),
    /// Delete a link of ours.
    DeleteLink(LinkName),
    /// Add an address.
    AddAddress(LinkName, Address),
    /// Delete an address.
    DeleteAddress(LinkName, Address),
    /// Add a route; fails when one with this key exists.
    AddRoute(RouteKey, Route),
    /// Replace a route that is known to be ours.
    ReplaceRoute(RouteKey, Route),
    /// Delete a route, by key and protocol.
    DeleteRoute(RouteKey, Route),
    /// Add or replace a permanent neighbour.
    SetNeighbour(Neighbour),
    /// Delete a neighbour.
    DeleteNeighbour(Neighbour),
    /// Add or replace a forwarding entry.
    SetFdb(FdbEntry),
    /// Delete a forwarding entry.
    DeleteFdb(FdbEntry),
    /// Replace our nftables table atomically.
    SetNat(Nat),
    /// Delete our nftables table.
    DeleteNat,
    /// Replace our nftables table of that kind atomically; what it has counted stands.
    SetGuard(Guard),
    /// Delete it.
    DeleteGuard,
    /// Write a kernel switch: path below `/proc/sys`, value.
    SetSysctl(String, String),
}
