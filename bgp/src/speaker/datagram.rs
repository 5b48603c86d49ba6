//! Packets with the TTL that they arrived with.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

/// More than is read of any packet.
const LEN: usize = 128;

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
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Arrived>> {
    let mut bytes = [0; LEN];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(libc::c_int);
    let got = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
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
