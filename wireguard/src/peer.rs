//! A peer as its owner sees it: who it is, its sessions, and the handshake under way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::activity::Activity;
use crate::keys::{PresharedKey, PublicKey};
use crate::macs::Signer;
use crate::noise::Initiated;
use crate::session::Session;
use crate::time::Time;
use crate::timestamp::Timestamp;

/// Packets that wait for a session. The oldest goes when one more comes.
pub(crate) const STAGED: usize = 128;
/// Sessions that have been replaced but still receive what was under way.
const PREVIOUS: usize = 2;

/// What an operator (or the mesh) says about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The key that we start handshakes with.
    pub public_key: PublicKey,
    /// Another key of the same node, whose handshakes are answered as well: the old or the new one
    /// while the node changes keys.
    pub other_public_key: Option<PublicKey>,
    /// Shared secret mixed into every handshake; none is the same as one of zeros.
    pub preshared_key: Option<PresharedKey>,
    /// The old or the new one while it changes: tried as well.
    pub other_preshared_key: Option<PresharedKey>,
    /// Where the peer is, as far as known.
    pub endpoint: Option<SocketAddr>,
    /// Whether the endpoint stays even if authenticated packets come from elsewhere.
    pub pinned: bool,
    /// Send something this often though there is nothing to say: for a NAT on the way.
    pub persistent_keepalive: Option<Duration>,
    /// Longest inner packet on the path to this peer.
    pub mtu: u16,
}

impl PeerConfig {
    /// A peer with `public_key` and defaults: no preshared key, unknown roaming endpoint, MTU 1420.
    pub fn new(public_key: PublicKey) -> PeerConfig {
        PeerConfig {
            public_key,
            other_public_key: None,
            preshared_key: None,
            other_preshared_key: None,
            endpoint: None,
            pinned: false,
            persistent_keepalive: None,
            mtu: 1420,
        }
    }

    /// The preshared keys to try, the preferred one first.
    pub(crate) fn preshared_keys(&self) -> Vec<PresharedKey> {
        let first = self.preshared_key.clone();
        let first = first.unwrap_or_else(|| PresharedKey::new([0; 32]));
        std::iter::once(first)
            .chain(self.other_preshared_key.clone())
            .collect()
    }

    pub(crate) fn public_keys(&self) -> impl Iterator<Item = PublicKey> {
        std::iter::once(self.public_key).chain(self.other_public_key)
    }
}

pub(crate) struct Peer {
    pub(crate) config: PeerConfig,
    /// Where it is now: the configured endpoint, or where it has roamed to.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) signer: Signer,
    /// For answers to its other key.
    pub(crate) other_signer: Option<Signer>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) sessions: Sessions,
    pub(crate) staged: VecDeque<Vec<u8>>,
    pub(crate) activity: Arc<Activity>,
    /// Time stamps of the last initiation to it and from it.
    pub(crate) told: Option<Timestamp>,
    pub(crate) heard: Option<(Timestamp, Time)>,
    /// When its timer will be looked at.
    pub(crate) deadline: Option<Time>,
    /// When the next persistent keepalive is due, as far as known.
    pub(crate) keepalive_at: Option<Time>,
    pub(crate) last_handshake: Option<Time>,
    /// Answers given since one was confirmed: the preshared keys take turns.
    pub(crate) answers: usize,
}

/// An initiation that waits for its answer.
pub(crate) struct Attempt {
    /// When the first of the row was sent.
    pub(crate) started: Time,
    pub(crate) retry_at: Time,
    pub(crate) index: u32,
    pub(crate) state: Initiated,
}

impl Peer {
    pub(crate) fn new(config: PeerConfig) -> Peer {
        Peer {
            endpoint: config.endpoint,
            signer: Signer::new(&config.public_key),
            other_signer: config.other_public_key.as_ref().map(Signer::new),
            config,
            attempt: None,
            sessions: Sessions::default(),
            staged: VecDeque::new(),
            activity: Arc::default(),
            told: None,
            heard: None,
            deadline: None,
            keepalive_at: None,
            last_handshake: None,
            answers: 0,
        }
    }

    /// Takes a changed configuration. Sessions go on.
    pub(crate) fn reconfigure(&mut self, config: PeerConfig) {
        if config.public_key != self.config.public_key {
            self.signer = Signer::new(&config.public_key);
        }
        if config.other_public_key != self.config.other_public_key {
            self.other_signer = config.other_public_key.as_ref().map(Signer::new);
        }
        let moved = config.endpoint.is_some() && config.endpoint != self.config.endpoint;
        if moved || config.pinned {
            self.endpoint = config.endpoint.or(self.endpoint);
        }
        self.keepalive_at = None;
        self.config = config;
    }

    /// Authenticates messages to the half of the peer that has `key`.
    pub(crate) fn signer_of(&mut self, key: &PublicKey) -> &mut Signer {
        match &mut self.other_signer {
            Some(other) if *key != self.config.public_key => other,
            _ => &mut self.signer,
        }
    }

    pub(crate) fn stage(&mut self, packet: Vec<u8>) {
        if self.staged.len() >= STAGED {
            self.staged.pop_front();
        }
        self.staged.push_back(packet);
    }
}

/// The sessions of one peer that still receive, and the one to send with.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    current: Option<Arc<Session>>,
    /// Answered, but the initiator has not used it yet.
    next: Option<Arc<Session>>,
    previous: VecDeque<Arc<Session>>,
}

impl Sessions {
    pub(crate) fn current(&self) -> Option<&Arc<Session>> {
        self.current.as_ref()
    }

    /// A session that we asked for: the peer has its keys, so use it at once. Returns what it pushes out.
    ///
    /// One that the peer asked for at the same time only receives from here on. Else both ends would send with
    /// the session of the other, and each leave it to the other to renew it.
    pub(crate) fn begin(&mut self, session: Arc<Session>) -> Vec<Arc<Session>> {
        let old = self.current.replace(session);
        self.previous
            .extend(old.into_iter().chain(self.next.take()));
        let surplus = self.previous.len().saturating_sub(PREVIOUS);
        self.previous.drain(..surplus).collect()
    }

    /// A session that the peer asked for: it waits for the peer's first packet.
    pub(crate) fn offer(&mut self, session: Arc<Session>) -> Option<Arc<Session>> {
        self.next.replace(session)
    }

    /// The peer has used the session `index`. `Some` when it is the one that waited; with what it
    /// pushes out.
    pub(crate) fn confirm(&mut self, index: u32) -> Option<Vec<Arc<Session>>> {
        let next = self.next.take_if(|next| next.local_index == index)?;
        Some(self.begin(next))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.current.iter().chain(&self.next).chain(&self.previous)
    }

    /// When the youngest was born.
    pub(crate) fn born(&self) -> Option<Time> {
        self.iter().map(|s| s.born).max()
    }

    pub(crate) fn take(&mut self) -> Vec<Arc<Session>> {
        let all = self.iter().cloned().collect();
        *self = Sessions::default();
        all
    }
}
