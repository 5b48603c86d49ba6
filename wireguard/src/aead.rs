//! ChaCha20-Poly1305 (RFC 8439) over many packets at once.
//!
//! ```text
//!  &mut [Job] ─► plan: sort by length, cut into groups ─┬─ enough alike ─► lanes   (AVX-512, one packet per lane)
//!                                                       └─ the rest ─────► ring    (one packet after another)
//! ```
//!
//! Every [`Job`] works in place on a slice of its own, so the slices can be segments of one outgoing
//! buffer (`UDP_SEGMENT`) or of one received unit (`UDP_GRO`), and nothing is copied or allocated.
//! Nonces are WireGuard's: 32 zero bits, then the counter in little endian. There is no associated data.
//!
//! Invariants:
//! * plaintext of a packet whose tag is wrong is never visible: its slice is zero when the call returns;
//! * both engines write the same bytes, which a self-test checks before the vector engine is first used.

#[cfg(test)]
mod differential;
mod engine;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod plan;

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use engine::{Engine, EngineChoice};

/// Bytes that sealing adds after the plaintext.
pub const TAG_LEN: usize = 16;

/// One 256-bit key, ready for both engines. Never printed, wiped when dropped.
pub struct Key {
    bytes: [u8; 32],
    ring: LessSafeKey,
}

impl Key {
    /// Prepares `bytes` for use.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key {
            ring: ring_key(&bytes),
            bytes,
        }
    }

    /// The key as ChaCha20 state words.
    #[cfg(target_arch = "x86_64")]
    fn words(&self) -> [u32; 8] {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(self.bytes.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |w, b| w << 8 | u32::from(*b));
        }
        words
    }
}

fn ring_key(bytes: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&CHACHA20_POLY1305, bytes) {
        Ok(key) => LessSafeKey::new(key),
        // The only error is a wrong length, and the type rules that out.
        Err(_) => unreachable!("a ChaCha20-Poly1305 key is 32 bytes"),
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
        // ring does not wipe: write another key over it, and keep the optimiser from dropping the write.
        self.ring = ring_key(&[0; 32]);
        std::hint::black_box(&mut self.ring);
    }
}

impl ZeroizeOnDrop for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One packet to seal or to open, in place.
#[derive(Debug)]
pub struct Job<'a> {
    key: &'a Key,
    counter: u64,
    data: &'a mut [u8],
    done: bool,
}

impl<'a> Job<'a> {
    /// A packet under `key` and `counter`.
    ///
    /// `data` is the plaintext or ciphertext with [`TAG_LEN`] bytes after it for the tag: written by
    /// sealing, checked by opening. Sealing two packets with one key and counter breaks the cipher;
    /// a session hands out every counter once.
    pub fn new(key: &'a Key, counter: u64, data: &'a mut [u8]) -> Job<'a> {
        Job {
            key,
            counter,
            data,
            done: false,
        }
    }

    /// Whether the packet was sealed, or opened with a right tag. False before the call, for a slice
    /// shorter than a tag, and for a forgery.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Bytes of text without the tag; `None` for a slice that cannot hold a tag.
    fn text_len(&self) -> Option<usize> {
        self.data.len().checked_sub(TAG_LEN)
    }

    /// The text: ciphertext after sealing, plaintext after opening; empty when not done.
    pub fn text(&self) -> &[u8] {
        self.text_len()
            .filter(|_| self.done)
            .and_then(|len| self.data.get(..len))
            .unwrap_or_default()
    }

    fn seal_by_ring(&mut self) {
        let Some((text, tag_out)) = self.data.split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        let sealed =
            self.key
                .ring
                .seal_in_place_separate_tag(nonce(self.counter), Aad::empty(), text);
        if let Ok(tag) = sealed {
            tag_out.copy_from_slice(tag.as_ref());
            self.done = true;
        }
    }

    fn open_by_ring(&mut self) {
        if self.text_len().is_none() {
            return;
        }
        let opened =
            self.key
                .ring
                .open_in_place(nonce(self.counter), Aad::empty(), &mut *self.data);
        self.done = opened.is_ok();
        if !self.done {
            self.data.fill(0);
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypts every job in place and writes its tag. Jobs shorter than a tag are left alone and not done.
pub fn seal_batch(engine: Engine, jobs: &mut [Job<'_>]) {
    plan::run::<true>(engine, jobs);
}

/// Checks every job's tag and decrypts it in place; a job with a wrong tag is not done and all zero.
pub fn open_batch(engine: Engine, jobs: &mut [Job<'_>]) {
    plan::run::<false>(engine, jobs);
}
