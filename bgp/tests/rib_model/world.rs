//! The RIB and the model, which take the same steps.

use super::*;

pub(super) struct World {
    pub(super) rib: Rib,
    pub(super) model: Model,
    pub(super) listeners: BTreeMap<u16, Listener>,
    pub(super) kernel: BTreeMap<u8, Vec<NextHop>>,
}

impl World {
    pub(super) fn new(multipath: u16) -> World {
        let decision = DecisionConfig {
            multipath,
            ..DecisionConfig::default()
        };
        let config = RibConfig {
            decision,
            ..RibConfig::new(OWN_ID)
        };
        let model = Model {
            multipath,
            ..Model::default()
        };
        World {
            rib: Rib::new(config),
            model,
            listeners: BTreeMap::new(),
            kernel: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, peer: u16, message: &[u8]) {
        let mut scratch = Vec::new();
        let body = frame::next(message, 4096).unwrap().unwrap().body;
        let update = update::split(body, &context(peer), &mut scratch).unwrap();
        self.rib.apply(PeerId(peer), &update);
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Announce(peer, prefix, path_id, attributes, hop)
                if self.model.up.contains(&peer) =>
            {
                self.announce(peer, prefix, path_id, attributes, hop_of(hop));
            }
            Step::Withdraw(peer, prefix, path_id) if self.model.up.contains(&peer) => {
                let out = Context {
                    add_path_out: context(peer).add_path_in,
                    ..context(peer)
                };
                let item = std::iter::once((path_id, key(prefix)));
                let mut messages = Vec::new();
                render::withdraw(&out, item, |m| messages.push(m));
                self.apply(peer, &messages[0]);
                let path_id = if peer == 2 { path_id } else { 0 };
                self.model.routes.remove(&(prefix, peer, path_id));
            }
            Step::Local(prefix, Some(attributes)) => {
                self.rib
                    .local_set(&key(prefix).cidr(), &attributes)
                    .unwrap();
                let held = Held {
                    peer: LOCAL.0,
                    path_id: 0,
                    attributes,
                    hop: OWN_HOP,
                };
                self.model.routes.insert((prefix, 0, 0), held);
            }
            Step::Local(prefix, None) => {
                self.rib.local_remove(&key(prefix).cidr());
                self.model.routes.remove(&(prefix, 0, 0));
            }
            Step::Down(peer) if self.model.up.remove(&peer) => {
                self.rib.peer_down(PeerId(peer), PerFamily::default());
                self.listeners.remove(&peer);
                self.model.routes.retain(|(_, p, _), _| *p != peer);
            }
            Step::Up(peer) if self.model.up.insert(peer) => {
                self.rib.peer_up(PeerId(peer), config(peer));
                self.listeners.insert(peer, Listener::default());
            }
            Step::Reach(hop, reachable, metric) => {
                let reach = if reachable {
                    Reach::Metric(metric)
                } else {
                    Reach::Unreachable
                };
                self.rib.set_reach(&hop_of(hop), reach);
                self.model
                    .reach
                    .insert(hop_of(hop), reachable.then_some(metric));
            }
            Step::Guard(len, importable, passable) => {
                let net: IpAddr = Ipv4Addr::new(10, 9, 0, 0).into();
                let of = |bits: u8| {
                    let prefixes = (0..PREFIXES).filter(|p| bits & 1 << p != 0);
                    prefixes.map(|p| key(p).cidr()).collect()
                };
                let guard = PoolGuard {
                    pools: len
                        .and_then(|len| Cidr::containing(net, len))
                        .into_iter()
                        .collect(),
                    importable: of(importable),
                    passable: of(passable),
                };
                self.rib.set_guard(&guard);
                self.model.guard = guard;
            }
            Step::Refresh(peer, enhanced) => self.rib.refresh(PeerId(peer), Family::V4, enhanced),
            Step::Transmit(writable) => {
                self.transmit(|peer| writable & 1 << peer.0 != 0);
            }
            Step::Kernel => self.kernel(),
            _ => {}
        }
    }

    pub(super) fn announce(
        &mut self,
        peer: u16,
        prefix: u8,
        path_id: u32,
        attributes: Attributes,
        hop: NextHop,
    ) {
        let out = Context {
            add_path_out: context(peer).add_path_in,
            ..context(peer)
        };
        let block = attributes.block().unwrap();
        let item = std::iter::once((path_id, key(prefix)));
        let mut messages = Vec::new();
        render::announce(&out, &block, &hop, item, |m| messages.push(m)).unwrap();
        self.apply(peer, &messages[0]);
        let path_id = if peer == 2 { path_id } else { 0 };
        let inner = kind(peer) != Some(PeerKind::External);
        let refused = attributes.as_path.contains(&OWN_AS)
            || inner
                && (attributes.originator == Some(OWN_ID)
                    || attributes.clusters.contains(&OWN_ID.to_bits()));
        let at = (prefix, peer, path_id);
        if refused {
            self.model.routes.remove(&at);
            return;
        }
        let mut attributes = attributes;
        if !inner {
            attributes.local_pref = None;
            attributes.originator = None;
            attributes.clusters = vec![];
        }
        let held = Held {
            peer,
            path_id,
            attributes,
            hop,
        };
        self.model.routes.insert(at, held);
    }

    pub(super) fn transmit(&mut self, writable: impl Fn(PeerId) -> bool) -> bool {
        let listeners = &mut self.listeners;
        self.rib.transmit(writable, |peer, message| {
            let ibgp = kind(peer.0) != Some(PeerKind::External);
            let listener = listeners.get_mut(&peer.0).unwrap();
            listener.hear(message, peer.0 == 5, ibgp);
        })
    }

    pub(super) fn kernel(&mut self) {
        for change in self.rib.kernel_changes(Family::V4, 3) {
            let prefix = V4::from_cidr(&change.prefix).unwrap().octets()[2];
            let hops: Vec<_> = change.hops.iter().map(|h| h.hop).collect();
            if hops.is_empty() {
                self.kernel.remove(&prefix);
            } else {
                self.kernel.insert(prefix, hops);
            }
        }
    }

    pub(super) fn check(&mut self) {
        while self.transmit(|_| true) {}
        for _ in 0..8 {
            self.kernel();
        }
        for (peer, listener) in &self.listeners {
            assert_eq!(
                listener.by_prefix(),
                self.model.heard(*peer),
                "neighbour {peer}"
            );
            assert_eq!(
                listener.ends, 1,
                "neighbour {peer}: ends of the initial routes"
            );
            assert!(
                listener.stale.is_none(),
                "neighbour {peer}: a refresh without its end"
            );
            assert_eq!(self.rib.pending(PeerId(*peer), Family::V4), 0);
            let heard: usize = listener.by_prefix().values().map(Vec::len).sum();
            let counted = self.rib.advertised_count(PeerId(*peer), Family::V4);
            assert_eq!(counted, heard, "neighbour {peer}: paths told");
        }
        let mut kernel = BTreeMap::new();
        for prefix in 0..PREFIXES {
            let hops: Vec<NextHop> = self
                .model
                .used(prefix)
                .iter()
                .filter(|held| held.peer != 0 && self.model.stance(prefix) != Stance::Passable)
                .map(|held| held.hop)
                .collect();
            if !hops.is_empty() {
                kernel.insert(prefix, hops);
            }
        }
        // Of several next hops only the first has a meaningful place.
        let sorted = |map: &BTreeMap<u8, Vec<NextHop>>| -> BTreeMap<u8, Vec<NextHop>> {
            let sort = |hops: &Vec<NextHop>| {
                let mut hops = hops.clone();
                hops[1..].sort();
                hops
            };
            map.iter().map(|(k, v)| (*k, sort(v))).collect()
        };
        assert_eq!(sorted(&self.kernel), sorted(&kernel));
        for (peer, ..) in PEERS {
            let counters = self.rib.counters(PeerId(peer), Family::V4);
            let held = self.model.routes.iter().filter(|(_, h)| h.peer == peer);
            assert_eq!(
                counters.received as usize,
                held.clone().count(),
                "neighbour {peer}"
            );
            let refused = held.filter(|(at, _)| self.model.stance(at.0) == Stance::Refused);
            let refused = refused.count();
            let counted = [counters.guarded as usize, counters.filtered as usize];
            assert_eq!(counted, [refused, refused], "neighbour {peer}");
        }
        let prefixes: BTreeSet<u8> = self.model.routes.keys().map(|k| k.0).collect();
        assert_eq!(
            self.rib.len(Family::V4),
            prefixes.len(),
            "prefixes without routes are freed"
        );
        // One subgroup for each kind of neighbour: 1 and 6 share theirs.
        let kinds: BTreeSet<_> = self
            .model
            .up
            .iter()
            .map(|p| if *p == 6 { 1 } else { *p })
            .collect();
        // 2 differs from 1 and 6 by what it may send.
        assert_eq!(self.rib.subgroups(Family::V4), kinds.len());
    }
}
