//! The headers of IPv4 and IPv6, to where the transport begins.

use super::{Bytes, Packet, Piece, Version, mapped, protocol};
use crate::reason::Reason;

/// Most IPv6 extension headers that are walked; RFC 8200 4.1 has seven in all, and nobody sends them all.
const MAX_EXTENSIONS: usize = 6;

/// Extension headers of IPv6 (RFC 8200 4, RFC 4302, RFC 6275, RFC 7401, RFC 5533).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// The lowest offset, in units of eight bytes, of a later fragment of TCP: those below
/// would write over flags that have been judged (RFC 1858 3).
const TCP_OFFSET: u16 = 3;

#[inline(always)]
pub(super) fn header<B: Bytes>(
    packet: &mut Packet,
    bytes: &B,
    at: u32,
    version: Version,
) -> Result<(), Reason> {
    // What the last packet left.
    packet.source_port = 0;
    packet.destination_port = 0;
    packet.identifier = 0;
    packet.icmp = [0; 2];
    packet.flags = 0;
    packet.fragment_id = 0;
    packet.piece = Piece::Whole as u8;
    match version {
        Version::V4 => v4(packet, bytes, at),
        Version::V6 => v6(packet, bytes, at),
    }
}

#[inline(always)]
fn v4<B: Bytes>(packet: &mut Packet, bytes: &B, at: u32) -> Result<(), Reason> {
    let Some(header) = bytes.load::<20>(at) else {
        return Err(Reason::Malformed);
    };
    let length = u32::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return Err(Reason::Malformed);
    }
    packet.hop_limit = header[8];
    packet.protocol = header[9];
    packet.source = mapped([header[12], header[13], header[14], header[15]]);
    packet.destination = mapped([header[16], header[17], header[18], header[19]]);
    packet.transport = at + length;
    // RFC 791 3.1: reserved, don't fragment, more fragments, offset.
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    packet.fragment_id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    piece(packet, fragment & 0x1fff, fragment & 0x2000 != 0)
}

#[inline(always)]
fn v6<B: Bytes>(packet: &mut Packet, bytes: &B, at: u32) -> Result<(), Reason> {
    let Some(header) = bytes.load::<40>(at) else {
        return Err(Reason::Malformed);
    };
    if header[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    packet.hop_limit = header[7];
    packet.source.copy_from_slice(&header[8..24]);
    packet.destination.copy_from_slice(&header[24..40]);
    packet.protocol = header[6];
    packet.transport = at + 40;
    for _ in 0..MAX_EXTENSIONS {
        if !extension(packet, bytes)? {
            return Ok(());
        }
    }
    // One more look: the last that was walked may have been the last there is.
    match is_extension(packet.protocol) {
        true => Err(Reason::ExtensionHeaders),
        false => Ok(()),
    }
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    use extension::{
        AUTHENTICATION, DESTINATION, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6,
    };
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6
    )
}

/// Walks one extension header; `false` when there is none.
#[inline(always)]
fn extension<B: Bytes>(packet: &mut Packet, bytes: &B) -> Result<bool, Reason> {
    let this = packet.protocol;
    if !is_extension(this) || packet.piece == Piece::Later as u8 {
        return Ok(false);
    }
    let Some(header) = bytes.load::<8>(packet.transport) else {
        return Err(Reason::Malformed);
    };
    packet.protocol = header[0];
    match this {
        extension::FRAGMENT => {
            // RFC 8200 4.5; a second one is an attempt to hide something.
            if packet.fragment_id != 0 {
                return Err(Reason::Malformed);
            }
            packet.transport += 8;
            let fragment = u16::from_be_bytes([header[2], header[3]]);
            // Never 0, so that a second header is noticed: fragments share it all the same.
            packet.fragment_id =
                u32::from_be_bytes([header[4], header[5], header[6], header[7]]).max(1);
            piece(packet, fragment >> 3, fragment & 1 != 0)?;
        }
        extension::AUTHENTICATION => packet.transport += (u32::from(header[1]) + 2) * 4,
        extension::ROUTING if header[3] != 0 => return Err(Reason::RoutingHeader),
        _ => packet.transport += (u32::from(header[1]) + 1) * 8,
    }
    Ok(true)
}

#[inline(always)]
fn piece(packet: &mut Packet, offset: u16, more: bool) -> Result<(), Reason> {
    if offset != 0 {
        if packet.protocol == protocol::TCP && offset < TCP_OFFSET {
            return Err(Reason::Fragment);
        }
        packet.piece = Piece::Later as u8;
    } else if more {
        packet.piece = Piece::First as u8;
    }
    Ok(())
}
