//! BFD's sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::Target;
use crate::speaker::config::CS6;
use crate::speaker::socket::{on_link, set_dscp, set_ttl};
use crate::speaker::sys;

/// Source ports that the other side accepts (RFC 5881 §4).
const SOURCES: std::ops::RangeInclusive<u16> = 49152..=65535;

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
    set_ttl(&socket, to.ip(), 255)?;
    set_dscp(&socket, to.ip(), CS6)?;
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
