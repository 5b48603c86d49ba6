//! Changes one at a time: after any history the tables are those of a fresh start, and no write of a policy's
//! change lets a packet meet half of it.

use calc::policy::{Mode, Packet, World};
use model::object::ObjectId;
use model::resources::PolicyType;
use model::snapshot::Snapshot;
use policy_common::classify::classify;
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Op, Settings, feed};

use super::canonical::canonical;
use super::dice::Dice;
use super::oracle::{chain, compiled, endpoints, expected, work};
use super::samples::{self, HERE, Thing};

const CHANGES: usize = 1_000;

fn fresh(snapshot: &Snapshot) -> (Engine, Mirror) {
    let mut engine = Engine::new(Settings::default());
    let changes = feed::everything(&engine, snapshot, HERE);
    let mut tables = Mirror::default();
    tables.update(&engine.apply(changes));
    (engine, tables)
}

fn thing(dice: &mut Dice) -> Thing {
    match dice.roll(12) {
        0 => Thing::Namespace,
        1 => Thing::Tier,
        2..=5 => Thing::Policy,
        _ => Thing::Party,
    }
}

fn is_same(engine: &Engine, tables: &Mirror, snapshot: &Snapshot, when: &str) {
    let (again, fresh) = fresh(snapshot);
    let (old, new) = (canonical(engine, tables), canonical(&again, &fresh));
    let gone: Vec<_> = old.difference(&new).take(10).collect();
    let lacking: Vec<_> = new.difference(&old).take(10).collect();
    assert!(
        gone.is_empty() && lacking.is_empty(),
        "{when}\ntoo much: {gone:#?}\nlacking: {lacking:#?}"
    );
    assert_eq!(engine.size(), again.size(), "{when}");
}

#[test]
fn a_thousand_changes_end_in_the_tables_of_a_fresh_start() {
    for seed in [0, 1, 2, 122] {
        let mut dice = Dice::new(1_000 + seed);
        let mut snapshot = Snapshot::default();
        let (mut engine, mut tables) = fresh(&snapshot);
        for step in 0..CHANGES {
            // Sometimes several in one batch, as after a pause of the store.
            let batch = if dice.one_in(8) { 6 } else { 1 };
            let mut ids: Vec<ObjectId> = Vec::new();
            for _ in 0..batch {
                let what = thing(&mut dice);
                ids.push(samples::change(&mut dice, &mut snapshot, what));
            }
            let changes = ids
                .iter()
                .filter_map(|id| feed::change(&snapshot, HERE, id));
            tables.update(&engine.apply(changes.collect::<Vec<_>>()));
            if step % 20 == 19 {
                is_same(
                    &engine,
                    &tables,
                    &snapshot,
                    &format!("seed {seed} step {step}"),
                );
                agree(&mut dice, &engine, &tables, &snapshot);
            }
        }
        // And back to nothing.
        let changes = feed::everything(&engine, &Snapshot::default(), HERE);
        tables.update(&engine.apply(changes));
        is_same(
            &engine,
            &tables,
            &Snapshot::default(),
            &format!("seed {seed} end"),
        );
    }
}

#[test]
fn prefixes_that_hold_many_come_and_go() {
    let mut dice = Dice::new(4_000);
    let mut snapshot = Snapshot::default();
    samples::rows(&mut snapshot);
    let (mut engine, mut tables) = fresh(&snapshot);
    for step in 0..300 {
        let id = samples::change_nets(&mut dice, &mut snapshot);
        tables.update(&engine.apply(feed::change(&snapshot, HERE, &id)));
        is_same(&engine, &tables, &snapshot, &format!("step {step}"));
    }
}

fn agree(dice: &mut Dice, engine: &Engine, tables: &Mirror, snapshot: &Snapshot) {
    let world = World::new(snapshot, Mode::Enforced);
    for (id, party) in endpoints(&world, snapshot) {
        for direction in [PolicyType::Ingress, PolicyType::Egress] {
            let chain = chain(tables, &id, direction, Mode::Enforced).unwrap();
            for _ in 0..20 {
                let packet = samples::packet(dice);
                if let Some(expected) = expected(&world, party, direction, &packet) {
                    assert_eq!(
                        compiled(engine, tables, chain, &packet),
                        expected,
                        "{id} {packet:?}"
                    );
                }
            }
        }
    }
}

/// What all endpoints say to some packets.
fn verdicts(tables: &Mirror, ids: &[ObjectId], packets: &[Packet]) -> Vec<Option<bool>> {
    let mut all = Vec::new();
    for id in ids {
        for direction in [PolicyType::Ingress, PolicyType::Egress] {
            let chain = tables
                .endpoints
                .get(id)
                .map(|_| chain(tables, id, direction, Mode::Enforced).unwrap());
            for packet in packets {
                let mut work = work(tables, packet);
                all.push(chain.map(|chain| {
                    classify(tables, chain, &mut work);
                    work.allowed()
                }));
            }
        }
    }
    all
}

#[test]
fn no_packet_meets_half_of_a_change() {
    let mut compared = 0;
    for seed in 0..10 {
        let mut dice = Dice::new(2_000 + seed);
        let mut snapshot = samples::world(&mut dice, 16);
        let (mut engine, mut tables) = fresh(&snapshot);
        let packets: Vec<_> = (0..15).map(|_| samples::packet(&mut dice)).collect();
        for _ in 0..15 {
            // A party or a namespace may own both ends of a packet, and those are two writes.
            let what = dice.pick(&[Thing::Policy, Thing::Policy, Thing::Tier]);
            let id = samples::change(&mut dice, &mut snapshot, what);
            let ids: Vec<_> = tables.endpoints.keys().cloned().collect();
            let before = verdicts(&tables, &ids, &packets);
            let update = engine.apply(feed::change(&snapshot, HERE, &id));
            let mut after = tables.clone();
            after.update(&update);
            let after = verdicts(&after, &ids, &packets);
            for op in update.ops() {
                tables.apply(op);
                let now = verdicts(&tables, &ids, &packets);
                for ((now, before), after) in now.iter().zip(&before).zip(&after) {
                    assert!(
                        now == before || now == after,
                        "seed {seed} {id}: after {op:?}"
                    );
                    compared += usize::from(before != after);
                }
            }
        }
    }
    assert!(compared > 1_000, "{compared}");
}

#[test]
fn a_packet_under_way_finds_what_it_was_led_to() {
    // One that has read its endpoint before an update goes on with the old chain while new rows are put.
    for seed in 0..20 {
        let mut dice = Dice::new(3_000 + seed);
        let mut snapshot = samples::world(&mut dice, 16);
        let (mut engine, mut tables) = fresh(&snapshot);
        let packets: Vec<_> = (0..15).map(|_| samples::packet(&mut dice)).collect();
        for _ in 0..10 {
            let id = samples::change(&mut dice, &mut snapshot, Thing::Policy);
            let held: Vec<_> = tables.chains.values().copied().collect();
            let ask = |tables: &Mirror| -> Vec<u32> {
                let pairs = held
                    .iter()
                    .flat_map(|c| packets.iter().map(move |p| (c, p)));
                let rules = pairs.map(|(chain, packet)| {
                    let mut work = work(tables, packet);
                    classify(tables, chain, &mut work);
                    work.rule
                });
                rules.collect()
            };
            let before = ask(&tables);
            let update = engine.apply(feed::change(&snapshot, HERE, &id));
            for op in &update.puts {
                tables.apply(op);
                assert_eq!(ask(&tables), before, "seed {seed}: after {op:?}");
            }
            for op in update.merges.iter().chain(&update.deletes) {
                tables.apply(op);
            }
        }
    }
}

#[test]
fn a_known_pod_is_one_write() {
    let mut dice = Dice::new(7);
    let mut snapshot = samples::world(&mut dice, 16);
    let (mut engine, _) = fresh(&snapshot);
    let (key, mut twin) = snapshot
        .remote_endpoints
        .iter()
        .map(|(k, r)| (k.clone(), r.clone()))
        .next()
        .unwrap();
    twin.ips = ["172.16.0.1".parse().unwrap()].into();
    let mut key = key;
    key.name = "twin".into();
    let mut id = ObjectId {
        kind: model::Kind::WorkloadEndpoint,
        namespace: Some(key.namespace.to_string()),
        name: "twin".to_owned(),
    };
    snapshot.remote_endpoints.insert(key.clone(), twin.clone());
    let first = engine.apply(feed::change(&snapshot, HERE, &id));
    // The next one of the same group, the origin known.
    key.name = "third".into();
    id.name = "third".to_owned();
    twin.ips = ["172.16.0.2".parse().unwrap()].into();
    snapshot.remote_endpoints.insert(key.clone(), twin);
    let second = engine.apply(feed::change(&snapshot, HERE, &id));
    let prefix = "172.16.0.2/32".parse().unwrap();
    assert!(first.puts.iter().any(|op| matches!(op, Op::Identity(..))));
    assert!(
        matches!(&second.puts[..], [Op::Identity(p, Some(_)), Op::World(_)] if *p == prefix),
        "{second:?}"
    );
    assert!(second.deletes.is_empty());
    // Told again it is no news.
    assert!(engine.apply(feed::change(&snapshot, HERE, &id)).is_empty());
    snapshot.remote_endpoints.remove(&key);
    let third = engine.apply(feed::change(&snapshot, HERE, &id));
    assert!(
        matches!(&third.puts[..], [Op::Identity(p, None), Op::World(_)] if *p == prefix),
        "{third:?}"
    );
    assert!(engine.apply([Change::Party(id, None)]).is_empty());
}
