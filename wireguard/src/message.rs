//! The four datagrams of WireGuard: exact layouts, strict parsing.
//!
//! ```text
//!  1 initiation   1 000 sender(4)               noise(108) mac1(16) mac2(16)   148 bytes
//!  2 response     2 000 sender(4) receiver(4)   noise(48)  mac1(16) mac2(16)    92 bytes
//!  3 cookie reply 3 000 receiver(4) nonce(24)   sealed cookie(32)               64 bytes
//!  4 transport    4 000 receiver(4) counter(8)  sealed packet(16 or more)
//! ```
//! Numbers are little endian; the three bytes after the type are zero.

/// Bytes of an initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of a transport message before the sealed packet.
pub const TRANSPORT_HEADER_LEN: usize = 16;
/// Bytes that a transport message adds to a (padded) packet.
pub const TRANSPORT_OVERHEAD: usize = TRANSPORT_HEADER_LEN + crate::aead::TAG_LEN;

/// Noise message lengths inside initiation and response.
pub(crate) const NOISE_INITIATION_LEN: usize = 108;
pub(crate) const NOISE_RESPONSE_LEN: usize = 48;
const MACS_LEN: usize = 32;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;
const TRANSPORT: u32 = 4;

/// A datagram that has the shape of a WireGuard message; nothing in it is authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A wish for a session.
    Initiation(Initiation<'a>),
    /// The answer to one.
    Response(Response<'a>),
    /// «I am busy: prove that you are where you say.»
    CookieReply(CookieReply<'a>),
    /// A packet of a session.
    Transport(Transport),
}

/// Message 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initiation<'a> {
    /// The initiator's index for the session.
    pub sender: u32,
    pub(crate) noise: &'a [u8; NOISE_INITIATION_LEN],
    pub(crate) macs: Macs<'a>,
}

/// Message 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The responder's index for the session.
    pub sender: u32,
    /// The initiator's.
    pub receiver: u32,
    pub(crate) noise: &'a [u8; NOISE_RESPONSE_LEN],
    pub(crate) macs: Macs<'a>,
}

/// Message 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieReply<'a> {
    /// The index in the message that it answers.
    pub receiver: u32,
    pub(crate) nonce: &'a [u8; 24],
    pub(crate) sealed: &'a [u8; 32],
}

/// The header of message 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The receiver's index for the session.
    pub receiver: u32,
    /// The nonce.
    pub counter: u64,
}

/// The two authenticators at the end of a handshake message, and what each covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Macs<'a> {
    /// What mac1 covers.
    pub(crate) before_mac1: &'a [u8],
    pub(crate) mac1: &'a [u8; 16],
    /// What mac2 covers.
    pub(crate) before_mac2: &'a [u8],
    pub(crate) mac2: &'a [u8; 16],
}

impl<'a> Message<'a> {
    /// Reads a datagram; `None` for anything that is not exactly one of the four messages.
    pub fn parse(datagram: &'a [u8]) -> Option<Message<'a>> {
        match (u32_at(datagram, 0)?, datagram.len()) {
            (INITIATION, INITIATION_LEN) => Some(Message::Initiation(Initiation {
                sender: u32_at(datagram, 4)?,
                noise: array_at(datagram, 8)?,
                macs: macs(datagram)?,
            })),
            (RESPONSE, RESPONSE_LEN) => Some(Message::Response(Response {
                sender: u32_at(datagram, 4)?,
                receiver: u32_at(datagram, 8)?,
                noise: array_at(datagram, 12)?,
                macs: macs(datagram)?,
            })),
            (COOKIE_REPLY, COOKIE_REPLY_LEN) => Some(Message::CookieReply(CookieReply {
                receiver: u32_at(datagram, 4)?,
                nonce: array_at(datagram, 8)?,
                sealed: array_at(datagram, 32)?,
            })),
            (TRANSPORT, TRANSPORT_OVERHEAD..) => Some(Message::Transport(Transport {
                receiver: u32_at(datagram, 4)?,
                counter: u64::from_le_bytes(*array_at(datagram, 8)?),
            })),
            _ => None,
        }
    }
}

/// Whether a datagram belongs to the handshake's owner and not to the data path.
pub fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(1..=3))
}

fn macs(datagram: &[u8]) -> Option<Macs<'_>> {
    let at = datagram.len().checked_sub(MACS_LEN)?;
    Some(Macs {
        before_mac1: datagram.get(..at)?,
        mac1: array_at(datagram, at)?,
        before_mac2: datagram.get(..at + 16)?,
        mac2: array_at(datagram, at + 16)?,
    })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(|b| u32::from_le_bytes(*b))
}

/// An initiation without its authenticators.
pub(crate) fn initiation(sender: u32, noise: &[u8; NOISE_INITIATION_LEN]) -> [u8; INITIATION_LEN] {
    let mut out = [0; INITIATION_LEN];
    out[..4].copy_from_slice(&INITIATION.to_le_bytes());
    out[4..8].copy_from_slice(&sender.to_le_bytes());
    out[8..116].copy_from_slice(noise);
    out
}

/// A response without its authenticators.
pub(crate) fn response(
    sender: u32,
    receiver: u32,
    noise: &[u8; NOISE_RESPONSE_LEN],
) -> [u8; RESPONSE_LEN] {
    let mut out = [0; RESPONSE_LEN];
    out[..4].copy_from_slice(&RESPONSE.to_le_bytes());
    out[4..8].copy_from_slice(&sender.to_le_bytes());
    out[8..12].copy_from_slice(&receiver.to_le_bytes());
    out[12..60].copy_from_slice(noise);
    out
}

/// A cookie reply.
pub(crate) fn cookie_reply(
    receiver: u32,
    nonce: &[u8; 24],
    sealed: &[u8; 32],
) -> [u8; COOKIE_REPLY_LEN] {
    let mut out = [0; COOKIE_REPLY_LEN];
    out[..4].copy_from_slice(&COOKIE_REPLY.to_le_bytes());
    out[4..8].copy_from_slice(&receiver.to_le_bytes());
    out[8..32].copy_from_slice(nonce);
    out[32..].copy_from_slice(sealed);
    out
}

/// The header before a sealed packet.
pub(crate) fn transport_header(receiver: u32, counter: u64) -> [u8; TRANSPORT_HEADER_LEN] {
    let mut out = [0; TRANSPORT_HEADER_LEN];
    out[..4].copy_from_slice(&TRANSPORT.to_le_bytes());
    out[4..8].copy_from_slice(&receiver.to_le_bytes());
    out[8..].copy_from_slice(&counter.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_exact_lengths_and_zero_reserved_bytes_pass() {
        for (kind, len) in [
            (1, INITIATION_LEN),
            (2, RESPONSE_LEN),
            (3, COOKIE_REPLY_LEN),
        ] {
            for n in 0..200 {
                let mut datagram = vec![0; n];
                if let Some(first) = datagram.first_mut() {
                    *first = kind;
                }
                assert_eq!(Message::parse(&datagram).is_some(), n == len, "{kind} {n}");
            }
        }
        for n in 0..200 {
            let mut datagram = vec![4];
            datagram.resize(n.max(1), 0);
            assert_eq!(Message::parse(&datagram).is_some(), n >= 32, "{n}");
        }
        for at in 1..4 {
            let mut datagram = vec![0; 64];
            datagram[0] = 4;
            datagram[at] = 1;
            assert_eq!(Message::parse(&datagram), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sender: u32, receiver: u32, counter: u64, fill: u8) {
            let noise = [fill; NOISE_INITIATION_LEN];
            let bytes = initiation(sender, &noise);
            let Some(Message::Initiation(m)) = Message::parse(&bytes) else { panic!() };
            prop_assert_eq!((m.sender, m.noise), (sender, &noise));
            prop_assert_eq!((m.macs.before_mac1.len(), m.macs.before_mac2.len()), (116, 132));

            let noise = [fill; NOISE_RESPONSE_LEN];
            let bytes = response(sender, receiver, &noise);
            let Some(Message::Response(m)) = Message::parse(&bytes) else { panic!() };
            prop_assert_eq!((m.sender, m.receiver, m.noise), (sender, receiver, &noise));
            prop_assert_eq!((m.macs.before_mac1.len(), m.macs.before_mac2.len()), (60, 76));

            let bytes = cookie_reply(receiver, &[fill; 24], &[!fill; 32]);
            let Some(Message::CookieReply(m)) = Message::parse(&bytes) else { panic!() };
            prop_assert_eq!((m.receiver, m.nonce, m.sealed), (receiver, &[fill; 24], &[!fill; 32]));

            let mut bytes = transport_header(receiver, counter).to_vec();
            bytes.extend([fill; 16]);
            prop_assert_eq!(
                Message::parse(&bytes),
                Some(Message::Transport(Transport { receiver, counter }))
            );
        }

        #[test]
        fn no_bytes_panic(kind in 0u8..6, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Message::parse(&bytes);
            let mut bytes = bytes;
            bytes.splice(..usize::min(4, bytes.len()), [kind, 0, 0, 0]);
            Message::parse(&bytes);
        }
    }
}
