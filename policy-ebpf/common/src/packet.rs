//! What a packet says about itself, as far as policy looks.
//!
//! ```text
//!  Bytes ──ip::header──► addresses, protocol, fragment ──transport::header──► ports, flags, ICMP
//! ```
//!
//! Everything here comes from a workload that may mean harm. Each read is checked by whoever
//! holds the bytes, and what is cut off is an error.

mod forward;
mod ip;
mod transport;

pub use forward::{HEAD, forward};
pub use transport::{IcmpKind, icmp_kind};

use crate::reason::Reason;
use crate::tables::Address;

/// Bytes of an Ethernet header.
pub const ETHERNET: u32 = 14;

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Flags of TCP (RFC 9293 3.1).
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Begins a connection.
    pub const SYN: u8 = 2;
    /// Ends it at once.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}

/// Chunks of SCTP (RFC 9260 3.2).
pub mod sctp {
    /// Begins an association.
    pub const INIT: u8 = 1;
    /// Ends it at once.
    pub const ABORT: u8 = 6;
    /// Ends it.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The bytes of a frame, wherever they are.
pub trait Bytes {
    /// Some bytes from a place on; `None` where the frame does not have them all.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;

    /// Some words from a place on, each as the machine would find it in memory. `None` also where the bytes are
    /// there and would be dear: [`Bytes::load`] has them.
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let (mut words, mut at) = ([0; N], at);
        for word in &mut words {
            *word = u32::from_ne_bytes(self.load::<4>(at)?);
            at += 4;
        }
        Some(words)
    }
}

/// Version of IP.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Which piece of a datagram this is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Piece {
    /// All of it.
    #[default]
    Whole = 0,
    /// The one with the header of the transport.
    First = 1,
    /// One of the others.
    Later = 2,
}

/// The headers of a packet. What a protocol does not have is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Where it says that it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Where the header of the transport is in the frame.
    pub transport: u32,
    /// What its fragments have in common.
    pub fragment_id: u32,
    /// Port.
    pub source_port: u16,
    /// Port.
    pub destination_port: u16,
    /// Of questions and answers of ICMP.
    pub identifier: u16,
    /// Type and code of ICMP and ICMPv6.
    pub icmp: [u8; 2],
    /// The transport.
    pub protocol: u8,
    /// TCP's flags, or the type of SCTP's first chunk.
    pub flags: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Which piece, as [`Piece`].
    pub piece: u8,
}

impl Packet {
    /// Reads a packet whose IP header begins at `at`.
    ///
    /// # Errors
    /// Why it must not pass.
    #[inline(always)]
    pub fn read<B: Bytes>(&mut self, bytes: &B, at: u32, version: Version) -> Result<(), Reason> {
        ip::header(self, bytes, at, version)?;
        if self.piece == Piece::Later as u8 {
            return Ok(());
        }
        transport::header(self, bytes)
    }

    /// Reads the packet that an ICMP error is about: its beginning, of which eight bytes of the transport
    /// are there at least (RFC 792).
    ///
    /// # Errors
    /// Why it must not pass.
    #[inline(always)]
    pub fn read_quoted<B: Bytes>(
        &mut self,
        bytes: &B,
        at: u32,
        version: Version,
    ) -> Result<(), Reason> {
        ip::header(self, bytes, at, version)?;
        if self.piece == Piece::Later as u8 {
            return Err(Reason::UnrelatedError);
        }
        transport::quoted_header(self, bytes)
    }

    /// Whether it is ICMP of its own version; of the other one it is a protocol like any.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        match self.version() {
            Version::V4 => self.protocol == protocol::ICMP,
            Version::V6 => self.protocol == protocol::ICMPV6,
        }
    }

    /// Whether type and code stand in the place of ports, be it ICMP of its own version or not.
    #[inline(always)]
    pub fn has_icmp_header(&self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }

    /// What it does, if it is ICMP.
    #[inline(always)]
    pub fn icmp_kind(&self) -> Option<IcmpKind> {
        match self.is_icmp() {
            true => Some(icmp_kind(self.version(), self.icmp[0])),
            false => None,
        }
    }

    /// Whether its transport has ports.
    #[inline(always)]
    pub fn has_ports(&self) -> bool {
        self.has_handshake() || matches!(self.protocol, protocol::UDP | protocol::UDP_LITE)
    }

    /// Whether its transport says at once when a connection begins.
    #[inline(always)]
    pub fn has_handshake(&self) -> bool {
        matches!(self.protocol, protocol::TCP | protocol::SCTP)
    }

    /// Whether it may begin a connection.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        let tcp_says = self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN);
        match self.protocol {
            protocol::TCP => tcp_says == tcp::SYN,
            protocol::SCTP => self.flags == sctp::INIT,
            _ => !matches!(self.icmp_kind(), Some(IcmpKind::Answer(_))),
        }
    }

    /// Protocol and flags.
    #[inline(always)]
    pub fn says(&self) -> (u8, u8) {
        (self.protocol, self.flags)
    }

    /// Which version it is.
    #[inline(always)]
    pub fn version(&self) -> Version {
        match is_mapped(&self.source) {
            true => Version::V4,
            false => Version::V6,
        }
    }
}

/// Ten zeros and two bytes of ones (RFC 4291 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An IPv4 address as an [`Address`].
#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> Address {
    let mut address = [0; 16];
    address[..12].copy_from_slice(&MAPPED);
    address[12..].copy_from_slice(&v4);
    address
}

/// Whether an address is one of IPv4.
#[inline(always)]
pub fn is_mapped(address: &Address) -> bool {
    address[..12] == MAPPED
}
