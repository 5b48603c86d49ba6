//! The exchange of preshared keys: two nodes, and somebody between them who changes, holds back and repeats what they
//! say. Built for fuzzing the codes of datagrams are not looked at, so that what is behind them is reached.
#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use wireguard::keys::PrivateKey;
use wireguard::postquantum::kem::KemKey;
use wireguard::postquantum::{Exchange, PeerSpec, Settings};
use wireguard::{Entropy, Time};

struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(3);
            *byte = self.0;
        }
    }
}

const NAMES: [&str; 2] = ["a", "b"];

fn key(n: usize) -> PrivateKey {
    PrivateKey::new([n as u8 + 1; 32])
}

fn kem(n: usize) -> KemKey {
    KemKey::from_seed(&[n as u8; 64])
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n as u8 + 1], 51821))
}

fn node(n: usize, is_required: bool) -> Exchange {
    let settings = Settings {
        node: NAMES[n].into(),
        private_key: key(n),
        other_private_key: None,
        kem: kem(n),
        rotate_every: Duration::from_secs(600),
        is_required,
    };
    let mut exchange = Exchange::new(settings, Box::new(Counting(n as u8)));
    let spec = PeerSpec {
        public_key: key(1 - n).public(),
        next_public_key: None,
        encapsulation_key: Some(kem(1 - n).public().clone()),
        endpoint: address(1 - n),
        found: None,
    };
    let peers = BTreeMap::from([(Arc::from(NAMES[1 - n]), spec)]);
    exchange.set_peers(Time::ZERO, peers);
    exchange
}

/// What to do with the next datagram: how long it takes, whether it comes, a change at a place, its length.
type Step = (u8, bool, Option<(u16, u8)>, Option<u16>);

fuzz_target!(|input: (bool, Vec<Step>, Vec<Vec<u8>>)| {
    let (is_required, steps, strangers) = input;
    let mut nodes = [0, 1].map(|n| node(n, is_required));
    let mut now = Time::ZERO;
    for bytes in &strangers {
        nodes[0].handle_datagram(now, address(1), bytes);
    }
    let mut past: Vec<(usize, Vec<u8>)> = Vec::new();
    for (wait, comes, change, length) in steps {
        now = now + Duration::from_millis(u64::from(wait) * 100);
        for (n, from) in nodes.iter_mut().enumerate() {
            from.handle_timeout(now);
            while from.poll_install().is_some() {}
            while let Some(sent) = from.poll_transmit() {
                past.push((1 - n, sent.datagram));
            }
        }
        // What came is kept: without `comes`, an older one comes once more.
        let at = if comes { past.len() } else { past.len() / 2 };
        let Some((to, mut datagram)) = at.checked_sub(1).and_then(|at| past.get(at)).cloned()
        else {
            continue;
        };
        if let Some((place, bits)) = change {
            let place = usize::from(place) % datagram.len();
            datagram[place] ^= bits;
        }
        if let Some(length) = length {
            datagram.truncate(usize::from(length));
        }
        nodes[to].handle_datagram(now, address(1 - to), &datagram);
        past.drain(..past.len().saturating_sub(64));
    }
    for (n, node) in nodes.iter().enumerate() {
        assert!(
            node.poll_timeout().is_some(),
            "{} does nothing ever again",
            NAMES[n]
        );
    }
});
