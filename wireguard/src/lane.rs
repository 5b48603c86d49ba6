//! The data path of one thread: batches of packets in, datagrams out, and back.
//!
//! ```text
//!  seal:  packet ─ destination ─► peer ─► session, endpoint ─► header | packet | padding | tag
//!  open:  datagram ─ index ─► session ─► tag ─► replay ─► source's owner == peer? ─► packet
//! ```
//!
//! A lane reads the device's last snapshot and changes nothing of the device's. What it cannot do itself
//! (no session yet, a peer that moved) it says in a [`Notice`], of which it keeps a bounded number.

mod open;
mod seal;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::aead::{Engine, Key};
use crate::packet;
use crate::peer_id::PeerId;
use crate::tables::{Reader, Tables};

pub use open::{Incoming, Received};
pub use seal::{Outgoing, Sent};

/// Packets that are handled together: as many as one GSO send takes.
pub const BATCH: usize = 64;
/// So few packets are handled with small arrays: filling large ones takes longer than they do.
pub(crate) const FEW: usize = 4;
/// Notices that wait for the device; packets that need one more are dropped.
const NOTICES: usize = 512;

/// Why a packet went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Not an IP packet, or not a WireGuard message.
    Malformed,
    /// No peer owns the destination.
    NoPeer,
    /// The peer has no known address and never spoke.
    NoEndpoint,
    /// The buffer has no room for header, padding and tag.
    NoRoom,
    /// The device is behind with its notices.
    Backlog,
    /// No session has this index.
    UnknownSession,
    /// The session is too old or used up.
    Expired,
    /// The tag is wrong.
    Forged,
    /// The counter was seen before, or is too old to tell.
    Replayed,
    /// The sender does not own the source address.
    WrongSource,
    /// The path signalled congestion to a flow that does not understand it (RFC 6040).
    Congested,
}

/// What a lane tells the device. Opaque: hand it to [`crate::device::Device::handle_notice`].
#[derive(Debug)]
pub struct Notice(pub(crate) Said);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A packet for a peer without a session.
    Stage(PeerId, Vec<u8>),
    /// Traffic began that timers must watch.
    Wake(PeerId),
    /// The session should be renewed.
    Rekey(PeerId),
    /// The first packet on a session that we answered: its initiator has the keys.
    Confirmed(PeerId, u32),
    /// The peer's newest packet came from another address.
    Roamed(PeerId, SocketAddr),
}

/// One thread's end of a device. Make it with [`crate::device::Device::lane`].
pub struct Lane {
    tables: Reader<Tables>,
    engine: Engine,
    notices: VecDeque<Notice>,
    /// Fills the places of packets that are not encrypted.
    idle: Key,
}

impl Lane {
    pub(crate) fn new(tables: Reader<Tables>, engine: Engine) -> Lane {
        Lane {
            tables,
            engine,
            notices: VecDeque::new(),
            idle: Key::new([0; 32]),
        }
    }

    /// Lets go of an outdated snapshot and the session keys in it. Every batch does so; a driver whose
    /// lane may be idle for minutes calls it now and then, so that erased keys leave memory.
    pub fn refresh(&mut self) {
        self.tables.refresh();
    }

    /// Longest packet on the path to the peer that owns the destination of `packet`, of which the IP
    /// header is enough: decides how much padding it gets. `None` when nobody owns it.
    pub fn mtu_to(&mut self, packet: &[u8]) -> Option<u16> {
        self.tables.refresh();
        let tables = self.tables.get();
        let peer = tables.routes.lookup(packet::destination(packet)?)?;
        Some(tables.peer(peer)?.mtu)
    }

    /// Whether there is something that the device must hear.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The next thing the device must hear, oldest first. Ask after every batch.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

/// Adds a notice unless the last one said the same; false when there is no room.
fn say(notices: &mut VecDeque<Notice>, said: Said) -> bool {
    if notices.back().is_some_and(|last| last.0 == said) {
        return true;
    }
    let room = notices.len() < NOTICES;
    if room {
        notices.push_back(Notice(said));
    }
    room
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("engine", &self.engine)
            .field("notices", &self.notices.len())
            .finish_non_exhaustive()
    }
}
