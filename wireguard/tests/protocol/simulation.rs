//! What must hold whatever the network does.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use wireguard::PeerConfig;
use wireguard::device::Event;
use wireguard::lane::{DropReason, Sent};

use crate::net::{FINE, Net, Weather, block, id_of, inner, outer, packet};

fn weather() -> impl Strategy<Value = Weather> {
    (0u64..30, 0u64..30, 0u64..60, 0u64..200).prop_map(
        |(loss_percent, duplicate_percent, delay_ms, jitter_ms)| Weather {
            loss_percent,
            duplicate_percent,
            delay_ms,
            jitter_ms,
        },
    )
}

#[test]
fn the_first_packet_waits_for_the_session_and_arrives() {
    let mut net = Net::mesh(1, 2, FINE);
    let (sent, _) = net.send(0, &packet(inner(0), inner(1), 7, 100));
    assert_eq!(sent, Sent::Held(net.peer(0, 1)));
    net.run_secs(1);
    assert_eq!(net.ids(1), [7]);
    assert_eq!(net.nodes[1].delivered[0].1.len(), 100, "padding is gone");
    let (sent, _) = net.send(1, &packet(inner(1), inner(0), 8, 100));
    assert!(
        matches!(sent, Sent::To { .. }),
        "the responder has the session too: {sent:?}"
    );
    net.run_secs(1);
    assert_eq!(net.ids(0), [8]);
    assert_eq!(net.nodes[0].events, [Event::Established(net.peer(0, 1))]);
    assert_eq!(net.nodes[1].events, [Event::Established(net.peer(1, 0))]);
}

/// Each has a session that it asked for and one that it answered for: neither may leave renewal to the other.
#[test]
fn two_that_ask_at_once_renew_in_time() {
    let mut net = Net::mesh(21, 2, FINE);
    for _ in 0..3 {
        let mut id = 0;
        let mut crossing = |net: &mut Net| {
            net.send(0, &packet(inner(0), inner(1), id, 60));
            net.send(1, &packet(inner(1), inner(0), id, 60));
            id += 1;
        };
        crossing(&mut net);
        net.run_secs(1);
        let established = |net: &Net| net.nodes.iter().map(|n| n.events.len()).min().unwrap();
        let before = established(&net);
        for _ in 0..122 {
            net.run_secs(1);
            crossing(&mut net);
        }
        net.run_secs(1);
        assert!(established(&net) > before, "{before}");
        net.run_secs(700);
    }
    assert!(net.nodes.iter().all(|node| node.drops.is_empty()));
    assert!(net.nodes.iter().all(|node| node.delivered.len() == 3 * 123));
}

#[test]
fn nothing_is_said_when_there_is_nothing_to_say() {
    let mut net = Net::mesh(2, 2, FINE);
    net.run_secs(1000);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(30);
    net.record_wire = true;
    net.run_secs(2000);
    assert_eq!(net.wire.len(), 0, "an idle mesh is silent");
    assert!(net.nodes[0].events.contains(&Event::Erased(net.peer(0, 1))));
    assert!(net.nodes[1].events.contains(&Event::Erased(net.peer(1, 0))));
    assert!(net.nodes[0].device.poll_timeout().is_none());
    // And it comes back to life.
    net.send(0, &packet(inner(0), inner(1), 2, 60));
    net.run_secs(1);
    assert_eq!(net.ids(1), [1, 2]);
}

#[test]
fn an_unanswered_packet_is_answered_by_a_keepalive_after_ten_seconds() {
    let mut net = Net::mesh(3, 2, FINE);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(9);
    net.record_wire = true;
    net.run_secs(10);
    let said: Vec<_> = net.wire.iter().map(|(_, n, d)| (*n, d.len())).collect();
    assert_eq!(said, [(1, 32)], "one keepalive, and none in answer to it");
}

/// Both wait for each other for a moment: that must not delay the keepalive, or the other side gives
/// the session up.
#[test]
fn a_keepalive_is_on_time_after_packets_have_crossed() {
    let mut net = Net::mesh(20, 2, FINE);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(40);
    net.record_wire = true;
    net.send(0, &packet(inner(0), inner(1), 2, 60));
    net.send(1, &packet(inner(1), inner(0), 3, 60));
    let start = net.now;
    net.run_secs(60);
    let said: Vec<_> = net
        .wire
        .iter()
        .skip(2)
        .map(|(at, n, d)| (at.as_secs(), *n, d.len()))
        .collect();
    let due = (start + Duration::from_secs(10)).as_secs();
    assert!(
        said == [(due, 0, 32), (due, 1, 32)] || said == [(due, 1, 32), (due, 0, 32)],
        "{said:?}"
    );
}

#[test]
fn a_peer_that_is_gone_is_tried_for_ninety_seconds() {
    let mut net = Net::mesh(4, 2, FINE);
    net.nodes[1].address = outer(9);
    net.record_wire = true;
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(200);
    let tries = net.wire.len();
    assert!((17..=19).contains(&tries), "{tries}");
    for pair in net.wire.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(
            gap >= Duration::from_secs(5) && gap < Duration::from_millis(5400),
            "{gap:?}"
        );
    }
    assert_eq!(net.nodes[0].events, [Event::Unanswered(net.peer(0, 1))]);
    // What waited is not sent later.
    net.nodes[1].address = outer(1);
    net.send(0, &packet(inner(0), inner(1), 2, 60));
    net.run_secs(1);
    assert_eq!(net.ids(1), [2]);
}

#[test]
fn what_waits_is_bounded_and_the_newest_survive() {
    let mut net = Net::mesh(5, 2, FINE);
    for id in 0..1000 {
        net.send(0, &packet(inner(0), inner(1), id, 60));
    }
    net.run_secs(1);
    assert_eq!(net.ids(1), (872..1000).collect::<Vec<u64>>());
}

#[test]
fn a_restarted_peer_is_found_again() {
    for restarted in 0..2 {
        let mut net = Net::mesh(6, 2, FINE);
        net.send(0, &packet(inner(0), inner(1), 1, 60));
        net.run_secs(5);
        net.restart(restarted);
        for second in 0..40 {
            net.send(0, &packet(inner(0), inner(1), 100 + second, 60));
            net.run_secs(1);
        }
        let ids = net.ids(1);
        assert!((130..140).all(|id| ids.contains(&id)), "{ids:?}");
    }
}

#[test]
fn the_persistent_keepalive_outlives_the_peer() {
    let mut net = Net::new(7, 2, FINE);
    let mut config = PeerConfig::new(net.key(1));
    config.endpoint = Some(outer(1));
    config.persistent_keepalive = Some(Duration::from_secs(25));
    let id = net.introduce(0, 1, config);
    // The other side does not know where we are: it has to learn it from us.
    let config = PeerConfig::new(net.key(0));
    net.introduce(1, 0, config);
    for _ in 0..600 {
        net.run_secs(1);
        let status = net.nodes[0].device.status(net.clock().mono, id);
        assert!(status.unwrap().can_send, "renewed before it ends");
    }
    let established = |net: &Net| {
        net.nodes[0]
            .events
            .iter()
            .filter(|e| **e == Event::Established(id))
            .count()
    };
    let before = established(&net);
    assert!(before >= 3, "rekeyed by keepalives alone: {before}");
    net.nodes[1].address = outer(9);
    net.run_secs(3600);
    net.nodes[1].address = outer(1);
    net.run_secs(60);
    assert!(
        established(&net) > before,
        "found again without local traffic"
    );
    let (sent, _) = net.send(1, &packet(inner(1), inner(0), 1, 60));
    assert!(matches!(sent, Sent::To { .. }));
}

#[test]
fn a_peer_may_move_unless_it_is_pinned() {
    for pinned in [false, true] {
        let mut net = Net::new(8, 2, FINE);
        for (n, m) in [(0, 1), (1, 0)] {
            let mut config = PeerConfig::new(net.key(m));
            config.endpoint = Some(outer(m));
            config.pinned = pinned;
            net.introduce(n, m, config);
        }
        net.send(0, &packet(inner(0), inner(1), 1, 60));
        net.run_secs(1);
        net.nodes[0].address = outer(7);
        net.send(0, &packet(inner(0), inner(1), 2, 60));
        net.run_secs(1);
        net.send(1, &packet(inner(1), inner(0), 3, 60));
        net.run_secs(1);
        assert_eq!(net.ids(1), [1, 2]);
        assert_eq!(net.ids(0).contains(&3), !pinned);
        let moved = Event::Roamed(net.peer(1, 0), outer(7));
        assert_eq!(net.nodes[1].events.contains(&moved), !pinned);
    }
}

#[test]
fn a_source_that_another_peer_owns_is_refused() {
    let mut net = Net::mesh(9, 3, FINE);
    for n in 0..2 {
        net.send(n, &packet(inner(n), inner(2), 1 + n as u64, 60));
    }
    net.run_secs(1);
    // Node 1 borrows one address of node 0's block.
    let borrowed = "10.0.0.77".parse().unwrap();
    let change = (model::Cidr::host(borrowed), Some(net.peer(2, 1)));
    net.nodes[2].device.set_allowed_ips(&[change]);
    let std::net::IpAddr::V4(borrowed) = borrowed else {
        unreachable!()
    };
    net.send(0, &packet(inner(1), inner(2), 666, 60));
    net.send(0, &packet(borrowed, inner(2), 667, 60));
    net.send(
        0,
        &packet("203.0.113.1".parse().unwrap(), inner(2), 668, 60),
    );
    net.send(1, &packet(borrowed, inner(2), 3, 60));
    net.run_secs(1);
    let mut ids = net.ids(2);
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(net.nodes[2].drops, [DropReason::WrongSource; 3]);
}

#[test]
fn congestion_marks_go_through_the_tunnel() {
    let mut net = Net::mesh(10, 2, FINE);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(1);
    let mut capable = packet(inner(0), inner(1), 2, 60);
    capable[1] = 2;
    let (sent, datagram) = net.send(0, &capable);
    assert!(matches!(sent, Sent::To { ecn: 2, .. }));
    net.run_secs(1);
    assert_eq!(net.nodes[1].delivered[1].1[1] & 3, 2);
    drop(datagram);
}

#[test]
fn a_flood_of_spoofed_initiations_costs_cookies_and_lets_peers_in() {
    let mut net = Net::mesh(14, 2, FINE);
    // Real initiations by unknown nodes: right mac1, many sources.
    let mut stranger = Net::new(99, 1, FINE);
    stranger.record_wire = true;
    let config = PeerConfig {
        endpoint: Some(outer(1)),
        persistent_keepalive: Some(Duration::from_secs(3)),
        ..PeerConfig::new(net.key(1))
    };
    stranger.introduce(0, 1, config);
    let initiation = stranger.wire[0].2.clone();
    net.record_wire = true;
    let flood = |net: &mut Net, count: u32| {
        for n in 0..count {
            let from = std::net::Ipv4Addr::from_bits(0xc633_6400 + n);
            net.inject((from, 1).into(), outer(1), 0, initiation.clone());
        }
    };
    flood(&mut net, 2000);
    net.run(Duration::from_millis(20));
    let replies = net.wire.iter().filter(|w| w.2[0] == 3).count();
    assert!((1700..2000).contains(&replies), "{replies} cookie replies");
    assert!(
        net.wire.iter().all(|w| w.2[0] == 3 && w.2.len() == 64),
        "smaller than what asked"
    );

    // A peer comes while the flood goes on: refused at first, in with the cookie at its retry.
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    for _ in 0..70 {
        net.run(Duration::from_millis(100));
        flood(&mut net, 500);
    }
    assert_eq!(net.ids(1), [1]);
}

#[test]
fn a_replayed_initiation_is_not_answered() {
    let mut net = Net::mesh(15, 2, FINE);
    net.record_wire = true;
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(1);
    let initiation = net.wire[0].2.clone();
    assert_eq!(initiation[0], 1);
    net.run_secs(20);
    let before = net.wire.len();
    for _ in 0..10 {
        net.inject(outer(5), outer(1), 0, initiation.clone());
        net.run_secs(1);
    }
    assert_eq!(net.wire.len(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Three nodes talk for ten minutes of virtual time through four rekeys.
    #[test]
    fn packets_arrive_once_from_the_right_peer_or_the_network_lost_them(
        seed: u64,
        weather in weather(),
        lanes in 0usize..3,
        gaps in prop::collection::vec(0u64..2500, 300..500),
    ) {
        let mut net = Net::mesh(seed, 3, weather);
        for node in &mut net.nodes {
            node.lanes = (0..lanes).map(|_| node.device.lane()).collect();
        }
        let mut standing: Vec<(usize, u64, Vec<u8>)> = Vec::new();
        let mut id = 0;
        for gap in gaps {
            let from = (net.rng.next() % 3) as usize;
            let to = (from + 1 + (net.rng.next() % 2) as usize) % 3;
            let burst: Vec<Vec<u8>> = (0..1 + net.rng.next() % 20)
                .map(|_| {
                    id += 1;
                    let len = 28 + (net.rng.next() % 1393) as usize;
                    packet(inner(from), inner(to), id, len)
                })
                .collect();
            let fates = net.send_batch(from, &burst);
            for (packet, (sent, mut datagrams)) in burst.iter().zip(fates) {
                if matches!(sent, Sent::To { .. }) {
                    standing.push((to, id_of(packet), datagrams.remove(0)));
                } else {
                    prop_assert!(matches!(sent, Sent::Held(_)), "{:?}", sent);
                }
            }
            net.run(Duration::from_millis(gap));
        }
        net.run_secs(30);
        for n in 0..3 {
            let ids = net.ids(n);
            let unique: HashSet<u64> = ids.iter().copied().collect();
            prop_assert_eq!(unique.len(), ids.len(), "a packet came out twice");
            for (peer, packet) in &net.nodes[n].delivered {
                let from = (0..3).find(|m| *m != n && net.peer(n, *m) == *peer).unwrap();
                prop_assert_eq!(&packet[12..16], &inner(from).octets());
                prop_assert_eq!(&packet[16..20], &inner(n).octets());
            }
            prop_assert!(net.nodes[n].drops.iter().all(|d| *d == DropReason::Replayed), "{:?}", net.nodes[n].drops);
        }
        let arrived: Vec<HashSet<u64>> = (0..3).map(|n| net.ids(n).into_iter().collect()).collect();
        for (to, id, datagram) in &standing {
            prop_assert_eq!(arrived[*to].contains(id), !net.is_lost(datagram), "packet {}", id);
        }
    }

    /// Nodes restart and move at random; the net asserts that no nonce leaves twice.
    #[test]
    fn restarts_and_moves_never_deliver_twice_and_the_mesh_heals(
        seed: u64,
        weather in weather(),
        steps in prop::collection::vec((0u8..8, 0u64..8000), 20..60),
    ) {
        let mut net = Net::mesh(seed, 3, weather);
        let mut id = 0;
        let mut chatter = |net: &mut Net| {
            for from in 0..3 {
                for to in (0..3).filter(|to| *to != from) {
                    id += 1;
                    net.send(from, &packet(inner(from), inner(to), id, 90));
                }
            }
            id
        };
        for (what, gap) in steps {
            let n = (net.rng.next() % 3) as usize;
            match what {
                0 => net.restart(n),
                1 => net.nodes[n].address.set_port(1024 + (net.rng.next() % 50_000) as u16),
                _ => { chatter(&mut net); }
            }
            net.run(Duration::from_millis(gap));
        }
        // All that moved say where they are; then fine weather and time to heal.
        for n in 0..3 {
            net.nodes[n].address = outer(n);
            net.restart(n);
        }
        net.weather = FINE;
        for _ in 0..40 {
            chatter(&mut net);
            net.run_secs(1);
        }
        let first = chatter(&mut net) - 5;
        net.run_secs(5);
        let mut last: Vec<u64> = (0..3).flat_map(|n| net.ids(n)).filter(|id| *id >= first).collect();
        last.sort_unstable();
        prop_assert_eq!(last, (first..first + 6).collect::<Vec<u64>>());
        for n in 0..3 {
            let ids = net.ids(n);
            let unique: HashSet<u64> = ids.iter().copied().collect();
            prop_assert_eq!(unique.len(), ids.len(), "a packet came out twice");
        }
    }
}

/// A timer that stays due would wake the device with every tick of its wheel.
#[test]
fn a_broken_path_does_not_keep_devices_awake() {
    for they_speak in [true, false] {
        let mut net = Net::new(19, 2, FINE);
        for (n, m) in [(0, 1), (1, 0)] {
            let mut config = PeerConfig::new(net.key(m));
            config.endpoint = Some(outer(m));
            config.pinned = true;
            net.introduce(n, m, config);
        }
        net.send(0, &packet(inner(0), inner(1), 1, 60));
        net.run_secs(50);
        // Node 0 never reaches node 1 again, and hears it once more or not.
        net.nodes[1].address = outer(9);
        net.send(0, &packet(inner(0), inner(1), 2, 60));
        if they_speak {
            net.send(1, &packet(inner(1), inner(0), 3, 60));
        }
        net.wakeups = 0;
        net.run_secs(1000);
        assert_eq!(net.ids(0).len(), usize::from(they_speak));
        assert!(net.wakeups < 120, "{} wakeups", net.wakeups);
    }
}

#[test]
fn old_sessions_are_forgotten() {
    let mut net = Net::mesh(18, 2, FINE);
    // Both ask all the time: half of them for sessions that the other asks for as well.
    for id in 0..30 {
        for n in 0..2 {
            net.send(n, &packet(inner(n), inner(1 - n), id, 60));
        }
        net.run_secs(1);
        let key = net.nodes[0].key.clone();
        let now = net.clock();
        net.nodes[0].device.set_keys(now, key, None);
        net.run_secs(120);
        assert!(
            net.nodes
                .iter()
                .all(|node| node.device.session_count() <= 4)
        );
    }
    net.run_secs(600);
    assert!(
        net.nodes
            .iter()
            .all(|node| node.device.session_count() == 0)
    );
}

#[test]
fn moving_a_prefix_is_one_step() {
    let mut net = Net::mesh(16, 3, FINE);
    let (one, two) = (net.peer(0, 1), net.peer(0, 2));
    let device = &mut net.nodes[0].device;
    device.set_allowed_ips(&[(block(1), Some(two)), (block(2), Some(one))]);
    let ids = |p| device.allowed_ips().of(p).copied().collect::<Vec<_>>();
    assert_eq!((ids(one), ids(two)), (vec![block(2)], vec![block(1)]));
    device.remove_peer(two);
    let (sent, _) = net.send(0, &packet(inner(0), inner(1), 1, 60));
    assert_eq!(sent, Sent::Dropped(DropReason::NoPeer));
}
