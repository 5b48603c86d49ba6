//! NOTIFICATION messages, and what they mean in words.

use std::fmt;

use bytes::Bytes;

use super::{Fault, MessageType, Reader, frame};

/// Code: Message Header Error.
pub const HEADER: u8 = 1;
/// Code: OPEN Message Error.
pub const OPEN: u8 = 2;
/// Code: UPDATE Message Error.
pub const UPDATE: u8 = 3;
/// Code: Hold Timer Expired.
pub const HOLD_TIMER: u8 = 4;
/// Code: Finite State Machine Error.
pub const FSM: u8 = 5;
/// Code: Cease.
pub const CEASE: u8 = 6;
/// Code: ROUTE-REFRESH Message Error.
pub const ROUTE_REFRESH: u8 = 7;
/// Code: Send Hold Timer Expired (RFC 9687).
pub const SEND_HOLD_TIMER: u8 = 8;

/// Subcode of OPEN Message Error: Bad Peer AS.
pub const BAD_PEER_AS: u8 = 2;

/// Subcodes of Cease (RFC 4486, 8538, 9384).
pub mod cease {
    #![allow(missing_docs)] // the names are the meaning
    pub const MAX_PREFIXES: u8 = 1;
    pub const ADMIN_SHUTDOWN: u8 = 2;
    pub const DECONFIGURED: u8 = 3;
    pub const ADMIN_RESET: u8 = 4;
    pub const REJECTED: u8 = 5;
    pub const CONFIG_CHANGE: u8 = 6;
    pub const COLLISION: u8 = 7;
    pub const OUT_OF_RESOURCES: u8 = 8;
    pub const HARD_RESET: u8 = 9;
    pub const BFD_DOWN: u8 = 10;
}

/// Why a session ends, as it is said to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// What goes with it.
    pub data: Bytes,
}

impl Notification {
    /// With data.
    pub fn new(code: u8, subcode: u8, data: Bytes) -> Notification {
        Notification {
            code,
            subcode,
            data,
        }
    }

    /// Without data.
    pub fn plain(code: u8, subcode: u8) -> Notification {
        Notification::new(code, subcode, Bytes::new())
    }

    /// Of an UPDATE's fault.
    pub fn of_fault(fault: &Fault) -> Notification {
        Notification::plain(UPDATE, fault.subcode)
    }

    /// Administrative shutdown or reset with a reason for the peer's operators (RFC 9003); the reason is cut
    /// to the 255 bytes that fit.
    pub fn with_reason(subcode: u8, reason: &str) -> Notification {
        let mut end = reason.len().min(255);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let text = reason.get(..end).unwrap_or_default();
        let mut data = Vec::with_capacity(text.len() + 1);
        if !text.is_empty() {
            data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(text.as_bytes());
        }
        Notification::new(CEASE, subcode, data.into())
    }

    /// The reason that the peer's operators gave, made safe to print.
    pub fn reason(&self) -> Option<String> {
        let shutdown = matches!(self.subcode, cease::ADMIN_SHUTDOWN | cease::ADMIN_RESET);
        if self.code != CEASE || !shutdown {
            return None;
        }
        let mut reader = Reader(&self.data);
        let len = reader.u8()?;
        let text = String::from_utf8_lossy(reader.take(usize::from(len))?);
        let clean: String = text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        (!clean.is_empty()).then_some(clean)
    }

    /// Of a bad peer AS: the AS that was refused, as most speakers say it though no RFC asks for it.
    pub fn refused_as(&self) -> Option<u32> {
        match (self.code, self.subcode, &*self.data) {
            (OPEN, BAD_PEER_AS, [a, b]) => Some(u16::from_be_bytes([*a, *b]).into()),
            (OPEN, BAD_PEER_AS, [a, b, c, d]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        }
    }

    /// Wrapped so that a peer that speaks RFC 8538 does not keep our routes.
    pub fn hard_reset(&self) -> Notification {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Notification::new(CEASE, cease::HARD_RESET, data.into())
    }

    /// Reads a message's body.
    pub fn decode(body: &[u8]) -> Option<Notification> {
        let mut reader = Reader(body);
        let (code, subcode) = (reader.u8()?, reader.u8()?);
        let data = Bytes::copy_from_slice(reader.0);
        Some(Notification::new(code, subcode, data))
    }

    /// The whole message, its data cut to what fits in 4096 bytes.
    pub fn encode(&self) -> Bytes {
        let mut body = vec![self.code, self.subcode];
        body.extend(
            self.data
                .iter()
                .take(super::MAX_LEN - super::HEADER_LEN - 2),
        );
        let mut out = Vec::with_capacity(body.len() + super::HEADER_LEN);
        frame::put(&mut out, MessageType::Notification, &body);
        out.into()
    }
}

fn name(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (HEADER, 1) => "connection not synchronized",
        (HEADER, 2) => "bad message length",
        (HEADER, 3) => "bad message type",
        (OPEN, 1) => "unsupported BGP version",
        (OPEN, BAD_PEER_AS) => "AS number is not the one configured for this neighbour",
        (OPEN, 3) => "bad router id",
        (OPEN, 4) => "unsupported optional parameter",
        (OPEN, 6) => "unacceptable hold time",
        (OPEN, 7) => "unsupported capability",
        (OPEN, 11) => "BGP roles do not match",
        (UPDATE, 1) => "malformed attribute list",
        (UPDATE, 2) => "unrecognized well-known attribute",
        (UPDATE, 3) => "missing well-known attribute",
        (UPDATE, 4) => "attribute flags error",
        (UPDATE, 5) => "attribute length error",
        (UPDATE, 6) => "invalid ORIGIN",
        (UPDATE, 8) => "invalid NEXT_HOP",
        (UPDATE, 9) => "optional attribute error",
        (UPDATE, 10) => "invalid prefix",
        (UPDATE, 11) => "malformed AS_PATH",
        (HOLD_TIMER, _) => "nothing heard within the hold time",
        (FSM, 1) => "unexpected message in OpenSent",
        (FSM, 2) => "unexpected message in OpenConfirm",
        (FSM, 3) => "unexpected message in Established",
        (FSM, _) => "unexpected message",
        (CEASE, cease::MAX_PREFIXES) => "more prefixes than allowed",
        (CEASE, cease::ADMIN_SHUTDOWN) => "shut down by an operator",
        (CEASE, cease::DECONFIGURED) => "neighbour removed from the configuration",
        (CEASE, cease::ADMIN_RESET) => "reset by an operator",
        (CEASE, cease::REJECTED) => "connection rejected",
        (CEASE, cease::CONFIG_CHANGE) => "configuration changed",
        (CEASE, cease::COLLISION) => "the other of two connections was kept",
        (CEASE, cease::OUT_OF_RESOURCES) => "out of resources",
        (CEASE, cease::HARD_RESET) => "hard reset",
        (CEASE, cease::BFD_DOWN) => "BFD session down",
        (ROUTE_REFRESH, 1) => "bad ROUTE-REFRESH length",
        (SEND_HOLD_TIMER, _) => "nothing could be sent within the send hold time",
        _ => return None,
    })
}

fn class(code: u8) -> Option<&'static str> {
    Some(match code {
        HEADER => "message header error",
        OPEN => "OPEN error",
        UPDATE => "UPDATE error",
        CEASE => "cease",
        ROUTE_REFRESH => "ROUTE-REFRESH error",
        _ => return None,
    })
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (name(self.code, self.subcode), class(self.code)) {
            (Some(name), _) => f.write_str(name)?,
            (None, Some(class)) => write!(f, "{class}, subcode {}", self.subcode)?,
            (None, None) => write!(f, "error {}, subcode {}", self.code, self.subcode)?,
        }
        if let Some(reason) = self.reason() {
            write!(f, ": {reason:?}")?;
        }
        if let Some(asn) = self.refused_as() {
            write!(f, ": it is {asn}")?;
        }
        if self.code == CEASE
            && self.subcode == cease::HARD_RESET
            && let Some(inner) = Notification::decode(&self.data)
            && let Some(name) = name(inner.code, inner.subcode)
        {
            write!(f, ": {name}")?;
            if let Some(reason) = inner.reason() {
                write!(f, ": {reason:?}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reaches_the_other_side_and_is_safe_to_print() {
        let sent = Notification::with_reason(cease::ADMIN_SHUTDOWN, "rack 7 moves\u{1b}[31m");
        let body = sent.encode().slice(super::super::HEADER_LEN..);
        let heard = Notification::decode(&body).unwrap();
        assert_eq!(heard, sent);
        assert_eq!(
            heard.to_string(),
            "shut down by an operator: \"rack 7 moves\u{fffd}[31m\""
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let sent = Notification::with_reason(cease::ADMIN_RESET, &"é".repeat(200));
        assert_eq!(sent.reason().unwrap(), "é".repeat(127));
    }

    #[test]
    fn a_reason_that_lies_about_its_length_is_none() {
        let lie = Notification::new(CEASE, cease::ADMIN_SHUTDOWN, vec![200, b'x'].into());
        assert_eq!(lie.reason(), None);
        assert_eq!(lie.to_string(), "shut down by an operator");
    }

    #[test]
    fn a_refused_as_is_named_in_either_width() {
        for data in [vec![0xfd, 0xe9], vec![0, 0, 0xfd, 0xe9]] {
            let refused = Notification::new(OPEN, BAD_PEER_AS, data.into());
            let words = refused.to_string();
            assert!(words.ends_with("this neighbour: it is 65001"), "{words}");
        }
        let odd = Notification::new(OPEN, BAD_PEER_AS, vec![1].into());
        assert_eq!(odd.refused_as(), None);
    }

    #[test]
    fn unknown_codes_and_hard_resets_have_words_too() {
        assert_eq!(
            Notification::plain(99, 1).to_string(),
            "error 99, subcode 1"
        );
        assert_eq!(Notification::plain(6, 77).to_string(), "cease, subcode 77");
        let hard = Notification::plain(CEASE, cease::MAX_PREFIXES).hard_reset();
        assert_eq!(hard.to_string(), "hard reset: more prefixes than allowed");
        let told = Notification::with_reason(cease::ADMIN_SHUTDOWN, "moving").hard_reset();
        let words = "hard reset: shut down by an operator: \"moving\"";
        assert_eq!(told.to_string(), words);
    }
}
