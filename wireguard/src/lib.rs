//! WireGuard: what a node needs to speak it, as arithmetic and state machines without sockets or clocks.

pub mod aead;
pub mod allowed_ips;
mod peer_id;

pub use peer_id::PeerId;
