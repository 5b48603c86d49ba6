//! Path attributes as the rest of the crate sees them: a next hop, and a block of attributes in one canonical
//! wire form (4-octet AS numbers, no NEXT_HOP, no MP attributes) that is read in place.

mod builder;
mod edit;
mod view;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use builder::{Attributes, AttributesError};
pub use edit::{Edit, Keep};
pub use model::bgp::LargeCommunity;
pub use view::{AsSegment, AttrView, Tlv, Tlvs};

/// ORIGIN values, from the most to the least preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learnt by EGP.
    Egp,
    /// Anything else.
    Incomplete,
}

impl Origin {
    /// From its number on the wire; an unknown one counts as the worst.
    pub fn from_u8(value: u8) -> Origin {
        match value {
            0 => Origin::Igp,
            1 => Origin::Egp,
            _ => Origin::Incomplete,
        }
    }
}

/// Where packets of a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// A global IPv6 address, perhaps with a link-local one beside it.
    V6 {
        /// The routable address.
        global: Ipv6Addr,
        /// The address on the link that the session uses, where the peer gave it.
        link_local: Option<Ipv6Addr>,
    },
    /// Only a link-local address: it means something on the session's link alone.
    LinkLocal(Ipv6Addr),
}

impl NextHop {
    /// The address to resolve.
    pub fn address(&self) -> IpAddr {
        match self {
            NextHop::V4(ip) => IpAddr::V4(*ip),
            NextHop::V6 { global, .. } => IpAddr::V6(*global),
            NextHop::LinkLocal(ip) => IpAddr::V6(*ip),
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address())
    }
}

/// Type codes (IANA "BGP Path Attributes").
pub mod code {
    #![allow(missing_docs)] // the names are the meaning
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MED: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH: u8 = 14;
    pub const MP_UNREACH: u8 = 15;
    pub const EXT_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Attribute flags (RFC 4271 §4.3).
pub mod flag {
    #![allow(missing_docs)] // the names are the meaning
    pub const OPTIONAL: u8 = 0x80;
    pub const TRANSITIVE: u8 = 0x40;
    pub const PARTIAL: u8 = 0x20;
    pub const EXTENDED: u8 = 0x10;
}

/// Communities with a meaning of their own (RFC 1997, 7999, 8326).
pub mod well_known {
    #![allow(missing_docs)] // the names are the meaning
    pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
    pub const BLACKHOLE: u32 = 0xffff_029a;
    pub const NO_EXPORT: u32 = 0xffff_ff01;
    pub const NO_ADVERTISE: u32 = 0xffff_ff02;
    pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
}
