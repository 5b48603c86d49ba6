//! Framing: requests put one after another, received bytes taken apart.

use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::RouteNetlinkMessage;

use crate::Refusal;
use crate::attr::{Attrs, align, text_of, u16_at, u32_at};

/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
const FLAGS: std::ops::Range<usize> = 6..8;
const SEQUENCE: std::ops::Range<usize> = 8..12;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// Requests in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// A batch of one.
    pub(crate) fn of(message: &RouteNetlinkMessage, flags: u16) -> Batch {
        let mut batch = Batch::default();
        batch.push(message, flags);
        batch
    }

    /// Appends an rtnetlink request.
    pub(crate) fn push(&mut self, message: &RouteNetlinkMessage, flags: u16) {
        self.push_raw(message.message_type(), flags, |out| {
            let start = out.len();
            out.resize(start + message.buffer_len(), 0);
            if let Some(room) = out.get_mut(start..) {
                message.serialize(room);
            }
        });
    }

    /// Appends a request whose payload is written by `fill`.
    pub(crate) fn push_raw(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend([0; 8]);
        fill(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(room) = self.bytes.get_mut(start..start + 4) {
            room.copy_from_slice(&len.to_ne_bytes());
        }
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Asks for an answer to the last request.
    pub(super) fn answer_last(&mut self) {
        let last = self.starts.last().copied().unwrap_or_default();
        if let Some(flags) = u16_at(&self.bytes, last + FLAGS.start)
            && let Some(room) = self.bytes.get_mut(last..).and_then(|b| b.get_mut(FLAGS))
        {
            room.copy_from_slice(&(flags | NLM_F_ACK).to_ne_bytes());
        }
    }

    /// Number of requests.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The bytes, with sequence numbers from `first` on.
    pub(super) fn numbered(&mut self, first: u32) -> &[u8] {
        let mut sequence = first;
        for start in &self.starts {
            let room = self
                .bytes
                .get_mut(*start..)
                .and_then(|b| b.get_mut(SEQUENCE));
            if let Some(room) = room {
                room.copy_from_slice(&sequence.to_ne_bytes());
            }
            sequence = sequence.wrapping_add(1);
        }
        &self.bytes
    }
}

/// What a received message says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// Message type.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    flags: u16,
    /// Of the request it answers.
    pub(super) sequence: u32,
    /// Port of whoever asked; of a notification: of whoever caused it.
    pub(crate) port: u32,
}

impl Header {
    /// The tables changed since the dump began.
    pub(super) fn interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }
}

/// The messages in what was received; ends at the first that does not fit.
pub(crate) fn split(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let header = Header {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
        };
        let payload = bytes.get(HEADER..len)?;
        bytes = bytes.get(align(len)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// The verdict, when the message is one; `None` when it is an object.
pub(super) fn answer(header: &Header, payload: &[u8]) -> Option<Result<(), Refusal>> {
    let text_at = match header.kind {
        NLMSG_NOOP => return Some(Ok(())),
        NLMSG_OVERRUN => return Some(Err(Refusal::errno(libc::ENOBUFS))),
        NLMSG_DONE => 4,
        // The request follows the number: its header alone when capped.
        NLMSG_ERROR if header.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
        NLMSG_ERROR => 4 + usize::try_from(u32_at(payload, 4).unwrap_or(0)).unwrap_or(0),
        _ => return None,
    };
    // A dump may end without a number.
    let errno = u32_at(payload, 0).unwrap_or(0).cast_signed();
    if errno >= 0 {
        return Some(Ok(()));
    }
    let texts = (header.flags & NLM_F_ACK_TLVS != 0).then(|| Attrs::after(payload, text_at));
    let text = texts
        .and_then(|t| t.find(ERROR_TEXT))
        .and_then(text_of)
        .map(str::to_owned);
    Some(Err(Refusal {
        errno: -errno,
        text,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_numbered_in_order() {
        let mut batch = Batch::default();
        for kind in [20, 21] {
            batch.push_raw(kind, 0, |out| out.extend([1, 2, 3]));
        }
        assert_eq!(batch.len(), 2);
        let seen: Vec<_> = split(batch.numbered(7))
            .map(|(h, p)| (h.kind, h.sequence, p.to_vec()))
            .collect();
        assert_eq!(seen, [(20, 7, vec![1, 2, 3]), (21, 8, vec![1, 2, 3])]);
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        crate::attr::put_text(&mut payload, ERROR_TEXT, "Nexthop has invalid gateway");
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        let header = Header {
            kind: NLMSG_ERROR,
            flags,
            sequence: 0,
            port: 0,
        };
        let text = Some("Nexthop has invalid gateway".to_owned());
        let expected = Refusal {
            errno: libc::EINVAL,
            text,
        };
        assert_eq!(answer(&header, &payload), Some(Err(expected)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for (header, payload) in split(&bytes) {
                prop_assert!(payload.len() + HEADER <= bytes.len());
                let _ = answer(&header, payload);
            }
        }
    }
}
