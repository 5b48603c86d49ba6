//! Whether a frame passes an interface.
//!
//! ```text
//!  frame ─► VLAN, MAC, ARP, neighbour discovery ─► headers ─► connection? ─┬─ current ───────────► as was decided
//!                                                                          ├─ stale ─► rules ────► goes on, or is cut
//!                                                                          └─ none ──► own address, state, rules ─► begins, or not
//! ```
//!
//! *Local* is the endpoint: the workload behind the interface, or the host at an interface of its own.
//! *Outbound* is what local sends. Rules are asked about the packet that began a connection, whichever way the one at
//! hand goes, so an answer never needs a rule of its own.
//!
//! Held to: what is not known does not pass; nothing passes by a connection that the rules now in force were
//! not asked about; dropping changes no connection but one that is cut.

mod fresh;
mod known;
mod neighbour;
mod plain;
mod straight;

pub use neighbour::{GATEWAY, GATEWAY_MAC};

use crate::classify::{Trail, Work, identify};
use crate::connection::{Connection, Decided, Fragment, FragmentKey, Judged, Key};
use crate::endpoint::{Endpoint, Settings};
use crate::event::{Counter, CounterKey, Event, kind};
use crate::packet::{Bytes, ETHERNET, IcmpKind, Packet, Piece, Version, protocol, tcp};
use crate::reason::Reason;
use crate::world::{Frame, Scratch, World};

/// What is known before the packet is read.
#[derive(Clone, Copy)]
struct Case<'a> {
    frame: &'a Frame,
    endpoint: &'a Endpoint,
    settings: &'a Settings,
    /// What is in force, as it was when the frame came.
    judged: Judged,
    now: u64,
    outbound: bool,
}

impl Case<'_> {
    /// From the host itself to its own workload: no rules.
    #[inline(always)]
    fn is_of_host(&self) -> bool {
        !self.endpoint.is_host() && !self.outbound && self.frame.is_from_host()
    }
}

/// Judges a frame, counts it and tells about it.
///
/// # Errors
/// Why it must not pass.
#[inline(always)]
pub fn judge<W: World, B: Bytes>(
    world: &W,
    bytes: &B,
    frame: &Frame,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    if plain::passes(world, bytes, frame) {
        return Ok(());
    }
    let Some(settings) = world.settings() else {
        return Err(Reason::NotProgrammed);
    };
    let now = world.now();
    // Not read so far: there is no packet without a header before its transport.
    scratch.packet.transport = 0;
    scratch.event.kind = kind::DROP;
    scratch.event.rule = 0;
    scratch.event.staged = 0;
    scratch.event.reason = 0;
    let result = match world.endpoint(frame.ifindex) {
        None => {
            scratch.event.outbound = frame.received as u8;
            Err(Reason::UnknownEndpoint)
        }
        Some(endpoint) => {
            let outbound = frame.received != endpoint.is_host();
            scratch.event.outbound = outbound as u8;
            let case = Case {
                frame,
                endpoint,
                settings,
                judged: Judged {
                    generation: endpoint.generation,
                    world: settings.world,
                },
                now,
                outbound,
            };
            decide(world, bytes, &case, scratch)
        }
    };
    if let Err(reason) = result {
        world.count_drop(reason);
        scratch.event.reason = reason as u8;
        tell(world, frame, settings, now, scratch);
    }
    result
}

#[inline(always)]
fn decide<W: World, B: Bytes>(
    world: &W,
    bytes: &B,
    case: &Case<'_>,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    let Some(version) = link(world, bytes, case)? else {
        return Ok(());
    };
    let about = match read(world, bytes, case, version, scratch) {
        Ok(Some(about)) => about,
        Ok(None) => return Ok(()),
        // What the host sends to its own workload passes, whatever it is.
        Err(_) if case.is_of_host() => return Ok(()),
        Err(reason) => return Err(reason),
    };
    match world.connection(&scratch.key) {
        Some(connection) if is_alive(&connection, case, about, scratch) => {
            known::go_on(world, case, about, &connection, scratch)?;
            straight::after(world, case, about, &connection, scratch);
            Ok(())
        }
        _ => fresh::begin(world, case, about, scratch),
    }
}

/// What a packet is to its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// A part of it.
    Part,
    /// A later fragment of a part of it.
    LaterPart,
    /// An ICMP error about it.
    Error,
}

/// The link layer. `None` is let through, and nothing of IP.
#[inline(always)]
fn link<W: World, B: Bytes>(
    world: &W,
    bytes: &B,
    case: &Case<'_>,
) -> Result<Option<Version>, Reason> {
    let of_workload = !case.endpoint.is_host();
    if case.frame.tagged {
        // At an interface of the host it is for another interface.
        return refuse_if(of_workload, Reason::Vlan);
    }
    let Some(header) = bytes.load::<{ ETHERNET as usize }>(0) else {
        return Err(Reason::Malformed);
    };
    let from = [
        header[6], header[7], header[8], header[9], header[10], header[11],
    ];
    if of_workload && case.outbound && !case.endpoint.has_mac(from) {
        return Err(Reason::SpoofedMac);
    }
    match [header[12], header[13]] {
        [0x08, 0x00] => Ok(Some(Version::V4)),
        [0x86, 0xdd] => Ok(Some(Version::V6)),
        [0x08, 0x06] => {
            if of_workload && case.outbound {
                neighbour::arp(world, case.endpoint, case.frame.ifindex, bytes, ETHERNET)?;
            }
            Ok(None)
        }
        [0x81, 0x00] | [0x88, 0xa8] => refuse_if(of_workload, Reason::Vlan),
        _ => refuse_if(of_workload, Reason::EtherType),
    }
}

#[inline(always)]
fn refuse_if(refused: bool, reason: Reason) -> Result<Option<Version>, Reason> {
    match refused {
        true => Err(reason),
        false => Ok(None),
    }
}

/// Reads the packet and says which connection it is about. `None` is let through without one.
#[inline(always)]
fn read<W: World, B: Bytes>(
    world: &W,
    bytes: &B,
    case: &Case<'_>,
    version: Version,
    scratch: &mut Scratch,
) -> Result<Option<About>, Reason> {
    let Scratch {
        packet,
        quoted,
        key,
        fragment_key,
        fragment,
        ..
    } = scratch;
    packet.read(bytes, ETHERNET, version)?;
    let ifindex = case.frame.ifindex;
    if packet.piece != Piece::Whole as u8 {
        FragmentKey::of(fragment_key, ifindex, packet, case.outbound);
    }
    if packet.piece == Piece::Later as u8 {
        match world.fragment(fragment_key) {
            Some(first) if first.is_fresh(case.now) => *fragment = first,
            _ => return Err(Reason::Fragment),
        }
        fragment.complete(packet);
        Key::of(key, ifindex, packet, case.outbound);
        return Ok(Some(About::LaterPart));
    }
    if packet.protocol == protocol::TCP && !are_honest(packet.flags) {
        return Err(Reason::TcpFlags);
    }
    match packet.icmp_kind() {
        Some(IcmpKind::Error) => {
            let at = packet.transport + 8;
            if quoted.read_quoted(bytes, at, version).is_err() {
                return Err(Reason::UnrelatedError);
            }
            // What is quoted went the other way.
            Key::of(key, ifindex, quoted, !case.outbound);
            let local = match case.outbound {
                true => &packet.source,
                false => &packet.destination,
            };
            if *local != key.local {
                return Err(Reason::UnrelatedError);
            }
            return Ok(Some(About::Error));
        }
        Some(IcmpKind::Neighbour) if case.outbound && !case.endpoint.is_host() => {
            neighbour::discovery(world, case.endpoint, ifindex, bytes, packet)?;
            return Ok(None);
        }
        Some(IcmpKind::Neighbour) if neighbour::is_of_link(packet) => return Ok(None),
        Some(IcmpKind::Membership) if case.outbound && !case.endpoint.is_host() => {
            neighbour::membership(world, ifindex, packet)?;
            return Ok(None);
        }
        Some(IcmpKind::Membership) if packet.hop_limit == 1 => return Ok(None),
        _ => {}
    }
    Key::of(key, ifindex, packet, case.outbound);
    Ok(Some(About::Part))
}

/// Flags that somebody sends who means it: not none, and of beginning and ends at most one (RFC 9293 3.5).
#[inline(always)]
fn are_honest(flags: u8) -> bool {
    let ends = flags & (tcp::SYN | tcp::FIN | tcp::RST);
    let alone = matches!(ends, 0 | tcp::SYN | tcp::FIN | tcp::RST) || ends == tcp::FIN | tcp::RST;
    alone && (flags & tcp::ACK != 0 || matches!(ends, tcp::SYN | tcp::RST))
}

/// Whether a packet belongs to a connection that is in the table, rather than beginning one in its place.
#[inline(always)]
fn is_alive(connection: &Connection, case: &Case<'_>, about: About, scratch: &Scratch) -> bool {
    if connection.is_over(scratch.key.protocol, case.now) {
        return false;
    }
    let packet = &scratch.packet;
    let again = about == About::Part && packet.has_handshake() && packet.opens();
    // Not the first SYN sent once more: the connection has ended, was cut, or the other end calls.
    let other = connection.is_outbound() != case.outbound;
    !(again && (connection.is_closed() || connection.is_cut() || other))
}

/// Asks the rules of one direction about the packet in `work`: staged ones, then enforced ones, whose answer stays
/// in `work`.
#[inline(always)]
fn ask<W: World>(
    world: &W,
    case: &Case<'_>,
    outbound: bool,
    work: &mut Work,
) -> Result<Decided, Reason> {
    let endpoint = case.endpoint;
    let (chain, staged) = match outbound {
        true => (endpoint.egress, endpoint.staged_egress),
        false => (endpoint.ingress, endpoint.staged_ingress),
    };
    identify(world, work);
    let mut decided = Decided::default();
    if staged != 0 && world.ask(staged, work) {
        decided.staged = work.rule;
        decided.trails[1] = work.trail.id;
        if work.trail.id != 0 {
            // While its steps are there to be written down.
            let key = CounterKey {
                rule: work.rule,
                staged: 1,
                trail: work.trail.id,
            };
            add(world, key, &Counter::default(), &work.trail);
        }
    }
    if !world.ask(chain, work) {
        return Err(Reason::NotProgrammed);
    }
    decided.rule = work.rule;
    decided.trails[0] = work.trail.id;
    Ok(decided)
}

/// Counts a packet for the rules that decided about it, and where it is new to them, a connection. `trail` is that of the
/// rules in force, as far as they were asked just now.
#[inline(always)]
fn count<W: World>(world: &W, case: &Case<'_>, decided: &Decided, is_new: bool, trail: &Trail) {
    let more = Counter {
        packets: u64::from(case.frame.packets),
        bytes: u64::from(case.frame.length),
        connections: u64::from(is_new),
    };
    for key in decided.counters().into_iter().flatten() {
        add(world, key, &more, trail);
    }
}

/// Adds to a counter. The first time the steps of its trail are written down; where there is no room for them, the
/// rule counts without.
#[inline(always)]
fn add<W: World>(world: &W, mut key: CounterKey, more: &Counter, trail: &Trail) {
    if world.count(&key, more) {
        return;
    }
    if key.trail != 0 {
        if key.trail == trail.id && world.describe(&key, trail) {
            world.begin_count(&key, more);
            return;
        }
        key.trail = 0;
        if world.count(&key, more) {
            return;
        }
    }
    world.begin_count(&key, more);
}

/// Tells what `scratch.event` has begun to say, if there is enough left of the second's budget.
#[inline(always)]
fn tell<W: World>(world: &W, frame: &Frame, settings: &Settings, now: u64, scratch: &mut Scratch) {
    if !scratch.budget.take(now, settings.events) {
        return;
    }
    let Scratch { packet, event, .. } = scratch;
    event.at = now;
    event.ifindex = frame.ifindex;
    event.length = frame.length;
    match packet.transport {
        0 => event.describe(&Packet::default()),
        _ => event.describe(packet),
    }
    world.tell(event);
}

impl Event {
    #[inline(always)]
    fn describe(&mut self, packet: &Packet) {
        self.source = packet.source;
        self.destination = packet.destination;
        self.source_port = packet.source_port;
        self.destination_port = packet.destination_port;
        self.icmp = packet.icmp;
        self.protocol = packet.protocol;
    }
}

impl FragmentKey {
    #[inline(always)]
    fn of(&mut self, ifindex: u32, packet: &Packet, outbound: bool) {
        self.ifindex = ifindex;
        self.id = packet.fragment_id;
        self.source = packet.source;
        self.destination = packet.destination;
        self.protocol = match packet.version() {
            Version::V4 => packet.protocol,
            Version::V6 => 0,
        };
        self.outbound = outbound as u8;
        self.pad = [0; 2];
    }
}

impl Fragment {
    /// What the first fragment says for the others.
    #[inline(always)]
    fn of(&mut self, packet: &Packet, now: u64) {
        self.at = now;
        self.source_port = packet.source_port;
        self.destination_port = packet.destination_port;
        self.identifier = packet.identifier;
        self.icmp = packet.icmp;
        self.protocol = packet.protocol;
        self.pad = [0; 7];
    }

    #[inline(always)]
    fn is_fresh(&self, now: u64) -> bool {
        now.saturating_sub(self.at) <= Fragment::PATIENCE
    }

    #[inline(always)]
    fn complete(&self, packet: &mut Packet) {
        packet.source_port = self.source_port;
        packet.destination_port = self.destination_port;
        packet.identifier = self.identifier;
        packet.icmp = self.icmp;
        packet.protocol = self.protocol;
    }
}

/// Lets later fragments follow the first one.
#[inline(always)]
fn remember<W: World>(world: &W, case: &Case<'_>, scratch: &mut Scratch) {
    if scratch.packet.piece == Piece::First as u8 {
        Fragment::of(&mut scratch.fragment, &scratch.packet, case.now);
        world.remember(&scratch.fragment_key, &scratch.fragment);
    }
}
