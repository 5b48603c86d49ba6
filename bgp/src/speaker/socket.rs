//! TCP sockets with the options of a peer.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use super::config::{CS6, Peer};
use super::sys;
use crate::attributes::NextHop;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// An address with its port, and with the interface where it means nothing without.
pub(super) fn on_link(ip: IpAddr, port: u16, interface: Option<&str>) -> io::Result<SocketAddr> {
    match (ip, interface) {
        (IpAddr::V6(ip), Some(name)) if ip.is_unicast_link_local() => {
            let index = if_nametoindex(name)?;
            Ok(SocketAddrV6::new(ip, port, 0, index).into())
        }
        _ => Ok(SocketAddr::new(ip, port)),
    }
}

/// A socket that listens at one address.
pub(super) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Peers that demand a TTL (GTSM) demand it of the answer to their SYN too.
    set_ttl(&socket, at.ip(), 255)?;
    set_dscp(&socket, at.ip(), CS6)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub(super) fn set_ttl(socket: &Socket, peer: IpAddr, ttl: u8) -> io::Result<()> {
    match peer {
        IpAddr::V4(_) => socket.set_ttl_v4(u32::from(ttl)),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(u32::from(ttl)),
    }
}

/// The upper six bits of the type of service (RFC 2474).
pub(super) fn set_dscp(socket: &Socket, peer: IpAddr, dscp: u8) -> io::Result<()> {
    let class = u32::from(dscp) << 2;
    match peer {
        IpAddr::V4(_) => socket.set_tos_v4(class),
        IpAddr::V6(_) => socket.set_tclass_v6(class),
    }
}

/// What a peer's connection needs, whoever made it.
fn prepare(socket: &Socket, peer: &Peer) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    set_ttl(socket, peer.address, peer.ttl.sent())?;
    let least = peer.ttl.least();
    if least > 0 {
        sys::set_min_ttl(socket, peer.address, least)?;
    }
    set_dscp(socket, peer.address, peer.dscp)
}

/// Begins to connect to a peer. The socket becomes writable when it is known how that went.
pub(super) fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let interface = peer.interface.as_deref();
    let to = on_link(peer.address, peer.port, interface)?;
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    prepare(&socket, peer)?;
    if let Some(password) = &peer.password {
        sys::set_md5(&socket, peer.address, password.key())?;
    }
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    if let Some(local) = peer.local_address {
        socket.bind(&on_link(local, 0, interface)?.into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

/// Makes an accepted connection one of this peer. Its signature comes from the listener.
pub(super) fn accepted(stream: TcpStream, peer: &Peer) -> io::Result<TcpStream> {
    let socket = Socket::from(stream);
    prepare(&socket, peer)?;
    Ok(socket.into())
}

/// Whether accepting failed for what became of the one connection, which is out of the queue with that: Linux passes on
/// what its network said of it (accept(2)). The next one may be well.
pub(super) fn is_of_connection(error: &io::Error) -> bool {
    use nix::errno::Errno as E;
    let code = error.raw_os_error().map(E::from_raw);
    matches!(
        code,
        Some(
            E::ECONNABORTED
                | E::EINTR
                | E::ENETDOWN
                | E::EPROTO
                | E::ENOPROTOOPT
                | E::EHOSTDOWN
                | E::ENONET
                | E::EHOSTUNREACH
                | E::EOPNOTSUPP
                | E::ENETUNREACH
        )
    )
}

/// Whether a connection from `from` is this peer's.
pub(super) fn is_from(peer: &Peer, from: SocketAddr) -> bool {
    if from.ip() != peer.address {
        return false;
    }
    match (from, &peer.interface) {
        (SocketAddr::V6(from), Some(name)) if from.ip().is_unicast_link_local() => {
            if_nametoindex(name.as_str()).is_ok_and(|index| index == from.scope_id())
        }
        _ => true,
    }
}

/// Demands a peer's signature of what connects, or ends that where there is no password.
pub(super) fn demand_signature(listener: impl AsFd, peer: &Peer, on: bool) -> io::Result<()> {
    let key = peer.password.as_ref().filter(|_| on);
    let done = sys::set_md5(listener, peer.address, key.map_or(&[], |p| p.key()));
    match done {
        // There was none to take away.
        Err(e) if !on && e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Our next hops for a session whose own end is `local`: that address, and for the other family the first
/// address of its interface.
pub(super) fn own_hops(local: IpAddr) -> (Option<std::net::Ipv4Addr>, Option<NextHop>) {
    let all: Vec<(String, IpAddr)> = getifaddrs()
        .map(|list| {
            let ip = |a: nix::ifaddrs::InterfaceAddress| {
                let address = a.address?;
                let v4 = address.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
                let v6 = || address.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip()));
                Some((a.interface_name, v4.or_else(v6)?))
            };
            list.filter_map(ip).collect()
        })
        .unwrap_or_default();
    let interface = all
        .iter()
        .find(|(_, ip)| *ip == local)
        .map(|(name, _)| name);
    let of_link = || {
        all.iter()
            .filter(|(name, _)| Some(name) == interface)
            .map(|(_, ip)| *ip)
    };
    let v4 = match local {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => of_link().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }),
    };
    let v6s = || {
        of_link().filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        })
    };
    let own = match local {
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => Some(ip),
        _ => None,
    };
    let link_local = v6s().find(std::net::Ipv6Addr::is_unicast_link_local);
    let global = own.or_else(|| v6s().find(|ip| !ip.is_unicast_link_local() && !ip.is_loopback()));
    let v6 = match (global, link_local) {
        (Some(global), link_local) => Some(NextHop::V6 {
            global,
            link_local: link_local.filter(|_| local.is_ipv6()),
        }),
        (None, link_local) => link_local.map(NextHop::LinkLocal),
    };
    (v4, v6)
}

/// Segments that the kernel dropped because of their MD5 signature, in this network namespace.
pub(super) fn bad_signatures() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|l| l.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs
        .filter(|(name, _)| name.starts_with("TCPMD5"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn without_descriptors_the_next_connection_is_no_better() {
        let is = |errno: Errno| is_of_connection(&io::Error::from_raw_os_error(errno as i32));
        assert!([Errno::ECONNABORTED, Errno::EHOSTUNREACH].map(is) == [true; 2]);
        let lack = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        assert!(lack.map(is) == [false; 4]);
        assert!(!is_of_connection(&io::ErrorKind::WouldBlock.into()));
    }
}
