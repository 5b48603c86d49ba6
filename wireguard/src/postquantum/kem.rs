//! ML-KEM-768 (FIPS 203), with randomness as an argument.

use std::fmt;

use ml_kem::ml_kem_768;
use ml_kem::{Decapsulate, DecapsulationKey, Key, KeyExport};
use model::tunnel::EncapsulationKey;
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::{self, Entropy};

/// Bytes of a seed (FIPS 203, section 3.3: `d` and `z`).
pub const SEED_LEN: usize = 64;
/// Bytes of what is sent to the holder of a key.
pub const CIPHERTEXT_LEN: usize = 1088;
/// Bytes of a shared secret.
pub const SECRET_LEN: usize = 32;

pub(super) type Ciphertext = [u8; CIPHERTEXT_LEN];
pub(super) type Secret = Zeroizing<[u8; SECRET_LEN]>;

/// A node's key pair.
pub struct KemKey {
    key: Box<DecapsulationKey<ml_kem_768::MlKem768>>,
    public: EncapsulationKey,
}

impl KemKey {
    /// The pair that follows from a seed.
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> KemKey {
        let mut words = ml_kem::Seed::from(*seed);
        let key = Box::new(DecapsulationKey::from_seed(words));
        words.zeroize();
        let public = EncapsulationKey::new(key.encapsulation_key().to_bytes().into());
        KemKey { key, public }
    }

    /// A fresh seed.
    pub fn seed(entropy: &mut dyn Entropy) -> Zeroizing<[u8; SEED_LEN]> {
        Zeroizing::new(entropy::bytes(entropy))
    }

    /// The half that other nodes may know.
    pub fn public(&self) -> &EncapsulationKey {
        &self.public
    }

    /// The secret that somebody encapsulated to this key; a number that nobody knows when it was to another
    /// (section 6.3: implicit rejection).
    pub(super) fn decapsulate(&self, ciphertext: &Ciphertext) -> Secret {
        let mut shared = self.key.decapsulate(&(*ciphertext).into());
        let secret = Zeroizing::new(shared.into());
        shared.zeroize();
        secret
    }
}

impl fmt::Debug for KemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemKey(..)")
    }
}

/// The key is none: a number in it is out of range (FIPS 203, section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ML-KEM-768 encapsulation key")]
pub(super) struct BadKey;

/// A fresh secret for the holder of `key`, and what to send there.
pub(super) fn encapsulate(
    key: &EncapsulationKey,
    entropy: &mut dyn Entropy,
) -> Result<(Box<Ciphertext>, Secret), BadKey> {
    let encoded = Key::<ml_kem_768::EncapsulationKey>::from(*key.as_bytes());
    let key = ml_kem_768::EncapsulationKey::new(&encoded).map_err(|_| BadKey)?;
    let mut message = ml_kem::B32::from(entropy::bytes(entropy));
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
    message.zeroize();
    let secret = Zeroizing::new(shared.into());
    shared.zeroize();
    Ok((Box::new(ciphertext.into()), secret))
}

#[cfg(test)]
mod tests {
    use libcrux_ml_kem::mlkem768;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Seeded;

    /// Entropy that is this.
    struct Fixed(Vec<u8>);

    impl Entropy for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Byte for byte what an implementation with a machine-checked proof makes of the same numbers.
        #[test]
        fn it_is_what_the_verified_one_computes(
            seed in prop::array::uniform32(any::<u8>()), z: [u8; 32], m: [u8; 32], bit in 0usize..1088 * 8,
        ) {
            let mut both = [0; SEED_LEN];
            both[..32].copy_from_slice(&seed);
            both[32..].copy_from_slice(&z);
            let ours = KemKey::from_seed(&both);
            let theirs = mlkem768::generate_key_pair(both);
            prop_assert_eq!(ours.public().as_bytes(), theirs.pk());

            let mut random = Fixed(m.to_vec());
            let (ciphertext, secret) = encapsulate(ours.public(), &mut random).unwrap();
            let (expected, shared) = mlkem768::encapsulate(theirs.public_key(), m);
            prop_assert_eq!(&ciphertext[..], &expected.as_slice()[..]);
            prop_assert_eq!(&*secret, &shared);

            // Whole, and with a bit that fell over.
            let mut broken = *ciphertext;
            broken[bit / 8] ^= 1 << (bit % 8);
            for text in [*ciphertext, broken] {
                let shared = mlkem768::decapsulate(theirs.private_key(), &text.into());
                prop_assert_eq!(*ours.decapsulate(&text), shared);
            }
            prop_assert_ne!(&*ours.decapsulate(&broken), &*secret);
        }
    }

    #[test]
    fn numbers_out_of_range_are_no_key() {
        let bad = EncapsulationKey::new([0xff; EncapsulationKey::LEN]);
        let refused = encapsulate(&bad, &mut Seeded::new(1));
        assert_eq!(refused.err(), Some(BadKey));
    }

    #[test]
    fn secrets_do_not_print() {
        let key = KemKey::from_seed(&KemKey::seed(&mut Seeded::new(2)));
        assert_eq!(format!("{key:?}"), "KemKey(..)");
    }
}
