//! A connection that goes on, and one that was cut: how much of what the table counts is in its record.

use std::collections::HashMap;

use policy_common::connection::{Connection, Judged, state};
use policy_common::event::{Counter, CounterKey};

use super::Record;

/// A connection, and its record.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) record: Record,
    pub(super) began: u64,
    /// Counts of the table that are in an earlier record.
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
    /// Packets and bytes of the table that its rule has counted.
    pub(super) counted: [u64; 2],
    /// Number of the look that saw it last.
    pub(super) seen: u64,
    /// It was told to who follows.
    pub(super) told: bool,
}

/// A connection that was cut, or whose endpoint is gone, with the counts that are in a record already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) began: u64,
    /// Number of the look that saw it last.
    pub(super) seen: u64,
    pub(super) packets: [u64; 2],
    pub(super) bytes: [u64; 2],
}

impl Open {
    pub(super) fn update(&mut self, connection: &Connection) {
        let (packets, bytes) = counts(connection);
        let record = &mut self.record;
        for side in 0..2 {
            record.packets[side] = packets[side].saturating_sub(self.packets[side]);
            record.bytes[side] = bytes[side].saturating_sub(self.bytes[side]);
        }
        record.last = connection.last.get();
    }

    /// Counts what passed since the last time.
    pub(super) fn count(
        &mut self,
        connection: &Connection,
        passed: &mut HashMap<CounterKey, Counter>,
    ) {
        let (packets, bytes) = counts(connection);
        let totals: [u64; 2] = [packets.iter().sum(), bytes.iter().sum()];
        let [packets, bytes] = [0, 1].map(|n| totals[n].saturating_sub(self.counted[n]));
        if packets == 0 {
            return;
        }
        self.counted = totals;
        for key in connection.decided().counters().into_iter().flatten() {
            let counter = passed.entry(key).or_default();
            counter.packets += packets;
            counter.bytes += bytes;
        }
    }

    /// Takes over what decided; whether that is something else than before, or lacks a name.
    pub(super) fn take_decision(&mut self, connection: &Connection) -> bool {
        let flags = connection.flags.get();
        let record = &mut self.record;
        record.kept = flags & state::KEPT != 0;
        let decided = connection.decided();
        let judged = read_judged(connection.judged.get());
        if record.decided != decided {
            record.decided = decided;
            record.names.rule = None;
            record.names.staged = None;
        }
        record.judged = Some(judged);
        !self.told || record.lacks_rule()
    }
}

pub(super) fn counts(connection: &Connection) -> ([u64; 2], [u64; 2]) {
    let [first, second] = &connection.sides;
    (
        [first.packets.get(), second.packets.get()],
        [first.bytes.get(), second.bytes.get()],
    )
}

#[expect(clippy::cast_possible_truncation, reason = "two halves")]
pub(super) fn read_judged(word: u64) -> Judged {
    Judged {
        generation: (word >> 32) as u32,
        world: word as u32,
    }
}
