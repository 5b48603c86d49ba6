//! The one thread that owns sessions, sockets and the RIB.
//!
//! ```text
//!  poll ─► read a turn of each peer ─► sessions ─► RIB
//!    ▲     timers, commands, BFD ─────────┘          │ decide once a turn
//!    └── write what sockets take ◄── transmit ◄──────┴─► batches for the kernel, as it takes them
//! ```

mod comeback;
mod commands;
mod obey;
mod observe;
mod pump;
mod reconfigure;
mod sockets;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use model::Cidr;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use super::Command;
use super::bfd::BfdThread;
use super::config::Config;
use super::connection::Linger;
use super::mailbox::Receiver;
use super::peer::{Peer, SIDES};
use super::routers::Routers;
use super::routes::Job;
use crate::arbiter::Side;
use crate::attributes::Attributes;
use crate::fsm::{HelperOutput, Input};
use crate::rib::{PeerId, Rib};
use comeback::Comeback;

/// Random numbers for jitter; nothing depends on their being hard to guess.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new() -> Dice {
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Dice(seed | 1)
    }

    /// Between 0 and 1.
    pub(super) fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Commands,
    Listener(usize),
    Peer(PeerId, Side),
    Linger(usize),
}

/// See the module.
pub(super) struct Engine {
    config: Config,
    rib: Rib,
    peers: BTreeMap<PeerId, Peer>,
    listeners: Vec<TcpListener>,
    /// While connections cannot be accepted: when that is tried again.
    accept_at: Option<Instant>,
    lingering: Vec<Linger>,
    commands: Receiver<Command>,
    /// Our own routes.
    announced: BTreeMap<Cidr, Attributes>,
    routes: mpsc::Sender<Job>,
    /// Batches that are being written.
    routes_busy: usize,
    /// The sink knows that everything was given once.
    settled: bool,
    bfd: BfdThread,
    routers: Routers,
    /// While peers are waited for after our restart.
    comeback: Option<Comeback>,
    dice: Dice,
    now: Instant,
    /// A peer that can be written to has not heard everything.
    more_to_send: bool,
    scratch: Vec<u8>,
}

/// Why the thread ends.
pub(super) enum End {
    /// With a word to the peers, or without one so that they keep our routes.
    Stop(super::Goodbye),
}

impl Engine {
    /// Runs until it is told to end.
    pub(super) fn run(mut self) {
        loop {
            let ready = self.wait();
            self.now = Instant::now();
            for (source, flags) in ready {
                match source {
                    Source::Commands => self.commands.hush(),
                    Source::Listener(at) => self.accept(at),
                    Source::Peer(peer, side) => self.ready(peer, side, flags),
                    Source::Linger(at) => {
                        if let Some(linger) = self.lingering.get_mut(at)
                            && !linger.drain()
                        {
                            linger.until = self.now;
                        }
                    }
                }
            }
            while let Ok(Some(command)) = self.commands.take() {
                if let Some(End::Stop(goodbye)) = self.command(command) {
                    self.stop(&goodbye);
                    return;
                }
            }
            // After what came: a KEEPALIVE that waited in the socket is no silence.
            self.now = Instant::now();
            self.expire();
            self.pump();
        }
    }

    /// Waits for the next thing to do.
    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut fds = vec![PollFd::new(self.commands.fd(), PollFlags::POLLIN)];
        let mut sources = vec![Source::Commands];
        let listeners = self.listeners.iter().enumerate();
        for (at, listener) in listeners.filter(|_| self.accept_at.is_none()) {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            sources.push(Source::Listener(at));
        }
        for peer in self.peers.values() {
            for side in SIDES {
                let Some(conn) = peer.conns.get(side) else {
                    continue;
                };
                let mut flags = PollFlags::POLLIN;
                if conn.connecting.is_some() || conn.queued() > 0 {
                    flags |= PollFlags::POLLOUT;
                }
                fds.push(PollFd::new(conn.stream().as_fd(), flags));
                sources.push(Source::Peer(peer.id, side));
            }
        }
        for (at, linger) in self.lingering.iter().enumerate() {
            fds.push(PollFd::new(linger.stream().as_fd(), PollFlags::POLLIN));
            sources.push(Source::Linger(at));
        }
        if let Err(e) = poll(&mut fds, self.timeout())
            && e != nix::Error::EINTR
        {
            // Out of kernel memory, at worst: not a reason to spin.
            warn!("cannot wait for BGP sockets: {e}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let ready = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let ready = sources.into_iter().zip(ready);
        ready.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn timeout(&self) -> PollTimeout {
        if self.more_to_send {
            return PollTimeout::ZERO;
        }
        let peers = self.peers.values().filter_map(Peer::next_deadline);
        let lingering = self.lingering.iter().map(|l| l.until);
        let comeback = self.comeback.iter().map(|c| c.next_deadline(self.now));
        let next = peers.chain(lingering).chain(comeback);
        let next = next.chain(self.accept_at).min();
        let Some(next) = next else {
            return PollTimeout::NONE;
        };
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up: waking early would only mean waking twice.
        let millis = left.as_micros().div_ceil(1000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    }

    /// Everything whose time is up.
    fn expire(&mut self) {
        let now = self.now;
        self.lingering.retain(|l| l.until > now);
        self.accept_at = self.accept_at.filter(|at| *at > now);
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            while let Some((side, timer)) = self.peers.get_mut(&id).and_then(|p| p.expired(now)) {
                self.input(id, side, Input::Expired(timer));
            }
            self.expire_connecting(id);
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if peer.helper_at.is_some_and(|at| at <= now) {
                peer.helper_at = None;
                let sweeps = peer.helper.expired();
                self.help(id, sweeps);
            }
            if let Some(peer) = self.peers.get_mut(&id)
                && peer.idle_until.is_some_and(|at| at <= now)
            {
                peer.idle_until = None;
                self.start_peer(id);
            }
        }
    }

    fn jitter(&mut self) -> f64 {
        self.dice.roll()
    }

    /// The operator wants a peer.
    fn start_peer(&mut self, id: PeerId) {
        let jitter = self.jitter();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.config.shutdown.is_some()
            || peer.idle_until.is_some()
            || peer.config.is_unnumbered()
        {
            return;
        }
        let outputs = peer.arbiter.start(jitter);
        self.obey(id, outputs, None);
    }

    fn input(&mut self, id: PeerId, side: Side, input: Input<'_>) {
        let jitter = self.jitter();
        let body = match &input {
            Input::Message(frame) => Some(frame.body),
            _ => None,
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            let outputs = peer.arbiter.handle(side, input, jitter);
            self.obey(id, outputs, body);
        }
    }

    /// What becomes of routes kept over a peer's restart.
    fn help(&mut self, id: PeerId, outputs: Vec<HelperOutput>) {
        for output in outputs {
            match output {
                HelperOutput::Sweep(family) => self.rib.sweep_stale(id, family),
                HelperOutput::Arm(time) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.helper_at = Some(self.now + time);
                    }
                }
                HelperOutput::Disarm => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.helper_at = None;
                    }
                }
            }
        }
    }
}
