//! A speaker that does nothing but say what was prepared: its own speed is not what is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Netns;

const US: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const THEM: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const AS: u32 = 65001;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;
/// Prefixes in one UPDATE of at most 4096 bytes, each a /24 of four bytes.
const EACH: u32 = 1000;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    let mut out = vec![0xff; 16];
    out.extend(len.to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// A session that is Established.
///
/// # Errors
/// When the other side does not listen yet, or does not want it.
pub(super) fn open(ns: &Netns) -> Result<TcpStream> {
    let to = SocketAddr::from((THEM, 179));
    let mut stream = ns.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1))?))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Version, AS, hold time, router id; IPv4 unicast (RFC 4760) and four-byte AS numbers (RFC 6793).
    let mut body = vec![4];
    body.extend(u16::try_from(AS)?.to_be_bytes());
    body.extend(240_u16.to_be_bytes());
    body.extend(US.octets());
    body.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
    body.extend(AS.to_be_bytes());
    stream.write_all(&message(OPEN, &body))?;
    stream.write_all(&message(KEEPALIVE, &[]))?;
    // Until its KEEPALIVE.
    loop {
        let mut head = [0; 19];
        stream.read_exact(&mut head).context("no OPEN")?;
        let len = usize::from(u16::from_be_bytes([head[16], head[17]]));
        let mut body = vec![0; len.saturating_sub(head.len())];
        stream.read_exact(&mut body)?;
        ensure!(matches!(head[18], OPEN | KEEPALIVE), "it says {body:?}");
        if head[18] == KEEPALIVE {
            return Ok(stream);
        }
    }
}

/// So many prefixes from 20.0.0.0 on.
pub(super) fn updates(prefixes: u32) -> Vec<u8> {
    // ORIGIN, AS_PATH, NEXT_HOP.
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(AS.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(US.octets());
    let len = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
    let mut all = Vec::new();
    for start in (0..prefixes).step_by(usize::try_from(EACH).unwrap_or(1)) {
        let mut body = vec![0, 0];
        body.extend(len.to_be_bytes());
        body.extend(&attributes);
        for n in start..(start + EACH).min(prefixes) {
            let [_, a, b, c] = n.to_be_bytes();
            body.extend([24, 20 + a, b, c]);
        }
        all.extend(message(UPDATE, &body));
    }
    all
}
