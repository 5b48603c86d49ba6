//! Our own restart (RFC 4724 §4.1): what is waited for before routes are chosen, announced and swept.
//!
//! ```text
//!  start ── everybody has spoken, or ──► chosen: ── everybody has spoken, or ──► over: what the kernel has
//!           those that are up have,      announced,  `deferral` is over         from before and nobody said
//!           and `absent` is over         written                                again goes
//! ```
//!
//! A peer that is away must not keep those that are there waiting; what it said before our restart stays in the kernel
//! for longer, since it may only be slow to connect.

use std::time::Instant;

use tracing::info;

use super::Engine;
use crate::fsm::Deferral;
use crate::rib::PeerId;
use crate::speaker::config::Config;

/// See the module.
pub(super) struct Comeback {
    waiting: Deferral<PeerId>,
    /// From then on, those that are not up are not waited for.
    absent_at: Instant,
    /// From then on, nobody is.
    end_at: Instant,
    chosen: bool,
}

impl Comeback {
    /// `None` where we have not restarted.
    pub(super) fn new(config: &Config, now: Instant) -> Option<Comeback> {
        config.restarted.then(|| Comeback {
            waiting: Deferral::new([]),
            absent_at: now + config.absent,
            end_at: now + config.deferral,
            chosen: false,
        })
    }

    /// Who is waited for: all that are configured at the start.
    pub(super) fn wait_for(&mut self, waiting: Deferral<PeerId>) {
        self.waiting = waiting;
    }

    /// Where peers are waited for, their sessions and the ends of their routes are told to this.
    pub(super) fn waiting(&mut self) -> &mut Deferral<PeerId> {
        &mut self.waiting
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self, now: Instant) -> Instant {
        match self.chosen || self.absent_at <= now {
            true => self.end_at,
            false => self.absent_at,
        }
    }

    /// Whether nothing may be written yet.
    pub(super) fn is_silent(&self) -> bool {
        !self.chosen
    }
}

impl Engine {
    /// Chooses, and ends the waiting, where it is time for that.
    pub(super) fn come_back(&mut self) {
        let Some(comeback) = &mut self.comeback else {
            return;
        };
        let late = comeback.end_at <= self.now;
        let over = late || comeback.waiting.is_over();
        let is_up = |id: PeerId| self.peers.get(&id).is_some_and(|p| p.up.is_some());
        let enough = comeback.absent_at <= self.now
            && self.peers.values().any(|p| p.up.is_some())
            && comeback.waiting.is_over_for(is_up);
        if !comeback.chosen && (over || enough) {
            comeback.chosen = true;
            self.rib.set_deferred(false);
            if !over {
                info!("routes are chosen without the peers that are away");
            }
        }
        if over {
            if late {
                info!("not all peers came back in time: what they said before is forgotten");
            }
            self.comeback = None;
            // Who comes up only now has nothing to gain from our having restarted.
            for peer in self.peers.values_mut() {
                peer.arbiter.set_config(&peer.config.session);
            }
        }
    }
}
