//! The running speaker: sockets, clocks and threads around the core.
//!
//! ```text
//!  owner ── Command ──► engine thread: sessions, sockets, RIB ── batches ──► routes thread ──► RouteSink
//!        ◄── answer ──     ▲       │ a few at a time, the rest is a set       (the kernel)
//!                          │       └── what to watch ──► BFD thread: UDP 3784, 4784
//!                          └────────── up, down ◄────────────┘
//! ```
//!
//! Each state has one owner: the engine thread has the sessions and the RIB, the routes thread what the kernel refused,
//! the BFD thread its sessions. They exchange messages and share nothing. Everything that a peer can make grow is
//! bounded: bytes read a turn, bytes waiting for its socket, prefixes by `max_prefixes`; a peer that does not read costs
//! a set of prefixes.
//!
//! A fourth thread advertises us on links with unnumbered peers, and hears who else does.
//!
//! The threads live in the network namespace of the thread that calls [`Speaker::start`].

mod bfd;
mod config;
mod connection;
mod datagram;
mod engine;
mod error;
mod mailbox;
mod password;
mod peer;
mod routers;
mod routes;
mod socket;
mod status;
mod sys;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use model::{Cidr, Family};

pub use config::{Bfd, CS6, Config, ConfigError, PORT, Peer, Ttl};
pub use error::SpeakerError;
pub use password::{Password, PasswordError};
pub use routes::{RouteChange, RouteFailure, RouteSink, Via};
pub use status::{LastFailure, PeerStatus, Place, RouteInfo, RoutePage, RouteQuery, Traffic, View};

use crate::attributes::Attributes;
use crate::rib::PeerId;
use engine::Engine;
use mailbox::{Sender, mailbox};

/// How the speaker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// Peers are told why, and drop our routes.
    Shutdown(String),
    /// Connections end without a word: peers that speak graceful restart keep our routes until we are back.
    Restart,
}

type Answer<T> = mpsc::SyncSender<T>;
type Outcome<T> = Result<T, SpeakerError>;

/// To the engine.
enum Command {
    Configure(Box<Config>, Answer<Outcome<()>>),
    Announce(BTreeMap<Cidr, Attributes>, Answer<Outcome<()>>),
    Peers(Answer<Vec<PeerStatus>>),
    Routes(RouteQuery, Answer<Outcome<RoutePage>>),
    Refresh(String, Family, Answer<Outcome<bool>>),
    Reset(String, String, Answer<Outcome<()>>),
    /// A batch is in the kernel.
    Written,
    Bfd(PeerId, crate::bfd::State, Option<crate::bfd::Event>),
    /// A router advertises itself on an interface.
    Router(String, std::net::Ipv6Addr),
    Stop(Goodbye),
}

/// A running speaker. Dropping it is [`Goodbye::Restart`].
pub struct Speaker {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    /// Starts a speaker whose learnt routes go to `sink`.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be, or when nothing can listen there.
    pub fn start(config: Config, sink: Box<dyn RouteSink>) -> Result<Speaker, SpeakerError> {
        let (commands, inbox) = mailbox().map_err(SpeakerError::Start)?;
        let written = commands.clone();
        let routes = routes::start(sink, move || {
            written.send(Command::Written);
        });
        let routes = routes.map_err(SpeakerError::Start)?;
        let changed = commands.clone();
        let bfd = bfd::BfdThread::start(move |peer, state, event| {
            changed.send(Command::Bfd(peer, state, event));
        });
        let bfd = bfd.map_err(SpeakerError::Start)?;
        let heard = commands.clone();
        let routers = routers::Routers::start(move |interface, router| {
            heard.send(Command::Router(interface.to_owned(), router));
        });
        let routers = routers.map_err(SpeakerError::Start)?;
        let engine = Engine::new(config, inbox, routes, bfd, routers)?;
        let thread = thread::Builder::new().name("bgp".to_owned());
        let thread = thread.spawn(move || engine.run());
        Ok(Speaker {
            commands,
            thread: Some(thread.map_err(SpeakerError::Start)?),
        })
    }

    fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, SpeakerError> {
        let (answer, answered) = mpsc::sync_channel(1);
        if !self.commands.send(command(answer)) {
            return Err(SpeakerError::Ended);
        }
        answered.recv().map_err(|_| SpeakerError::Ended)
    }

    /// Replaces the configuration. Peers that did not change are not disturbed.
    ///
    /// # Errors
    ///
    /// When it cannot be; nothing has changed then, unless the kernel refused a socket or a password half-way.
    pub fn configure(&self, config: Config) -> Result<(), SpeakerError> {
        self.ask(|answer| Command::Configure(Box::new(config), answer))?
    }

    /// Replaces the routes of our own: what is not in `routes` any more is withdrawn.
    ///
    /// # Errors
    ///
    /// When a route cannot be written.
    pub fn announce(&self, routes: BTreeMap<Cidr, Attributes>) -> Result<(), SpeakerError> {
        self.ask(|answer| Command::Announce(routes, answer))?
    }

    /// All peers, in the order in which they came.
    ///
    /// # Errors
    ///
    /// When the speaker has ended.
    pub fn peers(&self) -> Result<Vec<PeerStatus>, SpeakerError> {
        self.ask(Command::Peers)
    }

    /// A page of routes. However large the table is, sessions wait for one page at most.
    ///
    /// # Errors
    ///
    /// When there is no such peer.
    pub fn routes(&self, query: RouteQuery) -> Result<RoutePage, SpeakerError> {
        self.ask(|answer| Command::Routes(query, answer))?
    }

    /// Asks a peer for all its routes again (RFC 2918). Whether it could be asked.
    ///
    /// # Errors
    ///
    /// When there is no such peer.
    pub fn refresh(&self, peer: &str, family: Family) -> Result<bool, SpeakerError> {
        self.ask(|answer| Command::Refresh(peer.to_owned(), family, answer))?
    }

    /// Ends a peer's session and makes it anew; the peer is told why.
    ///
    /// # Errors
    ///
    /// When there is no such peer.
    pub fn reset(&self, peer: &str, reason: &str) -> Result<(), SpeakerError> {
        self.ask(|answer| Command::Reset(peer.to_owned(), reason.to_owned(), answer))?
    }

    /// Ends it, and waits for that: with [`Goodbye::Shutdown`] up to two seconds for peers that do not close.
    pub fn stop(mut self, goodbye: Goodbye) {
        self.end(goodbye);
    }

    fn end(&mut self, goodbye: Goodbye) {
        if let Some(thread) = self.thread.take() {
            self.commands.send(Command::Stop(goodbye));
            // A panic has been printed by its thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.end(Goodbye::Restart);
    }
}
