//! WireGuard in userspace: keys, peers, handshakes, sessions, and the cipher for many packets at once.
//!
//! The core is pure. It opens no socket, starts no thread and reads no clock: time and randomness are
//! arguments, packets and datagrams are slices of the caller's buffers. Shells around it are in
//! [`userspace`], [`uapi`] and [`kernel`].
//!
//! ```text
//!   tunnel interface                                                        UDP sockets
//!        │  packets            ┌──────────── Lane (a thread's) ────────────┐   ▲  │
//!        └────────────────────►│ destination ► allowed_ips ► session ► aead│───┘  │
//!        ◄─────────────────────│ source check ◄ replay ◄ aead ◄ session    │◄─────┤ transport
//!                              └──────▲──────────────────────┬─────────────┘      │
//!                          snapshots  │                      │ notices            │ handshakes
//!                              ┌──────┴──────────────────────▼─────────────┐      │
//!        configuration ───────►│ Device: peers · noise · macs · timers     │◄─────┘
//!                              └───────────────────────────────────────────┘───► datagrams, events
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`device`] | the owner of peers, handshakes and timers; where to start reading |
//! | [`lane`] | the data path of one thread |
//! | [`aead`] | ChaCha20-Poly1305 over batches: ring, or sixteen packets in AVX-512 |
//! | [`allowed_ips`] | which peer owns an address |
//! | [`message`] | the four datagrams |
//! | [`packet`] | what a tunnel reads of the packets inside it |
//! | [`keys`] | keys, which do not print |
//! | [`postquantum`] | preshared keys from ML-KEM, agreed on by each pair of nodes |
//! | [`userspace`] | a tunnel interface, UDP sockets, and the threads between them |
//! | [`control`] | what a device says of itself and what it can be told, in the kernel or here |
//! | [`plan`](mod@plan) | the changes between a device as it should be and as it is |
//! | [`kernel`] | the kernel's devices, over netlink |
//! | [`uapi`] | the text protocol of `wg` for devices in userspace, and its socket |
//!
//! Invariants:
//! * a counter is used once with a key, whichever lane asks; keys come from a fresh handshake only, so
//!   a restart cannot repeat one;
//! * a packet comes out only when its tag is right, its counter new, and the longest prefix over its
//!   source belongs to the peer that sent it; and it comes out once;
//! * plaintext leaves only sealed, and plaintext of a packet that is refused is wiped;
//! * a prefix has one owner in every snapshot;
//! * every queue is bounded, and nothing that a stranger sends costs a curve operation unless it knows
//!   this node's public key, nor, when the node is busy, unless it has proved its address;
//! * secrets are wiped when dropped and have no printable form. (The chaining key inside `snow` is the
//!   exception: it lives on its heap for the length of one handshake and is not wiped.)

mod activity;
pub mod aead;
pub mod allowed_ips;
pub mod control;
pub mod device;
mod entropy;
pub mod kernel;
pub mod keys;
pub mod lane;
mod limiter;
mod macs;
pub mod message;
mod noise;
pub mod packet;
mod peer;
mod peer_id;
pub mod plan;
pub mod postquantum;
mod replay;
mod session;
mod tables;
#[cfg(test)]
mod testing;
mod time;
mod timestamp;
pub mod uapi;
pub mod userspace;
mod wheel;

pub use device::Device;
pub use entropy::Entropy;
pub use peer::PeerConfig;
pub use peer_id::PeerId;
pub use time::{Now, Time};
