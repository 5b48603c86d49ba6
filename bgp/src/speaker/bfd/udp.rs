//! BFD's sockets.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::Target;
use crate::speaker::config::CS6;
use crate::speaker::socket::on_link;
use crate::speaker::sys;

/// Source ports that the other side accepts (RFC 5881 §4).
const SOURCES: std::ops::RangeInclusive<u16> = 49152..=65535;
/// More than any packet without authentication needs.
const LEN: usize = 128;

fn any(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// A socket that hears what comes to a port.
pub(super) fn listen(port: u16, v6: bool) -> io::Result<UdpSocket> {
    let at = SocketAddr::new(any(v6), port);
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    sys::tell_ttl(&socket, v6)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// A socket that sends to one neighbour, from a source port of its own.
pub(super) fn speak(target: &Target) -> io::Result<UdpSocket> {
    let interface = target.interface.as_deref();
    let to = on_link(target.address, target.port(), interface)?;
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let class = u32::from(CS6) << 2;
    if to.is_ipv6() {
        socket.set_unicast_hops_v6(255)?;
        socket.set_tclass_v6(class)?;
    } else {
        socket.set_ttl_v4(255)?;
        socket.set_tos_v4(class)?;
    }
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    let local = target.local.unwrap_or(any(to.is_ipv6()));
    let mut failed = io::Error::from(ErrorKind::AddrInUse);
    for port in SOURCES {
        match socket.bind(&on_link(local, port, interface)?.into()) {
            Ok(()) => {
                socket.connect(&to.into())?;
                return Ok(socket.into());
            }
            Err(e) if e.kind() == ErrorKind::AddrInUse => failed = e,
            Err(e) => return Err(e),
        }
    }
    Err(failed)
}

/// A packet that came.
pub(super) struct Arrived {
    bytes: [u8; LEN],
    len: usize,
    /// Its sender.
    pub(super) from: SocketAddr,
    /// The TTL that it arrived with.
    pub(super) ttl: u8,
}

impl Arrived {
    /// What it says.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The next packet; `None` when there is none.
pub(super) fn receive(socket: &UdpSocket) -> io::Result<Option<Arrived>> {
    let mut bytes = [0; LEN];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(libc::c_int);
    let got = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    );
    let got = match got {
        Ok(got) => got,
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let ttl = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
            u8::try_from(ttl).ok()
        }
        _ => None,
    });
    let from = got.address.as_ref().and_then(|address| {
        let v4 = address
            .as_sockaddr_in()
            .map(|s| SocketAddr::V4((*s).into()));
        let v6 = || {
            address
                .as_sockaddr_in6()
                .map(|s| SocketAddr::V6((*s).into()))
        };
        v4.or_else(v6)
    });
    let len = got.bytes;
    let Some(from) = from else {
        return Ok(None);
    };
    Ok(Some(Arrived {
        bytes,
        len,
        from,
        // Without a TTL it could have come from anywhere.
        ttl: ttl.unwrap_or(0),
    }))
}

/// Whether a packet comes from where it should.
pub(super) fn is_from(target: &Target, from: SocketAddr) -> bool {
    if from.ip() != target.address {
        return false;
    }
    match on_link(target.address, 0, target.interface.as_deref()) {
        Ok(SocketAddr::V6(wanted)) => match from {
            SocketAddr::V6(from) => wanted.scope_id() == 0 || wanted.scope_id() == from.scope_id(),
            SocketAddr::V4(_) => false,
        },
        Ok(SocketAddr::V4(_)) => true,
        Err(_) => false,
    }
}
