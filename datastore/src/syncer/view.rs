//! What was told so far, and what a listing or a watch adds to it. No I/O, no clock.
//!
//! ```text
//!  begin_list ─ page* ─ end_list ──► Tell(changes) or Hold
//!  events ─────────────────────────► Tell(changes) or Hold
//! ```
//!
//! Invariants:
//! * applying everything told, in order, gives what the store held at the last position;
//! * what was lost a short while ago counts as well, so many small losses do not pass as none;
//! * nothing is told twice: a put is news by revision or value, a deletion of what was told only;
//! * what is held changes nothing here, so the next listing finds it again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use model::kv::{Event, KeyValue, Revision};

use super::guard::{Guard, Held, Loss};
use super::peak::Peak;

/// A told key.
struct Mark {
    revision: Revision,
    /// Of the value: a store that was rebuilt may have another value at the same revision.
    hash: u64,
    /// The last listing that had the key.
    round: u32,
}

/// What to do with an update.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Tell these changes; the view has them already.
    Tell(Vec<Event>),
    /// Tell nothing; the view is unchanged.
    Hold(Held),
}

pub(super) struct View {
    guard: Guard,
    /// Guarded keys known when the process ran last.
    remembered: usize,
    known: HashMap<Box<str>, Mark>,
    /// Per guarded prefix: how many of the known keys it has.
    counts: Vec<usize>,
    /// Per guarded prefix: the most that it had lately.
    peaks: Vec<Peak>,
    /// When the update that is held was seen first: for what it loses no time passes.
    held_since: Option<Instant>,
    /// Per watched prefix: everything up to here was told.
    positions: Vec<Revision>,
    /// Number of the running listing.
    round: u32,
    /// Whether one listing was told completely.
    complete: bool,
    /// News of the running listing, kept back until the guard has seen all of it.
    news: Vec<Event>,
    hasher: RandomState,
}

impl View {
    pub(super) fn new(prefixes: usize, guard: Guard, remembered: usize) -> View {
        View {
            counts: vec![0; guard.prefixes.len()],
            peaks: guard.prefixes.iter().map(|_| Peak::default()).collect(),
            held_since: None,
            guard,
            remembered,
            known: HashMap::new(),
            positions: vec![0; prefixes],
            round: 0,
            complete: false,
            news: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    /// Whether one listing was told completely.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Everything up to here was told, of the prefix with that index.
    pub(super) fn position(&self, prefix: usize) -> Revision {
        self.positions.get(prefix).copied().unwrap_or(0)
    }

    /// The highest position of any prefix.
    pub(super) fn newest_position(&self) -> Revision {
        self.positions.iter().copied().max().unwrap_or(0)
    }

    /// Number of told keys.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Number of told keys that the guard watches over.
    pub(super) fn guarded(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The key written last: another store hardly has it at the same revision.
    pub(super) fn witness(&self) -> Option<(&str, Revision)> {
        let newest = self.known.iter().max_by_key(|(_, mark)| mark.revision);
        newest.map(|(key, mark)| (&**key, mark.revision))
    }

    /// A listing of all prefixes begins; one that was running is forgotten.
    pub(super) fn begin_list(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.news = Vec::new();
    }

    /// The revisions told so far are of another history: whatever is listed next is news.
    pub(super) fn forget_revisions(&mut self) {
        for mark in self.known.values_mut() {
            mark.revision = Revision::MIN;
        }
    }

    /// Takes a page of the running listing.
    ///
    /// The answer is to be told at once: nothing can be lost before the first complete listing, so
    /// nothing needs to wait (and to lie in memory) until its end.
    pub(super) fn page(&mut self, page: Vec<KeyValue>) -> Vec<Event> {
        let mut now = Vec::new();
        for kv in page {
            let hash = self.hasher.hash_one(&kv.value);
            if let Some(mark) = self.known.get_mut(kv.key.as_str()) {
                mark.round = self.round;
                if (mark.revision, mark.hash) == (kv.mod_revision, hash) {
                    continue;
                }
            }
            let event = Event {
                key: kv.key,
                value: Some(kv.value),
                revision: kv.mod_revision,
            };
            if self.complete {
                self.news.push(event);
            } else {
                self.learn(&event);
                now.push(event);
            }
        }
        now
    }

    /// Ends the running listing, whose prefixes were read at `revisions`.
    pub(super) fn end_list(
        &mut self,
        revisions: &[Revision],
        accepted: bool,
        now: Instant,
    ) -> Verdict {
        let round = self.round;
        let gone: Vec<Box<str>> = self
            .known
            .iter()
            .filter(|(_, mark)| mark.round != round)
            .map(|(key, _)| key.clone())
            .collect();
        if !accepted && let Some(held) = self.judge(gone.iter().map(|key| &**key), now) {
            self.news = Vec::new();
            return Verdict::Hold(held);
        }
        let at = revisions.iter().copied().max().unwrap_or(0);
        let deletions = gone.into_iter().map(|key| Event {
            key: key.into(),
            value: None,
            revision: at,
        });
        let mut news = std::mem::take(&mut self.news);
        news.extend(deletions);
        self.learn_all(&news, now);
        if accepted || !self.complete {
            self.peaks.iter_mut().for_each(Peak::forget);
        }
        self.positions = revisions.to_vec();
        self.complete = true;
        Verdict::Tell(news)
    }

    /// Takes what a watch of the prefix with that index reported up to `revision`.
    pub(super) fn events(
        &mut self,
        prefix: usize,
        mut events: Vec<Event>,
        revision: Revision,
        now: Instant,
    ) -> Verdict {
        let position = self.position(prefix);
        {
            // What the batch makes of each key: its revision, or nothing.
            let mut batch: HashMap<&str, bool> = HashMap::new();
            let mut fresh = Vec::with_capacity(events.len());
            for event in &events {
                let key = event.key.as_str();
                let there = batch.get(key).copied();
                let there = there.unwrap_or_else(|| self.known.contains_key(key));
                let news = event.revision > position && (event.value.is_some() || there);
                if news {
                    batch.insert(key, event.value.is_some());
                }
                fresh.push(news);
            }
            let known = &self.known;
            let gone: Vec<&str> = batch
                .iter()
                .filter(|(key, there)| !**there && known.contains_key(**key))
                .map(|(key, _)| *key)
                .collect();
            if let Some(held) = self.judge(gone.into_iter(), now) {
                return Verdict::Hold(held);
            }
            let mut fresh = fresh.into_iter();
            events.retain(|_| fresh.next().unwrap_or(false));
        }
        self.learn_all(&events, now);
        if let Some(p) = self.positions.get_mut(prefix) {
            *p = revision.max(position);
        }
        Verdict::Tell(events)
    }

    /// Takes in what is told, and notes what becomes fewer.
    fn learn_all(&mut self, events: &[Event], now: Instant) {
        self.held_since = None;
        let before = self.counts.clone();
        for event in events {
            self.learn(event);
        }
        for ((before, count), peak) in before.into_iter().zip(&self.counts).zip(&mut self.peaks) {
            if *count < before {
                peak.fell(now, before);
            }
        }
    }

    fn learn(&mut self, event: &Event) {
        let key = event.key.as_str();
        let Some(value) = &event.value else {
            if self.known.remove(key).is_some() {
                self.count(key, |n| *n = n.saturating_sub(1));
            }
            return;
        };
        let mark = Mark {
            revision: event.revision,
            hash: self.hasher.hash_one(value),
            round: self.round,
        };
        if let Some(old) = self.known.get_mut(key) {
            *old = mark;
        } else {
            self.known.insert(key.into(), mark);
            self.count(key, |n| *n += 1);
        }
    }

    fn count(&mut self, key: &str, change: impl Fn(&mut usize)) {
        for (n, prefix) in self.counts.iter_mut().zip(&self.guard.prefixes) {
            if key.starts_with(prefix.as_str()) {
                change(n);
            }
        }
    }

    fn judge<'a>(&mut self, gone: impl Iterator<Item = &'a str>, now: Instant) -> Option<Held> {
        let now = self.held_since.unwrap_or(now);
        let held = self.judged(gone, now);
        self.held_since = held.as_ref().map(|_| now);
        held
    }

    fn judged<'a>(&mut self, gone: impl Iterator<Item = &'a str>, now: Instant) -> Option<Held> {
        let prefixes = &self.guard.prefixes;
        let mut removed = vec![0; prefixes.len()];
        for key in gone {
            for (n, prefix) in removed.iter_mut().zip(prefixes) {
                *n += usize::from(key.starts_with(prefix.as_str()));
            }
        }
        if !self.complete {
            // Nothing can be lost here yet, but the kernel still holds what the last run applied.
            let left = self.guarded().saturating_sub(removed.iter().sum());
            let loss = Loss {
                which: "that were applied in the last run".into(),
                removed: self.remembered.saturating_sub(left),
                known: self.remembered,
            };
            return self.guard.judge(std::iter::once(loss));
        }
        let (lasting, start) = (&self.guard.lasting, now.checked_sub(self.guard.window));
        let each = prefixes.iter().zip(&self.counts).zip(&mut self.peaks);
        let losses = each.zip(removed).map(|(((prefix, count), peak), removed)| {
            let known = match lasting.contains(prefix) {
                true => peak.since(start, *count),
                false => *count,
            };
            Loss {
                which: format!("below {prefix}"),
                removed: removed + (known - count),
                known,
            }
        });
        self.guard.judge(losses)
    }
}
