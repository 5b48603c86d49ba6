//! The RIB against a model that keeps every route in a map and computes everything anew.
//!
//! What neighbours hear is read from the messages that they are sent, with sockets that fill at random.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bgp::attributes::{AttrView, Attributes, well_known};
use bgp::rib::{
    DecisionConfig, Export, Import, LOCAL, NextHopMode, OWN_HOP, PeerConfig, PeerId, PeerKind,
    Reach, Rib, RibConfig,
};
use bgp::wire::refresh::{self, Refresh};
use bgp::wire::{Context, MessageType, block, frame, render, update};
use bgp::{Family, NextHop, PerFamily, PrefixKey, V4};
use proptest::prelude::*;

const OWN_AS: u32 = 64512;
const OWN_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const PREFIXES: u8 = 6;

/// Neighbours: their number, AS and kind. 2 sends several paths, 5 hears several.
const PEERS: [(u16, u32, PeerKind); 6] = [
    (1, 65001, PeerKind::External),
    (2, 65002, PeerKind::External),
    (3, OWN_AS, PeerKind::Internal),
    (4, OWN_AS, PeerKind::Client),
    (5, OWN_AS, PeerKind::Client),
    (6, 65001, PeerKind::External),
];

fn kind(peer: u16) -> Option<PeerKind> {
    PEERS.iter().find(|p| p.0 == peer).map(|p| p.2)
}

fn id(peer: u16) -> Ipv4Addr {
    // Not in the order of the addresses.
    Ipv4Addr::new(1, 1, 1, 50 - u8::try_from(peer).unwrap())
}

fn context(peer: u16) -> Context {
    let one = |on| PerFamily { v4: on, v6: false };
    Context {
        ibgp: kind(peer) != Some(PeerKind::External),
        families: one(true),
        add_path_in: one(peer == 2),
        add_path_out: one(peer == 5),
        ..Context::default()
    }
}

fn config(peer: u16) -> PeerConfig {
    let (_, asn, kind) = *PEERS.iter().find(|p| p.0 == peer).unwrap();
    PeerConfig {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(peer).unwrap())),
        router_id: id(peer),
        asn,
        import: Import::default(),
        export: Export {
            kind,
            local_as: OWN_AS,
            context: context(peer),
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(OWN_ID),
            own_v6: None,
            max_paths: 64,
        },
    }
}

fn key(prefix: u8) -> V4 {
    V4::from_bits(24, &[10, 9, prefix, 0]).unwrap()
}

fn hop_of(n: u8) -> NextHop {
    NextHop::V4(Ipv4Addr::new(10, 1, 1, n))
}

#[derive(Clone, Debug)]
enum Step {
    Announce(u16, u8, u32, Attributes, u8),
    Withdraw(u16, u8, u32),
    Local(u8, Option<Attributes>),
    Down(u16),
    Up(u16),
    Reach(u8, bool, u32),
    Refresh(u16, bool),
    /// Neighbours that can be written to, as bits.
    Transmit(u8),
    Kernel,
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let path = prop::collection::vec(
        prop::sample::select(vec![65001u32, 65002, 65003, 65004, OWN_AS]),
        0..3,
    );
    let communities = prop::sample::select(vec![
        0,
        0,
        0,
        7,
        well_known::NO_EXPORT,
        well_known::NO_ADVERTISE,
        well_known::GRACEFUL_SHUTDOWN,
    ]);
    let clusters = prop::sample::select(vec![
        vec![],
        vec![],
        vec![1],
        vec![2, 3],
        vec![OWN_ID.to_bits()],
    ]);
    let originator = prop::sample::select(vec![
        None,
        None,
        Some(Ipv4Addr::new(1, 1, 1, 9)),
        Some(OWN_ID),
    ]);
    let pref = prop::sample::select(vec![None, None, Some(50), Some(100), Some(200)]);
    (path, communities, 0u32..3, pref, clusters, originator).prop_map(
        |(as_path, community, med, local_pref, clusters, originator)| Attributes {
            as_path,
            communities: if community == 0 {
                vec![]
            } else {
                vec![community]
            },
            med: (med > 0).then_some(med),
            local_pref,
            clusters,
            originator,
            ..Attributes::default()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (peer, prefix, path) = (1u16..=6, 0..PREFIXES, 1u32..=2);
    prop_oneof![
        8 => (peer.clone(), prefix.clone(), path.clone(), attributes(), 1u8..4)
            .prop_map(|(a, b, c, d, e)| Step::Announce(a, b, c, d, e)),
        3 => (peer.clone(), prefix.clone(), path).prop_map(|(a, b, c)| Step::Withdraw(a, b, c)),
        2 => (prefix, prop::option::of(attributes())).prop_map(|(a, b)| Step::Local(a, b)),
        1 => peer.clone().prop_map(Step::Down),
        2 => peer.clone().prop_map(Step::Up),
        1 => (1u8..4, any::<bool>(), 0u32..3).prop_map(|(a, b, c)| Step::Reach(a, b, c)),
        1 => (peer, any::<bool>()).prop_map(|(a, b)| Step::Refresh(a, b)),
        3 => any::<u8>().prop_map(Step::Transmit),
        1 => Just(Step::Kernel),
    ]
}

/// A route in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    peer: u16,
    path_id: u32,
    attributes: Attributes,
    hop: NextHop,
}

#[derive(Default)]
struct Model {
    routes: BTreeMap<(u8, u16, u32), Held>,
    up: BTreeSet<u16>,
    reach: BTreeMap<NextHop, Option<u32>>,
    multipath: u16,
}

impl Model {
    fn metric(&self, hop: &NextHop) -> Option<u32> {
        self.reach.get(hop).copied().unwrap_or(Some(0))
    }

    fn pref(held: &Held) -> u32 {
        let going = held
            .attributes
            .communities
            .contains(&well_known::GRACEFUL_SHUTDOWN);
        if going && held.peer != 0 {
            return 0;
        }
        held.attributes.local_pref.unwrap_or(100)
    }

    fn external(held: &Held) -> bool {
        kind(held.peer) == Some(PeerKind::External)
    }

    /// The paths in use, the best first: a path stays unless another one beats it at the first step in
    /// which they differ, all those beaten before being gone.
    fn used(&self, prefix: u8) -> Vec<&Held> {
        let mut left: Vec<&Held> = self
            .routes
            .range((prefix, 0, 0)..=(prefix, u16::MAX, u32::MAX))
            .map(|(_, held)| held)
            .filter(|held| self.metric(&held.hop).is_some())
            .collect();
        type Beats<'a> = Box<dyn Fn(&Held, &Held) -> bool + 'a>;
        let steps: Vec<Beats<'_>> = vec![
            Box::new(|a, b| a.peer == 0 && b.peer != 0),
            Box::new(|a, b| Model::pref(a) > Model::pref(b)),
            Box::new(|a, b| a.attributes.as_path.len() < b.attributes.as_path.len()),
            Box::new(|a, b| a.attributes.origin < b.attributes.origin),
            Box::new(|a, b| {
                let (a, b) = (&a.attributes, &b.attributes);
                a.as_path.first() == b.as_path.first() && a.med.unwrap_or(0) < b.med.unwrap_or(0)
            }),
            Box::new(|a, b| Model::external(a) && !Model::external(b)),
            Box::new(|a, b| self.metric(&a.hop) < self.metric(&b.hop)),
        ];
        for beats in steps {
            let all = left.clone();
            left.retain(|held| !all.iter().any(|other| beats(other, held)));
        }
        left.sort_by_key(|held| {
            let own = if held.peer == 0 {
                OWN_ID
            } else {
                id(held.peer)
            };
            let router = held.attributes.originator.unwrap_or(own);
            (
                router,
                held.attributes.clusters.len(),
                held.peer,
                held.path_id,
            )
        });
        left.truncate(usize::from(self.multipath));
        left
    }

    /// What `to` should hear of a path.
    fn exported(&self, held: &Held, to: u16) -> Option<(Attributes, NextHop)> {
        let to_external = kind(to) == Some(PeerKind::External);
        let mut attributes = held.attributes.clone();
        let has = |community| attributes.communities.contains(&community);
        let inner = |k| matches!(k, Some(PeerKind::Internal | PeerKind::Client));
        if held.peer == to
            || has(well_known::NO_ADVERTISE)
            || to_external && has(well_known::NO_EXPORT)
            || kind(held.peer) == Some(PeerKind::Internal) && kind(to) == Some(PeerKind::Internal)
        {
            return None;
        }
        if to_external {
            attributes.as_path.insert(0, OWN_AS);
            attributes.local_pref = None;
            attributes.originator = None;
            attributes.clusters = vec![];
            if held.peer != 0 {
                attributes.med = None;
            }
            return Some((attributes, NextHop::V4(OWN_ID)));
        }
        attributes.local_pref = Some(Model::pref(held));
        if inner(kind(held.peer)) {
            attributes.originator.get_or_insert(id(held.peer));
            attributes.clusters.insert(0, OWN_ID.to_bits());
        }
        let hop = if held.hop == OWN_HOP {
            NextHop::V4(OWN_ID)
        } else {
            held.hop
        };
        Some((attributes, hop))
    }

    /// Everything that `to` should have heard, as sorted text.
    fn heard(&self, to: u16) -> BTreeMap<u8, Vec<String>> {
        let mut all = BTreeMap::new();
        for prefix in 0..PREFIXES {
            let used = self.used(prefix);
            let paths: Vec<&Held> = if to == 5 && !used.is_empty() {
                let range = (prefix, 0, 0)..=(prefix, u16::MAX, u32::MAX);
                let paths = self.routes.range(range).map(|(_, held)| held);
                paths
                    .filter(|held| self.metric(&held.hop).is_some())
                    .collect()
            } else {
                used.into_iter().take(1).collect()
            };
            let mut heard: Vec<String> = paths
                .into_iter()
                .filter_map(|held| self.exported(held, to))
                .map(|heard| format!("{heard:?}"))
                .collect();
            heard.sort();
            if !heard.is_empty() {
                all.insert(prefix, heard);
            }
        }
        all
    }
}

/// What a neighbour made of the messages it got.
#[derive(Default)]
struct Listener {
    routes: BTreeMap<(u8, u32), String>,
    /// Not heard again since the begin mark of a refresh.
    stale: Option<BTreeSet<(u8, u32)>>,
    ends: u32,
}

impl Listener {
    fn hear(&mut self, message: &[u8], add_path: bool, ibgp: bool) {
        let frame = frame::next(message, 4096).unwrap().unwrap();
        assert_eq!(frame.len, message.len());
        if frame.kind == MessageType::RouteRefresh {
            match refresh::decode(frame.body, true).unwrap().unwrap().1 {
                Refresh::Begin => self.stale = Some(self.routes.keys().copied().collect()),
                Refresh::End => {
                    let stale = self.stale.take().unwrap();
                    assert!(
                        stale.is_empty(),
                        "an end mark although {stale:?} were not sent again"
                    );
                }
                Refresh::Request => panic!("a request"),
            }
            return;
        }
        let context = Context {
            ibgp,
            add_path_in: PerFamily {
                v4: add_path,
                v6: false,
            },
            ..Context::default()
        };
        let mut scratch = Vec::new();
        let update = update::split(frame.body, &context, &mut scratch).unwrap();
        assert_eq!(update.faults, []);
        self.ends += u32::from(update.end_of_rib.is_some());
        let at = |(id, key): (u32, V4)| (key.octets()[2], id);
        for item in update.withdrawn.iter().map(at) {
            self.routes.remove(&item);
            if let Some(stale) = &mut self.stale {
                stale.remove(&item);
            }
        }
        if update.announces() {
            let inspected = block::inspect(update.block, ibgp, true).unwrap();
            assert_eq!(inspected.canonical, None, "what we send needs no mending");
            let heard = Attributes::from(AttrView::new(update.block));
            let hop = NextHop::V4(update.next_hop.unwrap());
            for item in update.announced.iter().map(at) {
                self.routes.insert(item, format!("{:?}", (&heard, hop)));
                if let Some(stale) = &mut self.stale {
                    stale.remove(&item);
                }
            }
        }
    }

    fn by_prefix(&self) -> BTreeMap<u8, Vec<String>> {
        let mut all: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for ((prefix, _), heard) in &self.routes {
            all.entry(*prefix).or_default().push(heard.clone());
        }
        all.values_mut().for_each(|list| list.sort());
        all
    }
}

struct World {
    rib: Rib,
    model: Model,
    listeners: BTreeMap<u16, Listener>,
    kernel: BTreeMap<u8, Vec<NextHop>>,
}

impl World {
    fn new(multipath: u16) -> World {
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

    fn apply(&mut self, peer: u16, message: &[u8]) {
        let mut scratch = Vec::new();
        let body = frame::next(message, 4096).unwrap().unwrap().body;
        let update = update::split(body, &context(peer), &mut scratch).unwrap();
        self.rib.apply(PeerId(peer), &update);
    }

    fn take(&mut self, step: Step) {
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
            Step::Refresh(peer, enhanced) => self.rib.refresh(PeerId(peer), Family::V4, enhanced),
            Step::Transmit(writable) => {
                self.transmit(|peer| writable & 1 << peer.0 != 0);
            }
            Step::Kernel => self.kernel(),
            _ => {}
        }
    }

    fn announce(
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

    fn transmit(&mut self, writable: impl Fn(PeerId) -> bool) -> bool {
        let listeners = &mut self.listeners;
        self.rib.transmit(writable, |peer, message| {
            let ibgp = kind(peer.0) != Some(PeerKind::External);
            let listener = listeners.get_mut(&peer.0).unwrap();
            listener.hear(message, peer.0 == 5, ibgp);
        })
    }

    fn kernel(&mut self) {
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

    fn check(&mut self) {
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
        }
        let mut kernel = BTreeMap::new();
        for prefix in 0..PREFIXES {
            let hops: Vec<NextHop> = self
                .model
                .used(prefix)
                .iter()
                .filter(|held| held.peer != 0)
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
            let received = self.rib.counters(PeerId(peer), Family::V4).received;
            let held = self.model.routes.values().filter(|h| h.peer == peer);
            assert_eq!(received as usize, held.count(), "neighbour {peer}");
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

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(debug_assertions) { 300 } else { 20_000 }, ..ProptestConfig::default() })]
    #[test]
    fn neighbours_and_kernel_hear_what_the_model_says(
        multipath in 1u16..4,
        first in prop::collection::vec(step(), 0..60),
        second in prop::collection::vec(step(), 0..30),
    ) {
        let mut world = World::new(multipath);
        for peer in 1..=6 {
            world.take(Step::Up(peer));
        }
        for step in first {
            world.take(step);
        }
        world.check();
        for step in second {
            world.take(step);
        }
        world.check();
        // All gone, nothing left.
        for prefix in 0..PREFIXES {
            world.take(Step::Local(prefix, None));
        }
        for peer in 1..=6 {
            world.take(Step::Down(peer));
        }
        world.check();
        world.rib.decide();
        prop_assert!(world.rib.is_empty() && world.rib.attributes().is_empty());
    }
}

#[test]
fn a_slow_reader_costs_a_set_and_is_sent_each_prefix_once() {
    let mut world = World::new(1);
    for peer in [1, 6] {
        world.take(Step::Up(peer));
    }
    assert!(!world.transmit(|_| true));
    assert_eq!(world.rib.subgroups(Family::V4), 1);
    let mut heard = 0;
    for round in 0..1000 {
        let attributes = Attributes {
            med: Some(round),
            ..Attributes::default()
        };
        world.take(Step::Local(0, Some(attributes)));
        world.rib.transmit(
            |peer| peer == PeerId(1),
            |peer, _| {
                assert_eq!(peer, PeerId(1));
                heard += 1;
            },
        );
        assert_eq!(world.rib.pending(PeerId(6), Family::V4), 1);
    }
    assert_eq!((heard, world.rib.subgroups(Family::V4)), (1000, 2));
    let mut late = Vec::new();
    while world
        .rib
        .transmit(|_| true, |peer, message| late.push((peer, message.clone())))
    {}
    assert_eq!(late.len(), 1, "a thousand changes, one message");
    assert_eq!(late[0].0, PeerId(6));
    assert_eq!(
        world.rib.subgroups(Family::V4),
        1,
        "it is one of its like again"
    );
}

#[test]
fn a_block_is_decoded_once_however_often_it_comes() {
    let mut world = World::new(1);
    world.take(Step::Up(1));
    let attributes = Attributes {
        as_path: vec![65001],
        ..Attributes::default()
    };
    for prefix in 0..PREFIXES {
        world.announce(1, prefix, 0, attributes.clone(), hop_of(1));
    }
    assert_eq!(
        (
            world.rib.attributes().decoded(),
            world.rib.attributes().len()
        ),
        (1, 1)
    );
}
