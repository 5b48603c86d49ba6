//! Bytes through tunnels of ours.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use wireguard::lane::DropReason;
use wireguard::userspace::{Sockets, TunnelEvent};

use crate::net::{End, Netns, PATIENCE, PORT, Plan, Underlay, Wire, inner};

const MIB: usize = 1 << 20;

/// A stream of bytes that repeats only after 2^64 of them.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let n = word.len();
            word.copy_from_slice(&(self.0 ^ self.0 >> 33).to_le_bytes()[..n]);
        }
    }
}

/// Sends `bytes` from one namespace to an address in the other and compares all that arrives.
pub(crate) fn transfer(from: &Netns, to: &Netns, ip: IpAddr, bytes: usize) {
    let listener = to.run(move || TcpListener::bind((ip, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut got, mut want) = (vec![0; MIB], vec![0; MIB]);
        let mut noise = Noise(7);
        for _ in 0..bytes / MIB {
            stream.read_exact(&mut got).expect("the stream ended early");
            noise.fill(&mut want);
            assert!(got == want, "other bytes arrived than were sent");
        }
        assert_eq!(
            stream.read(&mut got).unwrap(),
            0,
            "more bytes than were sent"
        );
    });
    let mut stream = from.run(move || TcpStream::connect_timeout(&address, PATIENCE).unwrap());
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut noise, mut chunk) = (Noise(7), vec![0; MIB]);
    for _ in 0..bytes / MIB {
        noise.fill(&mut chunk);
        stream.write_all(&chunk).unwrap();
    }
    drop(stream);
    receiver.join().unwrap();
}

/// Two tunnels of ours over a wire.
fn pair(wire: &Wire, plan: &Plan, queues: usize) -> [End; 2] {
    [(1, &wire.left), (2, &wire.right)]
        .map(|(side, ns)| plan.end(ns, side, Plan::queues(ns, "wg0", queues)))
}

fn both_families(wire: &Wire, bytes: usize) {
    for ip in inner(2) {
        transfer(&wire.left, &wire.right, ip, bytes);
    }
}

#[test]
fn two_hundred_megabytes_over_ipv4() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let ends = pair(&wire, &plan, 1);
    both_families(&wire, 200 * MIB);
    ends.iter().for_each(End::established);
}

#[test]
fn two_hundred_megabytes_over_ipv6() {
    let plan = Plan::new(Underlay::V6, 1500);
    let wire = Wire::new(1500);
    let ends = pair(&wire, &plan, 1);
    both_families(&wire, 200 * MIB);
    ends.iter().for_each(End::established);
}

#[test]
fn small_and_large_wires() {
    for (underlay, mtu) in [
        (Underlay::V4, 1280),
        (Underlay::V4, 9000),
        (Underlay::V6, 9000),
    ] {
        let plan = Plan::new(underlay, mtu);
        let wire = Wire::new(mtu);
        let _ends = pair(&wire, &plan, 1);
        transfer(&wire.left, &wire.right, inner(2)[0], 20 * MIB);
        // IPv6 has no smaller packets than 1,280 bytes.
        if plan.mtu() >= 1280 {
            transfer(&wire.left, &wire.right, inner(2)[1], 20 * MIB);
        }
    }
}

#[test]
fn several_queues() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let _ends = pair(&wire, &plan, 4);
    std::thread::scope(|scope| {
        for ip in inner(2).into_iter().chain(inner(2)) {
            let (left, right) = (&wire.left, &wire.right);
            scope.spawn(move || transfer(left, right, ip, 10 * MIB));
        }
        for ip in inner(1) {
            let (left, right) = (&wire.left, &wire.right);
            scope.spawn(move || transfer(right, left, ip, 10 * MIB));
        }
    });
}

/// Datagrams of all sizes, one by one and as units, arrive as they were sent.
#[test]
fn datagrams_keep_their_boundaries() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let _ends = pair(&wire, &plan, 1);
    for (from, to) in inner(1).into_iter().zip(inner(2)) {
        let sender = wire.left.run(move || UdpSocket::bind((from, 0)).unwrap());
        let receiver = wire.right.run(move || UdpSocket::bind((to, 0)).unwrap());
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let mut buffer = vec![0; 70_000];
        let mut check = |want: &[u8]| {
            let len = receiver.recv(&mut buffer).expect("a datagram is missing");
            assert!(&buffer[..len] == want);
        };
        let mut noise = Noise(3);
        for len in (0..1392).step_by(7).chain([3000, 20_000, 65_000]) {
            let mut datagram = vec![0; len];
            noise.fill(&mut datagram);
            sender.send(&datagram).unwrap();
            check(&datagram);
        }
        nix::sys::socket::setsockopt(&sender, nix::sys::socket::sockopt::UdpGsoSegment, &500)
            .unwrap();
        let mut unit = vec![0; 500 * 40 + 123];
        noise.fill(&mut unit);
        sender.send(&unit).unwrap();
        unit.chunks(500).for_each(&mut check);
    }
}

/// A million datagrams of garbage neither stop a session nor cost memory.
#[test]
fn a_flood_of_garbage() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let ends = pair(&wire, &plan, 1);
    transfer(&wire.left, &wire.right, inner(2)[0], MIB);
    let flooder = wire
        .left
        .run(|| UdpSocket::bind(("172.30.0.1", 0)).unwrap());
    flooder.connect(plan.underlay.endpoint(2)).unwrap();
    let mut noise = Noise(5);
    let mut garbage = vec![0; 65_507];
    let mut flood = |count: u32| {
        for n in 0..count {
            // Mostly short, to send many; now and then as large as they come.
            let len = if n % 1000 == 0 {
                65_507
            } else {
                n as usize % 200
            };
            if n % 16 == 0 {
                noise.fill(&mut garbage[..len]);
            }
            // Half of them look like messages of each type.
            if n % 2 == 0 {
                garbage[..4].copy_from_slice(&(n % 7).to_le_bytes());
            }
            // Refused when the queue is full: the flood goes on.
            let _ = flooder.send(&garbage[..len]);
        }
    };
    flood(100_000);
    let before = resident_kib();
    flood(900_000);
    transfer(&wire.left, &wire.right, inner(2)[1], 20 * MIB);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "the flood cost {grown} KiB");
    let drops = ends[1].tunnel.status().unwrap().drops;
    let of = |reason| {
        drops
            .refused
            .iter()
            .find(|(r, _)| *r == reason)
            .map_or(0, |(_, n)| *n)
    };
    assert!(of(DropReason::Malformed) > 1000, "{drops:?}");
    assert!(of(DropReason::UnknownSession) > 1000, "{drops:?}");
}

fn resident_kib() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Another port, and then another tunnel on the same descriptors: nobody has to start anew.
#[test]
fn sockets_and_interfaces_change_hands() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let [left, right] = pair(&wire, &plan, 1);
    transfer(&wire.left, &wire.right, inner(2)[0], MIB);

    let sockets = wire.left.run(|| Sockets::open(0, 1).unwrap());
    let port = sockets[0].port().unwrap();
    assert_ne!(port, PORT);
    left.tunnel.rebind(sockets).unwrap();
    assert_eq!(left.tunnel.status().unwrap().port, Some(port));
    transfer(&wire.left, &wire.right, inner(2)[0], MIB);
    right.event("the peer at its new port", |e| {
        matches!(e, TunnelEvent::Device(wireguard::device::Event::Roamed(_, to)) if to.port() == port)
    });
    let peers = left.tunnel.status().unwrap().peers;
    assert!(peers[0].1.sent_bytes > 2 * MIB as u64);
    left.tunnel.set_mark(77).unwrap();
    assert_eq!(left.tunnel.status().unwrap().mark, 77);

    let queues = left.tunnel.stop();
    assert_eq!(queues.len(), 1);
    wire.left.ip("address flush dev wg0");
    let left = plan.end(&wire.left, 1, queues);
    transfer(&wire.left, &wire.right, inner(2)[1], MIB);
    left.established();
}

#[test]
fn a_removed_interface_is_noticed() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let end = plan.end(&wire.left, 1, Plan::queues(&wire.left, "wg0", 1));
    wire.left.ip("link delete wg0");
    end.event("the loss of the interface", |e| {
        matches!(e, TunnelEvent::InterfaceLost(_))
    });
    assert!(end.tunnel.status().is_ok());
}
