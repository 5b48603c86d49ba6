//! The timers of the paper, one deadline for each peer.

use super::{
    Device, ERASE_AFTER_TIME, Event, KEEPALIVE_TIMEOUT, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
};
use crate::peer::Peer;
use crate::peer_id::PeerId;
use crate::time::{Now, Time};

impl Device {
    /// Does what is due: retries, keepalives, new handshakes, erasure.
    pub fn handle_timeout(&mut self, now: Now) {
        let mut due = Vec::new();
        self.wheel.expire(now.mono, &mut due);
        for id in due.into_iter().map(PeerId::new) {
            // Timers that were replaced by earlier ones are still in the wheel.
            let deadline = self.peer_mut(id).map(|peer| &mut peer.deadline);
            if deadline
                .and_then(|d| d.take_if(|d| *d <= now.mono))
                .is_some()
            {
                self.service(now, id);
            }
        }
        self.publish();
    }

    /// Does what is due for one peer and sets its next deadline.
    pub(super) fn service(&mut self, now: Now, id: PeerId) {
        let at = now.mono;
        self.retry(now, id);
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        let answer_due = owed_at(peer).is_some_and(|due| due <= at);
        let silence_due = silent_at(peer).is_some_and(|due| due <= at);
        let hole_due = keepalive_at(peer, at).is_some_and(|due| due <= at);
        let erase_due = erase_at(peer).is_some_and(|due| due <= at);
        if answer_due {
            peer.activity.forget_owed();
        }
        if silence_due {
            peer.activity.forget_waiting();
        }
        if hole_due {
            peer.keepalive_at = peer.config.persistent_keepalive.map(|every| at + every);
        }
        if erase_due {
            self.erase(id);
        }
        if silence_due {
            self.initiate(now, id);
        }
        let is_said = (answer_due || hole_due) && self.send_keepalive(now, id);
        if hole_due && !is_said {
            // The way through the NAT must stay open even when the session has died.
            self.initiate(now, id);
        }
        self.watch(id, at);
    }

    /// Sends the next initiation of a row, or ends it.
    fn retry(&mut self, now: Now, id: PeerId) {
        let attempt = self.peer(id).and_then(|peer| peer.attempt.as_ref());
        let Some(attempt) = attempt.filter(|a| a.retry_at <= now.mono) else {
            return;
        };
        let started = attempt.started;
        if now.mono.since(started) < REKEY_ATTEMPT_TIME {
            self.send_initiation(now, id, started);
            return;
        }
        self.cancel_attempt(id);
        if let Some(peer) = self.peer_mut(id) {
            peer.staged.clear();
            if let Some(session) = peer.sessions.current() {
                session.allow_rekey();
            }
        }
        self.tell(Event::Unanswered(id));
    }

    /// Erases all session keys of a peer.
    fn erase(&mut self, id: PeerId) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        let sessions = peer.sessions.take();
        self.drop_sessions(sessions);
        self.export(id);
        self.tell(Event::Erased(id));
    }

    /// Sets the next deadline of a peer.
    pub(super) fn watch(&mut self, id: PeerId, now: Time) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        peer.activity.set_armed(true);
        let mut next = next_deadline(peer, now);
        if owed_at(peer).is_some() || silent_at(peer).is_some() {
            // Lanes will not wake us for what begins meanwhile; nothing of it is due earlier than this.
            let look = now + KEEPALIVE_TIMEOUT;
            next = next.map(|next| next.min(look));
        } else {
            peer.activity.set_armed(false);
            // A lane that began something before that line relied on us.
            next = next_deadline(peer, now);
        }
        if peer.deadline != next {
            peer.deadline = None;
            if let Some(next) = next {
                self.arm(id, next);
            }
        }
    }

    /// Sees to it that the peer is looked at by `at`.
    pub(super) fn arm(&mut self, id: PeerId, at: Time) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        if peer.deadline.is_none_or(|deadline| at < deadline) {
            peer.deadline = Some(at);
            self.wheel.set(id.get(), at);
        }
    }
}

fn next_deadline(peer: &mut Peer, now: Time) -> Option<Time> {
    [
        peer.attempt.as_ref().map(|a| a.retry_at),
        owed_at(peer),
        silent_at(peer),
        keepalive_at(peer, now),
        erase_at(peer),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// When the peer's data must have an answer, if only an empty one.
fn owed_at(peer: &Peer) -> Option<Time> {
    peer.activity
        .owed_since()
        .map(|since| since + KEEPALIVE_TIMEOUT)
}

/// When our data has been unanswered for too long: the peer has lost the session.
fn silent_at(peer: &Peer) -> Option<Time> {
    peer.activity
        .waiting_since()
        .map(|since| since + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT)
}

/// When the next persistent keepalive is due: an interval after the last packet of either side.
fn keepalive_at(peer: &mut Peer, now: Time) -> Option<Time> {
    let every = peer.config.persistent_keepalive?;
    let known = peer.keepalive_at.unwrap_or(now);
    let by_traffic = peer.activity.last().map_or(known, |last| last + every);
    let at = Time::max(known, by_traffic);
    peer.keepalive_at = Some(at);
    Some(at)
}

fn erase_at(peer: &Peer) -> Option<Time> {
    peer.sessions.born().map(|born| born + ERASE_AFTER_TIME)
}
