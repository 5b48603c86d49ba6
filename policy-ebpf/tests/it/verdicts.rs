//! Whole worlds, compiled from nothing: every verdict is the evaluator's.

use std::collections::BTreeSet;

use calc::policy::{Mode, World};
use model::resources::PolicyType;
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Engine, Settings, feed};

use super::dice::Dice;
use super::oracle::{chain, compiled, endpoints, expected};
use super::samples::{self, HERE};

const WORLDS: u64 = 400;
const PACKETS: usize = 60;
/// Pairs of a policy and a packet that it was asked about, at least.
const ENOUGH: usize = 10_000_000;

#[test]
fn compiled_tables_say_what_the_resources_say() {
    let mut pairs = 0;
    let (mut allowed, mut denied) = (0, 0);
    let mut lists = 0;
    for seed in 0..WORLDS {
        let mut dice = Dice::new(seed);
        let mut snapshot = samples::world(&mut dice, 20);
        if seed % 2 == 1 {
            samples::crowd(&mut dice, &mut snapshot, 150);
        }
        let mut engine = Engine::new(Settings::default());
        let changes = feed::everything(&engine, &snapshot, HERE);
        let mut tables = Mirror::default();
        tables.update(&engine.apply(changes));
        assert_eq!(engine.problems().next(), None);
        lists += tables.lists.len();
        let packets: Vec<_> = (0..PACKETS).map(|_| samples::packet(&mut dice)).collect();
        for mode in [Mode::Enforced, Mode::Staged] {
            let world = World::new(&snapshot, mode);
            for (id, party) in endpoints(&world, &snapshot) {
                for direction in [PolicyType::Ingress, PolicyType::Egress] {
                    let policies: usize = world
                        .policies(party, direction)
                        .map(|(_, ids)| ids.len())
                        .sum();
                    let chain = chain(&tables, &id, direction, mode).unwrap();
                    for packet in &packets {
                        let Some(expected) = expected(&world, party, direction, packet) else {
                            continue;
                        };
                        let told = compiled(&engine, &tables, chain, packet);
                        assert_eq!(
                            told, expected,
                            "seed {seed}: {id} {direction:?} {mode:?} {packet:?}"
                        );
                        pairs += policies;
                        match told.allowed {
                            true => allowed += 1,
                            false => denied += 1,
                        }
                    }
                }
            }
        }
    }
    println!("{pairs} pairs, {allowed} allowed, {denied} denied");
    // A generator that always says the same would prove nothing.
    assert!(
        allowed.min(denied) * 10 > allowed.max(denied),
        "{allowed} {denied}"
    );
    assert!(pairs >= ENOUGH, "{pairs}");
    assert!(lists > 100, "{lists} lists of log rules");
}

#[test]
fn many_rules_of_one_policy() {
    let mut dice = Dice::new(77);
    let mut snapshot = samples::world(&mut dice, 20);
    samples::giant(&mut dice, &mut snapshot, 2_000);
    let mut engine = Engine::new(Settings::default());
    let changes = feed::everything(&engine, &snapshot, HERE);
    let mut tables = Mirror::default();
    tables.update(&engine.apply(changes));
    assert_eq!(engine.problems().next(), None);
    let world = World::new(&snapshot, Mode::Enforced);
    let mut rules = BTreeSet::new();
    for (id, party) in endpoints(&world, &snapshot) {
        let chain = chain(&tables, &id, PolicyType::Ingress, Mode::Enforced).unwrap();
        for _ in 0..200 {
            let packet = samples::packet(&mut dice);
            if let Some(expected) = expected(&world, party, PolicyType::Ingress, &packet) {
                let told = compiled(&engine, &tables, chain, &packet);
                assert_eq!(told, expected, "{id} {packet:?}");
                rules.insert(told.by);
            }
        }
    }
    println!("{} rules decided, {:?}", rules.len(), engine.size());
    assert!(rules.len() > 30);
}
