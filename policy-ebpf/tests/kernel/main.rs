//! Packets, judged by the programs in the kernel and by the functions that they are made of: both have to agree.
//! Needs root.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod apart;
mod both;
#[path = "../it/canonical.rs"]
mod canonical;
#[path = "../truth/cluster.rs"]
mod cluster;
mod compiled;
#[path = "../it/dice.rs"]
mod dice;
mod documented;
#[path = "../truth/evaluator.rs"]
mod evaluator;
#[path = "../truth/examples.rs"]
mod examples;
#[path = "../packets/frame.rs"]
mod frame;
mod history;
mod interfaces;
mod limit;
#[path = "../truth/line.rs"]
mod line;
mod namespace;
#[allow(dead_code)] // some of it is for other tests
#[path = "../truth/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../it/oracle.rs"]
mod oracle;
#[path = "../packets/random.rs"]
mod random;
#[path = "../truth/recipes.rs"]
mod recipes;
#[allow(dead_code)] // some of it is for other tests
#[path = "../it/samples.rs"]
mod samples;
#[path = "../packets/scenarios.rs"]
mod scenarios;
mod small;
mod tables;
mod truth;
#[path = "../packets/world.rs"]
mod world;

all_scenarios!(both::Both);

/// How many frames a test of many has: a kernel that is emulated is slow.
fn frames() -> usize {
    match std::env::var("POLICY_FRAMES") {
        Ok(count) => count.parse().expect("a number of frames"),
        Err(_) => 100_000,
    }
}

/// Many frames, with tables that change meanwhile.
#[test]
fn random_frames_have_one_verdict() {
    use both::Both;
    use world::Judge;

    let mut both = Both::new();
    both.every = 500;
    let seed = 0x5eed;
    let count = frames();
    let passed = random::frames(&mut both, &mut random::Dice(seed), count);
    both.compare();
    // Neither nothing nor everything: then there would be little to agree on.
    assert!(
        passed > count / 10 && passed < count * 9 / 10,
        "{passed} of {count} pass"
    );
}
