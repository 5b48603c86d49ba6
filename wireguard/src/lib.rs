//! WireGuard: what a node needs to speak it, as arithmetic and state machines without sockets or clocks.

mod activity;
pub mod aead;
pub mod allowed_ips;
pub mod device;
mod entropy;
pub mod keys;
pub mod lane;
mod limiter;
mod macs;
pub mod message;
mod noise;
pub mod packet;
mod peer;
mod peer_id;
mod replay;
mod session;
mod tables;
#[cfg(test)]
mod testing;
mod time;
mod timestamp;
mod wheel;

pub use device::Device;
pub use entropy::Entropy;
pub use peer::PeerConfig;
pub use peer_id::PeerId;
pub use time::{Now, Time};
