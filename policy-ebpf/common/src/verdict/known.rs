//! A packet of a connection that is in the table.

use super::{About, Case, add, ask, count, neighbour, remember, tell};
use crate::connection::{Connection, Decided, state};
use crate::endpoint::{FailsafeKey, setting};
use crate::event::{Counter, kind};
use crate::reason::Reason;
use crate::tables::rule;
use crate::world::{Scratch, World};

#[inline(always)]
pub(super) fn go_on<W: World>(
    world: &W,
    case: &Case<'_>,
    about: About,
    connection: &Connection,
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    if !connection.is_of(case.judged) {
        let verdict = judge_again(world, case, connection, scratch)?;
        settle(world, case, connection, &verdict, scratch);
    }
    if connection.is_cut() {
        let decided = connection.decided();
        count(world, case, &decided, false, &scratch.work.trail);
        scratch.event.rule = decided.rule;
        scratch.event.staged = decided.staged;
        return Err(Reason::Policy);
    }
    if about != About::Error {
        let from_first = connection.is_outbound() == case.outbound;
        connection.note(from_first, scratch.packet.says(), case.frame, case.now);
    }
    if about == About::Part {
        remember(world, case, scratch);
    }
    Ok(())
}

/// What the rules now in force say about the packet that began a connection.
struct Again {
    allowed: bool,
    decided: Decided,
}

#[inline(always)]
fn judge_again<W: World>(
    world: &W,
    case: &Case<'_>,
    connection: &Connection,
    scratch: &mut Scratch,
) -> Result<Again, Reason> {
    let flags = connection.flags.get();
    let (key, work) = (&scratch.key, &mut scratch.work);
    let mut again = Again {
        allowed: true,
        decided: connection.decided(),
    };
    if flags & state::OF_HOST != 0 {
        return Ok(again);
    }
    let outbound = flags & state::OUTBOUND != 0;
    if flags & state::FAILSAFE != 0 {
        let port = match outbound {
            true => key.remote_port,
            false => key.local_port,
        };
        let key = FailsafeKey {
            outbound: outbound as u8,
            protocol: key.protocol,
            port,
        };
        if world.is_failsafe(&key) {
            return Ok(again);
        }
    }
    work.tuple.of_connection(key, connection, outbound);
    again.decided = ask(world, case, outbound, work)?;
    again.allowed = work.allowed();
    let to_host = flags & state::TO_HOST != 0;
    if to_host && case.settings.flags & setting::ENDPOINT_TO_HOST == 0 {
        again.allowed = false;
        again.decided.rule = rule::ENDPOINT_TO_HOST;
        again.decided.trails[0] = 0;
    }
    let own = case.endpoint.is_host()
        || !outbound
        || neighbour::may_claim(world, case.frame.ifindex, &scratch.key.local);
    if !own {
        again.allowed = false;
        again.decided.rule = rule::SPOOFED;
        again.decided.trails[0] = 0;
    }
    Ok(again)
}

/// Writes down what was decided.
#[inline(always)]
fn settle<W: World>(
    world: &W,
    case: &Case<'_>,
    connection: &Connection,
    again: &Again,
    scratch: &mut Scratch,
) {
    let before = connection.flags.get();
    let mut flags = before & !(state::CUT | state::KEPT);
    if !again.allowed {
        let keep = case.settings.flags & setting::KEEP_CONNECTIONS != 0;
        flags |= match keep && before & state::CUT == 0 {
            true => state::KEPT,
            false => state::CUT,
        };
    }
    connection.set_decided(again.decided);
    connection.flags.set(flags);
    connection.judged.set(case.judged.word());
    let is_cut = flags & !before & state::CUT != 0;
    let [key, _] = again.decided.counters();
    if let Some(key) = key.filter(|key| is_cut || key.trail != 0) {
        // Of what goes on nothing is counted here, and its trail is written down: its packets are in the connection.
        let one = Counter {
            connections: u64::from(is_cut),
            ..Counter::default()
        };
        add(world, key, &one, &scratch.work.trail);
    }
    if is_cut {
        scratch.event.kind = kind::CUT;
        scratch.event.rule = again.decided.rule;
        scratch.event.staged = again.decided.staged;
        tell(world, case.frame, case.settings, case.now, scratch);
        scratch.event.kind = kind::DROP;
    }
}
