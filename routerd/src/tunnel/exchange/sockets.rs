//! The sockets of exchanges: one for each family, marked as the tunnel's own datagrams are.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use tokio::net::UdpSocket;

/// Room for the longest datagram and a byte more.
pub(super) const BUFFER: usize = 1300;

/// Both sockets, or the one that this host can have.
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    /// Fails when this host can have neither.
    pub(super) fn open(port: u16, fwmark: u32) -> io::Result<Sockets> {
        let v4 = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), fwmark);
        let v6 = open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), fwmark);
        match (v4, v6) {
            (Err(e), Err(_)) => Err(e),
            // A port that somebody has is no lack of a family.
            (Err(e), _) | (_, Err(e)) if e.kind() == io::ErrorKind::AddrInUse => Err(e),
            (v4, v6) => Ok(Sockets {
                v4: v4.ok(),
                v6: v6.ok(),
            }),
        }
    }

    /// The next datagram.
    pub(super) async fn receive(
        &self,
        buffer: &mut [u8; BUFFER],
    ) -> io::Result<(usize, SocketAddr)> {
        let readable = async |socket: &Option<UdpSocket>| match socket {
            Some(socket) => socket.readable().await,
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                ready = readable(&self.v4) => ready?,
                ready = readable(&self.v6) => ready?,
            }
            match self.try_receive(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// The next one if it is there.
    pub(super) fn try_receive(&self, buffer: &mut [u8; BUFFER]) -> io::Result<(usize, SocketAddr)> {
        let mut last = Err(io::ErrorKind::WouldBlock.into());
        for socket in self.v4.iter().chain(&self.v6) {
            last = socket.try_recv_from(buffer);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Where they can be reached from this host.
    #[cfg(test)]
    pub(super) fn ports(&self) -> [Option<SocketAddr>; 2] {
        let local = |socket: &Option<UdpSocket>, ip: std::net::IpAddr| {
            let port = socket.as_ref()?.local_addr().ok()?.port();
            Some(SocketAddr::new(ip, port))
        };
        [
            local(&self.v4, Ipv4Addr::LOCALHOST.into()),
            local(&self.v6, Ipv6Addr::LOCALHOST.into()),
        ]
    }

    /// Sends, or does not: what is lost is said again.
    pub(super) async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let Some(socket) = socket else { return };
        if let Err(e) = socket.send_to(datagram, to).await {
            tracing::debug!(%to, error = %e, "no word about preshared keys sent");
        }
    }
}

fn open(at: SocketAddr, fwmark: u32) -> io::Result<UdpSocket> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    // Rules that know the mark may exist; without the right to set it they have to know the port.
    if let Err(e) = setsockopt(&fd, sockopt::Mark, &fwmark) {
        tracing::debug!(error = %e, "the socket for preshared keys has no mark");
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    UdpSocket::from_std(fd.into())
}
