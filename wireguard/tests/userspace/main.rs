//! Tunnels in userspace between network namespaces: with each other, with wireguard-go and with
//! boringtun-cli. They need root; without it they fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod interop;
mod net;
mod served;
mod transfer;
