//! Curve, cipher and hash for `snow`.

use std::sync::Mutex;

use blake2::{Blake2s256, Digest};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

use crate::aead::TAG_LEN;
use crate::keys::PublicKey;

/// The resolver of one handshake.
pub(super) struct Primitives {
    public: PublicKey,
    /// Taken once. The trait asks for it through a shared reference; nothing is ever contended.
    ephemeral: Mutex<Option<Zeroizing<[u8; 32]>>>,
}

impl Primitives {
    pub(super) fn new(public: PublicKey, ephemeral: Zeroizing<[u8; 32]>) -> Primitives {
        Primitives {
            public,
            ephemeral: Mutex::new(Some(ephemeral)),
        }
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let ephemeral = self.ephemeral.lock().ok()?.take();
        Some(Box::new(Once(ephemeral)))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Curve {
            own_public: self.public,
            secret: Zeroizing::new([0; 32]),
            public: [0; 32],
        }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Blake2s(Blake2s256::new())))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(ChaChaPoly(Zeroizing::new([0; 32]))))
    }
}

/// Gives the ephemeral secret, once: a handshake that asks again must not get the same.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().ok_or(Error::Rng)?;
        if dest.len() != bytes.len() {
            return Err(Error::Rng);
        }
        dest.copy_from_slice(&*bytes);
        Ok(())
    }
}

struct Curve {
    own_public: PublicKey,
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// `snow` calls this for the static key only, whose public half is known.
    fn set(&mut self, privkey: &[u8]) {
        self.secret.copy_from_slice(privkey);
        self.public = *self.own_public.as_bytes();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(&mut *self.secret)?;
        let secret = StaticSecret::from(*self.secret);
        self.public = x25519_dalek::PublicKey::from(&secret).to_bytes();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs: [u8; 32] = pubkey.first_chunk().copied().ok_or(Error::Dh)?;
        let shared = StaticSecret::from(*self.secret).diffie_hellman(&theirs.into());
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..32)
            .ok_or(Error::Dh)?
            .copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let mut hash = self.0.finalize_reset();
        out[..32].copy_from_slice(&hash);
        hash.as_mut_slice().zeroize();
    }
}

struct ChaChaPoly(Zeroizing<[u8; 32]>);

impl ChaChaPoly {
    fn key(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &*self.0)
            .ok()
            .map(LessSafeKey::new)
    }

    fn nonce(n: u64) -> Nonce {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&n.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.copy_from_slice(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        let sealed = self.key().and_then(|key| {
            let (text, rest) = out.split_at_mut_checked(len)?;
            text.copy_from_slice(plaintext);
            let tag = key
                .seal_in_place_separate_tag(Self::nonce(nonce), Aad::from(authtext), text)
                .ok()?;
            rest.get_mut(..TAG_LEN)?.copy_from_slice(tag.as_ref());
            Some(len + TAG_LEN)
        });
        // Nothing written makes the message too short, which the caller refuses.
        sealed.unwrap_or(0)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        // The longest field of a WireGuard handshake is a sealed public key.
        let mut buffer = Zeroizing::new([0; 32 + TAG_LEN]);
        let buffer = buffer.get_mut(..ciphertext.len()).ok_or(Error::Decrypt)?;
        buffer.copy_from_slice(ciphertext);
        let text = self
            .key()
            .ok_or(Error::Decrypt)?
            .open_in_place(Self::nonce(nonce), Aad::from(authtext), buffer)
            .map_err(|_| Error::Decrypt)?;
        out.get_mut(..text.len())
            .ok_or(Error::Decrypt)?
            .copy_from_slice(text);
        Ok(text.len())
    }
}
