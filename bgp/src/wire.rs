//! Bytes to meaning and back. Nothing outside this module names the codec crate.
//!
//! Framing, the split of an UPDATE and the walk over its attributes are ours, because they decide what a
//! malformed message costs (RFC 7606) and run for every message. Values of attributes and the capabilities
//! of an OPEN are decoded by the codec.

pub mod block;
pub mod frame;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod refresh;
pub mod render;
pub mod update;

use crate::family::PerFamily;

pub use frame::{Frame, MessageType};
pub use notification::Notification;

/// Bytes of a header: marker, length, type.
pub const HEADER_LEN: usize = 19;
/// Longest message without RFC 8654, and longest OPEN and KEEPALIVE with it.
pub const MAX_LEN: usize = 4096;
/// Longest message with RFC 8654.
pub const MAX_EXTENDED_LEN: usize = 65535;
/// Most AS numbers in a path; a longer one is treated as withdrawn.
pub const MAX_AS_PATH: usize = 1024;
/// Most communities of one kind on a route; more are treated as withdrawn.
pub const MAX_COMMUNITIES: usize = 2048;
/// Most clusters that a route may have been reflected by.
pub const MAX_CLUSTERS: usize = 255;

/// What an error costs (RFC 7606 §2), from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposition {
    /// The attribute is dropped and the rest of the UPDATE is used.
    AttributeDiscard,
    /// Every prefix announced by the UPDATE counts as withdrawn.
    TreatAsWithdraw,
    /// The family is not used any more in this session.
    DisableFamily,
    /// NOTIFICATION, and the session ends.
    SessionReset,
}

/// One error found in an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Type code of the attribute, 0 when it is no single one.
    pub attribute: u8,
    /// What it costs.
    pub disposition: Disposition,
    /// Subcode of UPDATE Message Error that names it.
    pub subcode: u8,
    /// In words.
    pub what: &'static str,
}

/// What a session agreed on, as far as messages look different for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Whether the neighbour is in our AS.
    pub ibgp: bool,
    /// Whether AS numbers have 4 bytes (RFC 6793).
    pub as4: bool,
    /// Families negotiated.
    pub families: PerFamily<bool>,
    /// Families in which the peer sends path identifiers (RFC 7911).
    pub add_path_in: PerFamily<bool>,
    /// Families in which we send path identifiers.
    pub add_path_out: PerFamily<bool>,
    /// Whether IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Whether messages may be long (RFC 8654).
    pub extended_message: bool,
}

impl Context {
    /// Longest UPDATE, NOTIFICATION or ROUTE-REFRESH.
    pub fn max_len(&self) -> usize {
        if self.extended_message {
            MAX_EXTENDED_LEN
        } else {
            MAX_LEN
        }
    }
}

impl Default for Context {
    /// A session with a neighbour in another AS that speaks IPv4 and IPv6 and nothing unusual.
    fn default() -> Context {
        Context {
            ibgp: false,
            as4: true,
            families: PerFamily { v4: true, v6: true },
            add_path_in: PerFamily::default(),
            add_path_out: PerFamily::default(),
            extended_next_hop: false,
            extended_message: false,
        }
    }
}

/// Reads big-endian fields off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.array()?))
    }
}
