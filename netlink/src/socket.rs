//! A netlink socket that sends many requests in one message and matches the answers by sequence
//! number.
//!
//! The kernel works through a message before `sendmsg` returns, so every answer is there to be
//! read by then: nothing here waits for longer than the kernel works.

mod listener;
mod message;
mod own;

use std::os::fd::AsFd;

pub(crate) use listener::Listener;
pub(crate) use message::{Batch, Header};
use netlink_sys::SocketAddr;
use nix::sys::socket::{setsockopt, sockopt};

use crate::Refusal;

/// Requests sent in one message. The answers to these fit into [`RECEIVE_BUFFER`] many times over.
pub(crate) const BATCH: usize = 256;
/// Kernel memory for what we have not read yet, bytes.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Kernel memory for one message of ours, bytes: an nftables transaction is one message.
const SEND_BUFFER: usize = 32 << 20;
/// Bytes read at a time; the kernel makes dump messages of at most 32 KiB.
const READ: usize = 64 << 10;
/// A dump during which the tables changed is repeated this many times.
const DUMP_ATTEMPTS: usize = 8;

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What one read brought.
enum Read {
    Some,
    Nothing,
    Lost,
}

impl Socket {
    /// Opens a socket of a protocol of [`netlink_sys::protocols`].
    pub(crate) fn open(protocol: isize) -> Result<Socket, Refusal> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        let address = socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        if protocol == netlink_sys::protocols::NETLINK_ROUTE {
            // Filters in dump requests are obeyed, and nonsense is refused.
            socket.set_netlink_get_strict_chk(true)?;
        }
        enlarge(&socket);
        let (port, buffer) = (address.port_number(), Vec::with_capacity(READ));
        Ok(Socket {
            socket,
            port,
            sequence: 0,
            buffer,
        })
    }

    /// The port number: notifications of what this socket changed carry it.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Sends a batch whose requests ask for no answer but the last, which is made to; one result to each, in order.
    /// The kernel answers in order too, and always to what it refuses: what it said nothing to went well.
    pub(crate) fn send_quietly(&mut self, batch: &mut Batch) -> Vec<Result<(), Refusal>> {
        batch.answer_last();
        let (mut answers, whole) = self.answers(batch);
        if !whole || answers.last().is_some_and(Option::is_none) {
            answers.fill(Some(Err(lost())));
        }
        let quiet = |a: Option<_>| a.unwrap_or(Ok(()));
        answers.into_iter().map(quiet).collect()
    }

    /// Sends a batch; one answer to each request, in order.
    pub(crate) fn send(&mut self, batch: &mut Batch) -> Vec<Result<(), Refusal>> {
        let (answers, _) = self.answers(batch);
        let or_lost = |a: Option<_>| a.unwrap_or_else(|| Err(lost()));
        answers.into_iter().map(or_lost).collect()
    }

    /// Sends a batch; the answer to each request, where there is one, and whether none was lost.
    fn answers(&mut self, batch: &mut Batch) -> (Vec<Option<Result<(), Refusal>>>, bool) {
        let count = batch.len();
        let first = self.sequence.wrapping_add(1);
        self.sequence = self
            .sequence
            .wrapping_add(u32::try_from(count).unwrap_or(0));
        if count == 0 {
            return (Vec::new(), true);
        }
        if let Err(e) = self.socket.send(batch.numbered(first), 0) {
            return (vec![Some(Err(e.into())); count], true);
        }
        let mut answers: Vec<Option<Result<(), Refusal>>> = vec![None; count];
        let mut whole = true;
        loop {
            match self.read() {
                Ok(Read::Some) => {}
                Ok(Read::Lost) => {
                    whole = false;
                    continue;
                }
                Ok(Read::Nothing) => return (answers, whole),
                Err(e) => return (vec![Some(Err(e)); count], true),
            }
            for (header, payload) in message::split(&self.buffer) {
                let at = usize::try_from(header.sequence.wrapping_sub(first)).ok();
                let slot = at.and_then(|at| answers.get_mut(at));
                if let (Some(slot), Some(answer)) = (slot, message::answer(&header, payload)) {
                    *slot = Some(answer);
                }
            }
        }
    }

    /// Sends one request that is answered by one object.
    pub(crate) fn get<T>(
        &mut self,
        request: &mut Batch,
        mut read: impl FnMut(&Header, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        Ok(self.exchange(request, &mut read)?.0.pop())
    }

    /// Asks for many objects. `read` picks what is wanted of each.
    ///
    /// Repeated when the kernel says that the tables changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        request: &mut Batch,
        mut read: impl FnMut(&Header, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let (found, whole) = self.exchange(request, &mut read)?;
            if whole {
                return Ok(found);
            }
            tracing::debug!("the tables changed during a dump: once more");
        }
        let text = format!("the tables changed during each of {DUMP_ATTEMPTS} dumps");
        Err(Refusal {
            errno: libc::EINTR,
            text: Some(text),
        })
    }

    /// One request with all its answers, and whether they are complete and of one moment.
    fn exchange<T>(
        &mut self,
        request: &mut Batch,
        read: &mut impl FnMut(&Header, &[u8]) -> Option<T>,
    ) -> Result<(Vec<T>, bool), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(request.numbered(self.sequence), 0)?;
        let (mut found, mut whole) = (Vec::new(), true);
        loop {
            match self.read()? {
                Read::Some => {}
                Read::Lost => whole = false,
                Read::Nothing => return Ok((found, whole)),
            }
            for (header, payload) in message::split(&self.buffer) {
                if header.sequence != self.sequence {
                    continue;
                }
                whole &= !header.interrupted();
                match message::answer(&header, payload) {
                    Some(answer) => answer?,
                    None => found.extend(read(&header, payload)),
                }
            }
        }
    }

    fn read(&mut self) -> Result<Read, Refusal> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(Read::Some),
                Err(e) => match e.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(Read::Nothing),
                    Some(libc::ENOBUFS) => return Ok(Read::Lost),
                    Some(libc::EINTR) => {}
                    _ => return Err(e.into()),
                },
            }
        }
    }
}

fn lost() -> Refusal {
    Refusal {
        errno: libc::ENOBUFS,
        text: Some("the answer was lost".to_owned()),
    }
}

/// Room for bursts. Without the privilege the limits of the system hold, and it still works.
pub(crate) fn enlarge(socket: &netlink_sys::Socket) {
    let fd = socket.as_fd();
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    if setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER);
    }
}
