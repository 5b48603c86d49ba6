//! The encrypted tunnel as plain data: which device this node should have, and who its peers are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Cidr;
use crate::resources::PostQuantum;

/// The public half of a node's X25519 key, by which peers know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; PublicKey::LEN]);

/// The text is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no WireGuard public key: it has 44 base64 characters, as `wg pubkey` prints it")]
pub struct PublicKeyError(String);

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl PublicKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// A key from its bytes.
    pub const fn new(bytes: [u8; PublicKey::LEN]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; PublicKey::LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&write(&self.0))
    }
}

/// Base64 of as many bytes as leave two over when divided by three: both kinds of key do.
fn write(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, b| bits << 8 | usize::from(*b));
        let bits = bits << (8 * (3 - group.len()));
        let digit = |at: usize| DIGITS.get((bits >> (18 - 6 * at)) & 63).copied();
        text.extend((0..=group.len()).filter_map(digit).map(char::from));
    }
    text.push('=');
    text
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<PublicKey, PublicKeyError> {
        let mut key = [0; PublicKey::LEN];
        match read(text, &mut key) {
            Some(()) => Ok(PublicKey(key)),
            None => Err(PublicKeyError(text.to_owned())),
        }
    }
}

/// One spelling for each key: neither white space nor bits left over.
fn read(text: &str, key: &mut [u8]) -> Option<()> {
    let length = (key.len() * 4).div_ceil(3);
    let digits = text.strip_suffix('=').filter(|d| d.len() == length)?;
    let (mut bits, mut held) = (0u32, 0);
    let mut bytes = key.iter_mut();
    for c in digits.bytes() {
        let value = DIGITS.iter().position(|d| *d == c)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            *bytes.next()? = (bits >> held).to_le_bytes()[0];
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(())
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<PublicKey, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The public half of a node's ML-KEM-768 key (FIPS 203): what others encapsulate a secret to. Clones share
/// the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncapsulationKey(Arc<[u8; EncapsulationKey::LEN]>);

/// The text is no encapsulation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ML-KEM-768 encapsulation key: it has 1580 base64 characters")]
pub struct EncapsulationKeyError;

impl EncapsulationKey {
    /// Bytes of a key.
    pub const LEN: usize = 1184;

    /// A key from its bytes.
    pub fn new(bytes: [u8; EncapsulationKey::LEN]) -> EncapsulationKey {
        EncapsulationKey(Arc::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; EncapsulationKey::LEN] {
        &self.0
    }
}

impl fmt::Display for EncapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(&*self.0))
    }
}

impl fmt::Debug for EncapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncapsulationKey(..)")
    }
}

impl FromStr for EncapsulationKey {
    type Err = EncapsulationKeyError;

    fn from_str(text: &str) -> Result<EncapsulationKey, EncapsulationKeyError> {
        let mut key = [0; EncapsulationKey::LEN];
        read(text, &mut key).ok_or(EncapsulationKeyError)?;
        Ok(EncapsulationKey::new(key))
    }
}

impl Serialize for EncapsulationKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EncapsulationKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<EncapsulationKey, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The tunnel device of this node as wanted. Its private key is the node's own affair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// UDP port that it listens on.
    pub port: u16,
    /// Mark of the datagrams that it sends.
    pub fwmark: u32,
    /// Whether its peers have preshared keys.
    pub post_quantum: PostQuantum,
    /// UDP port at which they are agreed on.
    pub post_quantum_port: u16,
    /// Everybody it exchanges packets with.
    pub peers: BTreeMap<PublicKey, TunnelPeer>,
}

/// A node at the other end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelPeer {
    /// Its name.
    pub node: Arc<str>,
    /// The key that it will have soon: the same peer by either.
    pub next_key: Option<PublicKey>,
    /// What to encapsulate secrets for preshared keys to; none: it or this node takes no part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation_key: Option<EncapsulationKey>,
    /// Where it listens, as far as it knows: it may be heard from elsewhere.
    pub endpoint: SocketAddr,
    /// What it owns: packets from anywhere else are not taken from it. No prefix has two owners.
    pub allowed_ips: BTreeSet<Cidr>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_written_as_wg_writes_it() {
        // RFC 7748 section 6.1: Alice's public key.
        let text = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.as_bytes()[..4], [0x85, 0x20, 0xf0, 0x09]);
        assert_eq!(key.to_string(), text);
        let longer = format!("{text}=");
        let left_over = text.replace("o=", "p=");
        let no_digit = text.replace('h', "-");
        for bad in ["", "=", &text[1..], &longer, &left_over, &no_digit] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_of_another_length_is_no_encapsulation_key() {
        let text = EncapsulationKey::new([7; EncapsulationKey::LEN]).to_string();
        assert_eq!(text.len(), 1580);
        let longer = format!("A{text}");
        for bad in ["", "=", &text[1..], &longer, text.trim_end_matches('=')] {
            assert_eq!(bad.parse::<EncapsulationKey>(), Err(EncapsulationKeyError));
        }
    }

    proptest! {
        #[test]
        fn keys_survive_a_round_trip(bytes: [u8; 32]) {
            let key = PublicKey::new(bytes);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
            let mut long = [0; EncapsulationKey::LEN];
            long.iter_mut().zip(bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
            let key = EncapsulationKey::new(long);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,50}|[A-Za-z0-9+/]{43}=") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
