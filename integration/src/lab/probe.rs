//! Measuring what workloads see, with sockets made inside their namespaces and no process per pair.

pub mod dial;
pub mod reach;
pub mod stream;
pub mod tcp;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::Netns;

pub use reach::{Size, all_pairs};
pub use stream::{Report, Stream};

/// A receive buffer that outlasts a busy machine's pauses, bytes.
const BUFFER: usize = 8 << 20;

/// A UDP socket inside a namespace, bound to one of its addresses.
fn udp(ns: &Netns, ip: IpAddr, port: u16) -> Result<UdpSocket> {
    let at = SocketAddr::new(ip, port);
    let socket = ns
        .run(|| Ok(UdpSocket::bind(at)?))
        .with_context(|| format!("bind {at} in {}", ns.name()))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    Ok(socket)
}
