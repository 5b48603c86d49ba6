//! A WireGuard device: the owner of peers, handshakes and timers. No sockets, threads or clocks.
//!
//! ```text
//!            configuration          handshake datagrams, notices of lanes, time
//!                  ▼                                  ▼
//!  ┌───────────────────────── Device ──────────────────────────────┐      poll_transmit ─► UDP
//!  │ peers · allowed IPs · handshakes · cookies · timer wheel      │ ───► poll_event
//!  └──────────────┬────────────────────────────────────────────────┘      poll_timeout
//!                 │ publishes snapshots
//!                 ▼
//!  Lane (its own) and Device::lane() for as many threads as there are queues
//! ```
//!
//! A driver with one thread uses [`Device::handle_packets`] and [`Device::handle_datagrams`]. One with
//! more gives each data-path thread a [`Lane`], keeps the device on the handshake thread, and brings it
//! what lanes say ([`Device::handle_notice`]) and what they will not open ([`Device::handle_handshake`])
//! over bounded queues.
//!
//! After every call, in any order: [`Device::poll_transmit`] until `None`, [`Device::poll_event`] until
//! `None`, then wait no longer than [`Device::poll_timeout`] before [`Device::handle_timeout`]. Times
//! must not go back. Nothing here blocks or fails: what cannot be done is dropped, counted by the caller
//! through the packet's fate.

mod control;
mod handshake;
mod send;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::Cidr;

use crate::aead::{Engine, EngineChoice};
use crate::allowed_ips::AllowedIps;
use crate::entropy::Entropy;
use crate::keys::{PrivateKey, PublicKey};
use crate::lane::{Incoming, Lane, Notice, Outgoing, Received, Said};
use crate::limiter::{Limiter, Load};
use crate::macs::{CookieMaker, MacKeys};
use crate::noise::Local;
use crate::peer::{Peer, PeerConfig};
use crate::peer_id::PeerId;
use crate::tables::{PeerEntry, Published, Tables};
use crate::time::{Now, Time};
use crate::wheel::Wheel;

/// Datagrams that wait to be sent; further ones are lost, as on a wire.
const TRANSMITS: usize = 8192;
/// Events that wait to be read; the oldest go first.
const EVENTS: usize = 8192;

/// What holds for a device as a whole.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// The key that handshakes are started with.
    pub private_key: PrivateKey,
    /// Another key that is answered to: the old or the new one while this node changes keys.
    pub other_private_key: Option<PrivateKey>,
    /// Which cipher implementation to use.
    pub engine: EngineChoice,
    /// Handshake messages a second above which senders must prove their address first.
    pub busy_above: u32,
}

impl DeviceConfig {
    /// Defaults around a key: fastest cipher, busy above 250 handshake messages a second (some 5 % of
    /// what one core can answer).
    pub fn new(private_key: PrivateKey) -> DeviceConfig {
        DeviceConfig {
            private_key,
            other_private_key: None,
            engine: EngineChoice::Auto,
            busy_above: 250,
        }
    }
}

/// A datagram for the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// ECN bits for the outer header.
    pub ecn: u8,
    /// What.
    pub datagram: Vec<u8>,
}

/// Something an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake was completed.
    Established(PeerId),
    /// Ninety seconds of initiations had no answer; what waited for the session is dropped.
    Unanswered(PeerId),
    /// The peer speaks from another address now.
    Roamed(PeerId, SocketAddr),
    /// Nothing was said for so long that all keys of the peer's sessions are erased.
    Erased(PeerId),
}

/// How a peer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// When a handshake was completed last.
    pub last_handshake: Option<Time>,
    /// Whether a packet could leave at once.
    pub can_send: bool,
    /// Bytes of datagrams sent.
    pub sent_bytes: u64,
    /// Bytes of authenticated datagrams received.
    pub received_bytes: u64,
}

/// One of this node's identities.
struct Identity {
    local: Local,
    /// For messages to it.
    macs: MacKeys,
}

impl Identity {
    fn new(key: PrivateKey) -> Identity {
        let local = Local::new(key);
        Identity {
            macs: MacKeys::of(local.public()),
            local,
        }
    }
}

/// See the [module](self).
pub struct Device {
    /// Starts handshakes; the other one only answers.
    identity: Identity,
    other_identity: Option<Identity>,
    peers: Vec<Option<Peer>>,
    by_key: HashMap<PublicKey, PeerId>,
    allowed_ips: AllowedIps,
    /// Initiations under way, by the index that their answer will carry.
    attempts: HashMap<u32, PeerId>,
    wheel: Wheel,
    cookies: CookieMaker,
    load: Load,
    limiter: Limiter,
    entropy: Box<dyn Entropy>,
    engine: Engine,
    tables: Tables,
    published: Arc<Published<Tables>>,
    is_changed: bool,
    lane: Lane,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Device {
    /// A device without peers.
    pub fn new(config: DeviceConfig, entropy: Box<dyn Entropy>) -> Device {
        let published = Arc::new(Published::new(Tables::default()));
        let engine = Engine::select(config.engine);
        Device {
            identity: Identity::new(config.private_key),
            other_identity: config.other_private_key.map(Identity::new),
            peers: Vec::new(),
            by_key: HashMap::new(),
            allowed_ips: AllowedIps::default(),
            attempts: HashMap::new(),
            wheel: Wheel::new(),
            cookies: CookieMaker::new(),
            load: Load::new(config.busy_above),
            limiter: Limiter::default(),
            entropy,
            engine,
            tables: Tables::default(),
            lane: Lane::new(published.reader(), engine),
            published,
            is_changed: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A data path for one more thread.
    pub fn lane(&self) -> Lane {
        Lane::new(self.published.reader(), self.engine)
    }

    /// The key that peers know this device by.
    pub fn public_key(&self) -> PublicKey {
        *self.identity.local.public()
    }

    /// Changes this node's keys. Sessions go on; handshakes under way start anew.
    pub fn set_keys(&mut self, now: Now, key: PrivateKey, other: Option<PrivateKey>) {
        self.identity = Identity::new(key);
        self.other_identity = other.map(Identity::new);
        for id in self.ids() {
            if self.cancel_attempt(id) {
                self.initiate(now, id);
            }
        }
        self.publish();
    }

    /// Adds a peer, or changes the one with the same key (either of its keys). Sessions go on.
    /// `None` when two different peers have the keys, or `u32` ran out of peers.
    pub fn set_peer(&mut self, now: Now, config: PeerConfig) -> Option<PeerId> {
        let keys: Vec<PublicKey> = config.public_keys().collect();
        let mut known = keys.iter().filter_map(|key| self.by_key.get(key));
        let id = match known.next().copied() {
            Some(id) if known.any(|other| *other != id) => return None,
            Some(id) => id,
            None => {
                let id = u32::try_from(self.peers.len()).ok().map(PeerId::new)?;
                if id > PeerId::MAX {
                    return None;
                }
                self.peers.push(Some(Peer::new(config.clone())));
                id
            }
        };
        let peer = self.peer_mut(id)?;
        peer.reconfigure(config);
        self.by_key.retain(|_, owner| *owner != id);
        self.by_key.extend(keys.into_iter().map(|key| (key, id)));
        self.export(id);
        self.service(now, id);
        self.publish();
        Some(id)
    }

    /// Forgets a peer, its sessions and its allowed IPs.
    pub fn remove_peer(&mut self, id: PeerId) {
        self.forget(id);
        self.export_routes();
        self.publish();
    }

    /// The same, but for the lookup table: making it takes time in proportion to all prefixes.
    fn forget(&mut self, id: PeerId) {
        self.cancel_attempt(id);
        let Some(mut peer) = self.peers.get_mut(id.get() as usize).and_then(Option::take) else {
            return;
        };
        for session in peer.sessions.take() {
            self.tables.remove_session(session.local_index);
        }
        self.by_key.retain(|_, owner| *owner != id);
        self.allowed_ips.release_all(id);
        self.tables.set_peer(id, None);
    }

    /// The peer with `key`.
    pub fn peer_by_key(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// Changes who owns which prefixes, all at once: the data path sees all of it or nothing.
    /// `Some(peer)` gives a prefix to a peer, whoever had it; `None` takes it from everybody.
    pub fn set_allowed_ips(&mut self, changes: &[(Cidr, Option<PeerId>)]) {
        for (prefix, owner) in changes {
            match owner.filter(|id| self.peer(*id).is_some()) {
                Some(peer) => {
                    self.allowed_ips.assign(*prefix, peer);
                }
                None => self.allowed_ips.withdraw(prefix),
            }
        }
        self.export_routes();
        self.publish();
    }

    /// The prefixes of all peers.
    pub fn allowed_ips(&self) -> &AllowedIps {
        &self.allowed_ips
    }

    /// Sessions whose keys are held, of all peers: at most four each.
    pub fn session_count(&self) -> usize {
        self.tables.session_count()
    }

    /// How a peer is doing.
    pub fn status(&self, now: Time, id: PeerId) -> Option<PeerStatus> {
        use std::sync::atomic::Ordering::Relaxed;
        let peer = self.peer(id)?;
        Some(PeerStatus {
            endpoint: peer.endpoint,
            last_handshake: peer.last_handshake,
            can_send: peer.sessions.current().is_some_and(|s| s.can_send(now)),
            sent_bytes: peer.activity.sent_bytes.load(Relaxed),
            received_bytes: peer.activity.received_bytes.load(Relaxed),
        })
    }

    /// How all peers are doing.
    pub fn statuses(&self, now: Time) -> Vec<(PeerId, PeerStatus)> {
        let ids = self.ids().into_iter();
        ids.filter_map(|id| Some((id, self.status(now, id)?)))
            .collect()
    }

    /// Sends packets of the tunnel interface: seals what can go; what cannot yet waits for a session.
    /// Sealed ones are for the caller to transmit.
    pub fn handle_packets(&mut self, now: Now, packets: &mut [Outgoing<'_>]) {
        self.lane.seal(now.mono, packets);
        self.hear_own_lane(now);
    }

    /// Receives datagrams: opens transport messages in place and handles all others.
    pub fn handle_datagrams(&mut self, now: Now, datagrams: &mut [Incoming<'_>]) {
        // A packet that follows a handshake in the same batch needs its session.
        for run in datagrams.chunk_by_mut(|a, b| a.is_handshake() == b.is_handshake()) {
            self.lane.open(now.mono, run);
            self.hear_own_lane(now);
            for datagram in run.iter().filter(|d| *d.received() == Received::Handshake) {
                self.handle_handshake(now, datagram.source(), datagram.datagram(), false);
            }
        }
    }

    /// Takes what a [`Lane`] said.
    pub fn handle_notice(&mut self, now: Now, notice: Notice) {
        match notice.0 {
            Said::Stage(id, packet) => self.stage(now, id, packet),
            Said::Wake(id) => self.service(now, id),
            Said::Rekey(id) => self.initiate(now, id),
            Said::Confirmed(id, index) => self.confirm(now, id, index),
            Said::Roamed(id, endpoint) => self.roam(id, endpoint),
        }
        self.publish();
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Device::handle_timeout`] should be called at the latest; `None`: not before other calls.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.wheel.next()
    }

    fn hear_own_lane(&mut self, now: Now) {
        while let Some(notice) = self.lane.poll_notice() {
            self.handle_notice(now, notice);
        }
    }

    fn ids(&self) -> Vec<PeerId> {
        let taken = self
            .peers
            .iter()
            .zip(0..)
            .filter(|(peer, _)| peer.is_some());
        taken.map(|(_, n)| PeerId::new(n)).collect()
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.get() as usize)?.as_ref()
    }

    fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.get() as usize)?.as_mut()
    }

    fn roam(&mut self, id: PeerId, endpoint: SocketAddr) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        if peer.config.pinned || peer.endpoint == Some(endpoint) {
            return;
        }
        let is_first = peer.endpoint.replace(endpoint).is_none();
        self.export(id);
        if !is_first {
            self.tell(Event::Roamed(id, endpoint));
        }
    }

    /// Puts a peer's present state into the tables.
    fn export(&mut self, id: PeerId) {
        let entry = self.peer(id).map(|peer| PeerEntry {
            session: peer.sessions.current().cloned(),
            endpoint: peer.endpoint,
            pinned: peer.config.pinned,
            mtu: peer.config.mtu,
            activity: Arc::clone(&peer.activity),
        });
        self.tables.set_peer(id, entry);
        self.is_changed = true;
    }

    /// Puts the owners of prefixes into the tables.
    fn export_routes(&mut self) {
        self.tables.routes = self.allowed_ips.snapshot();
        self.is_changed = true;
    }

    /// Shows lanes what has changed.
    fn publish(&mut self) {
        if std::mem::take(&mut self.is_changed) {
            self.published.publish(self.tables.clone());
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn transmit(&mut self, destination: SocketAddr, ecn: u8, datagram: Vec<u8>) {
        if self.transmits.len() < TRANSMITS {
            self.transmits.push_back(Transmit {
                destination,
                ecn,
                datagram,
            });
        }
    }
}

/// How long after an event a timer of the paper fires.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Three times the life of a session.
pub(crate) const ERASE_AFTER_TIME: Duration = Duration::from_secs(540);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("public_key", self.identity.local.public())
            .field("peers", &self.by_key.len())
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Transmit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Transmit({} bytes to {})",
            self.datagram.len(),
            self.destination
        )
    }
}
