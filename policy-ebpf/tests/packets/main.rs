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
