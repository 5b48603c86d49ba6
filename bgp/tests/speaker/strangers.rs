//! Those who are not as they should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bgp::fsm::SessionConfig;
use bgp::wire::{Context, Notification, frame, open, render};
use bgp::{PrefixKey, V4};
use socket2::{Domain, Socket, Type};

use crate::rig::{Node, PORT, address, pair, until};

fn connect(from: std::net::Ipv4Addr, to: std::net::Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket
        .connect(&SocketAddr::from((to, PORT)).into())
        .unwrap();
    socket.into()
}

#[test]
fn who_is_not_configured_is_not_talked_to() {
    let (mut a, _) = pair();
    a.start();
    let mut stranger = connect(address(), a.address);
    let mut heard = Vec::new();
    // Closed or reset, without a word in either case.
    let _ = stranger.read_to_end(&mut heard);
    assert_eq!(heard, b"");
}

#[test]
fn garbage_is_answered_and_costs_nothing_else() {
    let (mut a, mut b) = pair();
    let stranger = address();
    let to_stranger = a.peer(stranger, 65001);
    a.config.peers.insert("stranger".to_owned(), to_stranger);
    a.start();
    b.start();
    until(|| a.is_up("b"), |up| *up);
    let mut stream = connect(stranger, a.address);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    let first = frame::next(&heard, 4096).unwrap().unwrap();
    let last = frame::next(&heard[first.len..], 4096).unwrap().unwrap();
    let notification = Notification::decode(last.body).unwrap();
    assert_eq!((notification.code, notification.subcode), (1, 1));
    assert_eq!(a.status("b").flaps, 0);
    assert!(a.is_up("b"));
}

#[test]
fn the_wrong_as_is_refused_in_words() {
    let (mut a, mut b) = pair();
    a.config.peers.get_mut("b").unwrap().session.peer_as = Some(65099);
    a.start();
    b.start();
    until(|| a.words("b"), |w| w.contains("AS"));
    until(|| b.words("a"), |w| w.contains("AS"));
}

#[test]
fn nobody_at_home_is_said_so() {
    let mut a = Node::new(64512);
    let to_nobody = a.peer(address(), 65001);
    a.config.peers.insert("nobody".to_owned(), to_nobody);
    a.start();
    until(|| a.words("nobody"), |w| w.contains("refused"));
}

/// A peer that speaks but never reads.
#[test]
fn a_peer_that_does_not_read_costs_a_set_of_prefixes() {
    let (mut a, mut b) = pair();
    let deaf = address();
    let mut to_deaf = a.peer(deaf, 65001);
    to_deaf.session.passive = true;
    to_deaf.session.hold.offered = 0;
    a.config.peers.insert("deaf".to_owned(), to_deaf);
    a.start();
    b.start();
    let mut stream = connect(deaf, a.address);
    let hello = SessionConfig::new(65001, deaf, Some(a.asn)).open();
    stream.write_all(&open::encode(&hello)).unwrap();
    stream.write_all(&frame::keepalive()).unwrap();
    until(|| a.is_up("deaf"), |up| *up);
    until(|| b.is_up("a"), |up| *up);
    // Every round changes all attributes: as messages, they would be many times what sockets and buffers hold.
    let prefixes: Vec<model::Cidr> = (0..5_000u32)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap())
        .collect();
    for round in 0..24 {
        let routes = prefixes.iter().enumerate().map(|(n, p)| {
            let attributes = bgp::Attributes {
                med: Some(round),
                communities: (0..40)
                    .map(|c| c * 1000 + u32::try_from(n).unwrap())
                    .collect(),
                ..bgp::Attributes::default()
            };
            (*p, attributes)
        });
        a.speaker().announce(routes.collect()).unwrap();
    }
    let pending = until(|| a.status("deaf").pending.v4, |n| *n > 0);
    assert!(pending <= prefixes.len(), "a set, not a queue: {pending}");
    until(|| b.learnt().len(), |n| *n >= 1000); // what a page has
    until(|| b.status("a").routes.v4.received, |n| *n == 5_000);
    assert!(b.is_up("a") && a.is_up("deaf"));
}

fn update(prefixes: &[[u8; 4]]) -> Vec<u8> {
    let attributes = bgp::Attributes {
        as_path: vec![65001],
        ..bgp::Attributes::default()
    };
    let block = attributes.block().unwrap();
    let hop = bgp::NextHop::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    let keys = prefixes.iter().map(|p| (0, V4::from_bits(32, p).unwrap()));
    let mut out = Vec::new();
    let send = |message: bytes::Bytes| out.extend_from_slice(&message);
    render::announce(&Context::default(), &block, &hop, keys, send).unwrap();
    out
}

/// A raw peer whose session is up.
fn established(node: &Node, own: std::net::Ipv4Addr) -> TcpStream {
    let mut stream = connect(own, node.address);
    let mut hello = SessionConfig::new(65001, own, Some(node.asn));
    hello.restart_time = 0;
    stream.write_all(&open::encode(&hello.open())).unwrap();
    stream.write_all(&frame::keepalive()).unwrap();
    stream
}

/// An UPDATE whose MP_REACH_NLRI has a prefix of this length, in bits.
fn six(bits: u8) -> Vec<u8> {
    let mut reach = vec![0, 2, 1, 16];
    reach.extend(
        "2001:db8::7"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    reach.extend([0, bits, 0x20, 0x01, 0x0d, 0xb8, 0, 1]);
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
    attributes.extend([0x80, 14, u8::try_from(reach.len()).unwrap()]);
    attributes.extend(reach);
    let len = u8::try_from(23 + attributes.len()).unwrap();
    let mut message = vec![0xff; 16];
    message.extend([0, len, 2, 0, 0, 0, u8::try_from(attributes.len()).unwrap()]);
    message.extend(attributes);
    message
}

#[test]
fn prefixes_that_cannot_be_read_cost_their_family() {
    let (mut a, _) = pair();
    let broken = address();
    let mut to_broken = a.peer(broken, 65001);
    to_broken.session.passive = true;
    a.config.peers.insert("broken".to_owned(), to_broken);
    a.start();
    let mut stream = established(&a, broken);
    stream.write_all(&update(&[[30, 0, 0, 1]])).unwrap();
    stream.write_all(&six(48)).unwrap();
    let received = || a.status("broken").routes;
    until(received, |r| (r.v4.received, r.v6.received) == (1, 1));
    stream.write_all(&six(200)).unwrap();
    until(|| a.status("broken").lost.v6, |lost| *lost);
    // What comes later is ignored, and the other family goes on.
    stream.write_all(&six(48)).unwrap();
    stream.write_all(&update(&[[30, 0, 0, 2]])).unwrap();
    until(received, |r| r.v4.received == 2);
    assert_eq!(received().v6.received, 0);
    assert_eq!(a.status("broken").flaps, 0);
}

#[test]
fn prefixes_that_cannot_be_read_end_a_session_without_another_family() {
    let (mut a, _) = pair();
    let broken = address();
    let mut to_broken = a.peer(broken, 65001);
    to_broken.session.passive = true;
    to_broken.session.families.v4 = false;
    a.config.peers.insert("broken".to_owned(), to_broken);
    a.start();
    let mut stream = established(&a, broken);
    stream.write_all(&six(200)).unwrap();
    until(
        || a.words("broken"),
        |w| w.contains("optional attribute error"),
    );
    assert_eq!(a.status("broken").flaps, 1);
}

#[test]
fn two_million_prefixes_hit_the_limit_and_the_peer_hears_why() {
    let (mut a, mut b) = pair();
    let greedy = address();
    let mut to_greedy = a.peer(greedy, 65001);
    to_greedy.session.passive = true;
    to_greedy.import.max_prefixes.v4 = Some(100_000);
    a.config.peers.insert("greedy".to_owned(), to_greedy);
    a.start();
    b.start();
    until(|| a.is_up("b"), |up| *up);
    let mut stream = established(&a, greedy);
    let mut reader = stream.try_clone().unwrap();
    let heard = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all);
        all
    });
    for part in 0..2_000_000u32 / 500 {
        let list: Vec<[u8; 4]> = (0..500)
            .map(|n| (0x1000_0000 + part * 500 + n).to_be_bytes())
            .collect();
        if stream.write_all(&update(&list)).is_err() {
            break;
        }
    }
    drop(stream);
    let heard = heard.join().unwrap();
    let mut rest = heard.as_slice();
    let mut last = None;
    while let Some(frame) = frame::next(rest, 65535).unwrap() {
        rest = &rest[frame.len..];
        last = Some(frame);
    }
    let last = Notification::decode(last.unwrap().body).unwrap();
    assert_eq!((last.code, last.subcode), (6, 1), "{last}");
    until(|| a.status("greedy").routes.v4.received, |n| *n == 0);
    assert!(a.status("greedy").held_back.is_some());
    assert_eq!(a.status("b").flaps, 0);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn peers_that_flap_for_a_minute_leave_memory_flat_and_others_up() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (mut a, mut b) = pair();
    let flapping: Vec<_> = (0..10).map(|_| address()).collect();
    for (n, own) in flapping.iter().enumerate() {
        let mut peer = a.peer(*own, 65001);
        peer.session.passive = true;
        a.config.peers.insert(format!("flapping {n}"), peer);
    }
    a.start();
    b.start();
    b.announce(&["192.0.2.0/24"]);
    until(|| a.learnt(), |l| l.len() == 1);
    let begun = Instant::now();
    let mut sizes = Vec::new();
    while begun.elapsed() < MINUTE || sizes.len() < 40 {
        let round = u8::try_from(sizes.len() % 256).unwrap();
        let streams: Vec<_> = flapping
            .iter()
            .enumerate()
            .map(|(n, own)| {
                let mut stream = established(&a, *own);
                let n = u8::try_from(n).unwrap();
                let list: Vec<[u8; 4]> = (0..200).map(|x| [30 + n, round, x, 1]).collect();
                stream.write_all(&update(&list)).unwrap();
                stream
            })
            .collect();
        until(
            || a.speaker().peers().unwrap(),
            |peers| {
                let flapping = peers.iter().filter(|p| p.name.starts_with("flapping"));
                flapping.map(|p| p.routes.v4.received).sum::<u32>() == 2000
            },
        );
        drop(streams);
        until(
            || a.speaker().peers().unwrap(),
            |peers| peers.iter().map(|p| p.routes.v4.received).sum::<u32>() == 1,
        );
        sizes.push(resident_kib());
    }
    // The allocator keeps now more, now less: the least of a quarter counts.
    let quarter = sizes.len() / 4;
    let least = |from: usize| *sizes[from..from + quarter].iter().min().unwrap();
    let (early, late) = (least(quarter), least(3 * quarter));
    assert!(
        late < early + 4096,
        "{early} KiB became {late} KiB in {} rounds",
        sizes.len()
    );
    let flaps = u64::try_from(sizes.len()).unwrap();
    assert_eq!(a.status("flapping 9").flaps, flaps);
    assert_eq!(a.status("b").flaps, 0);
    until(|| a.table.len(), |n| *n == 1);
}
