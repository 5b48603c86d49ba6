//! Keys of nodes and peers. Secrets never print and are wiped when dropped.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::entropy::{self, Entropy};

/// Bytes of every key.
pub const KEY_LEN: usize = 32;

/// A node's secret half.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// A key from its bytes; they are clamped when used, as X25519 wants it.
    pub fn new(bytes: [u8; KEY_LEN]) -> PrivateKey {
        PrivateKey(bytes)
    }

    /// A fresh key.
    pub fn generate(entropy: &mut dyn Entropy) -> PrivateKey {
        PrivateKey(entropy::bytes(entropy))
    }

    /// The half that other nodes may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&StaticSecret::from(self.0)).to_bytes())
    }

    /// What this key and that of a peer have in common (RFC 7748, section 6.1); `None`: that one is of small
    /// order.
    pub(crate) fn agree(&self, peer: &PublicKey) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        let shared = StaticSecret::from(self.0).diffie_hellman(&peer.0.into());
        (shared.was_contributory()).then(|| Zeroizing::new(shared.to_bytes()))
    }

    /// The bytes, for the file that keeps them.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The key as `wg genkey` prints it, for the same file.
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(base64(&self.0))
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &PrivateKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PrivateKey {}

/// A symmetric key that two peers share besides their key pairs.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// A key from its bytes.
    pub fn new(bytes: [u8; KEY_LEN]) -> PresharedKey {
        PresharedKey(bytes)
    }

    /// The one of zeros, which is the same as none.
    pub fn none() -> PresharedKey {
        PresharedKey([0; KEY_LEN])
    }

    /// Whether it is the one of zeros.
    pub fn is_none(&self) -> bool {
        *self == PresharedKey::none()
    }

    pub(crate) fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &PresharedKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PresharedKey {}

/// A node's public half: its name among peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// A key from its bytes.
    pub const fn new(bytes: [u8; KEY_LEN]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

/// Why a text is not a key. The text itself is left out: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a WireGuard key: write the 44 base64 characters that `wg genkey` or `wg pubkey` print"
)]
pub struct KeyError;

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        unbase64(text)
            .map(|bytes| PublicKey(*bytes))
            .ok_or(KeyError)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PrivateKey, KeyError> {
        unbase64(text)
            .map(|bytes| PrivateKey(*bytes))
            .ok_or(KeyError)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PresharedKey, KeyError> {
        unbase64(text)
            .map(|bytes| PresharedKey(*bytes))
            .ok_or(KeyError)
    }
}

/// Base64 of 32 bytes, computed and not looked up, so that a secret leaves no trace in the cache.
fn base64(bytes: &[u8; KEY_LEN]) -> String {
    let mut text = String::with_capacity(44);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0u32, |bits, b| (bits << 8) | u32::from(*b));
        let bits = bits << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(digit((bits >> (18 - 6 * at)) & 63));
        }
    }
    text.push('=');
    text
}

/// `above` is all ones when `value` ≥ `from`.
fn at_least(value: u32, from: u32) -> u32 {
    (from.wrapping_sub(value).wrapping_sub(1) >> 31).wrapping_neg()
}

fn digit(value: u32) -> char {
    // Each range moves the sum from the code before it to its own first code.
    let steps = [
        at_least(value, 26) & 6,
        at_least(value, 52) & 75u32.wrapping_neg(),
        at_least(value, 62) & 15u32.wrapping_neg(),
        at_least(value, 63) & 3,
    ];
    let code = steps
        .iter()
        .fold(value + 65, |code, step| code.wrapping_add(*step));
    char::from(code.to_le_bytes()[0])
}

fn unbase64(text: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let text: &[u8; 44] = text.as_bytes().try_into().ok()?;
    let (last, digits) = text.split_last()?;
    let mut out = Zeroizing::new([0; KEY_LEN]);
    let (mut bits, mut held, mut at) = (0u32, 0, 0);
    for c in digits {
        let value = (0..64).find(|v| digit(*v) == char::from(*c))?;
        bits = (bits << 6) | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            *out.get_mut(at)? = (bits >> held).to_le_bytes()[0];
            at += 1;
            bits &= (1 << held) - 1;
        }
    }
    // One spelling for each key: the two bits that are left over must be zero.
    (*last == b'=' && bits == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = PrivateKey::new([7; 32]);
        assert_eq!(format!("{secret:?}"), "PrivateKey(..)");
        assert_eq!(
            format!("{:?}", PresharedKey::new([7; 32])),
            "PresharedKey(..)"
        );
        assert!(!KeyError.to_string().contains('7'));
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn the_public_half_is_x25519() {
        let secret = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
            .parse::<PrivateKey>()
            .unwrap();
        assert_eq!(
            secret.public().to_string(),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        );
    }

    #[test]
    fn texts_that_are_not_keys_are_refused() {
        let good = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert!(good.parse::<PublicKey>().is_ok());
        for bad in [
            "",
            "x",
            &good[1..],
            &good.replace('=', "A"),
            &good.replace("o=", "p="),
            &good.replace('h', "-"),
        ] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn base64_survives_a_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(PublicKey::new(bytes).to_string().parse::<PublicKey>().unwrap().0, bytes);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,50}|[A-Za-z0-9+/]{43}.") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
