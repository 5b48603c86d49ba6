//! What lanes note about a peer's traffic, and what timers read: a few relaxed atomics a batch.
//!
//! The timers of the paper hang on two facts: since when a peer has sent data that nothing of ours has
//! answered, and since when ours has not been answered. Lanes keep those two times; the device's timer
//! wheel looks at them when they might be due. A lane wakes the device only when it sets one of them
//! and the device is not looking already.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use crate::time::Time;

/// One peer's traffic. Times are nanoseconds, zero for «not».
#[derive(Debug, Default)]
pub(crate) struct Activity {
    owed_since: AtomicU64,
    waiting_since: AtomicU64,
    last: AtomicU64,
    /// The device will look.
    armed: AtomicBool,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

impl Activity {
    /// Notes packets to the peer. True: wake the device.
    pub(crate) fn sent(&self, now: Time, bytes: u64, data: bool) -> bool {
        self.last.store(nanos(now), Relaxed);
        self.sent_bytes.fetch_add(bytes, Relaxed);
        clear(&self.owed_since);
        data && begin(&self.waiting_since, now) && !self.armed.load(SeqCst)
    }

    /// Notes authenticated packets from the peer. True: wake the device.
    pub(crate) fn received(&self, now: Time, bytes: u64, data: bool) -> bool {
        self.last.store(nanos(now), Relaxed);
        self.received_bytes.fetch_add(bytes, Relaxed);
        clear(&self.waiting_since);
        data && begin(&self.owed_since, now) && !self.armed.load(SeqCst)
    }

    /// Since when the peer's data has had no packet of ours after it.
    pub(crate) fn owed_since(&self) -> Option<Time> {
        time(&self.owed_since)
    }

    /// Since when data of ours has had no packet of the peer after it.
    pub(crate) fn waiting_since(&self) -> Option<Time> {
        time(&self.waiting_since)
    }

    /// The last authenticated packet in either direction.
    pub(crate) fn last(&self) -> Option<Time> {
        time(&self.last)
    }

    pub(crate) fn forget_owed(&self) {
        self.owed_since.store(0, SeqCst);
    }

    pub(crate) fn forget_waiting(&self) {
        self.waiting_since.store(0, SeqCst);
    }

    /// The device says whether it is going to look. After saying no it must look once more, because a
    /// lane may have relied on the yes before.
    pub(crate) fn set_armed(&self, armed: bool) {
        self.armed.store(armed, SeqCst);
    }
}

fn nanos(now: Time) -> u64 {
    now.as_nanos().max(1)
}

fn time(cell: &AtomicU64) -> Option<Time> {
    Some(cell.load(SeqCst))
        .filter(|n| *n != 0)
        .map(Time::from_nanos)
}

/// Writes only when it changes something: the cache line stays shared in one-way traffic.
fn clear(cell: &AtomicU64) {
    if cell.load(Relaxed) != 0 {
        cell.store(0, Relaxed);
    }
}

fn begin(cell: &AtomicU64, now: Time) -> bool {
    let idle = cell.load(Relaxed) == 0;
    if idle {
        cell.store(nanos(now), SeqCst);
    }
    idle
}
