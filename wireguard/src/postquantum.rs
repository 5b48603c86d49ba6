//! Preshared keys that a quantum computer cannot work out later: one for each pair of nodes, from ML-KEM-768
//! (FIPS 203) in both directions, mixed with the one before, and replaced in good time.
//!
//! ```text
//!   peers, own keys ──► Exchange ──► Install: which preshared keys a device has for a peer
//!   datagrams, time ──►    │    ──► datagrams, once what was to be installed is
//!                          └── a Pair for each peer; the node with the lesser name leads
//!
//!   leader          Hello ──►   ◄── Here   Offer ──►        ◄── Accept     Confirm ──►      ◄── Done
//!   its keys           c              c                         new, c                          new
//!   the follower's     c              c          c, new                       new, c            new
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`Exchange`] | all pairs of a node: limits, timers, who a datagram is of |
//! | `leader`, `follower` | the two sides |
//! | `context` | what the sides are given, and the times and limits |
//! | `pair` | what is known of a peer |
//! | `schedule` | how keys follow from secrets |
//! | `message` | the eight datagrams |
//! | [`kem`] | ML-KEM-768 |
//!
//! Pure: time and randomness are arguments. Nothing here knows a socket or a device.
//!
//! Invariants:
//! * a step is taken only by who knows that the other holds a key which both try before and after it, so
//!   what the two ends try has one in common at every moment, unless one of them lost all it had;
//! * a key is first on either end only after the other has proved that it holds it, or where there was none;
//! * who has agreed never goes back to none because of what it hears or does not hear;
//! * datagrams that are lost, late, doubled or recorded change nothing but when;
//! * what is kept for a pair at rest does not grow, and only so many pairs are at work at a time.

mod context;
mod exchange;
mod follower;
pub mod kem;
mod leader;
mod message;
mod pair;
mod schedule;

pub use exchange::{Exchange, Install, Settings, Transmit};
pub use pair::{PairKeys, PairStatus, PeerSpec};
