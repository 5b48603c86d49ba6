//! The packets that most are: of TCP or UDP, whole, with no options or extensions of IP, of a connection that the rules
//! now in force were asked about. They are read as words and need no memory but the key of their connection.
//!
//! What is not plainly one of them takes the long way, which says the same of all that pass here.

use super::{are_honest, straight};
use crate::connection::{Connection, Judged, Key};
use crate::endpoint::{Endpoint, Settings};
use crate::packet::{Bytes, protocol, tcp};
use crate::world::{Frame, World};

/// Where IP begins, and what follows it.
const IP: u32 = 14;
pub(super) const AFTER_V4: u32 = IP + 20;
pub(super) const AFTER_V6: u32 = IP + 40;
/// From here on addresses of Ethernet end at a word's end, and the type with them.
const LINK: u32 = 2;

/// Whether it is one of them, and passes.
#[inline(always)]
pub(super) fn passes<W: World, B: Bytes>(world: &W, bytes: &B, frame: &Frame) -> bool {
    go_on(world, bytes, frame).is_some()
}

#[inline(always)]
fn go_on<W: World, B: Bytes>(world: &W, bytes: &B, frame: &Frame) -> Option<()> {
    let endpoint = world.endpoint(frame.ifindex)?;
    let outbound = frame.received != endpoint.is_host();
    let [_, from, rest] = bytes.words::<3>(LINK)?;
    let rest = rest.to_ne_bytes();
    let mac = (from, u16::from_ne_bytes([rest[0], rest[1]]));
    let is_spoofed = outbound && !endpoint.is_host() && !endpoint.has_mac_of(mac);
    if frame.tagged || is_spoofed {
        return None;
    }
    let packet = match [rest[2], rest[3]] {
        [0x08, 0x00] => v4(bytes)?,
        [0x86, 0xdd] => v6(bytes)?,
        _ => return None,
    };
    let key = packet.key(frame.ifindex, outbound);
    let connection = world.connection(&key)?;
    let (settings, now) = (world.settings()?, world.now());
    if !goes_on(&connection, endpoint, settings, packet.protocol, now) {
        return None;
    }
    let says = (packet.protocol, packet.flags);
    connection.note(connection.is_outbound() == outbound, says, frame, now);
    if !outbound {
        connection.see(straight::came_from(frame, endpoint));
        return Some(());
    }
    let Some(to) = straight::target(settings, endpoint, &connection, packet.hop_limit) else {
        return Some(());
    };
    let key = packet.key(to, false);
    let Some((end, theirs)) = straight::their_entry(world, frame, &connection, to, &key) else {
        return Some(());
    };
    if !goes_on(&theirs, end, settings, packet.protocol, now) {
        world.ask_there(to);
        return Some(());
    }
    theirs.note(!theirs.is_outbound(), says, frame, now);
    world.go_straight(to, end);
    Some(())
}

/// Whether nothing has to be asked about a connection of an endpoint.
#[inline(always)]
fn goes_on(
    connection: &Connection,
    endpoint: &Endpoint,
    settings: &Settings,
    protocol: u8,
    now: u64,
) -> bool {
    let judged = Judged {
        generation: endpoint.generation,
        world: settings.world,
    };
    connection.is_of(judged) && !connection.is_cut() && !connection.is_over(protocol, now)
}

/// What such a packet says, addresses and ports as they are in it.
#[derive(Clone, Copy)]
struct Plain {
    source: [u32; 4],
    destination: [u32; 4],
    ports: u32,
    protocol: u8,
    flags: u8,
    hop_limit: u8,
}

impl Plain {
    #[inline(always)]
    fn key(&self, ifindex: u32, outbound: bool) -> Key {
        let ports = self.ports.to_ne_bytes();
        let source = u16::from_be_bytes([ports[0], ports[1]]);
        let destination = u16::from_be_bytes([ports[2], ports[3]]);
        let (local, remote, ports) = match outbound {
            true => (self.source, self.destination, pair(source, destination)),
            false => (self.destination, self.source, pair(destination, source)),
        };
        let protocol = u32::from_ne_bytes([self.protocol, 0, 0, 0]);
        let ([a, b, c, d], [e, f, g, h]) = (local, remote);
        Key::of_words([ifindex, a, b, c, d, e, f, g, h, ports, protocol])
    }
}

/// Two numbers as memory has them, one behind the other.
#[inline(always)]
fn pair(first: u16, second: u16) -> u32 {
    let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([first[0], first[1], second[0], second[1]])
}

#[inline(always)]
fn v4<B: Bytes>(bytes: &B) -> Option<Plain> {
    let [begin, piece, carries, source, destination] = bytes.words::<5>(IP)?;
    let (begin, piece) = (begin.to_ne_bytes(), piece.to_ne_bytes());
    // Reserved, don't fragment, more fragments, offset (RFC 791 3.1).
    let piece = u16::from_be_bytes([piece[2], piece[3]]) & 0x3fff;
    if begin[0] != 0x45 || piece != 0 {
        return None;
    }
    let mapped = |v4| [0, 0, u32::from_be(0xffff), v4];
    let (source, destination) = (mapped(source), mapped(destination));
    let [hop_limit, protocol, ..] = carries.to_ne_bytes();
    transport::<_, AFTER_V4>(bytes, (hop_limit, protocol), source, destination)
}

#[inline(always)]
fn v6<B: Bytes>(bytes: &B) -> Option<Plain> {
    let [begin, carries, a, b, c, d, e, f, g, h] = bytes.words::<10>(IP)?;
    if begin.to_ne_bytes()[0] >> 4 != 6 {
        return None;
    }
    let (source, destination) = ([a, b, c, d], [e, f, g, h]);
    let [.., protocol, hop_limit] = carries.to_ne_bytes();
    transport::<_, AFTER_V6>(bytes, (hop_limit, protocol), source, destination)
}

#[inline(always)]
fn transport<B: Bytes, const AT: u32>(
    bytes: &B,
    (hop_limit, protocol): (u8, u8),
    source: [u32; 4],
    destination: [u32; 4],
) -> Option<Plain> {
    let (ports, flags) = match protocol {
        protocol::TCP => {
            let [ports, _, _, middle, _] = bytes.words::<5>(AT)?;
            (ports, middle.to_ne_bytes()[1])
        }
        protocol::UDP => (bytes.words::<2>(AT)?[0], 0),
        _ => return None,
    };
    // What begins something is looked at closely.
    let is_tcp = protocol == protocol::TCP;
    if is_tcp && (flags & tcp::SYN != 0 || !are_honest(flags)) {
        return None;
    }
    Some(Plain {
        source,
        destination,
        ports,
        protocol,
        flags,
        hop_limit,
    })
}
