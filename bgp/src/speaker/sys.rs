//! Socket options that no safe interface has.
#![allow(
    unsafe_code,
    reason = "setsockopt with structures of the kernel's: TCP_MD5SIG, IP_MINTTL"
)]

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, socklen_t};
use socket2::SockAddr;
use zeroize::Zeroize;

/// Longest key of a TCP MD5 signature, in bytes.
pub(super) const MD5_KEY_MAX: usize = libc::TCP_MD5SIG_MAXKEYLEN;

fn set<T>(fd: impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let value: *const c_void = std::ptr::from_ref(value).cast();
    // SAFETY: `value` points to `len` readable bytes for the time of the call, and the kernel only reads
    // them; the descriptor is borrowed and open.
    let done = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, value, len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct Md5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: c_int,
    key: [u8; MD5_KEY_MAX],
}

/// Signs segments to and from `peer` (RFC 2385), and drops what is not signed so; an empty key ends it.
pub(super) fn set_md5(fd: impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let Some(bytes) = Some(key).filter(|k| k.len() <= MD5_KEY_MAX) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let address = SockAddr::from(std::net::SocketAddr::new(peer, 0));
    let mut signature = Md5Sig {
        // SAFETY: `sockaddr_storage` is made of integers: all zero is a value of it.
        address: unsafe { std::mem::zeroed() },
        flags: 0,
        prefix_len: 0,
        key_len: u16::try_from(bytes.len()).unwrap_or(0),
        interface: 0,
        key: [0; MD5_KEY_MAX],
    };
    // SAFETY: a `SockAddr` holds a whole `sockaddr_storage`, of which `len()` bytes are set; both are readable
    // and writable for that length and do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut signature.address).cast::<u8>(),
            address.len() as usize,
        );
    }
    for (to, from) in signature.key.iter_mut().zip(bytes) {
        *to = *from;
    }
    let done = set(fd, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature);
    signature.key.zeroize();
    done
}

/// Drops what comes with a smaller TTL or hop limit than `least` (RFC 5082).
pub(super) fn set_min_ttl(fd: impl AsFd, peer: IpAddr, least: u8) -> io::Result<()> {
    let least = c_int::from(least);
    match peer {
        IpAddr::V4(_) => set(fd, libc::IPPROTO_IP, libc::IP_MINTTL, &least),
        IpAddr::V6(_) => set(fd, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least),
    }
}

/// Of ICMPv6, only these types are received (RFC 3542 §3.2).
pub(super) fn hear_only(fd: impl AsFd, types: &[u8]) -> io::Result<()> {
    // A set bit blocks.
    let mut blocked = [u32::MAX; 8];
    for kind in types {
        if let Some(word) = blocked.get_mut(usize::from(kind / 32)) {
            *word &= !(1 << (kind % 32));
        }
    }
    const ICMP6_FILTER: c_int = 1;
    set(fd, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &blocked)
}

/// With what is received comes the TTL or hop limit that it arrived with.
pub(super) fn tell_ttl(fd: impl AsFd, v6: bool) -> io::Result<()> {
    let on: c_int = 1;
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &on)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, &on)
    }
}
