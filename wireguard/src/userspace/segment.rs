//! Cuts what the kernel hands over as one unit (up to 64 KB) into the packets that it stands for.
//!
//! ```text
//!  IP | TCP | payload ............................   one read of the TUN
//!  IP'| TCP'| part 0     IP"| TCP"| part 1    …      lengths, identification, sequence, flags, checksums
//! ```
//! Each packet is written straight to where it will be encrypted. The kernel leaves checksums to us, also
//! those of single packets.

use super::checksum::{Sum, pseudo_header};
use super::offload::{Gso, Offload};

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The packets of one unit, to be written one after the other.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    /// Payload of every packet but the last.
    size: usize,
    written: u16,
    cut: Option<Cut>,
}

/// What the packets of a cut unit have in common.
#[derive(Debug)]
struct Cut {
    is_v4: bool,
    is_tcp: bool,
    /// Where the transport header starts.
    transport: usize,
    /// Sums of all that is the same in every packet.
    ip_sum: Sum,
    transport_sum: Sum,
    id: u16,
    sequence: u32,
    flags: u8,
}

impl<'a> Segments<'a> {
    /// The packets of `unit`; `None` when the header does not fit the packet. Completes the checksum of
    /// a unit that is one packet in place.
    pub(crate) fn new(offload: Offload, unit: &'a mut [u8]) -> Option<Segments<'a>> {
        if offload.gso == Gso::None {
            if let Some((start, offset)) = offload.checksum {
                complete_checksum(unit, start.into(), offset.into())?;
            }
            return Some(Segments {
                headers: unit,
                payload: &[],
                size: 0,
                written: 0,
                cut: None,
            });
        }
        let is_tcp = offload.gso != Gso::Udp;
        let (transport, _) = offload.checksum?;
        let transport = usize::from(transport);
        let is_v4 = unit.first()? >> 4 == 4;
        let header_len = if is_tcp {
            transport + usize::from(unit.get(transport + 12)? >> 4).max(5) * 4
        } else {
            transport + 8
        };
        let size = usize::from(offload.segment);
        if size == 0 || transport < if is_v4 { 20 } else { 40 } || transport % 2 != 0 {
            return None;
        }
        let (headers, payload) = unit.split_at_checked(header_len)?;
        Some(Segments {
            cut: Some(Cut::new(headers, transport, is_v4, is_tcp)?),
            headers,
            payload,
            size,
            written: 0,
        })
    }

    /// Bytes of the next packet; `None` when all are written.
    pub(crate) fn next_len(&self) -> Option<usize> {
        match &self.cut {
            // A unit always has one packet, if an empty one.
            _ if self.written > 0 && self.payload.is_empty() => None,
            None => Some(self.headers.len()),
            Some(_) => Some(self.headers.len() + self.payload.len().min(self.size)),
        }
    }

    /// The first packet's headers.
    pub(crate) fn headers(&self) -> &[u8] {
        self.headers
    }

    /// Writes the next packet to the start of `out`, which must have room for [`Segments::next_len`].
    /// Writes nothing when it has not or when all are written; whether it wrote.
    pub(crate) fn write_next(&mut self, out: &mut [u8]) -> bool {
        let Some(out) = self.next_len().and_then(|len| out.get_mut(..len)) else {
            return false;
        };
        let (headers, body) = out.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        if let Some(cut) = &self.cut {
            let (part, rest) = self.payload.split_at(body.len());
            body.copy_from_slice(part);
            self.payload = rest;
            cut.patch(headers, body, self.written, self.size, rest.is_empty());
        }
        self.written = self.written.saturating_add(1);
        true
    }
}

impl Cut {
    fn new(headers: &[u8], transport: usize, is_v4: bool, is_tcp: bool) -> Option<Cut> {
        let (ip, l4) = headers.split_at_checked(transport)?;
        let number =
            |bytes: &[u8], at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let mut ip_sum = Sum::default();
        if is_v4 {
            ip_sum.add(ip.get(..2)?);
            ip_sum.add(ip.get(6..10)?);
            ip_sum.add(ip.get(12..)?);
        }
        let addresses = ip.get(if is_v4 { 12..20 } else { 8..40 })?;
        let mut cut = Cut {
            is_v4,
            is_tcp,
            transport,
            ip_sum,
            transport_sum: pseudo_header(addresses, if is_tcp { TCP } else { UDP }),
            id: number(ip, 4)?,
            sequence: 0,
            flags: 0,
        };
        cut.transport_sum.add(l4.get(..4)?);
        if is_tcp {
            cut.sequence = u32::from_be_bytes(*l4.get(4..)?.first_chunk()?);
            cut.flags = *l4.get(13)?;
            cut.transport_sum.add(l4.get(8..12)?);
            cut.transport_sum.add(&[*l4.get(12)?, 0]);
            cut.transport_sum.add(l4.get(14..16)?);
            cut.transport_sum.add(l4.get(18..)?);
        }
        Some(cut)
    }

    /// Makes `headers` those of packet number `nth`. All lengths were checked by `new`.
    fn patch(&self, headers: &mut [u8], body: &[u8], nth: u16, size: usize, is_last: bool) {
        // No unit is longer than 65,535 bytes.
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let total = short(headers.len() + body.len());
        let (ip, l4) = headers.split_at_mut(self.transport);
        if self.is_v4 {
            let id = self.id.wrapping_add(nth);
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            let mut sum = self.ip_sum;
            sum.add_number(total);
            sum.add_number(id);
            ip[10..12].copy_from_slice(&sum.checksum());
        } else {
            ip[4..6].copy_from_slice(&(total - 40).to_be_bytes());
        }
        let length = short(l4.len() + body.len());
        let mut sum = self.transport_sum;
        sum.add_number(length);
        sum.add(body);
        if self.is_tcp {
            let before = u32::from(nth).wrapping_mul(u32::from(short(size)));
            let sequence = self.sequence.wrapping_add(before).to_be_bytes();
            let mut flags = self.flags;
            if !is_last {
                flags &= !(FIN | PSH);
            }
            if nth > 0 {
                flags &= !CWR;
            }
            l4[4..8].copy_from_slice(&sequence);
            l4[13] = flags;
            sum.add(&sequence);
            sum.add_number(flags.into());
            l4[16..18].copy_from_slice(&sum.checksum());
        } else {
            l4[4..6].copy_from_slice(&length.to_be_bytes());
            sum.add_number(length);
            l4[6..8].copy_from_slice(&never_zero(sum.checksum()));
        }
    }
}

/// Zero means «no checksum» in UDP; its other form is sent (RFC 768).
fn never_zero(checksum: [u8; 2]) -> [u8; 2] {
    if checksum == [0, 0] {
        [0xff, 0xff]
    } else {
        checksum
    }
}

fn complete_checksum(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let covered = packet.get_mut(start..)?;
    covered.get(offset..offset + 2)?;
    let mut sum = Sum::default();
    sum.add(covered);
    // TCP has no special zero, and its other form is as good there.
    covered[offset..offset + 2].copy_from_slice(&never_zero(sum.checksum()));
    Some(())
}
