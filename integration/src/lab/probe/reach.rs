//! Does everyone reach everyone? One thread, one socket a workload and family, all pairs at once.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::{self as lab, Workload, sys};

const PORT: u16 = 7007;
/// Unanswered requests are sent again after this long.
const RESEND: Duration = Duration::from_millis(200);
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Kind, from, to: what a message carries before its padding.
const HEADER: usize = 5;
/// Missing pairs that an error lists.
const LISTED: usize = 12;

/// How large the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As small as they get.
    Small,
    /// The MTU of the sender's interface, never to be fragmented.
    FullMtu,
}

struct Peer {
    label: String,
    ip: IpAddr,
    socket: UdpSocket,
    payload: usize,
}

#[derive(Clone, Debug, Default)]
struct Pair {
    arrived: bool,
    answered: bool,
    trouble: Option<String>,
}

/// Every workload asks every other, in each family that both have, until all have answered.
/// A request must come from the sender's own address.
///
/// Returns the number of pairs.
///
/// # Errors
/// At the deadline, with the pairs that failed and how far they got.
pub fn all_pairs(workloads: &[&Workload], size: Size, limit: Duration) -> Result<usize> {
    let mut count = 0;
    for v6 in [false, true] {
        let mut peers = Vec::new();
        for workload in workloads {
            if let Ok(ip) = workload.ip(v6) {
                peers.push(Peer::open(workload, ip, size)?);
            }
        }
        count += round(&peers, limit)?;
    }
    if count == 0 {
        bail!("no two workloads share an address family: nothing was tested");
    }
    Ok(count)
}

impl Peer {
    fn open(workload: &Workload, ip: IpAddr, size: Size) -> Result<Peer> {
        let socket = super::udp(&workload.ns, ip, PORT)?;
        socket.set_nonblocking(true)?;
        sys::never_fragment(&socket, ip.is_ipv6())?;
        let headers = if ip.is_ipv6() { 48 } else { 28 };
        Ok(Peer {
            label: format!("{} {ip}", workload.name),
            ip,
            socket,
            payload: match size {
                Size::Small => HEADER,
                Size::FullMtu => workload.mtu()?.saturating_sub(headers),
            },
        })
    }
}

fn round(peers: &[Peer], limit: Duration) -> Result<usize> {
    let n = peers.len();
    let mut pairs = vec![Pair::default(); n * n];
    let (start, limit) = (Instant::now(), limit * lab::patience());
    let mut send_at = start;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let now = Instant::now();
        if now >= send_at {
            send_at = now + RESEND;
            ask_all(peers, &mut pairs, &mut buffer)?;
        }
        let readable = wait_readable(peers)?;
        for i in readable {
            receive(peers, i, &mut pairs, &mut buffer)?;
        }
        let missing = missing(peers, &pairs);
        if missing.is_empty() {
            return Ok(n * n.saturating_sub(1));
        }
        if start.elapsed() >= limit {
            let shown: Vec<&str> = missing.iter().take(LISTED).map(String::as_str).collect();
            bail!(
                "{} of {} pairs have no connection after {limit:?}:\n  {}",
                missing.len(),
                n * n.saturating_sub(1),
                shown.join("\n  ")
            );
        }
    }
}

fn ask_all(peers: &[Peer], pairs: &mut [Pair], buffer: &mut [u8]) -> Result<()> {
    for i in 0..peers.len() {
        for j in 0..peers.len() {
            if i != j && !pair(pairs, peers, i, j)?.answered {
                send(peers, REQUEST, (i, j), pairs)?;
            }
        }
        // Between bursts, so that no receive buffer fills up.
        for k in 0..peers.len() {
            receive(peers, k, pairs, buffer)?;
        }
    }
    Ok(())
}

fn send(peers: &[Peer], kind: u8, (from, to): (usize, usize), pairs: &mut [Pair]) -> Result<()> {
    let (Some(a), Some(b)) = (peers.get(from), peers.get(to)) else {
        return Ok(());
    };
    let mut message = vec![kind];
    message.extend(u16::try_from(from)?.to_be_bytes());
    message.extend(u16::try_from(to)?.to_be_bytes());
    message.resize(a.payload.max(HEADER), 0);
    if let Err(e) = a.socket.send_to(&message, SocketAddr::new(b.ip, PORT)) {
        // A reply's trouble belongs to the pair that asked.
        let (i, j) = if kind == REQUEST {
            (from, to)
        } else {
            (to, from)
        };
        pair(pairs, peers, i, j)?.trouble = Some(format!("{} cannot send: {e}", a.label));
    }
    Ok(())
}

fn receive(peers: &[Peer], at: usize, pairs: &mut [Pair], buffer: &mut [u8]) -> Result<()> {
    let Some(me) = peers.get(at) else {
        return Ok(());
    };
    loop {
        let (len, source) = match me.socket.recv_from(buffer) {
            Ok(got) => got,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            // An ICMP error of an earlier packet; the pair stays unanswered and says so.
            Err(_) => continue,
        };
        let Some(&[kind, f1, f0, t1, t0]) = buffer.get(..len).and_then(<[u8]>::first_chunk) else {
            continue;
        };
        let from = usize::from(u16::from_be_bytes([f1, f0]));
        let to = usize::from(u16::from_be_bytes([t1, t0]));
        let Some(sender) = peers.get(from) else {
            continue;
        };
        if to != at {
            bail!("{} got a packet that was for peer {to}", me.label);
        }
        if kind == REPLY {
            pair(pairs, peers, to, from)?.answered = true;
            continue;
        }
        let asked = pair(pairs, peers, from, to)?;
        asked.arrived = true;
        if source.ip() == sender.ip {
            send(peers, REPLY, (to, from), pairs)?;
        } else {
            asked.trouble = Some(format!("it came from {} instead", source.ip()));
        }
    }
}

fn pair<'a>(pairs: &'a mut [Pair], peers: &[Peer], i: usize, j: usize) -> Result<&'a mut Pair> {
    pairs.get_mut(i * peers.len() + j).context("no such pair")
}

fn missing(peers: &[Peer], pairs: &[Pair]) -> Vec<String> {
    let mut list = Vec::new();
    for (i, a) in peers.iter().enumerate() {
        for (j, b) in peers.iter().enumerate() {
            let Some(pair) = pairs.get(i * peers.len() + j) else {
                continue;
            };
            if i == j || pair.answered {
                continue;
            }
            let how = if pair.arrived {
                "the request arrived, no answer"
            } else {
                "nothing arrived"
            };
            let trouble = pair
                .trouble
                .as_deref()
                .map(|t| format!(" ({t})"))
                .unwrap_or_default();
            list.push(format!("{} -> {}: {how}{trouble}", a.label, b.label));
        }
    }
    list
}

fn wait_readable(peers: &[Peer]) -> Result<Vec<usize>> {
    let mut fds: Vec<PollFd> = peers
        .iter()
        .map(|p| PollFd::new(p.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut fds, PollTimeout::from(20u8))?;
    Ok(fds
        .iter()
        .enumerate()
        .filter(|(_, fd)| fd.any() == Some(true))
        .map(|(i, _)| i)
        .collect())
}
