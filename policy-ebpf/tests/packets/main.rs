//! Packets, judged by the functions that the programs are made of.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod frame;
mod random;
mod scenarios;
mod ways;
mod world;

all_scenarios!(world::Functions);

/// Nothing of it ends this process, and of each kind there is some.
#[test]
fn random_frames_are_judged() {
    use world::Judge;

    let mut functions = world::Functions::new();
    let passed = random::frames(&mut functions, &mut random::Dice(7), 200_000);
    assert!((20_000..180_000).contains(&passed), "{passed} pass");
    let drops = functions.memory.drops.borrow();
    let all = policy_common::reason::Reason::ALL;
    let missing: Vec<_> = all.iter().filter(|r| !drops.contains_key(r)).collect();
    // Nothing here is without chains, and there is room.
    let expected = [
        policy_common::reason::Reason::NotProgrammed,
        policy_common::reason::Reason::TableFull,
    ];
    assert_eq!(missing, expected.iter().collect::<Vec<_>>());
}

/// However a frame is read, the same becomes of it and of all that is written down.
#[test]
fn the_short_way_says_what_the_long_one_does() {
    use world::Judge;

    let mut ways = ways::Ways::new();
    let passed = random::frames(&mut ways, &mut random::Dice(11), 50_000);
    assert!((5_000..45_000).contains(&passed), "{passed} pass");
    ways.compare();
}
