//! What a device costs beside its cipher: `cargo bench -p wireguard --bench device`.
#![allow(clippy::unwrap_used, clippy::panic)] // a bench ends by panicking

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use model::Cidr;
use wireguard::device::DeviceConfig;
use wireguard::keys::PrivateKey;
use wireguard::lane::{Incoming, Outgoing, Received, Sent};
use wireguard::message::{TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD};
use wireguard::{Device, Entropy, Now, PeerConfig, Time};

const ROUNDS: usize = 31;

/// Reproducible, and worthless as a secret.
struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

fn now(ms: u64) -> Now {
    let since = Duration::from_millis(ms);
    Now {
        mono: Time::from_duration(since),
        unix: since,
    }
}

fn outer(n: u32) -> SocketAddr {
    (Ipv4Addr::from_bits(0xac10_0000 + n), 51820).into()
}

fn inner(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + n * 64)
}

/// A hub with sessions with all of its spokes, how long it took to answer one, and KiB for it all
/// (the spokes' ends of the sessions among them).
fn star(count: u32) -> (Device, Vec<Device>, Duration, usize) {
    let mut rng = Seeded(1);
    let mut config = DeviceConfig::new(PrivateKey::generate(&mut rng));
    config.busy_above = u32::MAX;
    let mut peer = PeerConfig::new(config.private_key.public());
    peer.endpoint = Some(outer(0));
    let mut spokes: Vec<Device> = (1..=count)
        .map(|n| {
            let config = DeviceConfig::new(PrivateKey::generate(&mut rng));
            let mut spoke = Device::new(config, Box::new(Seeded(u64::from(n) + 10)));
            let id = spoke.set_peer(now(0), peer.clone());
            spoke.set_allowed_ips(&[(Cidr::containing(inner(0).into(), 26).unwrap(), id)]);
            spoke
        })
        .collect();
    let before = resident_kib();
    let mut hub = Device::new(config, Box::new(Seeded(2)));
    let mut owners = Vec::new();
    for (spoke, n) in spokes.iter().zip(1..) {
        let mut peer = PeerConfig::new(spoke.public_key());
        peer.endpoint = Some(outer(n));
        let id = hub.set_peer(now(0), peer);
        owners.push((Cidr::containing(inner(n).into(), 26).unwrap(), id));
    }
    hub.set_allowed_ips(&owners);
    let mut answering = Duration::ZERO;
    for (spoke, n) in spokes.iter_mut().zip(1..) {
        let mut buffer = buffer(inner(n), inner(0), 60);
        spoke.handle_packets(now(1000), &mut [Outgoing::new(&mut buffer, 60)]);
        let initiation = spoke.poll_transmit().unwrap().datagram;
        let start = Instant::now();
        hub.handle_handshake(now(1000), outer(n), &initiation, false);
        answering += start.elapsed();
        let response = hub.poll_transmit().unwrap().datagram;
        spoke.handle_handshake(now(1000), outer(0), &response, false);
        let mut first = spoke.poll_transmit().unwrap().datagram;
        hub.handle_datagrams(now(1000), &mut [Incoming::new(&mut first, outer(n), 0)]);
    }
    while hub.poll_event().is_some() {}
    (hub, spokes, answering / count, resident_kib() - before)
}

/// Room for the header, an IPv4 packet of `len` bytes, and room behind it.
fn buffer(from: Ipv4Addr, to: Ipv4Addr, len: usize) -> Vec<u8> {
    let mut b = vec![0; TRANSPORT_OVERHEAD + len + 15];
    let packet = &mut b[TRANSPORT_HEADER_LEN..];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    b
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Nanoseconds a packet for sealing, then opening, batches of 48 that go to `spread` different peers.
fn data_path(hub: &mut Device, spokes: &mut [Device], spread: usize, len: usize) -> (f64, f64) {
    let mut lane = hub.lane();
    let (mut sealing, mut opening) = (Vec::new(), Vec::new());
    let mut turn = 0;
    for round in 0..ROUNDS as u64 {
        let mut batches: Vec<Vec<(usize, Vec<u8>)>> = (0..40)
            .map(|_| {
                (0..48)
                    .map(|_| {
                        turn += 1;
                        let n = turn * 7919 % spread;
                        (
                            n,
                            buffer(inner(0), inner(u32::try_from(n + 1).unwrap()), len),
                        )
                    })
                    .collect()
            })
            .collect();
        let at = now(2000 + round);
        let mut out: Vec<Vec<Outgoing<'_>>> = batches
            .iter_mut()
            .map(|b| b.iter_mut().map(|(_, b)| Outgoing::new(b, len)).collect())
            .collect();
        let start = Instant::now();
        for batch in &mut out {
            lane.seal(at.mono, black_box(batch));
        }
        sealing.push(start.elapsed().as_nanos() as f64 / (40.0 * 48.0));
        assert!(
            out.iter()
                .flatten()
                .all(|o| matches!(o.sent(), Sent::To { .. }))
        );

        // Back: every spoke that got something sends as much, and the hub opens it.
        let mut back: Vec<Vec<(u32, Vec<u8>)>> = batches
            .iter()
            .map(|b| {
                b.iter()
                    .map(|(n, _)| {
                        let from = u32::try_from(*n + 1).unwrap();
                        let mut b = buffer(inner(from), inner(0), len);
                        let mut out = [Outgoing::new(&mut b, len)];
                        spokes[*n].handle_packets(at, &mut out);
                        (from, out[0].datagram().unwrap().to_vec())
                    })
                    .collect()
            })
            .collect();
        let mut incoming: Vec<Vec<Incoming<'_>>> = back
            .iter_mut()
            .map(|b| {
                b.iter_mut()
                    .map(|(n, d)| Incoming::new(d, outer(*n), 0))
                    .collect()
            })
            .collect();
        let start = Instant::now();
        for batch in &mut incoming {
            lane.open(at.mono, black_box(batch));
        }
        opening.push(start.elapsed().as_nanos() as f64 / (40.0 * 48.0));
        assert!(
            incoming
                .iter()
                .flatten()
                .all(|i| matches!(i.received(), Received::Packet { .. }))
        );
        while let Some(notice) = lane.poll_notice() {
            hub.handle_notice(at, notice);
        }
    }
    (median(sealing), median(opening))
}

fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

fn main() {
    let (mut hub, mut spokes, answering, kib) = star(1000);
    println!("1,000 peers, and both ends of their sessions: {kib} KiB");
    println!("answering one initiation (four curve operations, publishing): {answering:?}");
    println!(
        "{:>6} {:>7} {:>10} {:>10}",
        "bytes", "peers", "seal ns", "open ns"
    );
    for len in [64, 512, 1420] {
        for spread in [1, 1000] {
            let (seal, open) = data_path(&mut hub, &mut spokes, spread, len);
            println!("{len:>6} {spread:>7} {seal:>10.0} {open:>10.0}");
        }
    }
}
