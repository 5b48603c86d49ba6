//! Nodes with a device each, a network that loses, doubles, delays, reorders and remembers, and a watch over
//! every pair: once two devices try a key in common, they always do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wireguard::keys::{PresharedKey, PrivateKey};
use wireguard::postquantum::kem::KemKey;
use wireguard::postquantum::{Exchange, PairKeys, PeerSpec, Settings};
use wireguard::{Entropy, Time};

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

    pub(crate) fn happens(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next().to_le_bytes()[0];
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) double: u64,
    /// Up to so many milliseconds more than one.
    pub(crate) jitter: u64,
    /// A datagram of the past is sent again, from anywhere, with every new one in so many percent.
    pub(crate) replay: u64,
}

pub(crate) const FINE: Weather = Weather {
    loss: 0,
    double: 0,
    jitter: 0,
    replay: 0,
};

pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) exchange: Exchange,
    /// By peer: what is tried.
    pub(crate) device: BTreeMap<Arc<str>, PairKeys>,
    key: PrivateKey,
    other: Option<PrivateKey>,
    kem: [u8; 64],
    pub(crate) takes_part: bool,
    /// Its device has room for one key.
    pub(crate) is_single: bool,
}

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Weather,
    pub(crate) random: Seeded,
    pub(crate) is_required: bool,
    pub(crate) rotate_every: Duration,
    pub(crate) now: Time,
    flying: BTreeSet<(Time, u64)>,
    datagrams: BTreeMap<u64, (SocketAddr, SocketAddr, Vec<u8>)>,
    past: Vec<(SocketAddr, Vec<u8>)>,
    count: u64,
    /// Pairs that had a key in common.
    shared: BTreeSet<(usize, usize)>,
    /// How long each pair's preferred keys differed in all.
    pub(crate) apart: BTreeMap<(usize, usize), Duration>,
    pub(crate) sent: usize,
    is_started: bool,
    /// What happened last.
    trace: VecDeque<String>,
    numbers: Vec<PresharedKey>,
}

fn address(n: usize) -> SocketAddr {
    let n = u8::try_from(n).unwrap();
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, n + 1).into(), 51821)
}

impl Net {
    pub(crate) fn new(seed: u64, count: usize, is_required: bool) -> Net {
        let mut random = Seeded(seed);
        let mut net = Net {
            nodes: Vec::new(),
            weather: FINE,
            random: random.clone(),
            is_required,
            rotate_every: Duration::from_secs(600),
            now: Time::from_duration(Duration::from_secs(1)),
            flying: BTreeSet::new(),
            datagrams: BTreeMap::new(),
            past: Vec::new(),
            count: 0,
            shared: BTreeSet::new(),
            apart: BTreeMap::new(),
            sent: 0,
            is_started: false,
            trace: VecDeque::new(),
            numbers: vec![PresharedKey::none()],
        };
        for n in 0..count {
            let key = PrivateKey::generate(&mut random);
            let kem = *KemKey::seed(&mut random);
            let name: Arc<str> = format!("n{n}").into();
            let exchange = net.exchange(&name, &key, None, &kem);
            net.nodes.push(Node {
                name,
                exchange,
                device: BTreeMap::new(),
                key,
                other: None,
                kem,
                takes_part: true,
                is_single: false,
            });
        }
        net.tell_all();
        net.is_started = true;
        net
    }

    fn exchange(
        &mut self,
        name: &Arc<str>,
        key: &PrivateKey,
        other: Option<&PrivateKey>,
        kem: &[u8; 64],
    ) -> Exchange {
        let settings = Settings {
            node: Arc::clone(name),
            private_key: key.clone(),
            other_private_key: other.cloned(),
            kem: KemKey::from_seed(kem),
            rotate_every: self.rotate_every,
            is_required: self.is_required,
        };
        Exchange::new(settings, Box::new(Seeded(self.random.next())))
    }

    /// Node `n` learns of all others.
    pub(crate) fn tell(&mut self, n: usize) {
        let peers = self.nodes.iter().enumerate().filter(|(m, _)| *m != n);
        let device = &self.nodes[n].device;
        let spec = |(m, peer): (usize, &Node)| {
            let takes_part = peer.takes_part && self.nodes[n].takes_part;
            let spec = PeerSpec {
                public_key: peer.key.public(),
                next_public_key: peer.other.as_ref().map(PrivateKey::public),
                encapsulation_key: takes_part
                    .then(|| KemKey::from_seed(&peer.kem).public().clone()),
                endpoint: address(m),
                found: device.get(&peer.name).cloned(),
            };
            (Arc::clone(&peer.name), spec)
        };
        let specs = peers.map(spec).collect();
        self.nodes[n].exchange.set_peers(self.now, specs);
        self.drain(n);
    }

    pub(crate) fn tell_all(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.tell(n));
    }

    /// The daemon of `n` starts anew and finds its device as it is.
    pub(crate) fn restart(&mut self, n: usize) {
        self.note(&format!("n{n} starts anew"));
        let node = &self.nodes[n];
        let (name, key, other, kem) = (
            Arc::clone(&node.name),
            node.key.clone(),
            node.other.clone(),
            node.kem,
        );
        let exchange = self.exchange(&name, &key, other.as_ref(), &kem);
        self.nodes[n].exchange = exchange;
        self.tell(n);
    }

    /// `n` loses all it had in common with others.
    pub(crate) fn reboot(&mut self, n: usize) {
        self.nodes[n].device.clear();
        self.shared.retain(|(a, b)| *a != n && *b != n);
        self.restart(n);
    }

    /// `n` has another key to encapsulate to; others hear of it.
    pub(crate) fn change_kem(&mut self, n: usize) {
        let seed = *KemKey::seed(&mut self.random);
        self.nodes[n].kem = seed;
        self.nodes[n].exchange.set_kem(KemKey::from_seed(&seed));
        if self.random.happens(70) {
            self.nodes[n].exchange.renew(self.now);
        }
        self.tell_all();
    }

    /// A step of the rotation of the tunnel's key of `n`: announced, used, retired.
    pub(crate) fn change_key(&mut self, n: usize) {
        let fresh = PrivateKey::generate(&mut self.random);
        let node = &mut self.nodes[n];
        (node.key, node.other) = match node.other.take() {
            None => (node.key.clone(), Some(fresh)),
            Some(next) => (next, None),
        };
        let (key, other) = (node.key.clone(), node.other.clone());
        node.exchange.set_private_keys(key, other);
        self.tell_all();
    }

    /// Another host has the name of `n`.
    pub(crate) fn replace(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.key, node.other) = (PrivateKey::generate(&mut self.random), None);
        node.kem = *KemKey::seed(&mut self.random);
        let name = Arc::clone(&node.name);
        // What a device had was for another key.
        self.nodes
            .iter_mut()
            .for_each(|other| drop(other.device.remove(&name)));
        self.reboot(n);
        self.tell_all();
    }

    pub(crate) fn set_required(&mut self, is_required: bool) {
        self.is_required = is_required;
        self.shared.clear();
        for n in 0..self.nodes.len() {
            self.nodes[n].exchange.set_required(self.now, is_required);
            self.drain(n);
        }
        self.watch();
    }

    /// A name of a key for people; 0: none.
    fn number(&mut self, key: &PresharedKey) -> usize {
        let known = self.numbers.iter().position(|k| k == key);
        known.unwrap_or_else(|| {
            self.numbers.push(key.clone());
            self.numbers.len() - 1
        })
    }

    fn note(&mut self, text: &str) {
        self.trace.push_back(format!("{:?} {text}", self.now));
        if self.trace.len() > 150 {
            self.trace.pop_front();
        }
    }

    /// First the device, then the network.
    fn drain(&mut self, n: usize) {
        let from = address(n);
        while let Some(install) = self.nodes[n].exchange.poll_install() {
            let keys = install.keys.iter();
            let keys = keys.flat_map(|k| std::iter::once(k.first.clone()).chain(k.other.clone()));
            let keys: Vec<_> = keys.map(|key| self.number(&key)).collect();
            self.note(&format!("n{n} tries {keys:?} for {}", install.node));
            let node = &mut self.nodes[n];
            match install.keys {
                Some(mut keys) => {
                    if node.is_single {
                        keys.other = None;
                    }
                    node.device.insert(install.node, keys);
                }
                None => {
                    node.device.remove(&install.node);
                }
            }
        }
        let mut sent = Vec::new();
        let node = &mut self.nodes[n];
        while let Some(transmit) = node.exchange.poll_transmit() {
            sent.push((transmit.destination, transmit.datagram));
        }
        self.watch();
        for (to, datagram) in sent {
            self.sent += 1;
            self.note(&format!("n{n} says {} to {to}", datagram[4]));
            self.past.push((to, datagram.clone()));
            let copies = 1 + usize::from(self.random.happens(self.weather.double));
            for _ in 0..copies {
                if !self.random.happens(self.weather.loss) {
                    self.fly(from, to, datagram.clone());
                }
            }
            if self.random.happens(self.weather.replay) {
                let at = self.random.below(self.past.len());
                let (to, datagram) = self.past[at].clone();
                self.fly("203.0.113.9:9".parse().unwrap(), to, datagram);
            }
        }
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        let delay = 1 + self.random.next() % (self.weather.jitter + 1);
        let at = self.now + Duration::from_millis(delay);
        self.count += 1;
        self.flying.insert((at, self.count));
        self.datagrams.insert(self.count, (from, to, datagram));
    }

    pub(crate) fn tries(&self, n: usize, m: usize) -> Vec<PresharedKey> {
        let name = &self.nodes[m].name;
        match self.nodes[n].device.get(name).cloned() {
            Some(keys) => std::iter::once(keys.first).chain(keys.other).collect(),
            None if self.nodes[n].takes_part => Vec::new(),
            None => vec![PresharedKey::none()],
        }
    }

    fn watch(&mut self) {
        let all = |n: &Node| n.is_single;
        let has_single = self.nodes.iter().any(all);
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let (ours, theirs) = (self.tries(a, b), self.tries(b, a));
                let common: Vec<_> = ours.iter().filter(|key| theirs.contains(key)).collect();
                if !common.is_empty() {
                    // To share none counts at the start; later it is of who came back without a key, and
                    // finds that the other end still tries none, or has come back as well.
                    if common.iter().any(|key| !key.is_none()) || !self.is_started {
                        self.shared.insert((a, b));
                    }
                } else if !has_single {
                    assert!(
                        !self.shared.contains(&(a, b)),
                        "n{a} and n{b} try no key in common any more:\n{}",
                        self.trace.make_contiguous().join("\n")
                    );
                }
            }
        }
    }

    /// Until then everything happens that should.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.nodes.iter().filter_map(|n| n.exchange.poll_timeout());
            let timer = timers.min();
            let flight = self.flying.first().map(|(at, _)| *at);
            let next = [timer, flight].into_iter().flatten().min();
            let next = next.unwrap_or(end).max(self.now).min(end);
            for a in 0..self.nodes.len() {
                for b in a + 1..self.nodes.len() {
                    if self.tries(a, b).first() != self.tries(b, a).first() {
                        *self.apart.entry((a, b)).or_default() += next.since(self.now);
                    }
                }
            }
            self.now = next;
            if self.now == end {
                return;
            }
            while let Some((at, count)) = self.flying.first().copied().filter(|f| f.0 <= self.now) {
                self.flying.remove(&(at, count));
                let (from, to, datagram) = self.datagrams.remove(&count).unwrap();
                if let Some(n) = (0..self.nodes.len()).find(|n| address(*n) == to) {
                    let now = self.now;
                    self.note(&format!("n{n} hears {} of {from}", datagram[4]));
                    self.nodes[n].exchange.handle_datagram(now, from, &datagram);
                    self.drain(n);
                }
            }
            for n in 0..self.nodes.len() {
                let now = self.now;
                self.nodes[n].exchange.handle_timeout(now);
                self.drain(n);
            }
        }
    }

    /// Until no pair is about to change.
    pub(crate) fn settle(&mut self) {
        for _ in 0..120 {
            self.run(Duration::from_secs(1));
            let mut all = self.nodes.iter().flat_map(|n| n.device.values());
            if all.all(|keys| keys.other.is_none()) {
                return;
            }
        }
        panic!("some pair has two keys for ever");
    }

    /// Both ends of every pair say so, and have one key, which is real.
    pub(crate) fn must_agree(&self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                for (n, m) in [(a, b), (b, a)] {
                    let name = &self.nodes[m].name;
                    let mut statuses = self.nodes[n].exchange.statuses();
                    let (_, status) = statuses.find(|(peer, _)| *peer == name).unwrap();
                    assert!(status.is_agreed, "n{n} has not agreed with n{m}");
                }
                let keys = self.tries(a, b);
                assert_eq!(keys, self.tries(b, a), "n{a} and n{b}");
                assert!(keys.len() == 1 && !keys[0].is_none(), "n{a} and n{b}");
            }
        }
    }
}

/// A node that leads half of so many peers and follows the others, none of which is there.
pub(crate) fn crowd(count: u16) -> Exchange {
    let mut random = Seeded(1);
    let kem = *KemKey::seed(&mut random);
    let peer = |n: u16| {
        let spec = PeerSpec {
            public_key: PrivateKey::generate(&mut random).public(),
            next_public_key: None,
            encapsulation_key: Some(KemKey::from_seed(&kem).public().clone()),
            endpoint: (Ipv4Addr::new(192, 0, 2, 1), n).into(),
            found: None,
        };
        (format!("n{n:05}").into(), spec)
    };
    let peers = (1..=count).map(peer).collect();
    let settings = Settings {
        node: format!("n{:05}x", count / 2).into(),
        private_key: PrivateKey::new([9; 32]),
        other_private_key: None,
        kem: KemKey::from_seed(&kem),
        rotate_every: Duration::from_secs(3600),
        is_required: true,
    };
    let mut exchange = Exchange::new(settings, Box::new(Seeded(2)));
    exchange.set_peers(Time::ZERO, peers);
    exchange
}
