//! The sockets that datagrams leave and arrive by.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, getsockopt, setsockopt,
    socket, sockopt,
};

use super::mmsg::{MESSAGES, Run, Sender};
use super::sys;

/// Room for what arrives while a thread waits for its processor.
const BUFFER: usize = 8 << 20;
/// How long a full queue of the network is waited for before datagrams are dropped.
const PATIENCE_MS: u8 = 100;
/// Tries for a free port that both families have.
const TRIES: usize = 16;

/// One queue's sockets, of one family or both, on one port.
#[derive(Debug)]
pub struct Sockets {
    /// For peers with IPv4 addresses.
    pub v4: Option<UdpSocket>,
    /// For peers with IPv6 addresses.
    pub v6: Option<UdpSocket>,
}

impl Sockets {
    /// Binds sockets of both families for `queues` queues, all to one port; zero: any free one. A
    /// family that the machine does not have is left out. All that needs privileges is done here, and
    /// in [`Sockets::set_mark`].
    ///
    /// # Errors
    /// When the port is taken or no family is there.
    pub fn open(port: u16, queues: usize) -> io::Result<Vec<Sockets>> {
        let mut tries = if port == 0 { TRIES } else { 1 };
        loop {
            tries -= 1;
            match Sockets::open_all(port, queues) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                result => return result,
            }
        }
    }

    fn open_all(mut port: u16, queues: usize) -> io::Result<Vec<Sockets>> {
        let mut all = Vec::new();
        for _ in 0..queues {
            let v4 = open(AddressFamily::Inet, port, queues > 1)?;
            if let (0, Some(v4)) = (port, &v4) {
                port = v4.local_addr()?.port();
            }
            let v6 = open(AddressFamily::Inet6, port, queues > 1)?;
            if let (0, Some(v6)) = (port, &v6) {
                port = v6.local_addr()?.port();
            }
            if v4.is_none() && v6.is_none() {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither IPv4 nor IPv6 is there",
                ));
            }
            let sockets = Sockets { v4, v6 };
            sockets.tune();
            all.push(sockets);
        }
        Ok(all)
    }

    /// The port that peers reach us at.
    pub fn port(&self) -> Option<u16> {
        let socket = self.iter().next()?;
        socket.local_addr().ok().map(|address| address.port())
    }

    /// The sockets that are there, IPv4 first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &UdpSocket> {
        self.v4.iter().chain(&self.v6)
    }

    pub(super) fn try_clone(&self) -> io::Result<Sockets> {
        let clone = |s: &Option<UdpSocket>| s.as_ref().map(UdpSocket::try_clone).transpose();
        Ok(Sockets {
            v4: clone(&self.v4)?,
            v6: clone(&self.v6)?,
        })
    }

    /// Asks for units, marks and large buffers. What the kernel refuses is done without.
    fn tune(&self) {
        for socket in self.iter() {
            let fd = socket.as_fd();
            let wishes = [
                ("UDP_GRO", (libc::SOL_UDP, libc::UDP_GRO)),
                ("IP_RECVTOS", (libc::IPPROTO_IP, libc::IP_RECVTOS)),
                (
                    "IPV6_RECVTCLASS",
                    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
                ),
            ];
            for (name, option) in wishes {
                if let Err(error) = sys::set_option(fd, option, 1) {
                    tracing::trace!(name, %error, "socket option refused");
                }
            }
            // Past the system's limit with the right to; up to it without.
            if setsockopt(socket, sockopt::RcvBufForce, &BUFFER).is_err() {
                let _ = setsockopt(socket, sockopt::RcvBuf, &BUFFER);
            }
            if setsockopt(socket, sockopt::SndBufForce, &BUFFER).is_err() {
                let _ = setsockopt(socket, sockopt::SndBuf, &BUFFER);
            }
        }
    }

    /// Marks everything that is sent, for routing rules; zero: no mark.
    ///
    /// # Errors
    /// Without the right to.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        for socket in self.iter() {
            setsockopt(socket, sockopt::Mark, &mark)?;
        }
        Ok(())
    }

    /// The mark of what is sent; zero: none.
    pub fn mark(&self) -> u32 {
        let socket = self.iter().next();
        let mark = socket.and_then(|socket| getsockopt(socket, sockopt::Mark).ok());
        mark.unwrap_or_default()
    }
}

fn open(family: AddressFamily, port: u16, is_shared: bool) -> io::Result<Option<UdpSocket>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = match socket(family, SockType::Datagram, flags, None) {
        Ok(fd) => fd,
        Err(nix::Error::EAFNOSUPPORT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if is_shared {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let bound = if family == AddressFamily::Inet {
        bind(raw, &SockaddrIn::new(0, 0, 0, 0, port))
    } else {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0);
        bind(raw, &SockaddrIn6::from(any))
    };
    match bound {
        Ok(()) => Ok(Some(fd.into())),
        // The family is compiled in and switched off.
        Err(nix::Error::EADDRNOTAVAIL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// One thread's way out.
pub(super) struct Outlet {
    sockets: Sockets,
    sender: Sender,
    /// Whether IPv4 and IPv6 still take units.
    takes_units: [bool; 2],
}

impl Outlet {
    pub(super) fn new(sockets: Sockets) -> Outlet {
        Outlet {
            sockets,
            sender: Sender::new(),
            takes_units: [true; 2],
        }
    }

    /// Sends runs in order; how many datagrams could not be sent.
    pub(super) fn send(&mut self, runs: &[Run<'_>]) -> u64 {
        let mut unsent = 0;
        for same in runs.chunk_by(|a, b| a.destination.is_ipv4() == b.destination.is_ipv4()) {
            let is_v4 = same.first().is_some_and(|run| run.destination.is_ipv4());
            unsent += self.send_same(same, is_v4);
        }
        unsent
    }

    fn send_same(&mut self, mut runs: &[Run<'_>], is_v4: bool) -> u64 {
        let mut unsent = 0;
        while let Some((first, rest)) = runs.split_first() {
            let is_unit = first.bytes.len() > first.segment;
            if is_unit && !self.takes_units[usize::from(is_v4)] {
                unsent += self.send_singly(first);
                runs = rest;
                continue;
            }
            match self.send_some(runs, is_v4) {
                Ok(sent) => runs = runs.get(sent.max(1)..).unwrap_or_default(),
                Err(error) => {
                    // EIO: the device cannot do the checksums of units. The others: not this size.
                    let code = error.raw_os_error();
                    if is_unit && code == Some(libc::EIO) {
                        tracing::info!(is_v4, "no UDP segmentation here: sending single datagrams");
                        self.takes_units[usize::from(is_v4)] = false;
                    }
                    let is_cuttable =
                        matches!(code, Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
                    if is_unit && is_cuttable {
                        unsent += self.send_singly(first);
                    } else {
                        tracing::trace!(to = %first.destination, %error, "not sent");
                        unsent += datagrams(first);
                    }
                    runs = rest;
                }
            }
        }
        unsent
    }

    fn send_singly(&mut self, unit: &Run<'_>) -> u64 {
        let is_v4 = unit.destination.is_ipv4();
        let mut bytes = unit.bytes.chunks(unit.segment.max(1));
        let mut unsent = 0;
        loop {
            let mut count = 0;
            let mut singles = [Run {
                bytes: &[],
                ..*unit
            }; MESSAGES];
            for (single, bytes) in singles.iter_mut().zip(bytes.by_ref().take(MESSAGES)) {
                (single.bytes, single.segment) = (bytes, bytes.len());
                count += 1;
            }
            let mut rest = singles.get(..count).unwrap_or_default();
            if rest.is_empty() {
                return unsent;
            }
            while !rest.is_empty() {
                let sent = self.send_some(rest, is_v4).unwrap_or_else(|_| {
                    unsent += 1;
                    1
                });
                rest = rest.get(sent.max(1)..).unwrap_or_default();
            }
        }
    }

    /// Sends as many runs of one family as go at once, at least the first.
    fn send_some(&mut self, runs: &[Run<'_>], is_v4: bool) -> io::Result<usize> {
        let socket = if is_v4 {
            &self.sockets.v4
        } else {
            &self.sockets.v6
        };
        let Some(socket) = socket else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        // Runs that are units are sent by themselves once units are refused.
        let result = self.sender.send(socket.as_fd(), runs);
        match result {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && is_writable(socket.as_fd()) => {
                self.sender.send(socket.as_fd(), runs)
            }
            result => result,
        }
    }
}

fn is_writable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::from(PATIENCE_MS)).is_ok_and(|n| n > 0)
}

fn datagrams(run: &Run<'_>) -> u64 {
    run.bytes.len().div_ceil(run.segment.max(1)) as u64
}

/// One datagram.
pub(super) fn single(destination: SocketAddr, ecn: u8, bytes: &[u8]) -> Run<'_> {
    Run {
        destination,
        ecn,
        segment: bytes.len(),
        bytes,
    }
}
