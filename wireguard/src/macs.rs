//! mac1 (the sender knows whom it talks to) and mac2 with cookies (it is where it says it is).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::AeadInPlace;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy};
use crate::keys::PublicKey;
use crate::message::{self, COOKIE_REPLY_LEN, CookieReply, Macs};
use crate::time::Time;

/// How long a cookie is used, and how long the secret that makes them lives.
pub(crate) const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

type Mac = [u8; 16];
type Cookie = [u8; 16];

/// What mac1 and cookie replies of messages to one node are keyed with.
#[derive(Clone)]
pub(crate) struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    /// The keys for messages *to* `node`.
    pub(crate) fn of(node: &PublicKey) -> MacKeys {
        let derive = |label: &[u8]| {
            let hash = Blake2s256::new()
                .chain_update(label)
                .chain_update(node.as_bytes());
            hash.finalize().into()
        };
        MacKeys {
            mac1: derive(b"mac1----"),
            cookie: derive(b"cookie--"),
        }
    }

    pub(crate) fn is_mac1_right(&self, macs: &Macs<'_>) -> bool {
        mac(&self.mac1, &[macs.before_mac1]).ct_eq(macs.mac1).into()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Mac {
    // Keys are 16 or 32 bytes, which BLAKE2s always takes.
    let Ok(mut mac) = Blake2sMac::<U16>::new_from_slice(key) else {
        return [0; 16];
    };
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// An address and port as the bytes that a cookie is bound to.
fn source_bytes(source: SocketAddr) -> [u8; 18] {
    let mut out = [0; 18];
    match source.ip() {
        IpAddr::V4(a) => out[..16].copy_from_slice(&a.to_ipv6_mapped().octets()),
        IpAddr::V6(a) => out[..16].copy_from_slice(&a.octets()),
    }
    out[16..].copy_from_slice(&source.port().to_be_bytes());
    out
}

/// The busy side: hands out cookies and knows its own again.
pub(crate) struct CookieMaker {
    /// This secret and the one before, so that a cookie lives as long as it promises.
    secrets: [Zeroizing<[u8; 32]>; 2],
    renewed: Option<Time>,
}

impl CookieMaker {
    pub(crate) fn new() -> CookieMaker {
        CookieMaker {
            secrets: [Zeroizing::new([0; 32]), Zeroizing::new([0; 32])],
            renewed: None,
        }
    }

    fn renew(&mut self, now: Time, entropy: &mut dyn Entropy) {
        let fresh = self
            .renewed
            .is_some_and(|at| now.since(at) < COOKIE_LIFETIME);
        if !fresh {
            let mut secret = Zeroizing::new([0; 32]);
            entropy.fill(&mut *secret);
            let old = if self
                .renewed
                .is_some_and(|at| now.since(at) < 2 * COOKIE_LIFETIME)
            {
                std::mem::replace(&mut self.secrets[0], secret)
            } else {
                // A cookie of the all-zero start or of long ago must not count.
                self.secrets[0] = secret;
                Zeroizing::new(entropy::bytes(entropy))
            };
            self.secrets[1] = old;
            self.renewed = Some(now);
        }
    }

    /// Whether mac2 proves that `source` has received a cookie of ours.
    pub(crate) fn is_mac2_right(
        &mut self,
        macs: &Macs<'_>,
        source: SocketAddr,
        now: Time,
        entropy: &mut dyn Entropy,
    ) -> bool {
        self.renew(now, entropy);
        let source = source_bytes(source);
        let [a, b] = &self.secrets;
        let right = [a, b].map(|secret| {
            let cookie: Cookie = mac(&**secret, &[&source]);
            mac(&cookie, &[macs.before_mac2]).ct_eq(macs.mac2)
        });
        (right[0] | right[1]).into()
    }

    /// The reply that carries a cookie for `source`, sealed for whoever sent the message with `mac1`.
    pub(crate) fn reply(
        &mut self,
        own: &MacKeys,
        index: u32,
        mac1: &Mac,
        source: SocketAddr,
        now: Time,
        entropy: &mut dyn Entropy,
    ) -> Option<[u8; COOKIE_REPLY_LEN]> {
        self.renew(now, entropy);
        let cookie: Cookie = mac(&*self.secrets[0], &[&source_bytes(source)]);
        let nonce: [u8; 24] = entropy::bytes(entropy);
        let mut sealed = [0; 32];
        sealed[..16].copy_from_slice(&cookie);
        let tag = XChaCha20Poly1305::new(&own.cookie.into())
            .encrypt_in_place_detached(&nonce.into(), mac1, &mut sealed[..16])
            .ok()?;
        sealed[16..].copy_from_slice(&tag);
        Some(message::cookie_reply(index, &nonce, &sealed))
    }
}

/// The other side: authenticates messages to one peer, with its cookie when it gave one.
pub(crate) struct Signer {
    peer: MacKeys,
    last_mac1: Option<Mac>,
    cookie: Option<(Cookie, Time)>,
}

impl Signer {
    pub(crate) fn new(peer: &PublicKey) -> Signer {
        Signer {
            peer: MacKeys::of(peer),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Fills both authenticators at the end of a handshake message.
    pub(crate) fn sign(&mut self, message: &mut [u8], now: Time) {
        let Some((before, mac2)) = message.split_last_chunk_mut::<16>() else {
            return;
        };
        let Some((body, mac1)) = before.split_last_chunk_mut::<16>() else {
            return;
        };
        *mac1 = mac(&self.peer.mac1, &[body]);
        self.last_mac1 = Some(*mac1);
        if let Some((cookie, got)) = &self.cookie
            && now.since(*got) < COOKIE_LIFETIME
        {
            *mac2 = mac(cookie, &[before]);
        }
    }

    /// Takes the cookie out of a reply; whether it was one to our last message.
    pub(crate) fn take_cookie(&mut self, reply: &CookieReply<'_>, now: Time) -> bool {
        // A reply opens one message only: a replay must not replace the cookie.
        let Some(mac1) = self.last_mac1 else {
            return false;
        };
        let (mut cookie, tag) = ([0; 16], &reply.sealed[16..]);
        cookie.copy_from_slice(&reply.sealed[..16]);
        let opened = XChaCha20Poly1305::new(&self.peer.cookie.into()).decrypt_in_place_detached(
            reply.nonce.into(),
            &mac1,
            &mut cookie,
            tag.into(),
        );
        if opened.is_ok() {
            self.last_mac1 = None;
            self.cookie = Some((cookie, now));
        }
        opened.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::testing::Seeded;

    fn at(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    fn initiation() -> [u8; 148] {
        message::initiation(5, &[3; 108])
    }

    fn macs(bytes: &[u8]) -> Macs<'_> {
        let Some(Message::Initiation(m)) = Message::parse(bytes) else {
            panic!("not an initiation")
        };
        m.macs
    }

    #[test]
    fn a_cookie_proves_one_address_and_port_for_its_lifetime() {
        let busy = PublicKey::new([8; 32]);
        let (own, mut maker, mut entropy) =
            (MacKeys::of(&busy), CookieMaker::new(), Seeded::new(1));
        let mut signer = Signer::new(&busy);
        let here = at("192.0.2.1:51820");
        let t = |s| Time::from_duration(Duration::from_secs(s));

        let mut first = initiation();
        signer.sign(&mut first, t(100));
        assert!(own.is_mac1_right(&macs(&first)));
        assert!(!MacKeys::of(&PublicKey::new([9; 32])).is_mac1_right(&macs(&first)));
        assert!(!maker.is_mac2_right(&macs(&first), here, t(100), &mut entropy));

        let reply = maker
            .reply(&own, 5, macs(&first).mac1, here, t(100), &mut entropy)
            .unwrap();
        let Some(Message::CookieReply(reply)) = Message::parse(&reply) else {
            panic!("not a reply")
        };
        assert_eq!(reply.receiver, 5);
        assert!(
            !Signer::new(&busy).take_cookie(&reply, t(100)),
            "nothing was sent"
        );
        assert!(signer.take_cookie(&reply, t(100)));
        assert!(!signer.take_cookie(&reply, t(100)), "a replay");

        let mut second = initiation();
        signer.sign(&mut second, t(105));
        assert!(maker.is_mac2_right(&macs(&second), here, t(105), &mut entropy));
        for elsewhere in ["192.0.2.1:51821", "192.0.2.2:51820", "[2001:db8::1]:51820"] {
            assert!(!maker.is_mac2_right(&macs(&second), at(elsewhere), t(105), &mut entropy));
        }
        // The secret has changed once: still good. Twice, or after a long pause: no more.
        assert!(maker.is_mac2_right(&macs(&second), here, t(221), &mut entropy));
        assert!(!maker.is_mac2_right(&macs(&second), here, t(461), &mut entropy));
        let mut third = initiation();
        signer.sign(&mut third, t(220));
        assert_eq!(macs(&third).mac2, &[0; 16], "an old cookie is not used");
    }

    #[test]
    fn a_reply_to_another_message_is_refused() {
        let busy = PublicKey::new([8; 32]);
        let (own, mut maker, mut entropy) =
            (MacKeys::of(&busy), CookieMaker::new(), Seeded::new(1));
        let mut signer = Signer::new(&busy);
        signer.sign(&mut initiation(), Time::ZERO);
        let here = at("192.0.2.1:1");
        let reply = maker
            .reply(&own, 5, &[1; 16], here, Time::ZERO, &mut entropy)
            .unwrap();
        let Some(Message::CookieReply(reply)) = Message::parse(&reply) else {
            panic!("not a reply")
        };
        assert!(!signer.take_cookie(&reply, Time::ZERO));
    }
}
