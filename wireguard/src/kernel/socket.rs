//! A netlink socket that asks one thing at a time.
//!
//! The kernel works through a request before `sendmsg` returns, and through a dump as it is read: nothing
//! here waits for longer than the kernel works.

use std::fmt;
use std::io;

use netlink_sys::SocketAddr;
use nix::libc;
use zeroize::Zeroizing;

use super::attr::{Attrs, array};

/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// Bytes read at a time; the kernel makes dump messages of at most 32 KiB.
const READ: usize = 64 << 10;
/// A dump during which the device changed is repeated this many times.
const DUMP_ATTEMPTS: usize = 8;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// The kernel's no: an error number, with its explanation if it gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `errno`, positive.
    pub errno: i32,
    /// The kernel's words.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.errno);
        write!(f, "{} ({errno:?})", errno.desc())?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Refusal {
        let errno = e.raw_os_error().unwrap_or(libc::EIO);
        Refusal { errno, text: None }
    }
}

/// A socket in the network namespace of the thread that opened it.
pub(super) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    /// What is read may hold keys.
    buffer: Zeroizing<Vec<u8>>,
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
enum Message<'a> {
    /// Part of the answer.
    Data(&'a [u8]),
    /// The last of the answer.
    End(Result<(), Refusal>),
    /// Of no interest.
    Other,
}

impl Socket {
    pub(super) fn open(protocol: isize) -> Result<Socket, Refusal> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Socket {
            socket,
            sequence: 0,
            buffer: Zeroizing::new(Vec::with_capacity(READ)),
        })
    }

    /// Sends a request and reads all of the answer.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        read: impl FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        self.exchange(kind, flags, payload, read).map(drop)
    }

    /// Asks for what may come in many messages; all of them are of one moment.
    pub(super) fn dump<T: Default>(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        read: impl Fn(&mut T, &[u8]),
    ) -> Result<T, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = T::default();
            if self.exchange(kind, flags, payload, |message| read(&mut found, message))? {
                return Ok(found);
            }
            tracing::debug!("the device changed during a dump: once more");
        }
        let text = format!("the device changed during each of {DUMP_ATTEMPTS} dumps");
        Err(Refusal {
            errno: libc::EINTR,
            text: Some(text),
        })
    }

    /// Whether all of the answer is of one moment.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut read: impl FnMut(&[u8]),
    ) -> Result<bool, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = frame(kind, flags, self.sequence, payload);
        self.socket.send(&message, 0)?;
        let mut is_whole = true;
        loop {
            self.receive()?;
            for (header, payload) in split(&self.buffer) {
                if header.sequence != self.sequence {
                    continue;
                }
                is_whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match classify(&header, payload) {
                    Message::Data(payload) => read(payload),
                    Message::End(outcome) => return outcome.map(|()| is_whole),
                    Message::Other => {}
                }
            }
        }
    }

    fn receive(&mut self) -> Result<(), Refusal> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut *self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let len = HEADER + payload.len();
    let mut out = Zeroizing::new(Vec::with_capacity(len));
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
    out.extend_from_slice(payload);
    out
}

#[derive(Clone, Copy, Debug)]
struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages in what was received; ends at the first that does not fit.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(array(bytes)?)).ok()?;
        let header = Header {
            kind: u16::from_ne_bytes(array(bytes.get(4..)?)?),
            flags: u16::from_ne_bytes(array(bytes.get(6..)?)?),
            sequence: u32::from_ne_bytes(array(bytes.get(8..)?)?),
        };
        let payload = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

fn classify<'a>(header: &Header, payload: &'a [u8]) -> Message<'a> {
    const ERROR_TEXT: u16 = 1;
    // The header of the request follows the number of an error; a dump ends with a number alone.
    let texts_at = match header.kind {
        NLMSG_NOOP => return Message::Other,
        NLMSG_OVERRUN => {
            return Message::End(Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()));
        }
        NLMSG_DONE => 4,
        NLMSG_ERROR => 4 + HEADER,
        _ => return Message::Data(payload),
    };
    let errno = array(payload).map_or(0, i32::from_ne_bytes);
    if errno >= 0 {
        return Message::End(Ok(()));
    }
    let has_texts = header.flags & NLM_F_ACK_TLVS != 0;
    let texts = Attrs(
        payload
            .get(texts_at..)
            .filter(|_| has_texts)
            .unwrap_or_default(),
    );
    let text = texts
        .filter(|(kind, _)| *kind == ERROR_TEXT)
        .find_map(|(_, value)| {
            let text = value.split(|b| *b == 0).next()?;
            std::str::from_utf8(text).ok().map(str::to_owned)
        });
    let errno = errno.saturating_abs();
    Message::End(Err(Refusal { errno, text }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::attr::Writer;

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let number = (-libc::EINVAL).to_ne_bytes();
        let mut payload = Writer::new(&[&number[..], &[0; HEADER]].concat(), 64);
        payload.put_text(1, "NLA_F_NESTED is missing");
        let message = frame(NLMSG_ERROR, NLM_F_ACK_TLVS, 7, &payload.finish());
        let (header, payload) = split(&message).next().unwrap();
        assert_eq!(header.sequence, 7);
        let text = Some("NLA_F_NESTED is missing".to_owned());
        let refusal = Refusal {
            errno: libc::EINVAL,
            text,
        };
        assert_eq!(classify(&header, payload), Message::End(Err(refusal)));
    }

    #[test]
    fn answers_end_where_they_should() {
        let classified = |kind, payload: &[u8]| {
            let header = Header {
                kind,
                flags: 0,
                sequence: 0,
            };
            matches!(classify(&header, payload), Message::End(Ok(())))
        };
        assert!(classified(NLMSG_ERROR, &[0; 20]));
        assert!(classified(NLMSG_DONE, &[0; 4]));
        assert!(!classified(NLMSG_ERROR, &[0xff; 20]));
        assert!(!classified(NLMSG_OVERRUN, &[]));
        assert!(!classified(30, &[0; 20]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for (header, payload) in split(&bytes) {
                prop_assert!(payload.len() + HEADER <= bytes.len());
                let _ = classify(&header, payload);
            }
        }
    }
}
