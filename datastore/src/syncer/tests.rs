//! The view against a naive model: a store with a history, and a consumer that applies what it is
//! told and minds what it must never be told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::kv::{Event, KeyValue, Revision};
use proptest::prelude::*;

use super::guard::Guard;
use super::view::{Verdict, View};

/// Only the first is guarded.
const PREFIXES: [&str; 2] = ["nodes/", "other/"];

/// Seconds for which a loss counts.
const WINDOW: u64 = 10;

type Contents = BTreeMap<String, (Revision, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Step {
    /// One transaction: keys and what they become.
    Write(Vec<(u8, Option<u8>)>),
    /// The watch of a prefix reports that many revisions, after repeating that many old ones.
    Watch(usize, Revision, Revision),
    /// A listing in pages of that size; an operator may have accepted what is held.
    List(usize, bool),
    /// A listing that breaks off after that many pages.
    BrokenList(usize),
    /// Seconds go by.
    Wait(u64),
    /// The store is replaced: an empty one, or one that was written from scratch.
    Replace(Vec<(u8, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    let write = proptest::collection::vec((0..12u8, proptest::option::of(0..3u8)), 1..8);
    prop_oneof![
        8 => write.prop_map(Step::Write),
        6 => (0..2usize, 0..5i64, 0..4i64).prop_map(|(p, n, r)| Step::Watch(p, n, r)),
        3 => (1..6usize, any::<bool>()).prop_map(|(n, a)| Step::List(n, a)),
        1 => (0..3usize).prop_map(Step::BrokenList),
        1 => proptest::collection::vec((0..12u8, 0..3u8), 0..8).prop_map(Step::Replace),
        3 => (1..8u64).prop_map(Step::Wait),
    ]
}

fn key(n: u8) -> String {
    let prefix = PREFIXES[usize::from(n % 2)];
    format!("{prefix}{n}")
}

/// The store: its contents, and each revision's events.
struct Store {
    revision: Revision,
    contents: Contents,
    history: Vec<Vec<Event>>,
}

impl Store {
    fn new() -> Store {
        Store {
            revision: 1,
            contents: Contents::new(),
            history: Vec::new(),
        }
    }

    fn write(&mut self, changes: &[(u8, Option<u8>)]) {
        let revision = self.revision + 1;
        let changes: BTreeMap<_, _> = changes.iter().copied().collect();
        let mut events = Vec::new();
        for (n, value) in changes {
            let (key, value) = (key(n), value.map(|v| vec![v]));
            match &value {
                Some(v) => {
                    self.contents.insert(key.clone(), (revision, v.clone()));
                }
                None if self.contents.remove(&key).is_none() => continue,
                None => {}
            }
            events.push(Event {
                key,
                value,
                revision,
            });
        }
        if !events.is_empty() {
            self.revision = revision;
            self.history.push(events);
        }
    }

    /// The events of a prefix in that range of revisions.
    fn between(&self, prefix: &str, after: Revision, upto: Revision) -> Vec<Event> {
        let events = self.history.iter().flatten();
        events
            .filter(|e| e.key.starts_with(prefix) && e.revision > after && e.revision <= upto)
            .cloned()
            .collect()
    }

    fn pages(&self, prefix: &str, size: usize) -> Vec<Vec<KeyValue>> {
        let pairs: Vec<_> = below(&self.contents, prefix)
            .into_iter()
            .map(|(key, (mod_revision, value))| KeyValue {
                key,
                value,
                create_revision: 0,
                mod_revision,
                lease: None,
            })
            .collect();
        pairs.chunks(size).map(<[_]>::to_vec).collect()
    }
}

fn below(contents: &Contents, prefix: &str) -> Contents {
    let pairs = contents.iter().filter(|(k, _)| k.starts_with(prefix));
    pairs.map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Applies what it is told; panics when told what it has already.
#[derive(Clone, Default)]
struct Consumer(Contents);

impl Consumer {
    fn apply(&mut self, events: Vec<Event>) {
        for e in events {
            match e.value {
                Some(value) => {
                    let new = (e.revision, value);
                    let old = self.0.insert(e.key.clone(), new.clone());
                    assert_ne!(old, Some(new), "told twice: {}", e.key);
                }
                None => assert!(self.0.remove(&e.key).is_some(), "not there: {}", e.key),
            }
        }
    }

    /// Whether turning into `next` loses too many nodes, when there were `peak` of them lately.
    fn loses_too_much(&self, next: &Contents, peak: usize) -> bool {
        let known = below(&self.0, PREFIXES[0]);
        let lost = known.keys().filter(|k| !next.contains_key(*k)).count() + peak - known.len();
        lost >= 2 && lost * 2 > peak
    }
}

fn guard() -> Guard {
    Guard {
        prefixes: vec![PREFIXES[0].into()],
        lasting: vec![PREFIXES[0].into()],
        window: Duration::from_secs(WINDOW),
        ..Guard::default()
    }
}

struct Sim {
    store: Store,
    view: View,
    consumer: Consumer,
    /// A watch cannot go on: what it would say next is not what the view needs.
    must_list: bool,
    start: Instant,
    /// Seconds since then.
    now: u64,
    /// When an update was held first that still is.
    held: Option<u64>,
    /// How many nodes were known from when on.
    counts: Vec<(u64, usize)>,
}

impl Sim {
    fn new() -> Sim {
        Sim {
            store: Store::new(),
            view: View::new(PREFIXES.len(), guard(), 0),
            consumer: Consumer::default(),
            must_list: true,
            start: Instant::now() + Duration::from_secs(2 * WINDOW),
            now: 0,
            held: None,
            counts: vec![(0, 0)],
        }
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    /// The most nodes known within the window, the slow way.
    fn peak(&self) -> usize {
        let from = self.held.unwrap_or(self.now).saturating_sub(WINDOW);
        let ends = self.counts.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([u64::MAX]);
        let within = self.counts.iter().zip(ends).filter(|(_, end)| *end >= from);
        within.map(|((_, n), _)| *n).max().unwrap_or(0)
    }

    fn told(&mut self, forgiven: bool) {
        let count = below(&self.consumer.0, PREFIXES[0]).len();
        if forgiven {
            self.counts.clear();
        }
        self.counts.push((self.now, count));
        self.held = None;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Write(changes) => self.store.write(&changes),
            Step::Replace(pairs) => {
                self.store = Store::new();
                for (n, value) in pairs {
                    self.store.write(&[(n, Some(value))]);
                }
                self.must_list = true;
            }
            Step::BrokenList(pages) => {
                self.view.begin_list();
                let all = self.store.pages(PREFIXES[0], 2);
                for page in all.into_iter().take(pages) {
                    let now = self.view.page(page);
                    self.consumer.apply(now);
                }
            }
            Step::List(size, accepted) => self.list(size, accepted),
            Step::Watch(prefix, revisions, repeat) => self.watch(prefix, revisions, repeat),
        }
    }

    fn list(&mut self, size: usize, accepted: bool) {
        let first = !self.view.is_complete();
        let before = self.consumer.clone();
        self.view.begin_list();
        for prefix in PREFIXES {
            for page in self.store.pages(prefix, size) {
                let now = self.view.page(page);
                assert!(first || now.is_empty(), "told before the guard saw all");
                self.consumer.apply(now);
            }
        }
        let too_much = !first && before.loses_too_much(&self.store.contents, self.peak());
        match self
            .view
            .end_list(&[self.store.revision; 2], accepted, self.instant())
        {
            Verdict::Tell(events) => {
                assert!(accepted || !too_much, "the guard slept");
                self.consumer.apply(events);
                assert_eq!(self.consumer.0, self.store.contents);
                self.must_list = false;
                self.told(accepted || first);
            }
            Verdict::Hold(held) => {
                assert!(too_much && !accepted, "{held}");
                assert_eq!(self.consumer.0, before.0);
                self.must_list = true;
                self.held = self.held.or(Some(self.now));
            }
        }
        self.check_counts();
    }

    fn watch(&mut self, prefix: usize, revisions: Revision, repeat: Revision) {
        if self.must_list {
            return;
        }
        let name = PREFIXES[prefix];
        let at = self.view.position(prefix);
        let upto = (at + revisions).min(self.store.revision);
        let events = self.store.between(name, at - repeat, upto);
        let before = self.consumer.clone();
        // What the prefix should be after the batch, the slow way.
        let mut next = before.0.clone();
        for e in self.store.between(name, at, upto) {
            match e.value {
                Some(v) => next.insert(e.key, (e.revision, v)),
                None => next.remove(&e.key),
            };
        }
        let too_much = before.loses_too_much(&next, self.peak());
        match self.view.events(prefix, events, upto, self.instant()) {
            Verdict::Tell(events) => {
                assert!(!too_much, "the guard slept");
                self.consumer.apply(events);
                assert_eq!(self.consumer.0, next);
                self.told(false);
            }
            Verdict::Hold(held) => {
                assert!(too_much, "{held}");
                self.must_list = true;
                self.held = Some(self.now);
            }
        }
        self.check_counts();
    }

    fn check_counts(&self) {
        assert_eq!(self.view.len(), self.consumer.0.len());
        let guarded = below(&self.consumer.0, PREFIXES[0]).len();
        assert_eq!(self.view.guarded(), guarded);
        let newest = self.consumer.0.values().map(|(r, _)| *r).max();
        assert_eq!(self.view.witness().map(|(_, r)| r), newest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_consumer_holds_what_the_store_held(steps in proptest::collection::vec(step(), 1..40)) {
        let mut sim = Sim::new();
        for step in steps {
            sim.run(step);
        }
        // However it went, an accepted listing ends with the truth.
        sim.list(3, true);
    }
}

#[test]
fn a_store_found_empty_after_a_restart_is_held() {
    let mut store = Store::new();
    store.write(&[(0, Some(1)), (1, Some(1))]);
    for (remembered, held) in [(0, false), (1, false), (2, false), (3, true), (100, true)] {
        let mut view = View::new(PREFIXES.len(), guard(), remembered);
        view.begin_list();
        let mut told = Vec::new();
        for prefix in PREFIXES {
            for page in store.pages(prefix, 10) {
                told.extend(view.page(page));
            }
        }
        assert_eq!(
            told.len(),
            2,
            "nothing waits for the end of the first listing"
        );
        let verdict = view.end_list(&[store.revision; 2], false, Instant::now());
        assert_eq!(matches!(verdict, Verdict::Hold(_)), held, "{remembered}");
        view.begin_list();
        let verdict = view.end_list(&[store.revision; 2], true, Instant::now());
        assert!(matches!(verdict, Verdict::Tell(_)));
    }
}

#[test]
fn many_small_losses_are_one_large_one() {
    let mut sim = Sim::new();
    for n in [0, 2, 4, 6, 8, 10] {
        sim.store.write(&[(n, Some(1))]);
    }
    sim.list(10, false);
    let lose = |sim: &mut Sim, n: u8| {
        sim.store.write(&[(n, None)]);
        sim.watch(0, 1, 0);
    };
    for n in [0, 2, 4, 6] {
        assert!(!sim.must_list, "three of six may go");
        lose(&mut sim, n);
    }
    // Time alone does not let it pass; an operator does, and then it is forgotten.
    sim.now += 10 * WINDOW;
    sim.list(10, false);
    assert!(sim.must_list);
    sim.list(10, true);
    lose(&mut sim, 8);
    assert!(!sim.must_list);
    // One by one over a long time is somebody's work.
    for n in [0, 2, 4, 6, 8] {
        sim.store.write(&[(n, Some(2))]);
        sim.watch(0, 1, 0);
    }
    for n in [0, 2, 4, 6, 8, 10] {
        sim.now += WINDOW + 1;
        lose(&mut sim, n);
        assert!(!sim.must_list, "{n}");
    }
}
