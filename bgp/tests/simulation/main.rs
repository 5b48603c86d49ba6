//! A hundred speakers on a random network, in virtual time: connections collide, links are cut while
//! messages are under way, sockets fill, speakers restart. In the end everybody has the routes that a
//! breadth-first search finds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod network;
mod speaker;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bgp::Family;
use bgp::fsm::State;
use network::{Network, Random};

/// For each prefix's speaker: everybody's path to it, nearest AS first.
fn paths_to(network: &Network, origin: usize) -> BTreeMap<usize, Vec<u32>> {
    let mut distance = BTreeMap::from([(origin, 0)]);
    let mut queue = VecDeque::from([origin]);
    while let Some(at) = queue.pop_front() {
        let next = distance[&at] + 1;
        for neighbour in network.neighbours_of(at) {
            distance.entry(neighbour).or_insert_with(|| {
                queue.push_back(neighbour);
                next
            });
        }
    }
    // Of the neighbours that are nearer, the one with the lowest router id; nearer ones first.
    let mut paths = BTreeMap::from([(origin, vec![])]);
    let mut order: Vec<_> = distance.iter().map(|(at, d)| (*d, *at)).collect();
    order.sort_unstable();
    for (far, at) in order.into_iter().skip(1) {
        let nearer = network
            .neighbours_of(at)
            .into_iter()
            .filter(|n| distance[n] + 1 == far);
        let via = nearer.min_by_key(|n| speaker::router_id(*n)).unwrap();
        let path = [&[speaker::asn(via)], paths[&via].as_slice()].concat();
        paths.insert(at, path);
    }
    paths
}

fn check(network: &Network) {
    for speaker in &network.speakers {
        for (at, neighbour) in speaker.neighbours.iter().enumerate() {
            let state = neighbour
                .arbiter
                .session(neighbour.arbiter.furthest())
                .state();
            assert_eq!(
                state,
                State::Established,
                "{} with {}",
                speaker.number,
                neighbour.number
            );
            assert_eq!(speaker.pending(at), 0);
        }
    }
    for origin in 0..network.speakers.len() {
        let paths = paths_to(network, origin);
        for speaker in &network.speakers {
            for family in Family::ALL {
                let prefix = speaker::prefix(origin, family);
                let row = speaker.rib.row_of(&prefix).map_or(0..0, |row| row..row + 1);
                let found = speaker.rib.routes(family, row, None);
                let best = found.iter().find(|r| r.best);
                let path = best.map(|r| r.attributes.asns().collect::<Vec<u32>>());
                assert_eq!(
                    path.as_ref(),
                    paths.get(&speaker.number),
                    "{} to {prefix}",
                    speaker.number
                );
                assert!(
                    found.iter().all(|r| !r.stale),
                    "{} to {prefix}",
                    speaker.number
                );
            }
        }
    }
    for speaker in &network.speakers {
        assert_eq!(speaker.rib.len(Family::V4), network.speakers.len());
    }
}

fn run(seed: u64, speakers: usize, chaos: Duration) -> Network {
    let mut network = Network::new(speakers, Random::new(seed));
    let end = network.now + chaos;
    while network.now < end {
        let step = Duration::from_millis(u64::from(network.random.below(400)));
        network.run_for(step);
        network.disturb();
    }
    network.heal();
    network.run_for(Duration::from_secs(90));
    network
}

#[test]
fn a_hundred_speakers_converge_after_chaos() {
    let chaos = if cfg!(debug_assertions) { 12 } else { 120 };
    let network = run(1, 100, Duration::from_secs(chaos));
    check(&network);
    let counts = &network.counts;
    println!("{counts:?}");
    // The run was worth something.
    assert!(counts.collisions > 20, "{counts:?}");
    assert!(counts.hold_expired > 5, "{counts:?}");
    assert!(counts.restarts > 1 && counts.cuts > 10, "{counts:?}");
    assert!(counts.full_sockets > 100, "{counts:?}");
}

#[test]
fn small_networks_converge_whatever_happens_first() {
    let seeds = if cfg!(debug_assertions) {
        2..10
    } else {
        2..200
    };
    for seed in seeds {
        check(&run(seed, 5, Duration::from_secs(60)));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let counts = |_| run(77, 8, Duration::from_secs(20)).counts;
    assert_eq!(counts(1), counts(2));
}
