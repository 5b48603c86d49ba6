//! The short way of plain packets and the long one say the same.

use policy_common::packet::Bytes;
use policy_common::reason::Reason;
use policy_ebpf::memory::Memory;
use std::collections::BTreeMap;

use crate::world::{Functions, Judge, Sent, Slice, Went};

/// Bytes that are dear to read as words: nothing takes the short way.
struct Torn<'a>(&'a [u8]);

impl Bytes for Torn<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        Slice(self.0).load(at)
    }

    fn words<const N: usize>(&self, _: u32) -> Option<[u32; N]> {
        None
    }
}

/// Whoever may go either way, and whoever goes the long one.
pub struct Ways {
    free: Functions,
    long: Functions,
    frames: usize,
}

impl Judge for Ways {
    fn new() -> Ways {
        Ways {
            free: Functions::new(),
            long: Functions::new(),
            frames: 0,
        }
    }

    fn judge(&mut self, sent: &Sent) -> Result<Went, Reason> {
        let verdict = self.free.judge(sent);
        let long = self.long.judge_bytes(sent, &Torn(&sent.bytes));
        assert_eq!(verdict, long, "{sent:?}");
        self.frames += 1;
        if self.frames.is_multiple_of(500) {
            self.compare();
        }
        verdict
    }

    fn change(&mut self, change: impl FnOnce(&mut Memory)) {
        // Either may be changed by what the other is changed by.
        self.free.change(change);
        let from = &self.free.memory;
        let to = &mut self.long.memory;
        to.tables = from.tables.clone();
        to.settings = from.settings;
        to.endpoints = from.endpoints.clone();
        to.own = from.own.clone();
        to.failsafe = from.failsafe.clone();
    }

    fn pass(&mut self, seconds: u64) {
        self.free.pass(seconds);
        self.long.pass(seconds);
    }

    fn memory(&self) -> &Memory {
        self.free.memory()
    }
}

impl Ways {
    /// Everything that they wrote.
    pub fn compare(&self) {
        let [free, long] = [&self.free, &self.long].map(|functions| {
            let memory = &functions.memory;
            let connections: BTreeMap<_, _> = (memory.connections.borrow().iter())
                .map(|(key, connection)| (*key, format!("{connection:?}")))
                .collect();
            let told = memory.events.borrow().clone();
            let counted = memory.counters.borrow().clone();
            let dropped = memory.drops.borrow().clone();
            (connections, told, counted, dropped)
        });
        assert_eq!(free, long);
    }
}
