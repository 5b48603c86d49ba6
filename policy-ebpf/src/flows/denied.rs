//! What was dropped: each attempt is a record, however often its packets are sent again.

use std::collections::HashMap;
use std::sync::Arc;

use policy_common::classify::Tuple;
use policy_common::event::Event;
use policy_common::reason::Reason;

use super::{Logs, Names, Record, decided_of};

/// An attempt is over when nothing was sent again for so long: TCP waits twice as long each time, from a second on.
const QUIET: u64 = 20_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    ifindex: u32,
    outbound: bool,
    tuple: Tuple,
    rule: u32,
    reason: u8,
}

/// Attempts that may be tried again.
#[derive(Debug)]
pub(super) struct Denied {
    room: usize,
    records: HashMap<Attempt, Record>,
    fresh: Vec<Attempt>,
}

/// What became of an event.
pub(super) enum Heard {
    /// One more of an attempt.
    Known,
    /// A new one, with the number offered.
    New,
    /// A new one that there is no room to follow.
    NoRoom(Box<Record>),
}

impl Denied {
    pub(super) fn new(room: usize) -> Denied {
        Denied {
            room,
            records: HashMap::new(),
            fresh: Vec::new(),
        }
    }

    pub(super) fn hear(&mut self, event: &Event, tuple: Tuple, id: u64) -> Heard {
        let attempt = Attempt {
            ifindex: event.ifindex,
            outbound: event.outbound != 0,
            tuple,
            rule: event.rule,
            reason: event.reason,
        };
        if let Some(record) = self.records.get_mut(&attempt) {
            record.add(event);
            return Heard::Known;
        }
        let mut record = Record {
            id,
            ifindex: attempt.ifindex,
            outbound: attempt.outbound,
            tuple,
            start: event.at,
            reason: Reason::ALL.get(usize::from(event.reason)).copied(),
            decided: decided_of(event),
            ..Record::default()
        };
        record.add(event);
        if self.records.len() >= self.room {
            return Heard::NoRoom(Box::new(record));
        }
        self.records.insert(attempt, record);
        self.fresh.push(attempt);
        Heard::New
    }

    /// Those that are over.
    pub(super) fn settle(&mut self, now: u64) -> Vec<Record> {
        let mut over = Vec::new();
        self.records.retain(|_, record| {
            let stays = now.saturating_sub(record.last) <= QUIET;
            if !stays {
                over.push(std::mem::take(record));
            }
            stays
        });
        over
    }

    pub(super) fn unnamed(&self) -> impl Iterator<Item = &Record> {
        let fresh = self.fresh.iter();
        fresh.filter_map(|attempt| self.records.get(attempt))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Names those that are new, and gives them back.
    pub(super) fn name(&mut self, names: &impl Names, logs: &mut Logs) -> Vec<Arc<Record>> {
        let mut named = Vec::new();
        for attempt in std::mem::take(&mut self.fresh) {
            if let Some(record) = self.records.get_mut(&attempt) {
                record.take_names(names);
                record.take_log(logs);
                named.push(Arc::new(record.clone()));
            }
        }
        named
    }
}

impl Record {
    fn add(&mut self, event: &Event) {
        self.packets[0] += 1;
        self.bytes[0] += u64::from(event.length);
        self.last = self.last.max(event.at);
    }
}
