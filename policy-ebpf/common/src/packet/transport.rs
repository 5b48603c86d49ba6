//! The headers of transports.

use super::{Bytes, Packet, Version, protocol};
use crate::reason::Reason;

/// What an ICMP message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Asks, and is answered by the type that is named.
    Question,
    /// Answers the question of that type.
    Answer(u8),
    /// Tells about a packet, and quotes it.
    Error,
    /// Neighbour discovery (RFC 4861).
    Neighbour,
    /// Membership of groups (RFC 2710, RFC 3810).
    Membership,
    /// Anything else.
    Other,
}

/// Sorts the types of ICMP and ICMPv6.
#[inline(always)]
pub fn icmp_kind(version: Version, icmp_type: u8) -> IcmpKind {
    match (version, icmp_type) {
        // RFC 792, RFC 950.
        (Version::V4, 8 | 13 | 15 | 17) | (Version::V6, 128) => IcmpKind::Question,
        (Version::V4, 0) => IcmpKind::Answer(8),
        (Version::V4, 14 | 16 | 18) => IcmpKind::Answer(icmp_type - 1),
        (Version::V6, 129) => IcmpKind::Answer(128),
        // RFC 4443 2.1: errors are those below 128.
        (Version::V4, 3 | 4 | 11 | 12) | (Version::V6, 0..=127) => IcmpKind::Error,
        (Version::V6, 133..=137) => IcmpKind::Neighbour,
        (Version::V6, 130..=132 | 143) => IcmpKind::Membership,
        _ => IcmpKind::Other,
    }
}

#[inline(always)]
pub(super) fn header<B: Bytes>(packet: &mut Packet, bytes: &B) -> Result<(), Reason> {
    let at = packet.transport;
    match packet.protocol {
        protocol::TCP => {
            let Some(header) = bytes.load::<20>(at) else {
                return Err(Reason::Malformed);
            };
            ports(packet, [header[0], header[1], header[2], header[3]]);
            packet.flags = header[13];
        }
        protocol::SCTP => {
            let Some(header) = bytes.load::<16>(at) else {
                return Err(Reason::Malformed);
            };
            ports(packet, [header[0], header[1], header[2], header[3]]);
            packet.flags = header[12];
        }
        _ => return quoted_header(packet, bytes),
    }
    Ok(())
}

/// What the first eight bytes have.
#[inline(always)]
pub(super) fn quoted_header<B: Bytes>(packet: &mut Packet, bytes: &B) -> Result<(), Reason> {
    match packet.protocol {
        protocol::TCP
        | protocol::SCTP
        | protocol::UDP
        | protocol::UDP_LITE
        | protocol::ICMP
        | protocol::ICMPV6 => {}
        _ => return Ok(()),
    }
    let Some(header) = bytes.load::<8>(packet.transport) else {
        return Err(Reason::Malformed);
    };
    let first = [header[0], header[1], header[2], header[3]];
    match packet.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            packet.icmp = [header[0], header[1]];
            packet.identifier = u16::from_be_bytes([header[4], header[5]]);
        }
        _ => ports(packet, first),
    }
    Ok(())
}

#[inline(always)]
fn ports(packet: &mut Packet, header: [u8; 4]) {
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
}
