//! Datagrams from an enemy: cut, flipped, spliced, replayed and made up.

use std::time::Duration;

use proptest::prelude::*;
use wireguard::device::Event;
use wireguard::lane::{Incoming, Outgoing, Received, Sent};

use crate::net::{FINE, Net, Seeded, inner, outer, packet};

/// Real messages of all four kinds, as they went over the wire.
fn specimens() -> (Net, Vec<Vec<u8>>) {
    let mut net = Net::mesh(1, 2, FINE);
    net.record_wire = true;
    net.send(0, &packet(inner(0), inner(1), 1, 100));
    net.run_secs(1);
    for id in 2..20 {
        net.send(
            id as usize % 2,
            &packet(inner(id as usize % 2), inner(1 - id as usize % 2), id, 100),
        );
    }
    net.run_secs(1);
    // A third kind of message: an answer to a busy node's question.
    let now = net.clock();
    let initiation = net.wire[0].2.clone();
    net.nodes[1]
        .device
        .handle_handshake(now, outer(0), &initiation, true);
    let cookie = net.nodes[1].device.poll_transmit().unwrap().datagram;
    let mut all: Vec<Vec<u8>> = net.wire.iter().map(|(_, _, d)| d.clone()).collect();
    all.push(cookie);
    for kind in 1..=4 {
        assert!(
            all.iter().any(|d| d[0] == kind),
            "no specimen of type {kind}"
        );
    }
    net.record_wire = false;
    net.run_secs(30);
    (net, all)
}

fn mutate(rng: &mut Seeded, specimens: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Seeded, n: usize| rng.next() as usize % n.max(1);
    let mut datagram = specimens[pick(rng, specimens.len())].clone();
    for _ in 0..1 + pick(rng, 3) {
        let at = pick(rng, datagram.len());
        match pick(rng, 6) {
            0 => datagram.truncate(at),
            1 => {
                let more = pick(rng, 2000);
                datagram.resize(datagram.len() + more, rng.next() as u8);
            }
            2 | 3 => {
                if let Some(byte) = datagram.get_mut(at) {
                    *byte ^= 1 << pick(rng, 8);
                }
            }
            4 => {
                let other = &specimens[pick(rng, specimens.len())];
                let from = pick(rng, other.len());
                datagram.truncate(at);
                datagram.extend_from_slice(&other[from..]);
            }
            _ => datagram
                .iter_mut()
                .for_each(|byte| *byte = rng.next() as u8),
        }
    }
    datagram
}

#[test]
fn a_hundred_thousand_bad_datagrams_change_nothing() {
    let (mut net, specimens) = specimens();
    let mut rng = Seeded(7);
    let delivered = net.nodes[1].delivered.len();
    net.nodes[1].events.clear();
    let mut batch: Vec<Vec<u8>> = Vec::new();
    for n in 0..100_000u32 {
        let datagram = mutate(&mut rng, &specimens);
        // Late originals are possible: they are replays and must be refused as well.
        batch.push(datagram);
        if batch.len() == 50 {
            let now = net.clock();
            let device = &mut net.nodes[1].device;
            let mut incoming: Vec<Incoming<'_>> = batch
                .iter_mut()
                .map(|d| Incoming::new(d, outer(n as usize % 9), 0))
                .collect();
            device.handle_datagrams(now, &mut incoming);
            for datagram in &incoming {
                assert!(datagram.packet().is_none());
                assert!(matches!(
                    datagram.received(),
                    Received::Dropped(_) | Received::Handshake
                ));
            }
            // Nothing but cookies for the busy moments, and no more than was asked for.
            let mut answers = 0;
            while let Some(t) = device.poll_transmit() {
                assert_eq!(t.datagram[0], 3);
                answers += 1;
            }
            assert!(answers <= batch.len());
            assert_eq!(device.poll_event(), None);
            batch.clear();
        }
    }
    // The session that stood still stands.
    net.run_secs(2);
    net.send(0, &packet(inner(0), inner(1), 99, 100));
    net.run_secs(1);
    assert_eq!(net.nodes[1].delivered.len(), delivered + 1);
    assert!(
        !net.nodes[1]
            .events
            .contains(&Event::Unanswered(net.peer(1, 0)))
    );
}

proptest! {
    #[test]
    fn no_packet_from_the_tunnel_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0usize..300) {
        let (mut net, _) = specimens();
        let now = net.clock();
        let mut buffer = bytes;
        let mut out = [Outgoing::new(&mut buffer, len)];
        net.nodes[0].device.handle_packets(now, &mut out);
        prop_assert_ne!(out[0].sent(), Sent::Pending);
    }

    /// Calls in any order with any times keep the device alive and its queues bounded.
    #[test]
    fn timeouts_at_any_time_are_harmless(steps in prop::collection::vec(0u64..700_000, 1..60)) {
        let mut net = Net::mesh(2, 2, FINE);
        // A session on which both have just spoken, and from then on nobody hears anybody.
        net.send(0, &packet(inner(0), inner(1), 1, 60));
        net.run_secs(1);
        net.send(0, &packet(inner(0), inner(1), 2, 60));
        net.send(1, &packet(inner(1), inner(0), 3, 60));
        for ms in steps {
            net.now += Duration::from_millis(ms);
            let now = net.clock();
            for node in &mut net.nodes {
                node.device.handle_timeout(now);
                if let Some(next) = node.device.poll_timeout() {
                    prop_assert!(next > now.mono, "due timers have fired");
                }
                let sent = std::iter::from_fn(|| node.device.poll_transmit()).count();
                prop_assert!(sent < 10);
            }
        }
    }
}
