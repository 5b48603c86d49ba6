//! The recorder, beside one that keeps every look and makes records of them at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use policy_common::connection::{Connection, Decided, Judged, Key, seen, state};
use policy_common::event::{Event, kind};
use policy_common::packet::mapped;
use policy_common::reason::Reason;
use policy_common::tables::{Action, rule};
use policy_common::word::Word;
use policy_ebpf::flows::{Limits, Logged, Names, Record, Recorder, Said, Who};

use crate::dice::Dice;

const SECOND: u64 = 1_000_000_000;
const ALLOW: u32 = rule::word(20, Action::Allow);
/// What led there.
const TRAIL: u64 = 77;
const DENY: u32 = rule::word(21, Action::Deny);

/// Knows that an interface is a workload of its number, and no rule.
struct Nobody;

impl Names for Nobody {
    fn who(&self, _: IpAddr) -> Option<Arc<Who>> {
        None
    }
    fn at(&self, _: u32) -> Option<Arc<Who>> {
        None
    }
    fn rule(&self, _: u32, _: u32, _: Option<Judged>) -> Option<Arc<Said>> {
        None
    }
    fn logged(&self, _: &Logged) -> Vec<Arc<Said>> {
        vec![Arc::new(Said::Profile)]
    }
}

fn key(port: u16) -> Key {
    Key {
        ifindex: 7,
        local: mapped([10, 0, 0, 7]),
        remote: mapped([10, 0, 0, 9]),
        local_port: 80,
        remote_port: port,
        protocol: 6,
        ..Key::default()
    }
}

/// A connection of the table, as a program would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    began: u64,
    last: u64,
    packets: u64,
    closed: bool,
    cut: bool,
}

impl Entry {
    fn connection(&self) -> Connection {
        let mut connection = Connection {
            began: Word::new(self.began),
            last: Word::new(self.last),
            judged: Word::new(
                Judged {
                    generation: 1,
                    world: 1,
                }
                .word(),
            ),
            decided: Word::new(
                Decided {
                    rule: ALLOW,
                    ..Decided::default()
                }
                .word(),
            ),
            trails: [Word::new(TRAIL), Word::new(0)],
            flags: Word::new(if self.cut { state::CUT } else { 0 }),
            first_packets: 1,
            first_bytes: 100,
            ..Connection::default()
        };
        let end = if self.closed { seen::END } else { 0 };
        for side in &mut connection.sides {
            side.flags = Word::new(seen::ANY | seen::BEGIN | end);
        }
        connection.sides[0].packets = Word::new(self.packets);
        connection.sides[0].bytes = Word::new(self.packets * 100);
        connection
    }
}

fn look(recorder: &mut Recorder, now: u64, table: &BTreeMap<u16, Entry>) -> Vec<Arc<Record>> {
    let entries = table.iter().map(|(port, e)| (key(*port), e.connection()));
    recorder.look(now, &[(7, 1)].into(), entries);
    recorder.settle(now);
    recorder.name(&Nobody)
}

/// What each connection was when it was last looked at, by port and beginning.
type Expected = BTreeMap<(u16, u64), u64>;

fn found(recorder: &Recorder) -> Expected {
    let mut found = Expected::new();
    for r in recorder.records() {
        let before = found.insert((r.tuple.source_port, r.start), r.packets[0]);
        assert_eq!(before, None, "two records of {r:?}");
    }
    found
}

#[test]
fn every_connection_that_a_look_sees_is_in_one_record() {
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let mut recorder = Recorder::new(Limits::default());
        let mut table: BTreeMap<u16, Entry> = BTreeMap::new();
        let (mut expected, mut opened) = (Expected::new(), BTreeSet::new());
        let (mut passed, mut counted) = (0, 0);
        let mut now = 1000 * SECOND;
        look(&mut recorder, now, &table);
        for _ in 0..60 {
            for _ in 0..dice.roll(6) {
                now += SECOND / 1000 * (1 + dice.roll(400) as u64);
                let port = 1 + u16::try_from(dice.roll(8)).unwrap();
                let idle = table.get(&port).is_none_or(|e| e.closed);
                match dice.roll(5) {
                    0 | 1 if idle => {
                        let entry = Entry {
                            began: now,
                            last: now,
                            packets: 1,
                            closed: false,
                            cut: false,
                        };
                        table.insert(port, entry);
                    }
                    4 => {
                        table.remove(&port);
                    }
                    action => {
                        if let Some(e) = table.get_mut(&port).filter(|e| !e.closed) {
                            e.packets += 1;
                            e.last = now;
                            e.closed = action == 3;
                        }
                    }
                }
            }
            now += SECOND / 1000 * dice.roll(3000) as u64;
            for (port, e) in &table {
                let before = expected.insert((*port, e.began), e.packets);
                passed += e.packets - before.unwrap_or(1);
            }
            for change in look(&mut recorder, now, &table) {
                let id = (change.tuple.source_port, change.start);
                match change.end {
                    None => assert!(opened.insert(id), "begins twice: {change:?}"),
                    Some(end) => assert!(end >= change.last && end <= now, "{change:?}"),
                }
            }
            counted += recorder
                .take_passed()
                .values()
                .map(|c| c.packets)
                .sum::<u64>();
            assert_eq!(found(&recorder), expected, "seed {seed}");
            assert_eq!(counted, passed, "seed {seed}");
        }
        look(&mut recorder, now, &BTreeMap::new());
        assert!(recorder.records().all(|r| r.end.is_some()));
        assert_eq!(found(&recorder), expected, "seed {seed}");
    }
}

#[test]
fn what_was_there_before_anybody_looked_counts_from_then() {
    let mut recorder = Recorder::new(Limits::default());
    let entry = |packets, closed, last| Entry {
        began: SECOND,
        last,
        packets,
        closed,
        cut: false,
    };
    let table = [
        (1, entry(5, false, 9 * SECOND)),
        (2, entry(6, true, 9 * SECOND)),
    ];
    look(&mut recorder, 10 * SECOND, &table.into());
    // What had ended is of the past.
    assert_eq!(found(&recorder), [((1, SECOND), 5)].into());
    assert!(recorder.take_passed().is_empty());
    let table = [(1, entry(8, false, 11 * SECOND))];
    look(&mut recorder, 12 * SECOND, &table.into());
    let passed: Vec<_> = recorder.take_passed().into_iter().collect();
    let [(key, counter)] = &passed[..] else {
        panic!("{passed:?}")
    };
    assert_eq!((key.rule, key.staged, key.trail), (ALLOW, 0, TRAIL));
    assert_eq!((counter.packets, counter.bytes), (3, 300));
}

#[test]
fn a_cut_connection_ends_and_may_come_back() {
    let mut recorder = Recorder::new(Limits::default());
    let entry = |packets, cut, last| Entry {
        began: 2 * SECOND,
        last,
        packets,
        closed: false,
        cut,
    };
    look(&mut recorder, SECOND, &BTreeMap::new());
    look(
        &mut recorder,
        3 * SECOND,
        &[(1, entry(5, false, 3 * SECOND))].into(),
    );
    let ended = look(
        &mut recorder,
        5 * SECOND,
        &[(1, entry(6, true, 4 * SECOND))].into(),
    );
    assert_eq!(
        (ended.len(), ended[0].end, ended[0].packets[0]),
        (1, Some(5 * SECOND), 6)
    );
    for _ in 0..3 {
        assert!(
            look(
                &mut recorder,
                7 * SECOND,
                &[(1, entry(6, true, 4 * SECOND))].into()
            )
            .is_empty()
        );
    }
    look(
        &mut recorder,
        9 * SECOND,
        &[(1, entry(9, false, 8 * SECOND))].into(),
    );
    let packets: Vec<u64> = recorder.records().map(|r| r.packets[0]).collect();
    assert_eq!(packets, [6, 3]);
}

fn event(at: u64, kind: u8, port: u16) -> Event {
    Event {
        at,
        ifindex: 7,
        rule: if kind == kind::DROP { DENY } else { 0 },
        length: 60,
        kind,
        reason: Reason::Policy as u8,
        protocol: 6,
        source: mapped([10, 0, 0, 9]),
        destination: mapped([10, 0, 0, 7]),
        source_port: port,
        destination_port: 81,
        ..Event::default()
    }
}

#[test]
fn an_attempt_is_one_record_however_often_it_is_tried() {
    let mut recorder = Recorder::new(Limits::default());
    let at = |s: u64| s * SECOND;
    // Logged first, as the rules are asked.
    recorder.hear(&event(at(1), kind::LOG, 1));
    recorder.hear(&event(at(1), kind::DROP, 1));
    recorder.hear(&event(at(1), kind::DROP, 2));
    let begun = recorder.name(&Nobody);
    assert_eq!(begun.len(), 2);
    let logged = |r: &Record| r.names.logged.len();
    assert_eq!(begun.iter().map(|r| logged(r)).sum::<usize>(), 1);
    recorder.hear(&event(at(2), kind::DROP, 1));
    recorder.hear(&event(at(4), kind::DROP, 1));
    assert!(recorder.name(&Nobody).is_empty());
    recorder.settle(at(23));
    let ended = recorder.name(&Nobody);
    assert_eq!((ended.len(), ended[0].tuple.source_port), (1, 2));
    recorder.settle(at(25));
    let ended = recorder.name(&Nobody);
    let [one] = &ended[..] else {
        panic!("{ended:?}")
    };
    let about = (
        one.packets,
        one.bytes,
        one.start,
        one.end,
        one.allowed,
        one.reason,
    );
    let wanted = (
        [3, 0],
        [180, 0],
        at(1),
        Some(at(4)),
        false,
        Some(Reason::Policy),
    );
    assert_eq!(about, wanted);
}

#[test]
fn memory_is_bounded_and_what_is_dropped_is_counted() {
    let limits = Limits {
        records: 10,
        denied: 5,
        waiting: 100,
    };
    let mut recorder = Recorder::new(limits);
    for port in 1..=100 {
        recorder.hear(&event(SECOND, kind::DROP, port));
        recorder.hear(&event(SECOND, kind::LOG, port));
    }
    let told = recorder.name(&Nobody);
    assert_eq!(told.len(), 100, "who follows is told all");
    // Five are followed, and of the others the ring has the last ten.
    assert_eq!((recorder.records().count(), recorder.lost()), (15, 85));
    let ports: BTreeSet<u16> = recorder.records().map(|r| r.tuple.source_port).collect();
    assert!(ports.contains(&100) && ports.contains(&1) && !ports.contains(&50));
    let ids: HashMap<u64, u16> = told.iter().map(|r| (r.id, r.tuple.source_port)).collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn nothing_piles_up_while_nobody_knows_names() {
    let limits = Limits {
        records: 10,
        denied: 5,
        waiting: 20,
    };
    let mut recorder = Recorder::new(limits);
    let entry = |now| Entry {
        began: now,
        last: now,
        packets: 1,
        closed: false,
        cut: false,
    };
    for second in 1..=50 {
        let now = second * SECOND;
        let ports = u16::try_from(second).unwrap()..;
        let table: BTreeMap<u16, Entry> = ports.take(2).map(|port| (port, entry(now))).collect();
        let entries = table.iter().map(|(port, e)| (key(*port), e.connection()));
        recorder.look(now, &[(7, 1)].into(), entries);
        for port in 0..10 {
            recorder.hear(&event(now, kind::DROP, 1000 * port));
            recorder.hear(&event(now, kind::LOG, port));
        }
    }
    let wanted = recorder.wanted();
    assert_eq!(wanted.logged.len(), 20);
    let told = recorder.name(&Nobody).len();
    assert_eq!(
        told,
        20 + 2 + 5,
        "those that ended, two that go on, and what is tried"
    );
    // Whatever was not told is counted.
    assert_eq!(recorder.records().count(), 10 + 2 + 5);
    assert!(recorder.lost() > 10, "{}", recorder.lost());
}

#[test]
fn what_an_endpoint_leaves_behind_is_in_one_record() {
    let mut recorder = Recorder::new(Limits::default());
    look(&mut recorder, 9 * SECOND, &BTreeMap::new());
    let mut entry = Entry {
        began: 10 * SECOND,
        last: 10 * SECOND,
        packets: 3,
        closed: false,
        cut: false,
    };
    // Its interface went as soon as it had begun, and one look follows another.
    for later in 1..=3 {
        let entries = [(key(1), entry.connection())];
        recorder.look(10 * SECOND + later, &BTreeMap::new(), entries);
        recorder.name(&Nobody);
    }
    let packets = |recorder: &Recorder| -> Vec<u64> {
        let mut all: Vec<&Record> = recorder.records().collect();
        all.sort_by_key(|r| r.id);
        all.iter().map(|r| r.packets[0]).collect()
    };
    assert_eq!(packets(&recorder), [3]);
    // It comes back: what passed since is another record.
    (entry.last, entry.packets) = (11 * SECOND, 5);
    look(&mut recorder, 11 * SECOND, &[(1, entry)].into());
    assert_eq!(packets(&recorder), [3, 2]);
}
