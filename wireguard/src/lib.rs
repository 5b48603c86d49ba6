//! WireGuard: what a node needs to speak it, as arithmetic and state machines without sockets or clocks.
#![allow(dead_code)]

pub mod aead;
pub mod allowed_ips;
mod entropy;
pub mod keys;
mod limiter;
mod macs;
pub mod message;
mod noise;
pub mod packet;
mod peer_id;
mod replay;
mod session;
#[cfg(test)]
mod testing;
mod time;
mod timestamp;
mod wheel;

pub use entropy::Entropy;
pub use peer_id::PeerId;
pub use time::{Now, Time};
