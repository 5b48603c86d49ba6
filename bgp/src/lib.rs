//! BGP and BFD. The core has no sockets, threads or clocks: bytes and times go in, bytes and times come out.
//! [`speaker`] drives it.
//!
//! ```text
//!  bytes ─► wire::frame ─► fsm::Session ── Output::Send / Arm / Established / Down ──► driver
//!                │              ▲
//!                │ UPDATE       │ timers, TCP events, operator
//!                ▼
//!          wire::update ─► rib::Rib: intern ─► adj-RIB-in ─► decide ─► loc-RIB
//!          (RFC 7606)                                                   │        │
//!                                       rib::Rib::transmit ◄── pending ─┘        └─► kernel pending
//!                                       (one rendering per subgroup, when sockets can take it)
//!  arbiter::Arbiter: which of two TCP connections of one peer lives
//!  bfd::Session: packets and times in, packets and up/down out
//! ```
//!
//! Invariants:
//! * nothing but [`speaker`] reads a clock, draws randomness or does I/O: they are arguments;
//! * nothing that a peer sends panics, recurses or allocates beyond its message's size;
//! * an UPDATE costs its session at most what RFC 7606 says, and never another session;
//! * a distinct attribute block is decoded once and kept once;
//! * what is sent is read from the loc-RIB when the socket can take it: a prefix that changed twice goes
//!   out once, and a slow reader costs a set of prefixes, not a queue of messages;
//! * the codec crate is named in [`wire`] and nowhere else.

pub mod arbiter;
pub mod attributes;
pub mod bfd;
pub mod family;
pub mod fsm;
pub mod prefix;
pub mod rib;
pub mod speaker;
pub mod wire;

pub use attributes::{AttrView, Attributes, NextHop};
pub use family::PerFamily;
pub use model::Family;
pub use prefix::{PrefixKey, V4, V6};
