//! Invariants 1 to 6 over random histories of several nodes with crashes, lost answers, transactions
//! that arrive late, delayed watches, changing pools and reclaimed nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

use ipam::testing::{Action, MemoryStore, Setup, Simulation, Stats, random_actions};
use model::resources::IpamConfigurationSpec;
use proptest::prelude::*;

fn run(setup: Setup, actions: &[Action]) -> Result<Stats, String> {
    Simulation::new(MemoryStore::new(), setup)?.run(actions)
}

/// Few and many nodes and containers, all settings, with the seed.
fn setup(seed: u64) -> Setup {
    let config = IpamConfigurationSpec {
        strict_affinity: seed.is_multiple_of(5),
        max_blocks_per_host: u32::try_from(seed % 4).unwrap(),
        cooldown_seconds: if seed.is_multiple_of(3) { 0 } else { 30 },
        ..IpamConfigurationSpec::default()
    };
    Setup {
        nodes: 2 + usize::try_from(seed % 4).unwrap(),
        containers: 8 + usize::try_from(seed % 19).unwrap(),
        config,
    }
}

/// Long histories by seed; a failure names the seed, which reproduces it.
fn seeds(from: u64) {
    let mut total = Stats::default();
    for seed in from..from + 500 {
        match run(setup(seed), &random_actions(seed, 300)) {
            Ok(stats) => total += stats,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    // A history in which nothing happens proves nothing.
    assert!(total.assigned > 12_000, "{total:?}");
    assert!(total.released > 10_000, "{total:?}");
    assert!(total.lost > 3_000, "{total:?}");
    assert!(total.doubts > 1_000, "{total:?}");
    assert!(total.crashes > 2_000, "{total:?}");
    assert!(total.borrowed > 4_000, "{total:?}");
    assert!(total.reclaimed > 200, "{total:?}");
    assert!(total.listings > 50, "{total:?}");
}

#[test]
fn histories_0_to_499_keep_the_invariants() {
    seeds(0);
}

#[test]
fn histories_500_to_999_keep_the_invariants() {
    seeds(500);
}

#[test]
fn histories_1000_to_1499_keep_the_invariants() {
    seeds(1_000);
}

#[test]
fn histories_1500_to_1999_keep_the_invariants() {
    seeds(1_500);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// The same with shrinking: a failure is reported as a short list of actions.
    #[test]
    fn any_history_keeps_the_invariants(
        raw in proptest::collection::vec(any::<(u8, u16, u16)>(), 0..150),
        shape in 0u64..1_000,
    ) {
        let actions: Vec<Action> = raw.into_iter().map(Action::from_raw).collect();
        if let Err(broken) = run(setup(shape), &actions) {
            prop_assert!(false, "{}\n{:?}", broken, actions);
        }
    }
}
