//! Speakers at loopback addresses of their own, and what their kernel would have.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bgp::attributes::Attributes;
use bgp::fsm::{SessionConfig, State};
use bgp::speaker::{Config, Peer, PeerStatus, RouteQuery, Speaker, Via, View};

pub(crate) use crate::table::Table;

pub(crate) const PORT: u16 = 1790;
/// Long enough for a busy machine; nothing waits for it when all is well.
const LIMIT: Duration = Duration::from_secs(20);

/// An address that no other test uses.
pub(crate) fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a node at `address` announces.
pub(crate) fn next_hop(address: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, d] = address.octets();
    Ipv4Addr::new(10, b, c, d)
}

impl Table {
    /// Whether what is from before the start may go.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.lock().unwrap().len()
    }
}

pub(crate) struct Node {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    pub(crate) config: Config,
    pub(crate) table: Table,
    pub(crate) speaker: Option<Speaker>,
}

impl Node {
    pub(crate) fn new(asn: u32) -> Node {
        Node::at(address(), asn)
    }

    pub(crate) fn at(address: Ipv4Addr, asn: u32) -> Node {
        let mut config = Config::new(address);
        config.listen = vec![address.into()];
        config.port = Some(PORT);
        Node {
            address,
            asn,
            config,
            table: Table::default(),
            speaker: None,
        }
    }

    /// A peer at its defaults.
    pub(crate) fn peer(&self, address: Ipv4Addr, asn: u32) -> Peer {
        let mut session = SessionConfig::new(self.asn, self.address, Some(asn));
        session.retry = Duration::from_secs(1);
        let mut peer = Peer::new(session, address.into());
        peer.port = PORT;
        peer.local_address = Some(self.address.into());
        // One in 127.0.0.0/8 is no next hop.
        peer.own_v4 = Some(next_hop(self.address));
        peer
    }

    pub(crate) fn start(&mut self) {
        let sink = Box::new(self.table.clone());
        self.speaker = Some(Speaker::start(self.config.clone(), sink).unwrap());
    }

    pub(crate) fn speaker(&self) -> &Speaker {
        self.speaker.as_ref().unwrap()
    }

    pub(crate) fn configure(&self) {
        self.speaker().configure(self.config.clone()).unwrap();
    }

    pub(crate) fn announce(&self, prefixes: &[&str]) {
        let routes = prefixes
            .iter()
            .map(|p| (p.parse().unwrap(), Attributes::default()));
        self.speaker().announce(routes.collect()).unwrap();
    }

    pub(crate) fn status(&self, peer: &str) -> PeerStatus {
        let peers = self.speaker().peers().unwrap();
        peers.into_iter().find(|p| p.name == peer).unwrap()
    }

    pub(crate) fn words(&self, peer: &str) -> String {
        let status = self.status(peer);
        let all = [status.last_down, status.last_failure];
        all.into_iter().flatten().map(|f| f.words).collect()
    }

    pub(crate) fn is_up(&self, peer: &str) -> bool {
        self.status(peer).state == State::Established
    }

    /// Prefixes that came from a peer and are the best.
    pub(crate) fn learnt(&self) -> Vec<String> {
        let best = self.speaker().routes(RouteQuery::new(View::Best)).unwrap();
        let theirs = best.routes.iter().filter(|r| r.from.is_some());
        theirs.map(|r| r.prefix.to_string()).collect()
    }
}

/// Two nodes that are each other's only peer.
pub(crate) fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(64512), Node::new(64513));
    let (to_b, to_a) = (a.peer(b.address, b.asn), b.peer(a.address, a.asn));
    a.config.peers.insert("b".to_owned(), to_b);
    b.config.peers.insert("a".to_owned(), to_a);
    (a, b)
}

/// Waits until it is so; what is not so in the end is shown by `seen`.
#[track_caller]
pub(crate) fn until<T: std::fmt::Debug>(mut seen: impl FnMut() -> T, is: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let now = seen();
        if is(&now) {
            return now;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain: {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The way to what a node at `address` announces.
pub(crate) fn via(address: Ipv4Addr) -> Via {
    Via {
        gateway: IpAddr::V4(next_hop(address)),
        interface: None,
    }
}
