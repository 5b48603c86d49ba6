//! Handshakes: asking for sessions, answering, and who is worth an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Device, Event, Identity, REKEY_TIMEOUT};
use crate::entropy;
use crate::message::{self, CookieReply, Initiation, Macs, Message, Response};
use crate::noise;
use crate::peer::Attempt;
use crate::peer_id::PeerId;
use crate::session::{Role, Session};
use crate::time::{Now, Time};
use crate::timestamp::Timestamp;

/// Initiations of one peer are answered at most this often.
const INITIATION_PAUSE: Duration = Duration::from_millis(20);
/// Retries are spread over a third of a second, so that peers do not meet in step for ever.
const JITTER_NANOS: u32 = 333_000_000;

impl Device {
    /// Handles a datagram that is not a transport message. `is_backlogged`: the queue it came from is
    /// filling up, so senders have to prove their address.
    pub fn handle_handshake(
        &mut self,
        now: Now,
        source: SocketAddr,
        datagram: &[u8],
        is_backlogged: bool,
    ) {
        match Message::parse(datagram) {
            Some(Message::Initiation(m)) => self.handle_initiation(now, source, &m, is_backlogged),
            Some(Message::Response(m)) => self.handle_response(now, source, &m, is_backlogged),
            Some(Message::CookieReply(m)) => self.handle_cookie_reply(now.mono, &m),
            Some(Message::Transport(_)) | None => {}
        }
        self.publish();
    }

    fn handle_initiation(
        &mut self,
        now: Now,
        source: SocketAddr,
        m: &Initiation<'_>,
        is_backlogged: bool,
    ) {
        // Whoever does not know our key does not cost a curve operation.
        let addressed = std::iter::once(&self.identity)
            .chain(&self.other_identity)
            .find(|identity| identity.macs.is_mac1_right(&m.macs));
        let Some(macs) = addressed.map(|identity| identity.macs.clone()) else {
            return;
        };
        if self.load.note(now.mono, is_backlogged) {
            let proved = self
                .cookies
                .is_mac2_right(&m.macs, source, now.mono, &mut *self.entropy);
            if !proved {
                let reply = self.cookies.reply(
                    &macs,
                    m.sender,
                    m.macs.mac1,
                    source,
                    now.mono,
                    &mut *self.entropy,
                );
                if let Some(reply) = reply {
                    self.transmit(source, 0, reply.to_vec());
                }
                return;
            }
            if !self.limiter.admit(source.ip(), now.mono) {
                return;
            }
        }
        let ephemeral = Zeroizing::new(entropy::bytes(&mut *self.entropy));
        let Some(identity) = self.identity_for(&m.macs) else {
            return;
        };
        let Ok(received) = noise::receive(&identity.local, m.noise, ephemeral) else {
            return;
        };
        let Some(id) = self.by_key.get(&received.remote).copied() else {
            tracing::debug!(peer = %received.remote, "initiation from a key that no peer has");
            return;
        };
        let (local_index, remote) = (self.fresh_index(), received.remote);
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        let is_replay = peer.heard.is_some_and(|(stamp, at)| {
            received.timestamp <= stamp || now.mono.since(at) < INITIATION_PAUSE
        });
        if is_replay {
            return;
        }
        peer.heard = Some((received.timestamp, now.mono));
        let psks = peer.config.preshared_keys();
        let Some(psk) = psks.get(peer.answers % psks.len().max(1)) else {
            return;
        };
        let Ok((noise, keys)) = received.respond(psk) else {
            return;
        };
        peer.answers = peer.answers.wrapping_add(1);
        let mut answer = message::response(local_index, m.sender, &noise);
        peer.signer_of(&remote).sign(&mut answer, now.mono);
        let session = Session::new(
            id,
            Role::Responder,
            (local_index, m.sender),
            now.mono,
            &keys,
        );
        let session = Arc::new(session);
        let pushed_out = peer.sessions.offer(Arc::clone(&session));
        peer.activity.sent(now.mono, answer.len() as u64, false);
        self.admit_session(session, pushed_out);
        self.roam(id, source);
        // A pinned peer is answered where it is said to be.
        let destination = self.peer(id).and_then(|p| p.endpoint).unwrap_or(source);
        self.transmit(destination, 0, answer.to_vec());
        self.service(now, id);
    }

    fn handle_response(
        &mut self,
        now: Now,
        source: SocketAddr,
        m: &Response<'_>,
        is_backlogged: bool,
    ) {
        // The index is a secret of this handshake's two ends and proves as much as a cookie would.
        let Some(id) = self.attempts.get(&m.receiver).copied() else {
            return;
        };
        if self.identity_for(&m.macs).is_none() {
            return;
        }
        if self.load.note(now.mono, is_backlogged) && !self.limiter.admit(source.ip(), now.mono) {
            return;
        }
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        let psks = peer.config.preshared_keys();
        let Some(attempt) = peer.attempt.as_mut().filter(|a| a.index == m.receiver) else {
            return;
        };
        let Ok(keys) = attempt.state.finish(m.noise, psks.iter()) else {
            return;
        };
        peer.attempt = None;
        peer.last_handshake = Some(now.mono);
        let session = Session::new(id, Role::Initiator, (m.receiver, m.sender), now.mono, &keys);
        let session = Arc::new(session);
        let pushed_out = peer.sessions.begin(Arc::clone(&session));
        peer.activity
            .received(now.mono, message::RESPONSE_LEN as u64, false);
        self.attempts.remove(&m.receiver);
        self.admit_session(session, pushed_out);
        self.roam(id, source);
        self.export(id);
        self.tell(Event::Established(id));
        // The responder may send only once it has heard from us.
        if !self.send_staged(now, id) {
            self.send_keepalive(now, id);
        }
        self.service(now, id);
    }

    fn handle_cookie_reply(&mut self, now: Time, m: &CookieReply<'_>) {
        let by_attempt = self.attempts.get(&m.receiver).copied();
        let by_session = || self.tables.session(m.receiver).map(|s| s.peer);
        let Some(peer) = by_attempt
            .or_else(by_session)
            .and_then(|id| self.peer_mut(id))
        else {
            return;
        };
        // The next message will carry it; sending one now would help whoever wants us busy.
        let other = peer.other_signer.as_mut();
        let _ = peer.signer.take_cookie(m, now) || other.is_some_and(|s| s.take_cookie(m, now));
    }

    fn identity_for(&self, macs: &Macs<'_>) -> Option<&Identity> {
        std::iter::once(&self.identity)
            .chain(&self.other_identity)
            .find(|identity| identity.macs.is_mac1_right(macs))
    }

    /// The peer has used a session that we answered for.
    pub(super) fn confirm(&mut self, now: Now, id: PeerId, index: u32) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        let Some(pushed_out) = peer.sessions.confirm(index) else {
            return;
        };
        peer.last_handshake = Some(now.mono);
        peer.answers = 0;
        self.drop_sessions(pushed_out);
        self.export(id);
        self.tell(Event::Established(id));
        self.send_staged(now, id);
    }

    /// Asks for a session, unless that was done just now.
    pub(super) fn initiate(&mut self, now: Now, id: PeerId) {
        if self.peer(id).is_some_and(|peer| peer.attempt.is_none()) {
            self.send_initiation(now, id, now.mono);
        }
    }

    /// Sends an initiation of the row that began at `started`, in place of the one before.
    pub(super) fn send_initiation(&mut self, now: Now, id: PeerId, started: Time) {
        self.cancel_attempt(id);
        let ephemeral = Zeroizing::new(entropy::bytes(&mut *self.entropy));
        let jitter = entropy::number(&mut *self.entropy) % JITTER_NANOS;
        let index = self.fresh_index();
        let Some(peer) = self
            .peers
            .get_mut(id.get() as usize)
            .and_then(Option::as_mut)
        else {
            return;
        };
        let Some(endpoint) = peer.endpoint else {
            return;
        };
        let stamp = Timestamp::after(peer.told, now.unix);
        let initiated = noise::initiate(
            &self.identity.local,
            &peer.config.public_key,
            stamp,
            ephemeral,
        );
        let Ok((state, noise)) = initiated else {
            tracing::warn!(peer = %peer.config.public_key, "a public key of small order: no handshake");
            return;
        };
        peer.told = Some(stamp);
        let mut datagram = message::initiation(index, &noise);
        peer.signer.sign(&mut datagram, now.mono);
        let retry_at = now.mono + REKEY_TIMEOUT + Duration::from_nanos(jitter.into());
        peer.attempt = Some(Attempt {
            started,
            retry_at,
            index,
            state,
        });
        peer.activity.sent(now.mono, datagram.len() as u64, false);
        self.attempts.insert(index, id);
        self.transmit(endpoint, 0, datagram.to_vec());
        self.arm(id, retry_at);
    }

    /// Gives up the initiation under way; whether there was one.
    pub(super) fn cancel_attempt(&mut self, id: PeerId) -> bool {
        let attempt = self.peer_mut(id).and_then(|peer| peer.attempt.take());
        if let Some(attempt) = &attempt {
            self.attempts.remove(&attempt.index);
        }
        attempt.is_some()
    }

    fn fresh_index(&mut self) -> u32 {
        loop {
            let index = entropy::number(&mut *self.entropy);
            if self.tables.session(index).is_none() && !self.attempts.contains_key(&index) {
                return index;
            }
        }
    }

    fn admit_session(
        &mut self,
        session: Arc<Session>,
        pushed_out: impl IntoIterator<Item = Arc<Session>>,
    ) {
        let (peer, born) = (session.peer, session.born);
        self.tables.add_session(session);
        self.is_changed = true;
        self.drop_sessions(pushed_out);
        self.arm(peer, born + super::ERASE_AFTER_TIME);
    }

    pub(super) fn drop_sessions(&mut self, sessions: impl IntoIterator<Item = Arc<Session>>) {
        for session in sessions {
            self.tables.remove_session(session.local_index);
            self.is_changed = true;
        }
    }
}
