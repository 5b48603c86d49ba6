//! The kernel on one end, our device on the other: handshakes begun by either, packets both ways.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use wireguard::device::{DeviceConfig, Event};
use wireguard::kernel::Kernel;
use wireguard::keys::PresharedKey;
use wireguard::lane::{Incoming, Outgoing};
use wireguard::message::TRANSPORT_HEADER_LEN;
use wireguard::packet::IpHeader;
use wireguard::plan::{DeviceSpec, PeerSpec};
use wireguard::{Device, Entropy, Now, PeerConfig, Time};

use crate::{ip, now, private, public, reconcile, with_device};

const KERNEL: u16 = 51820;
const PATIENCE: Duration = Duration::from_secs(30);

struct Urandom;

impl Entropy for Urandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        use std::io::Read;
        std::fs::File::open("/dev/urandom")
            .unwrap()
            .read_exact(bytes)
            .unwrap();
    }
}

/// Our device, driven by hand.
struct Ours {
    device: Device,
    socket: UdpSocket,
    start: Instant,
    /// Types of the datagrams that were sent and received.
    kinds: Vec<u8>,
}

impl Ours {
    fn new(key: u16) -> Ours {
        let config = DeviceConfig::new(private(key));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        Ours {
            device: Device::new(config, Box::new(Urandom)),
            socket,
            start: Instant::now(),
            kinds: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        let mono = Time::from_duration(Duration::from_secs(1) + self.start.elapsed());
        Now { mono, unix: now() }
    }

    fn send(&mut self, packet: &[u8]) {
        let mut buffer = [&[0; TRANSPORT_HEADER_LEN], packet, &[0; 32]].concat();
        let mut out = [Outgoing::new(&mut buffer, packet.len())];
        self.device.handle_packets(self.now(), &mut out);
        if let Some(datagram) = out[0].datagram() {
            self.socket
                .send_to(datagram, ("127.0.0.1", KERNEL))
                .unwrap();
            self.kinds.push(datagram[0]);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(t) = self.device.poll_transmit() {
            self.kinds.push(t.datagram[0]);
            self.socket.send_to(&t.datagram, t.destination).unwrap();
        }
    }

    /// Works until `done` says so of a packet that came out, or of none.
    fn run(&mut self, mut done: impl FnMut(Option<&[u8]>) -> bool) {
        let (deadline, mut buffer) = (Instant::now() + PATIENCE, [0; 2048]);
        while Instant::now() < deadline {
            let received = self.socket.recv_from(&mut buffer);
            self.device.handle_timeout(self.now());
            let mut is_done = done(None);
            if let Ok((len, source)) = received {
                self.kinds.push(buffer[0]);
                let mut incoming = [Incoming::new(&mut buffer[..len], source, 0)];
                self.device.handle_datagrams(self.now(), &mut incoming);
                is_done |= incoming[0]
                    .packet()
                    .is_some_and(|packet| done(Some(packet)));
            }
            self.flush();
            if is_done {
                return;
            }
        }
        panic!(
            "nothing for {PATIENCE:?}; datagrams so far: {:?}",
            self.kinds
        );
    }
}

/// A UDP packet from port 9 to port 7000.
fn udp(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut segment = [9, 7000, len, 0].map(u16::to_be_bytes).concat();
    segment.extend(payload);
    let (mut header, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
            header[2..4].copy_from_slice(&(20 + len).to_be_bytes());
            (header, [from.octets(), to.octets()].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = len.to_be_bytes();
            (
                vec![0x60, 0, 0, 0, high, low, 17, 64],
                [from.octets(), to.octets()].concat(),
            )
        }
        _ => panic!("one family, please"),
    };
    let pseudo = [&addresses[..], &[0, 17], &len.to_be_bytes()].concat();
    let sum = checksum(&[&pseudo[..], &segment].concat());
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    header.extend(addresses);
    if from.is_ipv4() {
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    header.extend(segment);
    header
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// Both ends on one loopback; the kernel's is `.1`, ours `.2`.
fn connect(kernel: &mut Kernel, psk: Option<[u8; 32]>) -> (Ours, DeviceSpec) {
    let mut ours = Ours::new(2);
    let preshared_key = psk.map(PresharedKey::new);
    let peer = PeerSpec {
        preshared_key: preshared_key.clone(),
        endpoint: Some(ours.socket.local_addr().unwrap()),
        allowed_ips: ["10.9.0.2/32", "fd09::2/128"]
            .map(|p| p.parse().unwrap())
            .into(),
        ..PeerSpec::default()
    };
    let spec = DeviceSpec {
        private_key: private(1),
        other_private_key: None,
        listen_port: KERNEL,
        fwmark: 0,
        peers: [(private(2).public(), peer)].into(),
    };
    reconcile(kernel, &spec);
    ip("link set wg0 up");
    ip("addr add 10.9.0.1/24 dev wg0");
    ip("-6 addr add fd09::1/64 dev wg0");

    let mut config = PeerConfig::new(private(1).public());
    config.preshared_key = preshared_key;
    config.endpoint = Some(SocketAddr::from(([127, 0, 0, 1], KERNEL)));
    let id = ours.device.set_peer(ours.now(), config);
    let prefixes = ["10.9.0.1/32", "fd09::1/128"].map(|p| (p.parse().unwrap(), id));
    ours.device.set_allowed_ips(&prefixes);
    (ours, spec)
}

/// A packet each way, from and to an application on the kernel's side.
fn ping(ours: &mut Ours, kernel_first: bool, text: &str) {
    for (theirs, our) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
        let (theirs, our): (IpAddr, IpAddr) = (theirs.parse().unwrap(), our.parse().unwrap());
        let app = UdpSocket::bind((theirs, 7000)).unwrap();
        app.set_nonblocking(true).unwrap();
        let to_us = |ours: &mut Ours| {
            app.send_to(text.as_bytes(), (our, 9)).unwrap();
            ours.run(|packet| {
                let Some(packet) = packet else { return false };
                let header = IpHeader::parse(packet).unwrap();
                assert_eq!((header.source, header.destination), (theirs, our));
                packet[..header.len].ends_with(text.as_bytes())
            });
        };
        let to_them = |ours: &mut Ours| {
            ours.send(&udp(our, theirs, text.as_bytes()));
            let mut buffer = [0; 100];
            ours.run(|_| match app.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    assert_eq!((&buffer[..len], from.ip()), (text.as_bytes(), our));
                    true
                }
                Err(_) => false,
            });
        };
        if kernel_first {
            to_us(ours);
            to_them(ours);
        } else {
            to_them(ours);
            to_us(ours);
        }
    }
}

/// Initiations that were sent or received.
fn initiations(ours: &Ours) -> usize {
    ours.kinds.iter().filter(|kind| **kind == 1).count()
}

fn talks(kernel: &mut Kernel, kernel_first: bool, psk: Option<[u8; 32]>) {
    let began = now();
    let (mut ours, mut spec) = connect(kernel, psk);
    ping(&mut ours, kernel_first, "hello");
    let event = ours.device.poll_event();
    assert!(matches!(event, Some(Event::Established(_))), "{event:?}");

    // The kernel counts, and its plan stays empty.
    let key = private(2).public();
    let state = kernel.get("wg0").unwrap();
    let peer = &state.peers[&key];
    assert!(peer.received_bytes > 0 && peer.sent_bytes > 0);
    assert!(peer.last_handshake.unwrap() + Duration::from_secs(1) >= began);
    assert_eq!(peer.endpoint, Some(ours.socket.local_addr().unwrap()));

    // Other peers come and go, prefixes move: the session stands.
    let before = initiations(&ours);
    let other = PeerSpec {
        allowed_ips: ["10.9.0.3/32"].map(|p| p.parse().unwrap()).into(),
        ..PeerSpec::default()
    };
    spec.peers.insert(public(3), other);
    reconcile(kernel, &spec);
    let mut gone = spec.peers.remove(&public(3)).unwrap();
    spec.peers
        .get_mut(&key)
        .unwrap()
        .allowed_ips
        .append(&mut gone.allowed_ips);
    reconcile(kernel, &spec);
    ping(&mut ours, !kernel_first, "still here");
    assert_eq!(initiations(&ours), before);
}

#[test]
fn the_kernel_begins() {
    with_device(|kernel| talks(kernel, true, None));
}

#[test]
fn we_begin() {
    with_device(|kernel| talks(kernel, false, None));
}

#[test]
fn either_begins_with_a_preshared_key() {
    with_device(|kernel| talks(kernel, true, Some([5; 32])));
    with_device(|kernel| talks(kernel, false, Some([6; 32])));
}
