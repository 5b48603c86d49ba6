//! A packet of no connection: it may begin one.

use super::{About, Case, ask, count, neighbour, remember, straight, tell};
use crate::connection::{Connection, Decided, state};
use crate::endpoint::{FailsafeKey, setting};
use crate::event::kind;
use crate::packet::{Packet, protocol, tcp};
use crate::reason::Reason;
use crate::tables::rule;
use crate::word::Word;
use crate::world::{Scratch, World};

#[inline(always)]
pub(super) fn begin<W: World>(
    world: &W,
    case: &Case<'_>,
    about: About,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    let of_host = case.is_of_host();
    match about {
        About::Part => {}
        _ if of_host => return Ok(()),
        About::LaterPart => return Err(Reason::Fragment),
        About::Error => return Err(Reason::UnrelatedError),
    }
    let opens = scratch.packet.opens();
    let mut begins = Begins {
        outbound: case.outbound,
        flags: 0,
        decided: Decided {
            rule: rule::OF_HOST,
            ..Decided::default()
        },
    };
    if of_host {
        begins.flags = state::OF_HOST;
        // An entry that is missing is the table's fault, and nothing to hold against the host.
        count(world, case, &begins.decided, true, &scratch.work.trail);
        let _ = admit(world, case, begins, scratch);
        return Ok(());
    }
    if case.endpoint.is_host() {
        if is_forwarded(world, case, &scratch.packet) {
            if !(case.outbound
                && neighbour::is_own(world, case.frame.ifindex, &scratch.packet.source))
            {
                return Ok(());
            }
            // Masqueraded: its answers come to an address of the host, and are none of its business either.
            begins.flags = state::OF_HOST;
            let _ = admit(world, case, begins, scratch);
            return Ok(());
        }
        if let Some(outbound) = failsafe(world, case, opens, &scratch.packet) {
            begins.outbound = outbound;
            begins.flags = state::FAILSAFE;
            begins.decided.rule = rule::FAILSAFE;
            count(world, case, &begins.decided, true, &scratch.work.trail);
            return admit(world, case, begins, scratch);
        }
    } else if case.outbound
        && !neighbour::may_claim(world, case.frame.ifindex, &scratch.packet.source)
    {
        return Err(Reason::SpoofedAddress);
    }
    if !opens {
        if !is_midstream(case, &scratch.packet) {
            return Err(Reason::OutOfState);
        }
        begins.flags = state::MIDSTREAM;
        // Who began it is not known any more; servers have the lower port.
        let by_sender = scratch.packet.source_port >= scratch.packet.destination_port;
        begins.outbound = by_sender == case.outbound;
    }
    let forward = begins.outbound == case.outbound;
    scratch.work.tuple.of_packet(&scratch.packet, forward);
    begins.decided = ask(world, case, begins.outbound, &mut scratch.work)?;
    let allowed = scratch.work.allowed();
    count(world, case, &begins.decided, allowed, &scratch.work.trail);
    scratch.event.staged = begins.decided.staged;
    if scratch.work.logged != 0 {
        scratch.event.kind = kind::LOG;
        scratch.event.rule = scratch.work.logged;
        tell(world, case.frame, case.settings, case.now, scratch);
        scratch.event.kind = kind::DROP;
    }
    if !allowed {
        scratch.event.rule = begins.decided.rule;
        return Err(Reason::Policy);
    }
    if !case.endpoint.is_host() && case.outbound && world.is_for_host(&scratch.packet) {
        if case.settings.flags & setting::ENDPOINT_TO_HOST == 0 {
            return Err(Reason::EndpointToHost);
        }
        begins.flags |= state::TO_HOST;
    }
    admit(world, case, begins, scratch)
}

/// Traffic between others that only passes the host's interface: workloads at its ends have their own policy.
#[inline(always)]
fn is_forwarded<W: World>(world: &W, case: &Case<'_>, packet: &Packet) -> bool {
    match case.outbound {
        true => !case.frame.is_from_host(),
        false => !world.is_for_host(packet),
    }
}

/// Whether it is by a port that no policy closes, and if so whether the host began it. Connections that are
/// older than policy count as well.
#[inline(always)]
fn failsafe<W: World>(world: &W, case: &Case<'_>, opens: bool, packet: &Packet) -> Option<bool> {
    let mut key = FailsafeKey {
        outbound: case.outbound as u8,
        protocol: packet.protocol,
        port: packet.destination_port,
    };
    if world.is_failsafe(&key) {
        return Some(case.outbound);
    }
    key.outbound = !case.outbound as u8;
    key.port = packet.source_port;
    let answers = packet.protocol == protocol::TCP && !opens;
    (answers && world.is_failsafe(&key)).then_some(!case.outbound)
}

/// TCP that may have begun before there was policy, while there is grace.
#[inline(always)]
fn is_midstream(case: &Case<'_>, packet: &Packet) -> bool {
    packet.protocol == protocol::TCP
        && packet.flags & (tcp::SYN | tcp::RST) == 0
        && case.now < case.settings.grace_until
}

/// A connection that begins.
#[derive(Clone, Copy)]
struct Begins {
    outbound: bool,
    flags: u64,
    decided: Decided,
}

#[inline(always)]
fn admit<W: World>(
    world: &W,
    case: &Case<'_>,
    begins: Begins,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    let direction = match begins.outbound {
        true => state::OUTBOUND,
        false => 0,
    };
    scratch.connection = Connection {
        began: Word::new(case.now),
        last: Word::new(case.now),
        judged: Word::new(case.judged.word()),
        decided: Word::new(begins.decided.word()),
        flags: Word::new(begins.flags | direction),
        other_end: Word::new(u64::from(straight::came_from(case.frame, case.endpoint))),
        trails: begins.decided.trails.map(Word::new),
        icmp: scratch.packet.icmp,
        // Segments of one frame are far fewer.
        first_packets: (case.frame.packets & 0xffff) as u16,
        first_bytes: case.frame.length,
        ..Connection::default()
    };
    let from_first = begins.outbound == case.outbound;
    let says = scratch.packet.says();
    (scratch.connection).note(from_first, says, case.frame, case.now);
    if !world.admit(&scratch.key, &scratch.connection) {
        return Err(Reason::TableFull);
    }
    world.count_admitted();
    remember(world, case, scratch);
    Ok(())
}
