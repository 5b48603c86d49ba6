//! From one workload of this host straight to another: what both ends let pass needs no routing.
//!
//! ```text
//!  first frames   from_wire ─► routing ─► to_wire ─► workload     each end judges, and sees where the other is
//!  later ones     from_wire ─► workload                           the sender's program reads both ends' entries
//!                     └──────► to_wire ─► workload                where the other end has to judge anew
//! ```
//!
//! A connection between two workloads has an entry at each. One that is the other turned round was not changed on the
//! way: what stands in its place behind an address of a service has none, and stays with routing.

use super::plain::{AFTER_V4, AFTER_V6};
use super::{About, Case};
use crate::connection::{Connection, Key};
use crate::endpoint::{Endpoint, Settings, setting};
use crate::packet::Piece;
use crate::world::{Frame, Scratch, World};

/// The interface of the other end, if what the endpoint sends may go straight there.
#[inline(always)]
pub(super) fn target(
    settings: &Settings,
    endpoint: &Endpoint,
    connection: &Connection,
    hop_limit: u8,
) -> Option<u32> {
    let may = settings.flags & setting::STRAIGHT != 0 && endpoint.goes_straight() && hop_limit > 1;
    connection.other_end().filter(|_| may)
}

/// The other end's entry of a connection, if a workload is there that takes the frame.
#[inline(always)]
pub(super) fn their_entry<'w, W: World>(
    world: &'w W,
    frame: &Frame,
    connection: &Connection,
    to: u32,
    key: &Key,
) -> Option<(&'w Endpoint, W::Held)> {
    let there = world.endpoint(to).filter(|e| !e.is_host());
    let Some((endpoint, theirs)) = there.zip(world.connection(key)) else {
        connection.other_end.set(Connection::NOWHERE);
        return None;
    };
    if !endpoint.takes(frame) {
        return None;
    }
    // That end may have taken this one for lost: its interface, or its entry, was not there for a moment.
    theirs.meet(frame.ifindex);
    Some((endpoint, theirs))
}

/// Of a frame that took the long way through its verdict.
#[inline(always)]
pub(super) fn after<W: World>(
    world: &W,
    case: &Case<'_>,
    about: About,
    connection: &Connection,
    scratch: &mut Scratch,
) {
    let Scratch { packet, key, .. } = scratch;
    if about != About::Part || packet.piece != Piece::Whole as u8 || !packet.has_ports() {
        return;
    }
    if !case.outbound {
        connection.see(came_from(case.frame, case.endpoint));
        return;
    }
    // Options are for routers to read.
    let has_options = !matches!(packet.transport, AFTER_V4 | AFTER_V6);
    let to = target(case.settings, case.endpoint, connection, packet.hop_limit);
    let Some(to) = to.filter(|_| !has_options) else {
        return;
    };
    key.of(to, packet, false);
    if their_entry(world, case.frame, connection, to, key).is_some() {
        world.ask_there(to);
    }
}

/// The interface of another workload, perhaps, that a frame to this one comes from; 0 if it cannot be one.
#[inline(always)]
pub(super) fn came_from(frame: &Frame, to: &Endpoint) -> u32 {
    match frame.received || to.is_host() {
        true => 0,
        false => frame.came_from,
    }
}
