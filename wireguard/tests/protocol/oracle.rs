//! Our device and boringtun's tunnel, which shares no code with it, on the two ends of a wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use proptest::prelude::*;
use wireguard::device::{DeviceConfig, Event};
use wireguard::keys::{PresharedKey, PrivateKey, PublicKey};
use wireguard::lane::{Incoming, Outgoing, Sent};
use wireguard::message::TRANSPORT_HEADER_LEN;
use wireguard::{Device, Now, PeerConfig, Time};

use crate::net::{Seeded, block, id_of, inner, outer, packet};

struct Wire {
    ours: Device,
    theirs: Tunn,
    now: Duration,
    /// Datagrams under way to each side.
    to_ours: Vec<Vec<u8>>,
    to_theirs: Vec<Vec<u8>>,
    /// Packets that came out of each side.
    from_ours: Vec<Vec<u8>>,
    from_theirs: Vec<Vec<u8>>,
    /// Types of the messages that we sent.
    sent: Vec<u8>,
    /// Our handshake queue is full.
    is_busy: bool,
}

const US: Ipv4Addr = inner(0);
const THEM: Ipv4Addr = inner(1);

impl Wire {
    fn new(seed: u64, psk: Option<[u8; 32]>, their_limit: Option<u64>) -> Wire {
        let mut rng = Seeded(seed);
        let our_key = PrivateKey::generate(&mut rng);
        let their_key = x25519::StaticSecret::from(*PrivateKey::generate(&mut rng).expose());
        let their_public = x25519::PublicKey::from(&their_key);
        let limiter = their_limit.map(|n| Arc::new(RateLimiter::new(&their_public, n)));
        let our_public = x25519::PublicKey::from(*our_key.public().as_bytes());
        let theirs = Tunn::new(their_key, our_public, psk, None, 77, limiter);
        let mut ours = Device::new(DeviceConfig::new(our_key), Box::new(rng));
        let mut config = PeerConfig::new(PublicKey::new(their_public.to_bytes()));
        config.preshared_key = psk.map(PresharedKey::new);
        config.endpoint = Some(outer(1));
        let now = Duration::from_secs(100);
        let id = ours.set_peer(clock(now), config).unwrap();
        ours.set_allowed_ips(&[(block(1), Some(id))]);
        Wire {
            ours,
            theirs,
            now,
            to_ours: Vec::new(),
            to_theirs: Vec::new(),
            from_ours: Vec::new(),
            from_theirs: Vec::new(),
            sent: Vec::new(),
            is_busy: false,
        }
    }

    fn send_ours(&mut self, packet: &[u8]) {
        let mut buffer = [&[0; TRANSPORT_HEADER_LEN], packet, &[0xee; 31]].concat();
        let mut out = [Outgoing::new(&mut buffer, packet.len())];
        self.ours.handle_packets(clock(self.now), &mut out);
        if let Some(datagram) = out[0].datagram() {
            self.to_theirs.push(datagram.to_vec());
        } else {
            assert!(matches!(out[0].sent(), Sent::Held(_)));
        }
        self.collect();
    }

    fn send_theirs(&mut self, packet: &[u8]) {
        let mut buffer = vec![0; 2000];
        match self.theirs.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(datagram) => self.to_ours.push(datagram.to_vec()),
            TunnResult::Done => {}
            other => panic!("{other:?}"),
        }
    }

    fn their_initiation(&mut self) {
        let mut buffer = vec![0; 2000];
        let TunnResult::WriteToNetwork(d) =
            self.theirs.format_handshake_initiation(&mut buffer, true)
        else {
            panic!("no initiation")
        };
        self.to_ours.push(d.to_vec());
    }

    fn collect(&mut self) {
        while let Some(t) = self.ours.poll_transmit() {
            self.sent.push(t.datagram[0]);
            self.to_theirs.push(t.datagram);
        }
    }

    /// Carries datagrams until none is under way.
    fn settle(&mut self) {
        while !(self.to_ours.is_empty() && self.to_theirs.is_empty()) {
            for mut datagram in std::mem::take(&mut self.to_ours) {
                let source: SocketAddr = outer(1);
                if self.is_busy && datagram[0] != 4 {
                    self.ours
                        .handle_handshake(clock(self.now), source, &datagram, true);
                } else {
                    let mut incoming = [Incoming::new(&mut datagram, source, 0)];
                    self.ours.handle_datagrams(clock(self.now), &mut incoming);
                    self.from_ours
                        .extend(incoming[0].packet().map(<[u8]>::to_vec));
                }
                self.collect();
            }
            for datagram in std::mem::take(&mut self.to_theirs) {
                self.give_theirs(&datagram);
            }
        }
    }

    fn give_theirs(&mut self, datagram: &[u8]) {
        let mut buffer = vec![0; 2000];
        let mut input = datagram;
        loop {
            match self
                .theirs
                .decapsulate(Some(outer(0).ip()), input, &mut buffer)
            {
                // It wants to be asked again until it has nothing more to send.
                TunnResult::WriteToNetwork(d) => self.to_ours.push(d.to_vec()),
                TunnResult::WriteToTunnelV4(p, _) => return self.from_theirs.push(p.to_vec()),
                TunnResult::Done => return,
                other => panic!("{other:?}"),
            }
            input = &[];
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.ours.handle_timeout(clock(self.now));
        self.collect();
    }

    /// Packets of all sizes both ways.
    fn talk(&mut self, count: u64, lens: &[usize]) {
        for id in 0..count {
            for len in lens {
                self.send_ours(&packet(US, THEM, id, *len));
                self.send_theirs(&packet(THEM, US, id, *len));
                self.settle();
            }
        }
        let want: Vec<(u64, usize)> = (0..count)
            .flat_map(|id| lens.iter().map(move |len| (id, *len)))
            .collect();
        for got in [&mut self.from_ours, &mut self.from_theirs] {
            let got: Vec<(u64, usize)> = std::mem::take(got)
                .iter()
                .map(|p| (id_of(p), p.len()))
                .collect();
            assert_eq!(got, want);
        }
    }
}

fn clock(now: Duration) -> Now {
    Now {
        mono: Time::from_duration(now),
        unix: Duration::from_secs(1_700_000_000) + now,
    }
}

const SIZES: [usize; 7] = [28, 29, 44, 47, 512, 1408, 1420];

#[test]
fn we_ask_and_both_talk() {
    for psk in [None, Some([5; 32])] {
        let mut wire = Wire::new(1, psk, None);
        wire.send_ours(&packet(US, THEM, 0, 100));
        wire.settle();
        assert_eq!(wire.from_theirs.len(), 1, "the packet that waited");
        wire.from_theirs.clear();
        wire.talk(20, &SIZES);
        assert_eq!(wire.sent[0], 1);
    }
}

#[test]
fn they_ask_and_both_talk() {
    for psk in [None, Some([5; 32])] {
        let mut wire = Wire::new(2, psk, None);
        wire.send_theirs(&packet(THEM, US, 0, 100));
        wire.settle();
        assert_eq!(wire.from_ours.len(), 1);
        wire.from_ours.clear();
        wire.talk(20, &SIZES);
        assert_eq!(wire.sent[0], 2, "we only answered");
    }
}

#[test]
fn rekeying_by_either_side_loses_nothing() {
    let mut wire = Wire::new(3, Some([6; 32]), None);
    wire.send_ours(&packet(US, THEM, 0, 60));
    wire.settle();
    wire.from_theirs.clear();
    for _ in 0..3 {
        wire.talk(5, &SIZES);
        // The side that asked for a session asks for the next when it is two minutes old. Their clock
        // stands still, so they ask when told to, and from then on the session is theirs.
        wire.pass(121);
        wire.talk(5, &SIZES);
        wire.their_initiation();
        wire.settle();
        wire.talk(5, &SIZES);
    }
    let established = std::iter::from_fn(|| wire.ours.poll_event())
        .filter(|e| matches!(e, Event::Established(_)))
        .count();
    assert_eq!(
        established, 5,
        "the first, one more of ours, three of theirs"
    );
}

#[test]
fn different_preshared_keys_do_not_meet() {
    let mut wire = Wire::new(4, Some([7; 32]), None);
    let their_key = wire.ours.peer_by_key(&PublicKey::new([0; 32]));
    assert_eq!(their_key, None);
    let mut other = Wire::new(4, Some([8; 32]), None);
    wire.send_ours(&packet(US, THEM, 0, 60));
    for datagram in std::mem::take(&mut wire.to_theirs) {
        other.give_theirs(&datagram);
    }
    wire.to_ours = std::mem::take(&mut other.to_ours);
    assert_eq!(
        wire.to_ours.len(),
        1,
        "the first message says nothing of preshared keys"
    );
    wire.settle();
    assert_eq!(wire.ours.poll_event(), None);
}

#[test]
fn we_bring_their_cookie() {
    // Every handshake message is one too many for them.
    let mut wire = Wire::new(5, None, Some(0));
    wire.send_ours(&packet(US, THEM, 3, 60));
    wire.settle();
    assert!(wire.from_theirs.is_empty(), "refused for want of a cookie");
    wire.pass(6);
    wire.settle();
    assert_eq!(wire.from_theirs.len(), 1);
    assert_eq!(wire.sent[..2], [1, 1]);
}

#[test]
fn they_bring_our_cookie() {
    let mut wire = Wire::new(6, None, None);
    wire.is_busy = true;
    wire.send_theirs(&packet(THEM, US, 3, 60));
    wire.settle();
    assert_eq!(wire.sent, [3], "a cookie and nothing else");
    wire.their_initiation();
    wire.settle();
    assert_eq!(wire.from_ours.len(), 1);
    assert_eq!(wire.sent[..2], [3, 2]);
}

#[test]
fn they_refuse_our_replays_and_we_theirs() {
    let mut wire = Wire::new(7, None, None);
    wire.send_ours(&packet(US, THEM, 0, 60));
    wire.settle();
    wire.send_theirs(&packet(THEM, US, 1, 60));
    let copy = wire.to_ours[0].clone();
    wire.to_ours.extend([copy.clone(), copy]);
    wire.settle();
    assert_eq!(wire.from_ours.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_lengths_survive(seed: u64, psk: Option<[u8; 32]>, lens in prop::collection::vec(28usize..=1420, 1..60)) {
        let mut wire = Wire::new(seed, psk, None);
        if seed.is_multiple_of(2) {
            wire.send_ours(&packet(US, THEM, 0, 60));
        } else {
            wire.send_theirs(&packet(THEM, US, 0, 60));
        }
        wire.settle();
        wire.from_ours.clear();
        wire.from_theirs.clear();
        wire.talk(1, &lens);
    }
}
