//! What passes on the wire: every frame of a namespace, searched for addresses that should not be seen there.
//!
//! ```text
//!   router: all its interfaces ──AF_PACKET──► thread: frame ──► clear? encrypted? neither ──► Seen
//! ```
//!
//! A frame that the kernel could not queue for us is counted, so that nothing is taken for absent that was
//! only missed.

mod frame;

use std::fmt;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use model::Cidr;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};

use super::{Netns, sys};
use frame::Kind;

/// As many bytes of a frame as headers may take: three of IPv6 and what is between them.
const HEAD: usize = 320;
/// Room for what comes while the machine is busy, bytes.
const BUFFER: usize = 128 << 20;
/// How long the thread waits for a frame before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Seen>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    clear: AtomicU64,
    encrypted: AtomicU64,
}

/// What a capture saw. A frame is seen once for each interface that it passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames looked at.
    pub frames: u64,
    /// Of these, with an address looked for, at whatever depth.
    pub clear: u64,
    /// Of these, datagrams of the encrypted tunnel.
    pub encrypted: u64,
    /// Frames that passed and were not looked at.
    pub missed: u64,
    /// The first few in clear, in words.
    pub examples: Vec<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            frames,
            clear,
            encrypted,
            missed,
            examples,
        } = self;
        write!(
            f,
            "{frames} frames, {encrypted} encrypted, {clear} in clear, {missed} missed"
        )?;
        examples.iter().try_for_each(|e| write!(f, "; {e}"))
    }
}

impl Seen {
    /// Fails unless something passed encrypted, and nothing in clear or unseen.
    ///
    /// # Errors
    /// With what was seen.
    pub fn must_be_encrypted(&self) -> Result<()> {
        ensure!(self.encrypted > 0, "nothing passed by the tunnel: {self}");
        self.must_not_be_clear()
    }

    /// Fails when something passed in clear, or unseen.
    ///
    /// # Errors
    /// With what was seen.
    pub fn must_not_be_clear(&self) -> Result<()> {
        ensure!(
            self.frames > 0 && self.missed == 0,
            "frames were missed: {self}"
        );
        ensure!(self.clear == 0, "in clear: {self}");
        Ok(())
    }
}

impl Capture {
    /// Looks for addresses of `pools` on all interfaces of a namespace, from now on.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn start(ns: &Netns, pools: &[&str]) -> Result<Capture> {
        let pools: Vec<Cidr> = pools.iter().map(|p| p.parse()).collect::<Result<_, _>>()?;
        let fd = ns
            .run(|| {
                Ok(socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )?)
            })
            .with_context(|| format!("capture in {}", ns.name()))?;
        setsockopt(&fd, sockopt::RcvBufForce, &BUFFER)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || watch(fd, &pools, &shared)
        });
        Ok(Capture {
            shared,
            thread: Some(thread),
        })
    }

    /// Frames in clear so far.
    pub fn clear(&self) -> u64 {
        self.shared.clear.load(Ordering::Relaxed)
    }

    /// Datagrams of the tunnel so far.
    pub fn encrypted(&self) -> u64 {
        self.shared.encrypted.load(Ordering::Relaxed)
    }

    /// Ends it after what has passed by now.
    ///
    /// # Errors
    /// When it could not go on.
    pub fn stop(mut self) -> Result<Seen> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped already")?;
        let seen = thread
            .join()
            .map_err(|_| anyhow!("the capture panicked"))??;
        Ok(seen)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn watch(fd: OwnedFd, pools: &[Cidr], shared: &Shared) -> Result<Seen> {
    // Only for its calls: reading and the timeout are alike for all sockets.
    let socket = UdpSocket::from(fd);
    socket.set_read_timeout(Some(TICK))?;
    let mut seen = Seen::default();
    let mut buffer = [0; HEAD];
    let mut stopping = false;
    loop {
        if !stopping && shared.stop.load(Ordering::Relaxed) {
            // What waits by now is read, and then no more.
            stopping = true;
            socket.set_nonblocking(true)?;
        }
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                match stopping {
                    true => break,
                    false => continue,
                }
            }
            // An interface went down.
            Err(e) if e.raw_os_error() == Some(libc::ENETDOWN) => continue,
            Err(e) => return Err(e).context("capture"),
        };
        seen.frames += 1;
        match frame::look(buffer.get(..len).unwrap_or_default(), pools) {
            Kind::Clear(what) => {
                seen.clear += 1;
                shared.clear.store(seen.clear, Ordering::Relaxed);
                if seen.examples.len() < 3 {
                    seen.examples.push(what);
                }
            }
            Kind::Encrypted => {
                seen.encrypted += 1;
                shared.encrypted.store(seen.encrypted, Ordering::Relaxed);
            }
            Kind::Other => {}
        }
    }
    seen.missed = u64::from(sys::packets_missed(&socket)?);
    Ok(seen)
}
