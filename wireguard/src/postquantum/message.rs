//! The eight datagrams.
//!
//! ```text
//!   0        4     5        8               16                24           n          n + 16
//!   ├ "RPQ1" ┼ type┼ zeros  ┼ sender's key  ┼ receiver's key  ┼ body ...   ┼ code     ┤
//!                             first 8 bytes   first 8 bytes                  of all before it
//! ```
//!
//! Everything has a fixed length; the longest is 1,192 bytes and fits every path that carries IPv6.

use super::kem::{CIPHERTEXT_LEN, Ciphertext};
use super::schedule::{Link, MAC_LEN, Token};
use crate::keys::PublicKey;

const MAGIC: &[u8; 4] = b"RPQ1";
const HEADER_LEN: usize = 24;

/// The beginning of a public key.
pub(super) type KeyId = [u8; 8];

pub(super) fn key_id(key: &PublicKey) -> KeyId {
    key.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The names of the preshared keys that a node has for a peer, the preferred one first.
pub(super) type Names = [Token; 2];

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Follower: begin.
    Ask {
        /// Also when there is nothing to mend.
        renew: bool,
    },
    /// Leader: what do you have?
    Hello { asked: Token, names: Names },
    /// Follower: this, and a ticket for an offer that finds it unchanged.
    Here {
        asked: Token,
        ticket: Token,
        names: Names,
    },
    /// Leader: a secret, to be mixed with a key that both have.
    Offer {
        asked: Token,
        ticket: Token,
        keep: Token,
        /// The encapsulation key it is to.
        to: Token,
        ciphertext: Box<Ciphertext>,
    },
    /// Follower: another; the new key is tried here from now on.
    Accept {
        ticket: Token,
        ciphertext: Box<Ciphertext>,
        proof: Token,
    },
    /// Leader: the new key is first here.
    Confirm { ticket: Token, proof: Token },
    /// Follower: here too.
    Done { ticket: Token, proof: Token },
    /// Follower: I know nothing of it, or no more.
    Refuse { ticket: Token },
}

impl Message {
    /// The datagram.
    pub(super) fn seal(&self, link: &Link, from: KeyId, to: KeyId) -> Vec<u8> {
        let (kind, body): (u8, Vec<&[u8]>) = match self {
            Message::Ask { renew: false } => (1, vec![&[0]]),
            Message::Ask { renew: true } => (1, vec![&[1]]),
            Message::Hello {
                asked,
                names: [first, other],
            } => (2, vec![asked, first, other]),
            Message::Here {
                asked,
                ticket,
                names: [first, other],
            } => (3, vec![asked, ticket, first, other]),
            Message::Offer {
                asked,
                ticket,
                keep,
                to,
                ciphertext,
            } => (4, vec![asked, ticket, keep, to, &**ciphertext]),
            Message::Accept {
                ticket,
                ciphertext,
                proof,
            } => (5, vec![ticket, &**ciphertext, proof]),
            Message::Confirm { ticket, proof } => (6, vec![ticket, proof]),
            Message::Done { ticket, proof } => (7, vec![ticket, proof]),
            Message::Refuse { ticket } => (8, vec![ticket]),
        };
        let length: usize = body.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(HEADER_LEN + length + MAC_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&from);
        out.extend_from_slice(&to);
        body.iter().for_each(|part| out.extend_from_slice(part));
        let mac = link.mac(&out);
        out.extend_from_slice(&mac);
        out
    }
}

/// A datagram whose code has not been looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed<'a> {
    pub(super) from: KeyId,
    pub(super) to: KeyId,
    kind: u8,
    body: &'a [u8],
    text: &'a [u8],
    mac: &'a [u8],
}

impl<'a> Sealed<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Sealed<'a>> {
        let (text, mac) = datagram.split_at_checked(datagram.len().checked_sub(MAC_LEN)?)?;
        let mut rest = Reader(text);
        if rest.take::<4>()? != *MAGIC {
            return None;
        }
        let [kind, 0, 0, 0] = rest.take::<4>()? else {
            return None;
        };
        let (from, to) = (rest.take()?, rest.take()?);
        Some(Sealed {
            from,
            to,
            kind,
            body: rest.0,
            text,
            mac,
        })
    }

    /// What it says, if it is of the other end of `link`.
    pub(super) fn open(&self, link: &Link) -> Option<Message> {
        // A fuzzer guesses no codes; what is behind them has to hold by itself.
        let is_right = cfg!(fuzzing) || link.is_mac_right(self.text, self.mac);
        is_right.then(|| self.read()).flatten()
    }

    fn read(&self) -> Option<Message> {
        let mut body = Reader(self.body);
        let message = match self.kind {
            1 => Message::Ask {
                renew: match body.take()? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                },
            },
            2 => Message::Hello {
                asked: body.take()?,
                names: [body.take()?, body.take()?],
            },
            3 => Message::Here {
                asked: body.take()?,
                ticket: body.take()?,
                names: [body.take()?, body.take()?],
            },
            4 => Message::Offer {
                asked: body.take()?,
                ticket: body.take()?,
                keep: body.take()?,
                to: body.take()?,
                ciphertext: body.ciphertext()?,
            },
            5 => Message::Accept {
                ticket: body.take()?,
                ciphertext: body.ciphertext()?,
                proof: body.take()?,
            },
            6 => Message::Confirm {
                ticket: body.take()?,
                proof: body.take()?,
            },
            7 => Message::Done {
                ticket: body.take()?,
                proof: body.take()?,
            },
            8 => Message::Refuse {
                ticket: body.take()?,
            },
            _ => return None,
        };
        body.0.is_empty().then_some(message)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*part)
    }

    fn ciphertext(&mut self) -> Option<Box<Ciphertext>> {
        self.take::<CIPHERTEXT_LEN>().map(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::PrivateKey;

    fn link() -> Link {
        Link::new(
            &PrivateKey::new([1; 32]),
            &PrivateKey::new([2; 32]).public(),
        )
        .unwrap()
    }

    fn all(n: u8) -> Vec<Message> {
        let [a, b, c, d] = [1, 2, 3, 4].map(|k| [n.wrapping_mul(k); 16]);
        let ciphertext = Box::new([n; CIPHERTEXT_LEN]);
        vec![
            Message::Ask { renew: n % 2 == 1 },
            Message::Hello {
                asked: a,
                names: [b, c],
            },
            Message::Here {
                asked: a,
                ticket: b,
                names: [c, d],
            },
            Message::Offer {
                asked: a,
                ticket: b,
                keep: c,
                to: d,
                ciphertext: ciphertext.clone(),
            },
            Message::Accept {
                ticket: a,
                ciphertext,
                proof: b,
            },
            Message::Confirm {
                ticket: a,
                proof: b,
            },
            Message::Done {
                ticket: a,
                proof: b,
            },
            Message::Refuse { ticket: a },
        ]
    }

    fn open(datagram: &[u8]) -> Option<Message> {
        let sealed = Sealed::parse(datagram)?;
        (sealed.from == [3; 8] && sealed.to == [4; 8]).then_some(())?;
        sealed.open(&link())
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_nothing_else(n: u8, bit: usize, cut: usize) {
            for message in all(n) {
                let datagram = message.seal(&link(), [3; 8], [4; 8]);
                prop_assert!(datagram.len() <= 1192);
                prop_assert_eq!(open(&datagram), Some(message));
                let mut bad = datagram.clone();
                let bit = bit % (bad.len() * 8);
                bad[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(open(&bad), None);
                prop_assert_eq!(open(&datagram[..cut % datagram.len()]), None);
                // Right in every way but its length.
                let text = &datagram[..datagram.len() - MAC_LEN - 1];
                let shorter = [text, &link().mac(text)].concat();
                prop_assert_eq!(open(&shorter), None);
            }
        }

        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut text = MAGIC.to_vec();
            text.extend(bytes);
            let mac = link().mac(&text);
            text.extend(mac);
            if let Some(sealed) = Sealed::parse(&text) {
                let _ = sealed.open(&link());
            }
        }
    }
}
