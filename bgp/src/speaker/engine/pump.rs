//! What was decided goes out: to peers as far as their sockets take it, and to the kernel batch by batch.

use model::Family;
use tracing::debug;

use super::Engine;
use super::comeback::Comeback;
use crate::arbiter::Side;
use crate::attributes::NextHop;
use crate::fsm::Input;
use crate::rib::{KernelHop, PeerId};
use crate::speaker::peer::SIDES;
use crate::speaker::routes::{BATCH, Job, RouteChange, Via};

/// Rounds of rendering and writing in one turn, so that reading is not forgotten.
const ROUNDS: usize = 16;
/// Batches given to the kernel's thread and not written yet: it need not wait while we read a full turn of UPDATEs.
const IN_FLIGHT: usize = 8;

impl Engine {
    /// Decides and sends.
    pub(super) fn pump(&mut self) {
        self.come_back();
        self.rib.decide();
        self.more_to_send = false;
        for round in 0..ROUNDS {
            let peers = std::cell::RefCell::new(&mut self.peers);
            let more = self.rib.transmit(
                |id| {
                    let mut peers = peers.borrow_mut();
                    let conn = peers.get_mut(&id).and_then(|p| p.route_conn());
                    conn.is_some_and(|c| c.has_room())
                },
                |id, message| {
                    let mut peers = peers.borrow_mut();
                    if let Some(peer) = peers.get_mut(&id) {
                        peer.traffic.messages_out += 1;
                        if let Some(conn) = peer.route_conn() {
                            conn.push(message);
                        }
                    }
                },
            );
            self.flush();
            if !more {
                break;
            }
            self.more_to_send = round + 1 == ROUNDS;
        }
        self.feed_kernel();
    }

    fn flush(&mut self) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            for side in SIDES {
                self.flush_one(id, side);
            }
        }
    }

    fn flush_one(&mut self, id: PeerId, side: Side) {
        let conn = self.peers.get_mut(&id).map(|p| p.conns.get_mut(side));
        let Some(Some(conn)) = conn else {
            return;
        };
        if conn.connecting.is_some() || conn.queued() == 0 {
            return;
        }
        let input = match conn.flush() {
            Ok(progress) => {
                let empty = conn.queued() == 0;
                // A socket that is still as full as before is no news: the send hold timer runs.
                if !progress && conn.told_full || empty && !conn.told_full {
                    return;
                }
                conn.told_full = !empty;
                Input::Wrote { empty }
            }
            Err(e) => {
                // What the other side said last may still be there to read: the end of it is seen there.
                debug!("cannot write to a BGP connection: {e}");
                return;
            }
        };
        self.input(id, side, input);
    }

    fn feed_kernel(&mut self) {
        if self.comeback.as_ref().is_some_and(Comeback::is_silent) {
            return;
        }
        while self.routes_busy < IN_FLIGHT && self.feed_batch() {}
    }

    /// Whether there was something to write.
    fn feed_batch(&mut self) -> bool {
        let mut batch = Vec::new();
        for family in Family::ALL {
            let left = BATCH.saturating_sub(batch.len());
            for change in self.rib.kernel_changes(family, left) {
                let via = change.hops.iter().map(|hop| self.via(hop)).collect();
                batch.push(RouteChange {
                    prefix: change.prefix,
                    via,
                });
            }
        }
        if !batch.is_empty() {
            let sent = self.routes.send(Job::Apply(batch)).is_ok();
            self.routes_busy += usize::from(sent);
            return sent;
        }
        if !self.settled && self.comeback.is_none() {
            self.settled = true;
            let _ = self.routes.send(Job::Settled);
        }
        false
    }

    fn via(&self, hop: &KernelHop) -> Via {
        let interface = self.peers.get(&hop.peer);
        let interface = interface.and_then(|p| p.config.interface.clone());
        let link_local = matches!(hop.hop, NextHop::LinkLocal(_));
        Via {
            gateway: hop.hop.address(),
            interface: interface.filter(|_| link_local),
        }
    }
}
