//! What whoever knows a node's public key can do to it: initiations from addresses that are nobody's.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use wireguard::control::{PeerChange, PeerRequest, SetRequest};
use wireguard::device::{Device, DeviceConfig};
use wireguard::keys::PublicKey;
use wireguard::userspace::random_key;
use wireguard::{Entropy, Now, Time};

use super::Netns;

/// Each is a handshake of a key of its own, so that none is told from a first one.
const DIFFERENT: usize = 64;
/// Sources are of 198.18.0.0/15, which is for measurements (RFC 2544).
const SOURCES: u32 = 0xc612_0000;
const HEADERS: usize = 28;
/// How often a burst is sent.
const BURST: Duration = Duration::from_millis(2);

/// A running flood.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    begun: Instant,
}

impl Flood {
    /// Sends `rate` initiations a second from a namespace to a device with this key, in base64.
    ///
    /// # Errors
    /// When the key is none, or the kernel gives no raw socket.
    pub fn start(ns: &Netns, to: SocketAddrV4, key: &str, rate: u32) -> Result<Flood> {
        let key: PublicKey = key.trim().parse()?;
        let datagrams: Vec<Vec<u8>> = (0..DIFFERENT)
            .map(|_| Ok(packet(to, &initiation(key)?)))
            .collect::<Result<_>>()?;
        let (family, kind) = (AddressFamily::Inet, SockType::Raw);
        let open = || {
            Ok(socket(
                family,
                kind,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Raw,
            )?)
        };
        let fd = ns.run(open).context("open a raw socket")?;
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || run(&fd, to, datagrams, rate, &stop, &sent)
        });
        Ok(Flood {
            stop,
            sent,
            thread: Some(thread),
            begun: Instant::now(),
        })
    }

    /// Ends it; the rate it had.
    pub fn stop(mut self) -> f64 {
        self.end();
        #[allow(clippy::cast_precision_loss)] // millions
        let sent = self.sent.load(Ordering::Relaxed) as f64;
        sent / self.begun.elapsed().as_secs_f64()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It has nothing to fail with.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(
    fd: &OwnedFd,
    to: SocketAddrV4,
    mut datagrams: Vec<Vec<u8>>,
    rate: u32,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let (address, begun) = (SockaddrIn::from(to), Instant::now());
    let mut count = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let due =
            u64::from(rate) * u64::try_from(begun.elapsed().as_micros()).unwrap_or(0) / 1_000_000;
        while u64::from(count) < due {
            let nth = count as usize % datagrams.len().max(1);
            if let Some(datagram) = datagrams.get_mut(nth) {
                let source = SOURCES | (count.wrapping_mul(2_654_435_761) >> 15);
                if let Some(place) = datagram.get_mut(12..16) {
                    place.copy_from_slice(&source.to_be_bytes());
                }
                // One that the kernel has no room for is not missed.
                let _ = sendto(fd.as_raw_fd(), datagram, &address, MsgFlags::empty());
            }
            count += 1;
        }
        sent.store(count.into(), Ordering::Relaxed);
        std::thread::sleep(BURST);
    }
}

/// What a stranger says to begin with.
fn initiation(to: PublicKey) -> Result<Vec<u8>> {
    let mut device = Device::new(DeviceConfig::new(random_key()?), Box::new(Random));
    let request = SetRequest {
        peers: vec![PeerRequest::Set(PeerChange {
            endpoint: Some((Ipv4Addr::LOCALHOST, 1).into()),
            ..PeerChange::new(to)
        })],
        ..SetRequest::default()
    };
    let now = Now {
        mono: Time::from_nanos(0),
        unix: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?,
    };
    device.configure(now, &request)?;
    let first = device.poll_transmit();
    Ok(first.context("a new device greets its peers")?.datagram)
}

/// A datagram with headers of its own; the kernel fills in what is zero of the first.
fn packet(to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let len = |of: usize| u16::try_from(of).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0; HEADERS];
    packet.extend(payload);
    let total = packet.len();
    let fields: [(usize, &[u8]); 7] = [
        (0, &[0x45, 0]),
        (2, &len(total)),
        (8, &[64, 17]),
        (16, &to.ip().octets()),
        (20, &51820u16.to_be_bytes()),
        (22, &to.port().to_be_bytes()),
        (24, &len(total - 20)),
    ];
    for (at, bytes) in fields {
        if let Some(place) = packet.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    packet
}

/// Keys that nobody will use need no better randomness.
pub(crate) struct Random;

impl Entropy for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            use std::hash::{BuildHasher, RandomState};
            let word = RandomState::new().hash_one(0).to_ne_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }
}
