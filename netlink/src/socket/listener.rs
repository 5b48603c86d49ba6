//! A socket that only listens to notifications.

use std::os::fd::{AsFd, BorrowedFd};

use super::message::{Header, split};
use super::{READ, enlarge};
use crate::Refusal;

/// Listens to multicast groups in the network namespace of the thread that opened it.
pub(crate) struct Listener {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl Listener {
    /// Joins groups of a protocol of [`netlink_sys::protocols`].
    pub(crate) fn open(protocol: isize, groups: &[u32]) -> Result<Listener, Refusal> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        enlarge(&socket);
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Listener {
            socket,
            buffer: Vec::with_capacity(READ),
        })
    }

    /// Does without notifications about routes that these ports caused. Where the kernel cannot, they come.
    pub(crate) fn ignore_routes_of(&self, ports: &[u32]) {
        if let Err(e) = super::own::drop_routes_of(&self.socket, ports) {
            tracing::debug!(error = %e, "no filter for notifications");
        }
    }

    /// Reads all that is there; whether some was lost for want of room.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&Header, &[u8])) -> Result<bool, Refusal> {
        let mut lost = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {
                    for (header, payload) in split(&self.buffer) {
                        each(&header, payload);
                    }
                }
                Err(e) => match e.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(lost),
                    Some(libc::ENOBUFS) => lost = true,
                    Some(libc::EINTR) => {}
                    _ => return Err(e.into()),
                },
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
