//! Connections are made, accepted, read and written.

use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{debug, warn};

use super::Engine;
use crate::arbiter::Side;
use crate::fsm::Input;
use crate::rib::PeerId;
use crate::speaker::connection::{Connection, Fill};
use crate::speaker::socket;
use crate::wire::{MessageType, frame};

/// Connections accepted in one turn.
const ACCEPTED: usize = 64;
/// Until connections are accepted again after one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn connect(&mut self, id: PeerId, side: Side) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.bad_signatures = socket::bad_signatures();
        match socket::connect(&peer.config) {
            Ok(stream) => {
                let until = self.now + peer.patience();
                *peer.conns.get_mut(side) = Some(Connection::new(stream, Some(until)));
            }
            Err(e) => self.connect_failed(id, side, &e),
        }
    }

    pub(super) fn expire_connecting(&mut self, id: PeerId) {
        let side = Side::Outgoing;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let conn = peer.conns.get(side).as_ref();
        let until = conn.and_then(|c| c.connecting);
        if until.is_some_and(|at| at <= self.now) {
            *peer.conns.get_mut(side) = None;
            self.connect_failed(id, side, &ErrorKind::TimedOut.into());
        }
    }

    /// Says why in words that an operator can act on.
    fn connect_failed(&mut self, id: PeerId, side: Side, error: &io::Error) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let to = format!("{} port {}", peer.config.address, peer.config.port);
        let signed = peer.config.password.is_some();
        let more_bad = socket::bad_signatures() > peer.bad_signatures;
        let words = match error.kind() {
            ErrorKind::ConnectionRefused => format!("TCP connection refused by {to}"),
            ErrorKind::TimedOut if signed || more_bad => {
                let seen = if more_bad {
                    "segments with a wrong TCP MD5 signature came meanwhile"
                } else {
                    "both sides have to have the same password"
                };
                format!("no answer from {to}: {seen}")
            }
            ErrorKind::TimedOut => format!("no answer from {to}{}", peer.ttl_hint()),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("no route to {to}: {error}")
            }
            ErrorKind::AddrNotAvailable => {
                let own = peer.config.local_address;
                format!("cannot connect to {to}: our address {own:?} is on no interface")
            }
            _ => format!("cannot connect to {to}: {error}"),
        };
        debug!(peer = peer.name, "{words}");
        peer.fail(words, self.now);
        self.input(id, side, Input::ConnectFailed);
    }

    pub(super) fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTED {
            let Some(listener) = self.listeners.get(at) else {
                return;
            };
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if socket::is_of_connection(&e) => continue,
                Err(e) => {
                    // Out of descriptors or memory: the connection stays in the queue, so looking at once again would
                    // only spin. Listeners alone are left out meanwhile; sessions go on.
                    warn!("cannot accept a BGP connection: {e}");
                    self.accept_at = Some(self.now + ACCEPT_AGAIN);
                    return;
                }
            };
            let mut peers = self.peers.values_mut();
            let known = peers.find(|p| socket::is_from(&p.config, from));
            let Some(peer) = known.filter(|p| p.arbiter.welcomes()) else {
                debug!("BGP connection from {from} is not welcome");
                continue;
            };
            match socket::accepted(stream, &peer.config) {
                Ok(stream) => {
                    let id = peer.id;
                    *peer.conns.get_mut(Side::Incoming) = Some(Connection::new(stream, None));
                    self.input(id, Side::Incoming, Input::Connected);
                }
                Err(e) => debug!(peer = peer.name, "cannot use a connection: {e}"),
            }
        }
    }

    /// Something happened on a peer's connection.
    pub(super) fn ready(&mut self, id: PeerId, side: Side, flags: PollFlags) {
        let conn = self.peers.get_mut(&id).map(|p| p.conns.get_mut(side));
        let Some(Some(conn)) = conn else {
            return;
        };
        if conn.connecting.is_some() {
            let outcome = match conn.stream().take_error() {
                Ok(None) => conn.stream().peer_addr().map(|_| ()),
                Ok(Some(e)) | Err(e) => Err(e),
            };
            match outcome {
                Ok(()) => {
                    conn.connecting = None;
                    self.input(id, side, Input::Connected);
                }
                Err(e) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        *peer.conns.get_mut(side) = None;
                    }
                    self.connect_failed(id, side, &e);
                }
            }
            return;
        }
        if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.read(id, side);
        }
    }

    /// One turn of reading: what has come, up to a bound.
    fn read(&mut self, id: PeerId, side: Side) {
        let conn = self.peers.get_mut(&id).map(|p| p.conns.get_mut(side));
        let Some(Some(conn)) = conn else {
            return;
        };
        let end = match conn.fill() {
            Ok(Fill::Nothing) => return,
            Ok(Fill::Data) => false,
            Ok(Fill::End) => true,
            Err(e) => {
                debug!("a BGP connection broke: {e}");
                true
            }
        };
        let bytes = conn.lend();
        self.expect(id, side, &bytes);
        let mut used = 0;
        // An input may end the connection, or begin another one on the same side with the next poll at the earliest.
        while self.has_conn(id, side) {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            let max = peer.arbiter.session(side).max_len();
            match frame::next(bytes.get(used..).unwrap_or_default(), max) {
                Ok(Some(frame)) => {
                    used += frame.len;
                    peer.traffic.messages_in += 1;
                    let known = matches!(frame.kind, MessageType::Open | MessageType::Notification);
                    if known {
                        debug!(peer = peer.name, kind = ?frame.kind, "BGP message");
                    }
                    self.input(id, side, Input::Message(frame));
                }
                Ok(None) => break,
                Err(notification) => {
                    self.input(id, side, Input::Garbled(notification));
                    break;
                }
            }
        }
        if let Some(Some(conn)) = self.peers.get_mut(&id).map(|p| p.conns.get_mut(side)) {
            conn.give_back(bytes, used);
            if end {
                self.input(id, side, Input::Closed);
                if let Some(peer) = self.peers.get_mut(&id) {
                    *peer.conns.get_mut(side) = None;
                }
            }
        }
    }

    /// Tells the RIB of the UPDATEs of a turn before the first of them.
    fn expect(&self, id: PeerId, side: Side, mut bytes: &[u8]) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Some((_, agreed)) = peer.up.as_ref().filter(|(up, _)| *up == side) else {
            return;
        };
        while let Ok(Some(frame)) = frame::next(bytes, agreed.context.max_len()) {
            if frame.kind == MessageType::Update {
                self.rib.expect(frame.body, &agreed.context);
            }
            bytes = bytes.get(frame.len..).unwrap_or_default();
        }
    }

    fn has_conn(&self, id: PeerId, side: Side) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|p| p.conns.get(side).is_some())
    }
}
