//! The RIB against a model that keeps every route in a map and computes everything anew.
//!
//! What neighbours hear is read from the messages that they are sent, with sockets that fill at random.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod listener;
mod naive;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bgp::attributes::{AttrView, Attributes, well_known};
use bgp::rib::{
    DecisionConfig, Export, Import, LOCAL, NextHopMode, OWN_HOP, PeerConfig, PeerId, PeerKind,
    Reach, Rib, RibConfig, Stance,
};
use bgp::wire::refresh::{self, Refresh};
use bgp::wire::{Context, MessageType, block, frame, render, update};
use bgp::{Family, NextHop, PerFamily, PrefixKey, V4};
use listener::Listener;
use model::Cidr;
use model::bgp::PoolGuard;
use naive::{Held, Model};
use proptest::prelude::*;
use world::World;

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
    /// How many bits of 10.9.0.0 our pool has, and the prefixes that are used and passed on, as bits.
    Guard(Option<u8>, u8, u8),
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
        2 => (prop::option::of(21u8..=25), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| Step::Guard(a, b, c)),
        3 => any::<u8>().prop_map(Step::Transmit),
        1 => Just(Step::Kernel),
    ]
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
