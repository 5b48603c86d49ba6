//! Joins consecutive packets of one flow into units that the kernel takes with one write: the reverse of
//! [`segment`](super::segment).
//!
//! Joined are neighbours only, so packets never overtake each other. A packet joins when nothing that its
//! receiver could see would be lost: all header fields equal but those that count up, and a right
//! checksum, because the kernel will not look at it again.

use super::checksum::{Sum, pseudo_header};
use super::offload::{Gso, Offload};

/// Packets of a unit: as many as a datagram unit of the network has.
pub(crate) const MAX_PACKETS: usize = 64;
/// The length field of IPv4 ends here.
const MAX_UNIT: usize = 65_535;
/// IPv6 and TCP with all its options.
const MAX_HEADERS: usize = 40 + 60;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Packets for one write.
#[derive(Debug)]
pub(crate) struct Unit<'u, 'a> {
    /// What the kernel is told about it.
    pub(crate) offload: Offload,
    /// The headers of the unit.
    pub(crate) headers: &'u [u8],
    /// The packets; their own headers are in the first `skip` bytes.
    pub(crate) packets: &'u [&'a [u8]],
    /// Bytes of each packet that `headers` stands for: zero in a unit of one packet, which goes as it is.
    pub(crate) skip: usize,
}

/// The unit that is being built.
#[derive(Debug)]
pub(crate) struct Coalescer<'a> {
    packets: [&'a [u8]; MAX_PACKETS],
    count: usize,
    /// Of the first packet, when others may join it.
    flow: Option<Flow>,
    allowed: Allowed,
}

/// Which units the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
}

/// What the first packet of a unit tells about the next.
#[derive(Clone, Copy, Debug)]
struct Flow {
    shape: Shape,
    /// Payload of every packet but the last.
    size: usize,
    next_sequence: u32,
    next_id: u16,
    /// Bytes of headers and all payloads so far.
    len: usize,
    is_verified: bool,
}

/// Where things are in a packet that may be joined with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    is_v4: bool,
    is_tcp: bool,
    transport: usize,
    headers: usize,
}

impl Shape {
    /// `None` for a packet that must travel alone.
    fn of(packet: &[u8], allowed: Allowed) -> Option<Shape> {
        let first = *packet.first()?;
        let (is_v4, transport) = match first {
            // No options.
            0x45 => (true, 20),
            0x60..=0x6f => (false, 40),
            _ => return None,
        };
        let header = packet.get(..transport)?;
        let (len, protocol) = if is_v4 {
            let is_fragment = u16_at(header, 6) & 0x3fff != 0;
            if is_fragment {
                return None;
            }
            (usize::from(u16_at(header, 2)), header[9])
        } else {
            (usize::from(u16_at(header, 4)) + 40, header[6])
        };
        if len != packet.len() {
            return None;
        }
        let headers = match protocol {
            TCP if allowed.tcp => {
                let l4 = packet.get(transport..transport + 20)?;
                // Other flags mean something to the receiver at just this place of the stream.
                if l4[13] & !(ACK | PSH) != 0 {
                    return None;
                }
                transport + usize::from(l4[12] >> 4).max(5) * 4
            }
            UDP if allowed.udp => {
                let l4 = packet.get(transport..transport + 8)?;
                if usize::from(u16_at(l4, 4)) != len - transport || u16_at(l4, 6) == 0 {
                    return None;
                }
                transport + 8
            }
            _ => return None,
        };
        // Without payload there is nothing to join.
        (packet.len() > headers).then_some(Shape {
            is_v4,
            is_tcp: protocol == TCP,
            transport,
            headers,
        })
    }

    /// The sum of the pseudo-header without its length.
    fn pseudo_header(self, packet: &[u8]) -> Sum {
        let addresses = if self.is_v4 { 12..20 } else { 8..40 };
        pseudo_header(&packet[addresses], if self.is_tcp { TCP } else { UDP })
    }

    fn is_checksum_right(self, packet: &[u8]) -> bool {
        let (ip, l4) = packet.split_at(self.transport);
        let mut ip_sum = Sum::default();
        ip_sum.add(ip);
        let mut sum = self.pseudo_header(packet);
        sum.add_number(u16::try_from(l4.len()).unwrap_or(0));
        sum.add(l4);
        sum.is_right() && (!self.is_v4 || ip_sum.is_right())
    }
}

impl Flow {
    fn of(packet: &[u8], allowed: Allowed) -> Option<Flow> {
        let shape = Shape::of(packet, allowed)?;
        let size = packet.len() - shape.headers;
        Some(Flow {
            shape,
            size,
            next_sequence: sequence(shape, packet).wrapping_add(u32::try_from(size).unwrap_or(0)),
            next_id: u16_at(packet, 4).wrapping_add(1),
            len: packet.len(),
            is_verified: false,
        })
    }

    /// Takes `packet` into the unit that starts with `first`, if it belongs there. Whether it does, and
    /// whether another may follow.
    fn join(&mut self, first: &[u8], packet: &[u8], allowed: Allowed) -> Option<Next> {
        let shape = self.shape;
        let size = packet.len().checked_sub(shape.headers)?;
        if size == 0 || size > self.size || self.len + size > MAX_UNIT {
            return None;
        }
        if Shape::of(packet, allowed)? != shape || !self.is_continued_by(first, packet) {
            return None;
        }
        if !self.is_verified && !shape.is_checksum_right(first) {
            return None;
        }
        self.is_verified = true;
        if !shape.is_checksum_right(packet) {
            return None;
        }
        self.len += size;
        self.next_sequence = self
            .next_sequence
            .wrapping_add(u32::try_from(size).unwrap_or(0));
        self.next_id = self.next_id.wrapping_add(1);
        let is_pushed = shape.is_tcp && packet[shape.transport + 13] & PSH != 0;
        Some(if size < self.size || is_pushed {
            Next::Nothing
        } else {
            Next::More
        })
    }

    /// Whether the header fields of `packet` are those of `first` counted on.
    fn is_continued_by(&self, first: &[u8], packet: &[u8]) -> bool {
        let shape = self.shape;
        let equal = |range: std::ops::Range<usize>| first[range.clone()] == packet[range];
        let ip = if shape.is_v4 {
            // A packet that may not be fragmented has no use for its number (RFC 6864).
            let is_atomic = packet[6] & 0x40 != 0;
            (is_atomic || u16_at(packet, 4) == self.next_id)
                && equal(0..2)
                && equal(6..10)
                && equal(12..20)
        } else {
            equal(0..4) && equal(6..40)
        };
        let l4 = shape.transport;
        ip && equal(l4..l4 + 4)
            && (!shape.is_tcp
                || (sequence(shape, packet) == self.next_sequence
                    && equal(l4 + 8..l4 + 13)
                    && (first[l4 + 13] ^ packet[l4 + 13]) & !PSH == 0
                    && equal(l4 + 14..l4 + 16)
                    && equal(l4 + 18..shape.headers)))
    }
}

/// Whether a unit can still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    Nothing,
}

impl<'a> Coalescer<'a> {
    /// An empty one.
    pub(crate) fn new(allowed: Allowed) -> Coalescer<'a> {
        Coalescer {
            packets: [&[]; MAX_PACKETS],
            count: 0,
            flow: None,
            allowed,
        }
    }

    /// Adds a packet. Units that are complete with it, or because of it, go to `write`.
    pub(crate) fn push(&mut self, packet: &'a [u8], write: &mut impl FnMut(Unit<'_, 'a>)) {
        let first = self.packets[0];
        let joined = self
            .flow
            .as_mut()
            .filter(|_| self.count < MAX_PACKETS)
            .and_then(|flow| flow.join(first, packet, self.allowed));
        match joined {
            Some(next) => {
                self.packets[self.count] = packet;
                self.count += 1;
                if next == Next::Nothing {
                    self.finish(write);
                }
            }
            None => {
                self.finish(write);
                self.packets[0] = packet;
                self.count = 1;
                self.flow = Flow::of(packet, self.allowed);
                let pushed = |f: &Flow| f.shape.is_tcp && packet[f.shape.transport + 13] & PSH != 0;
                if self.flow.as_ref().is_none_or(pushed) {
                    self.finish(write);
                }
            }
        }
    }

    /// Hands over what is left.
    pub(crate) fn finish(&mut self, write: &mut impl FnMut(Unit<'_, 'a>)) {
        let flow = self.flow.take();
        let packets = &self.packets[..std::mem::take(&mut self.count)];
        match (packets, flow) {
            ([], _) => {}
            ([first, .., last], Some(flow)) => {
                let mut headers = [0; MAX_HEADERS];
                let headers = &mut headers[..flow.shape.headers];
                let offload = unit_headers(&flow, first, last, headers);
                write(Unit {
                    offload,
                    headers,
                    packets,
                    skip: flow.shape.headers,
                });
            }
            (packets, _) => write(Unit {
                offload: Offload::default(),
                headers: &[],
                packets,
                skip: 0,
            }),
        }
    }
}

/// Writes the headers of a whole unit.
fn unit_headers(flow: &Flow, first: &[u8], last: &[u8], headers: &mut [u8]) -> Offload {
    let shape = flow.shape;
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    headers.copy_from_slice(&first[..shape.headers]);
    let mut sum = shape.pseudo_header(first);
    let (ip, l4) = headers.split_at_mut(shape.transport);
    if shape.is_v4 {
        ip[2..4].copy_from_slice(&short(flow.len).to_be_bytes());
        ip[10..12].fill(0);
        let mut sum = Sum::default();
        sum.add(ip);
        ip[10..12].copy_from_slice(&sum.checksum());
    } else {
        ip[4..6].copy_from_slice(&short(flow.len - 40).to_be_bytes());
    }
    let length = short(flow.len - shape.transport);
    sum.add_number(length);
    let at = if shape.is_tcp {
        l4[13] |= last[shape.transport + 13] & PSH;
        16
    } else {
        l4[4..6].copy_from_slice(&length.to_be_bytes());
        6
    };
    l4[at..at + 2].copy_from_slice(&sum.folded());
    Offload {
        gso: match (shape.is_tcp, shape.is_v4) {
            (true, true) => Gso::TcpV4,
            (true, false) => Gso::TcpV6,
            (false, _) => Gso::Udp,
        },
        segment: short(flow.size),
        header_len: short(shape.headers),
        checksum: Some((short(shape.transport), short(at))),
    }
}

fn sequence(shape: Shape, packet: &[u8]) -> u32 {
    if !shape.is_tcp {
        return 0;
    }
    let at = packet.get(shape.transport + 4..);
    at.and_then(|b| b.first_chunk())
        .map_or(0, |b| u32::from_be_bytes(*b))
}

/// The number at `at`, which is inside.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
