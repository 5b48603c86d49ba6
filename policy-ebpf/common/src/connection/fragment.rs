//! Fragments of datagrams, which are of the connection that the first one names.

use super::SECOND;
use crate::tables::Address;

/// Key of FRAGMENTS: what the fragments of a datagram have in common (RFC 791 3.2, RFC 8200 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// The interface.
    pub ifindex: u32,
    /// Its identification.
    pub id: u32,
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// IP protocol number; 0 of IPv6, where the first fragment may have more headers.
    pub protocol: u8,
    /// 1 of what the endpoint sends.
    pub outbound: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// Value of FRAGMENTS: what only the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Nanoseconds of the monotonic clock when the first one came.
    pub at: u64,
    /// Port.
    pub source_port: u16,
    /// Port.
    pub destination_port: u16,
    /// Of ICMP.
    pub identifier: u16,
    /// Type and code of ICMP.
    pub icmp: [u8; 2],
    /// The transport.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 7],
}

impl Fragment {
    /// Nanoseconds that receivers wait for the rest (RFC 8200 4.5; RFC 791 3.2 has less).
    pub const PATIENCE: u64 = 60 * SECOND;
}
