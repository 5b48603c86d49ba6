//! How keys follow from secrets: HKDF and HMAC with SHA-256 (RFC 5869, RFC 2104), by `ring`.
//!
//! ```text
//!   link key = HKDF(X25519 of the two static keys)                  authenticates every datagram
//!   preshared key, proof key = HKDF(salt: the key before,
//!                                   secret: both encapsulated ones,
//!                                   info: hash of everything said)
//! ```
//!
//! An attacker needs both decapsulation keys, or one and the key before, to know the next key; that of X25519
//! is worth no more than delay.

use ring::{digest, hkdf, hmac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::kem::{Ciphertext, Secret};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// Bytes of random numbers, names of keys and proofs.
pub(super) const TOKEN_LEN: usize = 16;
/// Bytes of the code at the end of a datagram.
pub(super) const MAC_LEN: usize = 16;

pub(super) type Token = [u8; TOKEN_LEN];

/// The name of no key.
pub(super) const NO_NAME: Token = [0; TOKEN_LEN];

/// What two static keys have in common.
#[derive(Clone)]
pub(super) struct Link(Zeroizing<[u8; KEY_LEN]>);

impl Link {
    /// `None`: the peer's key is of small order.
    pub(super) fn new(own: &PrivateKey, peer: &PublicKey) -> Option<Link> {
        let shared = own.agree(peer)?;
        let mut ends = [*own.public().as_bytes(), *peer.as_bytes()];
        ends.sort_unstable();
        let key = expand(b"routerd post-quantum link", &*shared, &ends.concat());
        Some(Link(key))
    }

    fn tag(&self, label: &[u8], text: &[&[u8]]) -> Token {
        tag(&*self.0, label, text)
    }

    /// The code of a datagram.
    pub(super) fn mac(&self, datagram: &[u8]) -> [u8; MAC_LEN] {
        self.tag(b"datagram", &[datagram])
    }

    pub(super) fn is_mac_right(&self, datagram: &[u8], mac: &[u8]) -> bool {
        self.mac(datagram).ct_eq(mac).into()
    }

    /// By which the two ends tell each other what they have.
    pub(super) fn name(&self, key: &PresharedKey) -> Token {
        self.tag(b"name", &[key.expose()])
    }
}

/// Everything that the two ends have told each other, and which of them they are.
#[derive(Clone, Copy)]
pub(super) struct Transcript<'a> {
    pub(super) leader: &'a str,
    pub(super) follower: &'a str,
    pub(super) leader_key: &'a [u8],
    pub(super) follower_key: &'a [u8],
    pub(super) asked: &'a Token,
    pub(super) ticket: &'a Token,
    pub(super) offered: &'a Ciphertext,
    pub(super) accepted: &'a Ciphertext,
}

impl Transcript<'_> {
    fn hash(&self) -> digest::Digest {
        let mut hash = digest::Context::new(&digest::SHA256);
        let parts: [&[u8]; 8] = [
            self.leader.as_bytes(),
            self.follower.as_bytes(),
            self.leader_key,
            self.follower_key,
            self.asked,
            self.ticket,
            self.offered,
            self.accepted,
        ];
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finish()
    }
}

/// What an exchange ends in.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) key: PresharedKey,
    proof: Zeroizing<[u8; KEY_LEN]>,
}

impl Outcome {
    /// `before`: the key that both ends have and try.
    pub(super) fn new(
        before: Option<&PresharedKey>,
        offered: &Secret,
        accepted: &Secret,
        transcript: &Transcript<'_>,
    ) -> Outcome {
        let none = [0; KEY_LEN];
        let salt = before.map_or(&none, PresharedKey::expose);
        let mut secrets = Zeroizing::new([0; 2 * KEY_LEN]);
        let (first, second) = secrets.split_at_mut(KEY_LEN);
        first.copy_from_slice(&**offered);
        second.copy_from_slice(&**accepted);
        let hash = transcript.hash();
        let out = |label: &[u8]| expand(salt, &*secrets, &[label, hash.as_ref()].concat());
        Outcome {
            key: PresharedKey::new(*out(b"routerd post-quantum preshared key")),
            proof: out(b"routerd post-quantum proof"),
        }
    }

    /// Shows who has worked out the same that it has.
    pub(super) fn proof(&self, label: &[u8]) -> Token {
        tag(&*self.proof, label, &[])
    }

    pub(super) fn is_proof_right(&self, label: &[u8], proof: &Token) -> bool {
        self.proof(label).ct_eq(proof).into()
    }
}

/// A number that says nothing to who does not know `secret`.
pub(super) fn tag(secret: &[u8], label: &[u8], text: &[&[u8]]) -> Token {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut mac = hmac::Context::with_key(&key);
    mac.update(label);
    text.iter().for_each(|part| mac.update(part));
    let mac = mac.sign();
    mac.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The name of an encapsulation key.
pub(super) fn fingerprint(key: &[u8]) -> Token {
    let hash = digest::digest(&digest::SHA256, key);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

fn expand(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = key
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *out));
    // It fails only for lengths that are not those of the hash.
    debug_assert!(filled.is_ok());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [u8; 1088] = [5; 1088];

    fn transcript<'a>(tokens: &'a [Token; 2], names: [&'a str; 2]) -> Transcript<'a> {
        Transcript {
            leader: names[0],
            follower: names[1],
            leader_key: &[1],
            follower_key: &[2],
            asked: &tokens[0],
            ticket: &tokens[1],
            offered: &TEXT,
            accepted: &TEXT,
        }
    }

    #[test]
    fn both_ends_of_a_link_have_the_same() {
        let [a, b, c] = [1, 2, 3].map(|n| PrivateKey::new([n; 32]));
        let link = |own: &PrivateKey, peer: &PrivateKey| Link::new(own, &peer.public()).unwrap();
        assert_eq!(link(&a, &b).mac(b"x"), link(&b, &a).mac(b"x"));
        assert_ne!(link(&a, &b).mac(b"x"), link(&a, &c).mac(b"x"));
        assert!(!link(&a, &b).is_mac_right(b"x", &link(&a, &b).mac(b"y")));
        assert!(!link(&a, &b).is_mac_right(b"x", &[]));
        assert!(Link::new(&a, &PublicKey::new([0; 32])).is_none());
        let key = PresharedKey::new([7; 32]);
        assert_eq!(link(&a, &b).name(&key), link(&b, &a).name(&key));
        assert_ne!(link(&a, &b).name(&key), link(&a, &c).name(&key));
    }

    /// Whatever one thing differs, nothing of the outcome is the same.
    #[test]
    fn an_outcome_depends_on_all_that_went_into_it() {
        let secret = |n| Zeroizing::new([n; 32]);
        let key = |n| PresharedKey::new([n; 32]);
        let tokens = [[1; 16], [2; 16]];
        let first = transcript(&tokens, ["a", "b"]);
        let others = [
            Transcript {
                leader: "ab",
                follower: "",
                ..first
            },
            Transcript {
                leader: "b",
                follower: "a",
                ..first
            },
            Transcript {
                leader_key: &[2],
                ..first
            },
            Transcript {
                follower_key: &[1],
                ..first
            },
            Transcript {
                asked: &tokens[1],
                ..first
            },
            Transcript {
                ticket: &tokens[0],
                ..first
            },
            Transcript {
                offered: &[6; 1088],
                ..first
            },
            Transcript {
                accepted: &[6; 1088],
                ..first
            },
        ];
        let (one, two) = (secret(1), secret(2));
        let mut all = vec![
            Outcome::new(None, &one, &two, &first),
            Outcome::new(None, &two, &one, &first),
            Outcome::new(Some(&key(9)), &one, &two, &first),
        ];
        all.extend(others.iter().map(|t| Outcome::new(None, &one, &two, t)));
        for (n, a) in all.iter().enumerate() {
            for b in all.iter().skip(n + 1) {
                assert!(a.key != b.key && a.proof(b"x") != b.proof(b"x"));
            }
        }
        assert_ne!(all[0].proof(b"x"), all[0].proof(b"y"));
        assert!(Outcome::new(None, &one, &two, &first).is_proof_right(b"x", &all[0].proof(b"x")));
    }
}
