//! A prefix that moves, or stays while others go, is never without an owner: seen by a sender that the
//! kernel tells at once whether there is one.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wireguard::plan::{DeviceSpec, PeerSpec};

use crate::{ip, private, public, reconcile, with_device};

/// No peer owns the destination.
const ENOKEY: i32 = 126;
/// A peer owns it, but where that is nobody knows.
const EDESTADDRREQ: i32 = 89;

/// What the kernel says to a packet for `address`.
fn verdict(socket: &UdpSocket, address: &str) -> i32 {
    let sent = socket.send_to(b"x", (address, 9));
    sent.map_err(|e: io::Error| e.raw_os_error().unwrap_or(0))
        .unwrap_err()
}

/// Peer 1 owns `one`, peer 2 owns `two`.
fn spec(one: &[&str], two: &[&str]) -> DeviceSpec {
    let peer = |owned: &[&str]| PeerSpec {
        allowed_ips: owned.iter().map(|p| p.parse().unwrap()).collect(),
        ..PeerSpec::default()
    };
    DeviceSpec {
        private_key: private(3),
        other_private_key: None,
        listen_port: 0,
        fwmark: 0,
        peers: [(public(1), peer(one)), (public(2), peer(two))].into(),
    }
}

#[test]
fn a_sender_never_meets_a_prefix_without_owner() {
    with_device(|kernel| {
        let (stays, moves, goes) = ("10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24");
        reconcile(kernel, &spec(&[stays, moves, goes], &[]));
        ip("link set wg0 up");
        ip("addr add 10.0.0.1/16 dev wg0");
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        // The two answers can be told apart.
        assert_eq!(verdict(&socket, "10.0.9.9"), ENOKEY);
        assert_eq!(verdict(&socket, "10.0.3.1"), EDESTADDRREQ);

        let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|s| {
            let (done, sent) = (&done, &sent);
            let sender = s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for address in ["10.0.1.1", "10.0.2.1"] {
                        assert_eq!(verdict(&socket, address), EDESTADDRREQ, "{address}");
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                socket
            });
            let mut rounds = 0;
            // Until enough of both have met.
            while (rounds < 300 || sent.load(Ordering::Relaxed) < 20_000) && !sender.is_finished() {
                let gone = reconcile(kernel, &spec(&[stays], &[moves])).1;
                assert_eq!(gone.peers.len(), 2);
                reconcile(kernel, &spec(&[stays, moves, goes], &[]));
                rounds += 1;
            }
            done.store(true, Ordering::Relaxed);
            let socket = sender.join().unwrap();
            reconcile(kernel, &spec(&[stays], &[moves]));
            assert_eq!(verdict(&socket, "10.0.3.1"), ENOKEY);
        });
    });
}
