//! A network that loses, duplicates, delays and reorders, and a clock that only the test moves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::Cidr;
use wireguard::control::SetRequest;
use wireguard::device::{DeviceConfig, Event};
use wireguard::keys::{PrivateKey, PublicKey};
use wireguard::lane::{Incoming, Lane, Outgoing, Received, Sent};
use wireguard::message::TRANSPORT_HEADER_LEN;
use wireguard::{Device, Entropy, Now, PeerConfig, PeerId, Time};

/// SplitMix64: reproducible, and worthless as a secret.
#[derive(Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `percent` of cases.
    pub(crate) fn happens(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next().to_le_bytes()[0];
        }
    }
}

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    pub(crate) delay_ms: u64,
    pub(crate) jitter_ms: u64,
}

pub(crate) const FINE: Weather = Weather {
    loss_percent: 0,
    duplicate_percent: 0,
    delay_ms: 5,
    jitter_ms: 0,
};

struct Flying {
    from: SocketAddr,
    to: SocketAddr,
    ecn: u8,
    datagram: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) device: Device,
    /// Data paths beside the device's own; used in turn.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) address: SocketAddr,
    pub(crate) key: PrivateKey,
    /// Packets that came out, with who sent them.
    pub(crate) delivered: Vec<(PeerId, Vec<u8>)>,
    pub(crate) drops: Vec<wireguard::lane::DropReason>,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) weather: Weather,
    pub(crate) rng: Seeded,
    pub(crate) nodes: Vec<Node>,
    flying: BTreeMap<(Duration, u64), Flying>,
    sequence: u64,
    /// Transport headers that left each node, to prove that none left twice.
    nonces: HashSet<(usize, u32, u64)>,
    /// Copies of each datagram that are under way or have arrived; zero: the network lost it.
    copies: HashMap<Vec<u8>, usize>,
    /// Sees every datagram as it is sent.
    pub(crate) wire: Vec<(Duration, usize, Vec<u8>)>,
    pub(crate) record_wire: bool,
    /// Times that a timer woke somebody.
    pub(crate) wakeups: usize,
}

/// Inner addresses are 10.0.n.1, in 10.0.n.0/24.
pub(crate) const fn inner(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, n as u8, 1)
}

pub(crate) fn block(n: usize) -> Cidr {
    Cidr::containing(inner(n).into(), 24).unwrap()
}

pub(crate) fn outer(n: usize) -> SocketAddr {
    SocketAddr::new(
        Ipv4Addr::new(192, 0, 2, u8::try_from(n + 1).unwrap()).into(),
        51820,
    )
}

/// An IPv4 packet of `len` bytes that carries `id`.
pub(crate) fn packet(from: Ipv4Addr, to: Ipv4Addr, id: u64, len: usize) -> Vec<u8> {
    let mut p = vec![0; len.max(28)];
    p[0] = 0x45;
    let total = u16::try_from(p.len()).unwrap().to_be_bytes();
    p[2..4].copy_from_slice(&total);
    p[12..16].copy_from_slice(&from.octets());
    p[16..20].copy_from_slice(&to.octets());
    p[20..28].copy_from_slice(&id.to_be_bytes());
    p
}

pub(crate) fn id_of(packet: &[u8]) -> u64 {
    u64::from_be_bytes(packet[20..28].try_into().unwrap())
}

impl Net {
    /// `count` nodes that do not know each other yet.
    pub(crate) fn new(seed: u64, count: usize, weather: Weather) -> Net {
        let mut net = Net {
            now: Duration::from_secs(1000),
            weather,
            rng: Seeded(seed),
            nodes: Vec::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            nonces: HashSet::new(),
            copies: HashMap::new(),
            wire: Vec::new(),
            record_wire: false,
            wakeups: 0,
        };
        for n in 0..count {
            let key = PrivateKey::generate(&mut net.rng);
            let device = net.device(&key);
            net.nodes.push(Node {
                device,
                lanes: Vec::new(),
                address: outer(n),
                key,
                delivered: Vec::new(),
                drops: Vec::new(),
                events: Vec::new(),
            });
        }
        net
    }

    fn device(&mut self, key: &PrivateKey) -> Device {
        let entropy = Seeded(self.rng.next());
        Device::new(DeviceConfig::new(key.clone()), Box::new(entropy))
    }

    /// A mesh of `count` nodes, each the peer of each with its /24.
    pub(crate) fn mesh(seed: u64, count: usize, weather: Weather) -> Net {
        let mut net = Net::new(seed, count, weather);
        for n in 0..count {
            net.introduce_all(n);
        }
        net
    }

    fn introduce_all(&mut self, n: usize) {
        for m in (0..self.nodes.len()).filter(|m| *m != n) {
            let mut config = PeerConfig::new(self.key(m));
            config.endpoint = Some(self.nodes[m].address);
            self.introduce(n, m, config);
        }
    }

    /// Makes `m` a peer of `n`.
    pub(crate) fn introduce(&mut self, n: usize, m: usize, config: PeerConfig) -> PeerId {
        let now = self.clock();
        let device = &mut self.nodes[n].device;
        let id = device.set_peer(now, config).unwrap();
        device.set_allowed_ips(&[(block(m), Some(id))]);
        self.pump(n);
        id
    }

    /// Does what node `n` is told by a request.
    pub(crate) fn configure(&mut self, n: usize, request: &SetRequest) {
        let now = self.clock();
        self.nodes[n].device.configure(now, request).unwrap();
        self.pump(n);
    }

    pub(crate) fn key(&self, n: usize) -> PublicKey {
        self.nodes[n].key.public()
    }

    pub(crate) fn peer(&self, n: usize, m: usize) -> PeerId {
        self.nodes[n].device.peer_by_key(&self.key(m)).unwrap()
    }

    /// A new process of node `n`: same key and peers, nothing else left.
    pub(crate) fn restart(&mut self, n: usize) {
        let key = self.nodes[n].key.clone();
        self.nodes[n].device = self.device(&key);
        self.nodes[n].lanes.clear();
        self.introduce_all(n);
    }

    pub(crate) fn clock(&self) -> Now {
        Now {
            mono: Time::from_duration(self.now),
            unix: Duration::from_secs(1_700_000_000) + self.now,
        }
    }

    /// Sends one inner packet from node `n`; the datagram, when it could leave at once.
    pub(crate) fn send(&mut self, n: usize, packet: &[u8]) -> (Sent, Option<Vec<u8>>) {
        let (sent, mut datagrams) = self.send_batch(n, &[packet.to_vec()]).remove(0);
        (sent, datagrams.pop())
    }

    pub(crate) fn send_batch(
        &mut self,
        n: usize,
        packets: &[Vec<u8>],
    ) -> Vec<(Sent, Vec<Vec<u8>>)> {
        let now = self.clock();
        let mut buffers: Vec<Vec<u8>> = packets
            .iter()
            .map(|p| [&[0; TRANSPORT_HEADER_LEN], p.as_slice(), &[0xee; 31]].concat())
            .collect();
        let mut out: Vec<Outgoing<'_>> = buffers
            .iter_mut()
            .zip(packets)
            .map(|(b, p)| Outgoing::new(b, p.len()))
            .collect();
        let node = &mut self.nodes[n];
        let lane = match node.lanes.len() {
            0 => 0,
            lanes => usize::try_from(self.rng.next()).unwrap() % (lanes + 1),
        };
        match lane.checked_sub(1) {
            None => node.device.handle_packets(now, &mut out),
            Some(lane) => {
                node.lanes[lane].seal(now.mono, &mut out);
                while let Some(notice) = node.lanes[lane].poll_notice() {
                    node.device.handle_notice(now, notice);
                }
            }
        }
        let sent: Vec<(Sent, Option<Vec<u8>>)> = out
            .iter()
            .map(|o| (o.sent(), o.datagram().map(<[u8]>::to_vec)))
            .collect();
        let mut result = Vec::new();
        for (sent, datagram) in sent {
            if let (Sent::To { endpoint, ecn, .. }, Some(datagram)) = (sent, &datagram) {
                self.launch(n, endpoint, ecn, datagram);
            }
            result.push((sent, datagram.into_iter().collect()));
        }
        self.pump(n);
        result
    }

    /// Puts a datagram on the wire as if node `n` had sent it.
    pub(crate) fn launch(&mut self, n: usize, to: SocketAddr, ecn: u8, datagram: &[u8]) {
        if datagram[0] == 4 {
            let index = u32::from_le_bytes(datagram[4..8].try_into().unwrap());
            let counter = u64::from_le_bytes(datagram[8..16].try_into().unwrap());
            assert!(
                self.nonces.insert((n, index, counter)),
                "a nonce left twice"
            );
        }
        if self.record_wire {
            self.wire.push((self.now, n, datagram.to_vec()));
        }
        let from = self.nodes[n].address;
        let copies = match () {
            () if self.rng.happens(self.weather.loss_percent) => 0,
            () if self.rng.happens(self.weather.duplicate_percent) => 2,
            () => 1,
        };
        *self.copies.entry(datagram.to_vec()).or_default() += copies;
        for _ in 0..copies {
            self.inject(from, to, ecn, datagram.to_vec());
        }
    }

    /// Puts a datagram from anywhere on the wire, past loss.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: SocketAddr, ecn: u8, datagram: Vec<u8>) {
        let jitter = self.rng.next() % (self.weather.jitter_ms + 1);
        let at = self.now + Duration::from_millis(self.weather.delay_ms + jitter);
        self.sequence += 1;
        let flying = Flying {
            from,
            to,
            ecn,
            datagram,
        };
        self.flying.insert((at, self.sequence), flying);
    }

    /// Whether the network (and not an end) lost a datagram.
    pub(crate) fn is_lost(&self, datagram: &[u8]) -> bool {
        self.copies.get(datagram) == Some(&0)
    }

    fn pump(&mut self, n: usize) {
        while let Some(t) = self.nodes[n].device.poll_transmit() {
            self.launch(n, t.destination, t.ecn, &t.datagram);
        }
        while let Some(event) = self.nodes[n].device.poll_event() {
            self.nodes[n].events.push(event);
        }
    }

    fn deliver(&mut self, mut flying: Flying) {
        let now = self.clock();
        let Some(n) = self.nodes.iter().position(|node| node.address == flying.to) else {
            return;
        };
        let node = &mut self.nodes[n];
        let mut incoming = [Incoming::new(&mut flying.datagram, flying.from, flying.ecn)];
        let lanes = node.lanes.len() as u64;
        match (self.rng.next() % (lanes + 1)).checked_sub(1) {
            None => node.device.handle_datagrams(now, &mut incoming),
            Some(lane) => {
                let lane = &mut node.lanes[usize::try_from(lane).unwrap()];
                lane.open(now.mono, &mut incoming);
                while let Some(notice) = lane.poll_notice() {
                    node.device.handle_notice(now, notice);
                }
                if *incoming[0].received() == Received::Handshake {
                    let datagram = incoming[0].datagram();
                    node.device
                        .handle_handshake(now, flying.from, datagram, false);
                }
            }
        }
        match incoming[0].received() {
            Received::Packet { peer, .. } => {
                let packet = incoming[0].packet().unwrap().to_vec();
                node.delivered.push((*peer, packet));
            }
            Received::Dropped(drop) => node.drops.push(*drop),
            _ => {}
        }
        self.pump(n);
    }

    /// Lets `duration` pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.flying.keys().next().map(|k| k.0);
            let timeout = self
                .nodes
                .iter()
                .filter_map(|node| node.device.poll_timeout())
                .map(|t| Duration::from_nanos(t.as_nanos()))
                .min();
            let Some(next) = arrival
                .into_iter()
                .chain(timeout)
                .min()
                .filter(|t| *t <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                if let Some((_, flying)) = self.flying.pop_first() {
                    self.deliver(flying);
                }
            } else {
                let now = self.clock();
                self.wakeups += 1;
                for n in 0..self.nodes.len() {
                    self.nodes[n].device.handle_timeout(now);
                    self.pump(n);
                }
            }
        }
        self.now = end;
    }

    pub(crate) fn run_secs(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// Ids of what came out at `n`, in order.
    pub(crate) fn ids(&self, n: usize) -> Vec<u64> {
        self.nodes[n]
            .delivered
            .iter()
            .map(|(_, p)| id_of(p))
            .collect()
    }
}
