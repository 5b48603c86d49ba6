//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` with WireGuard's prologue: two messages, then two raw keys.
//!
//! The state machine is `snow`'s; curve, cipher and hash are given to it by [`primitives`], because
//! ours are wiped, refuse keys of small order, and reuse the public key that we already have.

mod primitives;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::message::{NOISE_INITIATION_LEN, NOISE_RESPONSE_LEN};
use crate::timestamp::Timestamp;
use primitives::Primitives;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where IKpsk2 mixes the preshared key in.
const PSK_AT: usize = 2;

/// A handshake message that does not verify, or a key of small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the handshake message does not verify")]
pub(crate) struct Refused;

impl From<snow::Error> for Refused {
    fn from(_: snow::Error) -> Refused {
        Refused
    }
}

/// This node's key pair.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    private: PrivateKey,
    public: PublicKey,
}

impl Local {
    pub(crate) fn new(private: PrivateKey) -> Local {
        Local {
            public: private.public(),
            private,
        }
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// What a finished handshake leaves: a key for each direction.
pub(crate) struct SessionKeys {
    pub(crate) send: Zeroizing<[u8; 32]>,
    pub(crate) receive: Zeroizing<[u8; 32]>,
}

/// The initiator's side between its message and the answer.
pub(crate) struct Initiated(HandshakeState);

/// The responder's side after it has read an initiation.
pub(crate) struct Received {
    state: HandshakeState,
    /// Who wants the session. Proved: it made a shared secret with this key.
    pub(crate) remote: PublicKey,
    pub(crate) timestamp: Timestamp,
}

/// Writes the first message. `ephemeral` must be fresh.
pub(crate) fn initiate(
    local: &Local,
    remote: &PublicKey,
    timestamp: Timestamp,
    ephemeral: Zeroizing<[u8; 32]>,
) -> Result<(Initiated, [u8; NOISE_INITIATION_LEN]), Refused> {
    let mut state = builder(local, ephemeral)?
        .remote_public_key(remote.as_bytes())?
        .build_initiator()?;
    let mut out = [0; NOISE_INITIATION_LEN];
    let written = state.write_message(timestamp.as_bytes(), &mut out)?;
    exact(written, out.len())?;
    Ok((Initiated(state), out))
}

impl Initiated {
    /// Reads the answer with the first of `psks` that fits. May be called again after a refusal.
    pub(crate) fn finish<'k>(
        &mut self,
        noise: &[u8; NOISE_RESPONSE_LEN],
        psks: impl Iterator<Item = &'k PresharedKey>,
    ) -> Result<SessionKeys, Refused> {
        for psk in psks {
            self.0.set_psk(PSK_AT, psk.expose())?;
            // Room for the tag too: an empty payload is decrypted in place.
            let mut payload = [0; 16];
            if self.0.read_message(noise, &mut payload) == Ok(0) {
                let (ours, theirs) = self.0.dangerously_get_raw_split();
                return Ok(SessionKeys {
                    send: Zeroizing::new(ours),
                    receive: Zeroizing::new(theirs),
                });
            }
        }
        Err(Refused)
    }
}

/// Reads a first message. `ephemeral` must be fresh: the answer will use it.
pub(crate) fn receive(
    local: &Local,
    noise: &[u8; NOISE_INITIATION_LEN],
    ephemeral: Zeroizing<[u8; 32]>,
) -> Result<Received, Refused> {
    let mut state = builder(local, ephemeral)?.build_responder()?;
    let mut payload = [0; 28];
    let read = state.read_message(noise, &mut payload)?;
    exact(read, 12)?;
    let timestamp = payload.first_chunk().ok_or(Refused)?;
    let remote = state
        .get_remote_static()
        .and_then(|key| key.try_into().ok())
        .ok_or(Refused)?;
    Ok(Received {
        timestamp: Timestamp::from_bytes(*timestamp),
        remote: PublicKey::new(remote),
        state,
    })
}

impl Received {
    /// Writes the answer.
    pub(crate) fn respond(
        mut self,
        psk: &PresharedKey,
    ) -> Result<([u8; NOISE_RESPONSE_LEN], SessionKeys), Refused> {
        self.state.set_psk(PSK_AT, psk.expose())?;
        let mut out = [0; NOISE_RESPONSE_LEN];
        let written = self.state.write_message(&[], &mut out)?;
        exact(written, out.len())?;
        let (theirs, ours) = self.state.dangerously_get_raw_split();
        let keys = SessionKeys {
            send: Zeroizing::new(ours),
            receive: Zeroizing::new(theirs),
        };
        Ok((out, keys))
    }
}

fn builder(local: &Local, ephemeral: Zeroizing<[u8; 32]>) -> Result<Builder<'_>, Refused> {
    let params: NoiseParams = PATTERN.parse()?;
    let primitives = Primitives::new(local.public, ephemeral);
    Ok(Builder::with_resolver(params, Box::new(primitives))
        .prologue(PROLOGUE)?
        .local_private_key(local.private.expose())?)
}

fn exact(got: usize, want: usize) -> Result<(), Refused> {
    if got == want { Ok(()) } else { Err(Refused) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn local(n: u8) -> Local {
        Local::new(PrivateKey::new([n; 32]))
    }

    fn fresh(n: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([n; 32])
    }

    fn stamp() -> Timestamp {
        Timestamp::after(None, Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn both_sides_get_the_same_keys_crosswise() {
        let (a, b) = (local(1), local(2));
        let psk = PresharedKey::new([9; 32]);
        let (mut waiting, first) = initiate(&a, b.public(), stamp(), fresh(3)).unwrap();
        let received = receive(&b, &first, fresh(4)).unwrap();
        assert_eq!(
            (received.remote, received.timestamp),
            (*a.public(), stamp())
        );
        let (second, theirs) = received.respond(&psk).unwrap();
        let ours = waiting.finish(&second, [&psk].into_iter()).unwrap();
        assert_eq!(ours.send, theirs.receive);
        assert_eq!(ours.receive, theirs.send);
        assert_ne!(ours.send, ours.receive);
    }

    #[test]
    fn any_preshared_key_that_is_offered_may_fit_and_no_other() {
        let (a, b) = (local(1), local(2));
        let keys = [7, 8, 9].map(|n| PresharedKey::new([n; 32]));
        let (mut waiting, first) = initiate(&a, b.public(), stamp(), fresh(3)).unwrap();
        let received = receive(&b, &first, fresh(4)).unwrap();
        let (second, theirs) = received.respond(&keys[2]).unwrap();
        assert!(waiting.finish(&second, keys[..2].iter()).is_err());
        // A refusal leaves the handshake as it was.
        let ours = waiting.finish(&second, keys.iter()).unwrap();
        assert_eq!(ours.send, theirs.receive);
    }

    #[test]
    fn a_static_key_of_small_order_is_refused() {
        assert!(initiate(&local(1), &PublicKey::new([0; 32]), stamp(), fresh(3)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_flipped_bit_is_refused(bit in 0usize..108 * 8, bit2 in 0usize..48 * 8) {
            let (a, b) = (local(1), local(2));
            let psk = PresharedKey::new([0; 32]);
            let (mut waiting, first) = initiate(&a, b.public(), stamp(), fresh(3)).unwrap();
            let mut bad = first;
            bad[bit / 8] ^= 1 << (bit % 8);
            // The top bit of a curve point is ignored by X25519, but it is hashed.
            prop_assert!(receive(&b, &bad, fresh(4)).is_err());
            let (second, _) = receive(&b, &first, fresh(4)).unwrap().respond(&psk).unwrap();
            let mut bad = second;
            bad[bit2 / 8] ^= 1 << (bit2 % 8);
            prop_assert!(waiting.finish(&bad, [&psk].into_iter()).is_err());
            prop_assert!(waiting.finish(&second, [&psk].into_iter()).is_ok());
        }
    }
}
