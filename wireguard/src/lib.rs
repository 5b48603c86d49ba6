//! WireGuard: what a node needs to speak it, as arithmetic and state machines without sockets or clocks.

pub mod aead;
