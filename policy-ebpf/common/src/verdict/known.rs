//! A packet of a connection that is in the table.

use super::{About, Case, ask, count, neighbour, remember, tell};
use crate::connection::{Connection, Decided, state};
use crate::endpoint::{FailsafeKey, setting};
use crate::event::{Counter, CounterKey, kind};
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
    if !connection.is_of(case.judged()) {
        let verdict = judge_again(world, case, connection, scratch)?;
        settle(world, case, connection, &verdict, scratch);
    }
    if connection.is_cut() {
        let decided = connection.decided();
        count(world, case, decided, [false; 2]);
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
    again.decided.staged = ask(world, case, outbound, work)?;
    again.decided.rule = work.rule;
    again.allowed = work.allowed();
    let to_host = flags & state::TO_HOST != 0;
    if to_host && case.settings.flags & setting::ENDPOINT_TO_HOST == 0 {
        again.allowed = false;
        again.decided.rule = rule::ENDPOINT_TO_HOST;
    }
    let own = case.endpoint.is_host()
        || !outbound
        || neighbour::may_claim(world, case.frame.ifindex, &scratch.key.local);
    if !own {
        again.allowed = false;
        again.decided.rule = rule::SPOOFED;
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
    (connection.decided).set(again.decided.word());
    connection.flags.set(flags);
    connection.judged.set(case.judged().word());
    if flags & !before & state::CUT != 0 {
        let one = Counter {
            connections: 1,
            ..Counter::default()
        };
        let key = CounterKey {
            rule: again.decided.rule,
            staged: 0,
        };
        world.count(&key, &one);
        scratch.event.kind = kind::CUT;
        scratch.event.rule = again.decided.rule;
        scratch.event.staged = again.decided.staged;
        tell(world, case.frame, &case.settings, case.now, scratch);
        scratch.event.kind = kind::DROP;
    }
}
