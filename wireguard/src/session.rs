//! A transport session: the two keys that one handshake made, and what may still be done with them.
//!
//! Lanes share a session. Its only moving parts are the send counter (atomic: every nonce is handed out
//! once, whichever lane asks) and the replay window (locked for one batch at a time; a peer's packets
//! come from one flow, so one lane, and nobody waits).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aead::Key;
use crate::noise::SessionKeys;
use crate::peer_id::PeerId;
use crate::replay::ReplayWindow;
use crate::time::Time;

/// Messages and age after which the initiator asks for a new session.
pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Messages and age after which a session is dead.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// Who asked for the session; the same side asks for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// One session with one peer.
pub(crate) struct Session {
    pub(crate) peer: PeerId,
    pub(crate) role: Role,
    /// Our index: packets to us carry it.
    pub(crate) local_index: u32,
    /// The peer's.
    pub(crate) remote_index: u32,
    pub(crate) born: Time,
    pub(crate) send: Key,
    pub(crate) receive: Key,
    next_counter: AtomicU64,
    replay: Mutex<ReplayWindow>,
    /// Whether the peer is known to have the keys: at once for the initiator, with the first
    /// authenticated packet for the responder.
    confirmed: AtomicBool,
    rekey_wanted: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        peer: PeerId,
        role: Role,
        (local_index, remote_index): (u32, u32),
        born: Time,
        keys: &SessionKeys,
    ) -> Session {
        Session {
            peer,
            role,
            local_index,
            remote_index,
            born,
            send: Key::new(*keys.send),
            receive: Key::new(*keys.receive),
            next_counter: AtomicU64::new(0),
            replay: Mutex::new(ReplayWindow::new()),
            confirmed: AtomicBool::new(role == Role::Initiator),
            rekey_wanted: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_expired(&self, now: Time) -> bool {
        now.since(self.born) >= REJECT_AFTER_TIME
    }

    /// Whether packets may be sent with it now.
    pub(crate) fn can_send(&self, now: Time) -> bool {
        !self.is_expired(now)
            && self.next_counter.load(Relaxed) < REJECT_AFTER_MESSAGES
            && self.confirmed.load(Relaxed)
    }

    /// `count` counters that nobody else gets, or `None` when so many are not left.
    pub(crate) fn reserve(&self, count: u64) -> Option<Range<u64>> {
        let first = self
            .next_counter
            .fetch_update(Relaxed, Relaxed, |next| {
                next.checked_add(count)
                    .filter(|end| *end <= REJECT_AFTER_MESSAGES)
            })
            .ok()?;
        Some(first..first + count)
    }

    /// Counters handed out.
    pub(crate) fn sent(&self) -> u64 {
        self.next_counter.load(Relaxed)
    }

    /// Whether a counter is of a session that may still speak.
    pub(crate) fn can_receive(&self, counter: u64, now: Time) -> bool {
        counter < REJECT_AFTER_MESSAGES && !self.is_expired(now)
    }

    pub(crate) fn replay(&self) -> MutexGuard<'_, ReplayWindow> {
        // The window has no state that a panic elsewhere could leave half changed.
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Relaxed)
    }

    pub(crate) fn confirm(&self) {
        self.confirmed.store(true, Relaxed);
    }

    /// Whether sending now is a reason for a new handshake; true once.
    pub(crate) fn wants_rekey_on_send(&self, now: Time) -> bool {
        let due = self.sent() >= REKEY_AFTER_MESSAGES
            || (self.role == Role::Initiator && now.since(self.born) >= REKEY_AFTER_TIME);
        due && self.want_rekey()
    }

    /// Whether receiving now is one: late enough that keepalive and retry still fit before the end.
    pub(crate) fn wants_rekey_on_receive(&self, now: Time) -> bool {
        const AGE: Duration = Duration::from_secs(180 - 10 - 5);
        self.role == Role::Initiator && now.since(self.born) >= AGE && self.want_rekey()
    }

    fn want_rekey(&self) -> bool {
        !self.rekey_wanted.load(Relaxed) && !self.rekey_wanted.swap(true, Relaxed)
    }

    /// Lets the reasons count again, after a handshake that came to nothing.
    pub(crate) fn allow_rekey(&self) {
        self.rekey_wanted.store(false, Relaxed);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("role", &self.role)
            .field("born", &self.born)
            .field("sent", &self.sent())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn session(role: Role) -> Session {
        let keys = SessionKeys {
            send: [1; 32].into(),
            receive: [2; 32].into(),
        };
        Session::new(PeerId::new(0), role, (1, 2), Time::ZERO, &keys)
    }

    fn t(s: u64) -> Time {
        Time::from_duration(Duration::from_secs(s))
    }

    #[test]
    fn lanes_never_get_one_counter_twice() {
        let session = Arc::new(session(Role::Initiator));
        let lanes: Vec<_> = (1..=4)
            .map(|lane| {
                let session = Arc::clone(&session);
                std::thread::spawn(move || {
                    (0..2000)
                        .flat_map(|n| session.reserve(1 + (n * lane) % 7).unwrap())
                        .collect::<Vec<u64>>()
                })
            })
            .collect();
        let mut all: Vec<u64> = lanes.into_iter().flat_map(|l| l.join().unwrap()).collect();
        all.sort_unstable();
        let want: Vec<u64> = (0..session.sent()).collect();
        assert_eq!(all, want);
    }

    #[test]
    fn counters_end_before_they_wrap() {
        let session = session(Role::Initiator);
        assert!(session.reserve(REJECT_AFTER_MESSAGES - 5).is_some());
        assert!(session.reserve(6).is_none());
        assert_eq!(
            session.reserve(5),
            Some(REJECT_AFTER_MESSAGES - 5..REJECT_AFTER_MESSAGES)
        );
        for _ in 0..20_000 {
            assert!(session.reserve(1).is_none());
        }
        assert!(!session.can_send(t(0)));
    }

    #[test]
    fn ages() {
        let session = session(Role::Initiator);
        assert!(!session.wants_rekey_on_send(t(119)));
        assert!(session.wants_rekey_on_send(t(120)));
        assert!(!session.wants_rekey_on_send(t(121)), "asked already");
        session.allow_rekey();
        assert!(!session.wants_rekey_on_receive(t(164)));
        assert!(session.wants_rekey_on_receive(t(165)));
        assert!(session.can_send(t(179)) && session.can_receive(0, t(179)));
        assert!(!session.can_send(t(180)) && !session.can_receive(0, t(180)));
    }

    #[test]
    fn a_responder_waits_for_confirmation_and_leaves_rekeying_to_the_initiator() {
        let session = session(Role::Responder);
        assert!(!session.can_send(t(0)));
        session.confirm();
        assert!(session.can_send(t(0)));
        assert!(!session.wants_rekey_on_send(t(170)) && !session.wants_rekey_on_receive(t(170)));
    }
}
