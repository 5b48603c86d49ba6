//! The session of one neighbour (RFC 4271 §8) without sockets and clocks.
//!
//! ```text
//!            Start          TcpUp            OPEN ok          KEEPALIVE
//!   Idle ────────► Active ────────► OpenSent ───────► OpenConfirm ──────► Established
//!    ▲   retry  ◄─► Connect             │                  │                   │
//!    └──────────────────────────────────┴── anything wrong ┴───────────────────┘
//! ```
//!
//! [`Session::handle`] takes an [`Input`] and gives what is to be done, in order. Timers are inputs and
//! outputs: the driver keeps one deadline for each [`Timer`] and comes back when it has passed. Frames come from
//! [`crate::wire::frame`]; UPDATEs are handed on undecoded, because the RIB reads them.
//!
//! A session owns one connection. Where two connections of one neighbour meet, [`crate::arbiter`] says
//! which one lives, and the driver gives the loser [`Input::Collision`].

mod config;
mod negotiate;
mod restart;
mod state;

use std::time::Duration;

use bytes::Bytes;
use model::Family;

pub use config::{Hold, SessionConfig};
pub use negotiate::{Negotiated, negotiate};
pub use restart::{Deferral, Helper, HelperOutput};
pub use state::Session;

use crate::wire::refresh::Refresh;
use crate::wire::{Frame, Notification};

/// Where a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing is tried: stopped, or waiting after a failure.
    #[default]
    Idle,
    /// A connection is being made.
    Connect,
    /// Waiting for the neighbour to connect, or to try again.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Both OPENs are fine.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// What the driver measures for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Until the next attempt to connect.
    Retry,
    /// Until silence means death.
    Hold,
    /// Until the next KEEPALIVE.
    Keepalive,
    /// Until a socket that takes nothing means death (RFC 9687).
    SendHold,
}

impl Timer {
    /// All of them.
    pub const ALL: [Timer; 4] = [Timer::Retry, Timer::Hold, Timer::Keepalive, Timer::SendHold];
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The operator wants the session.
    Start,
    /// The operator wants the session, but not at once: the first attempt comes with the retry timer.
    Wait,
    /// The operator does not want it any more: the NOTIFICATION to say so.
    Stop(Notification),
    /// A connection that was asked for is there, or the neighbour made one.
    Connected,
    /// A connection that was asked for could not be made.
    ConnectFailed,
    /// The connection is gone.
    Closed,
    /// A whole message came.
    Message(Frame<'a>),
    /// What came is no message: the NOTIFICATION of [`crate::wire::frame::next`].
    Garbled(Notification),
    /// The RIB cannot go on with this session: too many prefixes, or an error of RFC 7606.
    Fail(Notification),
    /// The path to the neighbour is down (RFC 5882, RFC 9384).
    BfdDown,
    /// This connection lost against another one of the same neighbour (RFC 4271 §6.8).
    Collision,
    /// A timer ran out. Only the deadline armed last counts.
    Expired(Timer),
    /// The socket took bytes, and some are left in our buffer or not.
    Wrote {
        /// Whether everything is out.
        empty: bool,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// We said why.
    Sent(Notification),
    /// The neighbour said why.
    Received(Notification),
    /// The connection went without a word.
    Closed,
    /// A connection could not be made.
    ConnectFailed,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Sent(n) => write!(f, "we ended it: {n}"),
            Reason::Received(n) => write!(f, "the neighbour ended it: {n}"),
            Reason::Closed => f.write_str("the connection was closed without a word"),
            Reason::ConnectFailed => f.write_str("no connection could be made"),
        }
    }
}

/// A session that was Established ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Why.
    pub reason: Reason,
    /// Families whose routes the graceful restart of the neighbour lets live on.
    pub keep: crate::PerFamily<bool>,
    /// For how long.
    pub keep_for: Duration,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a connection.
    Connect,
    /// Send this, after what was given before.
    Send(Bytes),
    /// Close the connection, after what was given before was tried to be sent.
    Close,
    /// Measure this time, in place of what was measured for the timer.
    Arm(Timer, Duration),
    /// Measure nothing for the timer.
    Disarm(Timer),
    /// Routes can be exchanged.
    Up(Box<Negotiated>),
    /// Routes cannot be exchanged any more.
    Down(Down),
    /// An attempt failed before routes were exchanged: for status.
    Failed(Reason),
    /// The message given as input is an UPDATE: give it to the RIB.
    Update,
    /// The neighbour asks or marks (RFC 2918, RFC 7313).
    Refresh(Family, Refresh),
}
