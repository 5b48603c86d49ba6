//! Connections: what was decided, and whether they still live.
//!
//! The key is seen from the endpoint, so both directions meet one entry. What either end sends is written to
//! a side of its own, so that two CPUs rarely write the same word.

mod fragment;

pub use fragment::{Fragment, FragmentKey};

use crate::classify::Tuple;
use crate::event::CounterKey;
use crate::packet::{IcmpKind, Packet, icmp_kind, protocol, sctp, tcp};
use crate::tables::Address;
use crate::word::Word;
use crate::world::Frame;

/// Key of CONNECTIONS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The interface.
    pub ifindex: u32,
    /// Address of the endpoint.
    pub local: Address,
    /// Address of the other end.
    pub remote: Address,
    /// Port of the endpoint; of ICMP the identifier, or type and code where it has none.
    pub local_port: u16,
    /// Port of the other end; of ICMP the type that asks, and 1 when the endpoint is who asks.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl Key {
    /// The connection of a packet that the endpoint sends, or else gets.
    #[inline(always)]
    pub fn of(&mut self, ifindex: u32, packet: &Packet, outbound: bool) {
        self.ifindex = ifindex;
        self.protocol = packet.protocol;
        self.pad = [0; 3];
        let (source, destination) = match packet.is_icmp() {
            true => icmp_ports(packet, outbound),
            false => (packet.source_port, packet.destination_port),
        };
        if outbound || packet.is_icmp() {
            self.local_port = source;
            self.remote_port = destination;
        } else {
            self.local_port = destination;
            self.remote_port = source;
        }
        if outbound {
            self.local = packet.source;
            self.remote = packet.destination;
        } else {
            self.local = packet.destination;
            self.remote = packet.source;
        }
    }
}

/// Of a message of ICMP what a key has in the place of ports. A question of one end and one of the other
/// with the same identifier are two connections.
#[inline(always)]
fn icmp_ports(packet: &Packet, outbound: bool) -> (u16, u16) {
    let [icmp_type, code] = packet.icmp;
    match icmp_kind(packet.version(), icmp_type) {
        IcmpKind::Question => (
            packet.identifier,
            u16::from_be_bytes([icmp_type, outbound as u8]),
        ),
        IcmpKind::Answer(asked) => (
            packet.identifier,
            u16::from_be_bytes([asked, !outbound as u8]),
        ),
        _ => (
            u16::from_be_bytes([icmp_type, code]),
            u16::from_be_bytes([icmp_type, outbound as u8]),
        ),
    }
}

/// What one end sent.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Side {
    /// Packets.
    pub packets: Word,
    /// Bytes, with their Ethernet headers.
    pub bytes: Word,
    /// Of [`seen`].
    pub flags: Word,
}

/// What was seen of a [`Side`].
pub mod seen {
    /// Anything.
    pub const ANY: u64 = 1;
    /// The beginning: SYN, INIT.
    pub const BEGIN: u64 = 2;
    /// The last data: FIN, SHUTDOWN COMPLETE.
    pub const END: u64 = 4;
    /// The end at once: RST, ABORT.
    pub const RESET: u64 = 8;
}

/// Flags of a [`Connection`].
pub mod state {
    /// The endpoint began it; otherwise the other end did.
    pub const OUTBOUND: u64 = 1;
    /// It was let through once, and policy now says no: nothing of it passes.
    pub const CUT: u64 = 2;
    /// Policy says no, and the setting to let connections end by themselves that it goes on.
    pub const KEPT: u64 = 4;
    /// The host began it, to its own workload, or it is of others behind an address of the host: no rules.
    pub const OF_HOST: u64 = 8;
    /// It goes to the endpoint's own host.
    pub const TO_HOST: u64 = 16;
    /// By a port of the host that no policy closes.
    pub const FAILSAFE: u64 = 32;
    /// Seen when it was under way already, in the time of grace after policy came.
    pub const MIDSTREAM: u64 = 64;
}

/// The policy by which something was judged. One word, so that no CPU sees half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Generation of the endpoint.
    pub generation: u32,
    /// Generation of the world.
    pub world: u32,
}

impl Judged {
    /// As it is stored.
    #[inline(always)]
    pub fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.world)
    }
}

/// What decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// As in [`crate::tables::Cell::rule`].
    pub rule: u32,
    /// What would have, were the staged policies in force; 0 where there are none.
    pub staged: u32,
    /// What led to either, by [`crate::classify::Trail::id`].
    pub trails: [u64; 2],
}

impl Decided {
    /// Both rules, as they are stored.
    #[inline(always)]
    pub fn word(self) -> u64 {
        u64::from(self.rule) << 32 | u64::from(self.staged)
    }

    /// As it was stored.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    pub fn read(word: u64, trails: [u64; 2]) -> Decided {
        Decided {
            rule: (word >> 32) as u32,
            staged: word as u32,
            trails,
        }
    }

    /// The keys of their counters; `None` without a rule.
    #[inline(always)]
    pub fn counters(&self) -> [Option<CounterKey>; 2] {
        let [trail, staged_trail] = self.trails;
        let key = |rule, staged, trail| {
            let key = CounterKey {
                rule,
                staged,
                trail,
            };
            (rule != 0).then_some(key)
        };
        [key(self.rule, 0, trail), key(self.staged, 1, staged_trail)]
    }
}

/// Value of CONNECTIONS.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Connection {
    /// Nanoseconds of the monotonic clock when it began.
    pub began: Word,
    /// When it was last heard of, or some hundredths of a second before.
    pub last: Word,
    /// When it was judged, as [`Judged`]: generations of the endpoint and of the world.
    pub judged: Word,
    /// What decided, as [`Decided`].
    pub decided: Word,
    /// Of [`state`].
    pub flags: Word,
    /// The interface that frames from the other end came by, where that may be one of another workload;
    /// [`Connection::NOWHERE`] where it is found to be none. 0 as long as nothing is known.
    pub other_end: Word,
    /// Type and code of ICMP, of the message that began it.
    pub icmp: [u8; 2],
    /// Packets of the frame that began it, which its rule has counted.
    pub first_packets: u16,
    /// Bytes of that.
    pub first_bytes: u32,
    /// Who began it, and who answers.
    pub sides: [Side; 2],
    /// What led to what decided: [`Decided::trails`].
    pub trails: [Word; 2],
}

const SECOND: u64 = 1_000_000_000;
/// How far [`Connection::last`] may be behind.
const PRECISION: u64 = SECOND / 100;
/// Nobody answered yet.
const OPENING: u64 = 60 * SECOND;
/// Both ends of TCP are there: as netfilter has it, for whoever keeps a connection without keepalives.
const ESTABLISHED: u64 = 5 * 86_400 * SECOND;
/// One end of TCP has said all.
const HALF_CLOSED: u64 = 3600 * SECOND;
/// Both have (RFC 9293 3.6.1: twice the longest life of a segment, which is 2 minutes on paper and 30 seconds in use).
const CLOSED: u64 = 60 * SECOND;
/// Reset; nothing has less patience.
const RESET: u64 = 10 * SECOND;
/// UDP without an answer, and with (RFC 4787 4.3 wants 2 minutes at least).
const UDP: [u64; 2] = [30 * SECOND, 180 * SECOND];
/// SCTP has a heartbeat every 30 seconds (RFC 9260 8.3).
const SCTP: u64 = 300 * SECOND;
/// ICMP.
const ICMP: u64 = 30 * SECOND;
/// Any other protocol.
const OTHER: u64 = 600 * SECOND;

impl Connection {
    /// No interface.
    pub const NOWHERE: u64 = u64::MAX;

    /// As it is now.
    pub fn copy(&self) -> Connection {
        let word = |word: &Word| Word::new(word.get());
        let side = |side: &Side| Side {
            packets: word(&side.packets),
            bytes: word(&side.bytes),
            flags: word(&side.flags),
        };
        let [first, second] = &self.sides;
        Connection {
            began: word(&self.began),
            last: word(&self.last),
            judged: word(&self.judged),
            decided: word(&self.decided),
            flags: word(&self.flags),
            other_end: word(&self.other_end),
            icmp: self.icmp,
            first_packets: self.first_packets,
            first_bytes: self.first_bytes,
            sides: [side(first), side(second)],
            trails: self.trails.each_ref().map(word),
        }
    }

    /// Nanoseconds that it lives on without a packet.
    #[inline(always)]
    pub fn patience(&self, protocol: u8) -> u64 {
        let [first, second] = &self.sides;
        let (first, second) = (first.flags.get(), second.flags.get());
        let (both, either) = (first & second, first | second);
        match protocol {
            protocol::TCP | protocol::SCTP if either & seen::RESET != 0 => RESET,
            protocol::TCP if both & seen::END != 0 => CLOSED,
            protocol::TCP if either & seen::END != 0 => HALF_CLOSED,
            protocol::TCP if both & seen::ANY != 0 => ESTABLISHED,
            protocol::SCTP if either & seen::END != 0 => RESET,
            protocol::SCTP if both & seen::ANY != 0 => SCTP,
            protocol::TCP | protocol::SCTP => OPENING,
            protocol::UDP | protocol::UDP_LITE if both & seen::ANY != 0 => UDP[1],
            protocol::UDP | protocol::UDP_LITE => UDP[0],
            protocol::ICMP | protocol::ICMPV6 => ICMP,
            _ => OTHER,
        }
    }

    /// Whether it has been silent for too long.
    #[inline(always)]
    pub fn is_over(&self, protocol: u8, now: u64) -> bool {
        // A packet on another CPU may be younger than `now`.
        let silent = now.saturating_sub(self.last.get());
        silent > RESET && silent > self.patience(protocol)
    }

    /// Whether both ends have closed it, so that another may begin in its place.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        let [first, second] = &self.sides;
        let (first, second) = (first.flags.get(), second.flags.get());
        first & second & seen::END != 0 || (first | second) & seen::RESET != 0
    }

    /// Whether the endpoint began it.
    #[inline(always)]
    pub fn is_outbound(&self) -> bool {
        self.flags.get() & state::OUTBOUND != 0
    }

    /// Whether nothing of it passes.
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.flags.get() & state::CUT != 0
    }

    /// The interface of the other end, if that may be another workload of this host.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "as it was written")]
    pub fn other_end(&self) -> Option<u32> {
        match self.other_end.get() {
            0 | Connection::NOWHERE => None,
            ifindex => Some(ifindex as u32),
        }
    }

    /// Takes note of where the other end is, the first time that it is seen.
    #[inline(always)]
    pub fn see(&self, came_from: u32) {
        if came_from != 0 && self.other_end.get() == 0 {
            self.other_end.set(u64::from(came_from));
        }
    }

    /// Takes note of where the other end is: it has the same connection, and has just sent of it.
    #[inline(always)]
    pub fn meet(&self, other_end: u32) {
        if self.other_end.get() != u64::from(other_end) {
            self.other_end.set(u64::from(other_end));
        }
    }

    /// Whether it was judged by what is in force now.
    #[inline(always)]
    pub fn is_of(&self, judged: Judged) -> bool {
        self.judged.get() == judged.word()
    }

    /// What decided.
    #[inline(always)]
    pub fn decided(&self) -> Decided {
        let [trail, staged] = &self.trails;
        Decided::read(self.decided.get(), [trail.get(), staged.get()])
    }

    /// Takes note of what decided.
    #[inline(always)]
    pub fn set_decided(&self, decided: Decided) {
        let [trail, staged] = &self.trails;
        trail.set(decided.trails[0]);
        staged.set(decided.trails[1]);
        self.decided.set(decided.word());
    }

    /// Takes note of packets, by protocol and flags: of the side that began it, or else of the one that answers.
    #[inline(always)]
    pub fn note(&self, from_first: bool, says: (u8, u8), frame: &Frame, now: u64) {
        let [first, second] = &self.sides;
        let side = match from_first {
            true => first,
            false => second,
        };
        side.packets.add(u64::from(frame.packets));
        side.bytes.add(u64::from(frame.length));
        let before = side.flags.get();
        let after = what_is_seen(before, says);
        if after != before {
            side.flags.set(after);
        }
        // Where both ends are on CPUs of their own, a word that both write costs more than all the rest.
        if now.saturating_sub(self.last.get()) > PRECISION {
            self.last.set(now);
        }
    }
}

#[inline(always)]
fn what_is_seen(before: u64, (protocol, says): (u8, u8)) -> u64 {
    let mut flags = before | seen::ANY;
    if protocol == protocol::TCP {
        // Whoever goes on after a reset did not send it himself.
        flags &= !seen::RESET;
        if says & tcp::SYN != 0 {
            flags |= seen::BEGIN;
        }
        if says & tcp::FIN != 0 {
            flags |= seen::END;
        }
        if says & tcp::RST != 0 {
            flags |= seen::RESET;
        }
    } else if protocol == protocol::SCTP {
        match says {
            sctp::INIT => flags |= seen::BEGIN,
            sctp::ABORT => flags |= seen::RESET,
            sctp::SHUTDOWN_COMPLETE => flags |= seen::END,
            _ => {}
        }
    }
    flags
}

impl Tuple {
    /// The packet that began something: the one at hand, or, unless `forward`, one that it answers.
    #[inline(always)]
    pub fn of_packet(&mut self, packet: &Packet, forward: bool) {
        self.protocol = packet.protocol;
        self.pad = [0; 3];
        if packet.has_icmp_header() {
            self.source_port = 0;
            self.destination_port = u16::from_be_bytes(packet.icmp);
        } else if forward {
            self.source_port = packet.source_port;
            self.destination_port = packet.destination_port;
        } else {
            self.source_port = packet.destination_port;
            self.destination_port = packet.source_port;
        }
        if forward {
            self.source = packet.source;
            self.destination = packet.destination;
        } else {
            self.source = packet.destination;
            self.destination = packet.source;
        }
    }

    /// The packet that began a connection.
    #[inline(always)]
    pub fn of_connection(&mut self, key: &Key, connection: &Connection, outbound: bool) {
        self.protocol = key.protocol;
        self.pad = [0; 3];
        if outbound {
            self.source = key.local;
            self.destination = key.remote;
            self.source_port = key.local_port;
            self.destination_port = key.remote_port;
        } else {
            self.source = key.remote;
            self.destination = key.local;
            self.source_port = key.remote_port;
            self.destination_port = key.local_port;
        }
        if matches!(key.protocol, protocol::ICMP | protocol::ICMPV6) {
            self.source_port = 0;
            self.destination_port = u16::from_be_bytes(connection.icmp);
        }
    }
}
