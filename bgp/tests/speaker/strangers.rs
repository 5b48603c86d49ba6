//! Those who are not as they should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bgp::fsm::SessionConfig;
use bgp::wire::{Notification, frame, open};
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
    until(|| b.learnt().len(), |n| *n == 1000); // what a query gives at most
    until(|| b.status("a").routes.v4.received, |n| *n == 5_000);
    assert!(b.is_up("a") && a.is_up("deaf"));
}
