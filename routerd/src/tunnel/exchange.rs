//! Agrees with every other node on a post-quantum preshared key: sockets, timers and the device around
//! [`wireguard::postquantum`].
//!
//! ```text
//!   desired state ─► who takes part ─┐                 ┌─► reconcile: the device tries these
//!   rotation ──────► this node's keys ┼─► Exchange ────┤      then
//!   UDP ───────────► datagrams ───────┘  (pure)        └─► UDP
//! ```
//!
//! Where the mesh wants none, nothing of this exists but the task that waits for it.

mod sockets;

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::api::{Health, Subsystem};
use model::resources::PostQuantum;
use model::state::NodeState;
use model::tunnel::Tunnel;
use tokio::sync::{mpsc, oneshot, watch};
use wireguard::Time;
use wireguard::keys::{PresharedKey, PublicKey};
use wireguard::postquantum::kem::KemKey;
use wireguard::postquantum::{Exchange, PairKeys, PairStatus, PeerSpec, Settings};
use wireguard::userspace::KernelEntropy;

use super::Keys;
use super::key::Seed;
use crate::reconcile;
use sockets::{BUFFER, Sockets};

/// A preshared key is replaced before this age where the configuration says nothing.
pub const ROTATE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Datagrams that are taken in before anything is answered.
const BATCH: usize = 64;
/// How often status is brought up to date, and a port that somebody had tried again.
const LOOK: Duration = Duration::from_secs(2);
/// Exchanges that may fail before status says so: about fifteen seconds of silence.
const PATIENCE: u32 = 3;
/// Names in a message.
const NAMED: usize = 5;

/// What this node proves itself with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The keys of its tunnel.
    pub keys: Keys,
    /// Of the pair that others encapsulate to.
    pub seed: Seed,
}

/// How the preshared key with a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Both ends have the same.
    pub is_agreed: bool,
    /// Handshakes may have been without one before so long ago.
    pub since: Option<Duration>,
}

/// By the peer's name; none: preshared keys are not wanted.
pub type Statuses = Option<BTreeMap<Arc<str>, PeerStatus>>;

enum Request {
    Secrets(Secrets),
    Statuses(oneshot::Sender<Statuses>),
}

/// Reaches the exchanges.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// This node has other keys.
    pub async fn secrets(&self, secrets: Secrets) {
        // The task ends only with the daemon.
        let _ = self.0.send(Request::Secrets(secrets)).await;
    }

    /// How each peer is.
    pub async fn statuses(&self) -> Statuses {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Statuses(reply)).await.ok()?;
        answer.await.ok()?
    }
}

/// The task.
pub struct Exchanger {
    node: Arc<str>,
    secrets: Secrets,
    rotate_every: Duration,
    desired: watch::Receiver<Arc<NodeState>>,
    reconcile: reconcile::Handle,
    health: watch::Sender<Option<Subsystem>>,
    inbox: mpsc::Receiver<Request>,
    start: Instant,
    running: Option<Running>,
}

/// What exists only where preshared keys are wanted.
struct Running {
    exchange: Exchange,
    specs: BTreeMap<Arc<str>, PeerSpec>,
    port: u16,
    fwmark: u32,
    sockets: Result<Sockets, String>,
}

impl Exchanger {
    /// The task, the way to reach it, and its part of status.
    pub fn new(
        node: Arc<str>,
        secrets: Secrets,
        rotate_every: Option<Duration>,
        desired: watch::Receiver<Arc<NodeState>>,
        reconcile: reconcile::Handle,
    ) -> (Exchanger, Handle, watch::Receiver<Option<Subsystem>>) {
        let (outbox, inbox) = mpsc::channel(16);
        let (health, view) = watch::channel(None);
        let this = Exchanger {
            node,
            secrets,
            rotate_every: rotate_every.unwrap_or(ROTATE_EVERY),
            desired,
            reconcile,
            health,
            inbox,
            start: Instant::now(),
            running: None,
        };
        (this, Handle(outbox), view)
    }

    /// Runs until nobody can reach it any more.
    pub async fn run(mut self) {
        let mut buffer = [0; BUFFER];
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.flush().await;
            let (is_running, start) = (self.running.is_some(), self.start);
            let timeout = (self.running.as_ref()).and_then(|r| r.exchange.poll_timeout());
            let sockets = (self.running.as_ref()).and_then(|r| r.sockets.as_ref().ok());
            let received = async {
                match sockets {
                    Some(sockets) => sockets.receive(&mut buffer).await,
                    None => pending().await,
                }
            };
            let due = async {
                match timeout {
                    Some(at) => tokio::time::sleep(at.since(now(start))).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = self.desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow().await;
                }
                request = self.inbox.recv() => match request {
                    Some(request) => self.handle(request),
                    None => return,
                },
                received = received => {
                    if let Ok((length, from)) = received {
                        self.take(&mut buffer, length, from);
                    }
                }
                () = due => {
                    if let Some(running) = &mut self.running {
                        running.exchange.handle_timeout(now(self.start));
                    }
                }
                _ = look.tick(), if is_running => self.look(),
            }
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Secrets(secrets) => {
                let before = std::mem::replace(&mut self.secrets, secrets);
                let Some(running) = &mut self.running else {
                    return;
                };
                let (keys, seed) = (&self.secrets.keys, &self.secrets.seed);
                let exchange = &mut running.exchange;
                exchange.set_private_keys(keys.current.clone(), keys.other.clone());
                if before.seed != *seed {
                    exchange.set_kem(KemKey::from_seed(seed));
                    exchange.renew(now(self.start));
                }
            }
            Request::Statuses(reply) => {
                let now = now(self.start);
                let status = |(node, status): (&Arc<str>, PairStatus)| {
                    let status = PeerStatus {
                        is_agreed: status.is_agreed,
                        since: status.since.map(|at| now.since(at)),
                    };
                    (Arc::clone(node), status)
                };
                let running = self.running.as_ref();
                // Who asked may have gone.
                let _ = reply.send(running.map(|r| r.exchange.statuses().map(status).collect()));
            }
        }
    }

    fn take(&mut self, buffer: &mut [u8; BUFFER], length: usize, from: SocketAddr) {
        let start = self.start;
        let Some(running) = &mut self.running else {
            return;
        };
        let Ok(sockets) = &running.sockets else {
            return;
        };
        let mut next = Ok((length, from));
        for _ in 0..BATCH {
            let Ok((length, from)) = next else { return };
            let datagram = buffer.get(..length).unwrap_or_default();
            running.exchange.handle_datagram(now(start), from, datagram);
            next = sockets.try_receive(buffer);
        }
    }

    /// Takes in who takes part.
    async fn follow(&mut self) {
        let desired = Arc::clone(&self.desired.borrow_and_update());
        let Some(tunnel) = &desired.tunnel else {
            if let Some(running) = &mut self.running {
                running.specs.clear();
                running.exchange.set_peers(now(self.start), BTreeMap::new());
            }
            return;
        };
        let is_wanted = tunnel.post_quantum != PostQuantum::Off;
        if self.running.is_none() && !(is_wanted && self.begin(tunnel).await) {
            return;
        }
        let start = self.start;
        let Some(running) = &mut self.running else {
            return;
        };
        if is_wanted && running.port != tunnel.post_quantum_port {
            running.port = tunnel.post_quantum_port;
            running.open();
        }
        if is_wanted {
            let is_required = tunnel.post_quantum == PostQuantum::Required;
            running.exchange.set_required(now(start), is_required);
        }
        let specs = specs(tunnel, |_| None);
        if specs != running.specs {
            running.specs.clone_from(&specs);
            running.exchange.set_peers(now(start), specs);
        }
    }

    /// Begins with what an earlier daemon left in the device.
    async fn begin(&mut self, tunnel: &Tunnel) -> bool {
        let entropy = match KernelEntropy::new() {
            Ok(entropy) => entropy,
            Err(e) => {
                tracing::warn!(error = %e, "no preshared keys");
                return false;
            }
        };
        let device = self.reconcile.tunnel().await.ok().flatten();
        let settings = Settings {
            node: Arc::clone(&self.node),
            private_key: self.secrets.keys.current.clone(),
            other_private_key: self.secrets.keys.other.clone(),
            kem: KemKey::from_seed(&self.secrets.seed),
            rotate_every: self.rotate_every,
            is_required: tunnel.post_quantum == PostQuantum::Required,
        };
        let mut exchange = Exchange::new(settings, Box::new(entropy));
        let found = specs(tunnel, |key| {
            let peer = device.as_ref()?.peers.get(&key)?;
            Some(PairKeys {
                first: peer
                    .preshared_key
                    .clone()
                    .unwrap_or_else(PresharedKey::none),
                other: peer.other_preshared_key.clone(),
            })
        });
        exchange.set_peers(now(self.start), found);
        let mut running = Running {
            exchange,
            specs: specs(tunnel, |_| None),
            port: tunnel.post_quantum_port,
            fwmark: tunnel.fwmark,
            sockets: Err(String::new()),
        };
        running.open();
        tracing::info!(port = running.port, wanted = ?tunnel.post_quantum, "agreeing on post-quantum preshared keys");
        self.running = Some(running);
        self.look();
        true
    }

    /// First the device, then the network: a word may say that the device has a key.
    async fn flush(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        let installs: Vec<_> = std::iter::from_fn(|| running.exchange.poll_install()).collect();
        let mut is_done = true;
        if !installs.is_empty() {
            tracing::debug!(peers = installs.len(), "preshared keys change");
            is_done = self.reconcile.preshared(installs).await == Ok(true);
        }
        let transmits = std::iter::from_fn(|| running.exchange.poll_transmit());
        let transmits: Vec<_> = transmits.collect();
        if let (true, Ok(sockets)) = (is_done, &running.sockets) {
            for transmit in &transmits {
                sockets.send(transmit.destination, &transmit.datagram).await;
            }
        }
        let is_off = |desired: &NodeState| {
            let tunnel = desired.tunnel.as_ref();
            tunnel.is_none_or(|t| t.post_quantum == PostQuantum::Off)
        };
        if running.exchange.is_empty() && is_off(&self.desired.borrow()) {
            tracing::info!("no preshared keys any more");
            self.running = None;
            self.health.send_replace(None);
        }
    }

    /// Brings status up to date.
    fn look(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.sockets.is_err() {
            running.open();
        }
        let (state, message) = running.health();
        let health = Some(Subsystem {
            name: "preshared-keys".to_owned(),
            state,
            message,
        });
        self.health.send_if_modified(|old| {
            let is_new = *old != health;
            *old = health;
            is_new
        });
    }
}

impl Running {
    fn open(&mut self) {
        // The one before may have the port.
        self.sockets = Err(String::new());
        self.sockets = Sockets::open(self.port, self.fwmark).map_err(|e| e.to_string());
    }

    fn health(&self) -> (Health, String) {
        if let Err(e) = &self.sockets {
            let mend = "free it, or choose another spec.postQuantumPort";
            return (
                Health::Failed,
                format!("UDP port {}: {e}: {mend}", self.port),
            );
        }
        let (mut all, mut agreed, mut silent) = (0, 0, Vec::new());
        for (node, status) in self.exchange.statuses() {
            all += 1;
            agreed += usize::from(status.is_agreed);
            if !status.is_agreed && status.failures >= PATIENCE {
                silent.push(&**node);
            }
        }
        if silent.is_empty() {
            let message = format!("{agreed} of {all} peers have a post-quantum preshared key");
            return (Health::Ok, message);
        }
        let named = silent.iter().take(NAMED).copied().collect::<Vec<_>>();
        let more = match silent.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "no post-quantum preshared key with {}{more}: see that routerd runs there and UDP port {} is open between the nodes",
            named.join(", "),
            self.port
        );
        (Health::Degraded, message)
    }
}

fn now(start: Instant) -> Time {
    Time::from_duration(start.elapsed())
}

/// Who takes part, by name; `found`: what the device has for a key.
fn specs(
    tunnel: &Tunnel,
    found: impl Fn(PublicKey) -> Option<PairKeys>,
) -> BTreeMap<Arc<str>, PeerSpec> {
    let key = |key: model::tunnel::PublicKey| PublicKey::new(*key.as_bytes());
    let peers = tunnel.peers.iter();
    let spec = peers.map(|(public, peer)| {
        let next = peer.next_key.map(key);
        let spec = PeerSpec {
            public_key: key(*public),
            next_public_key: next,
            encapsulation_key: peer.encapsulation_key.clone(),
            endpoint: SocketAddr::new(peer.endpoint.ip(), tunnel.post_quantum_port),
            found: found(key(*public)).or_else(|| next.and_then(&found)),
        };
        (Arc::clone(&peer.node), spec)
    });
    spec.collect()
}

#[cfg(test)]
mod tests;
