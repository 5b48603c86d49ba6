//! What the programs have seen: read beside whoever writes, which neither waits for the other.

use aya::maps::{MapData, RingBuf};
use policy_common::classify::Trail;
use policy_common::connection::{Connection, Key};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::reason::Reason;

use super::error::KernelError;
use super::sys::Plain;
use super::table::Table;

/// Connections, drops and events, and how many counters there are.
pub struct Reader {
    pub(super) connections: Table<Key, Connection>,
    pub(super) counters: Table<CounterKey, Counter>,
    pub(super) trails: Table<CounterKey, Trail>,
    pub(super) drops: Table<u32, u64>,
    pub(super) events: RingBuf<MapData>,
    pub(super) room: u32,
    pub(super) world: u32,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// The table of connections. What changes meanwhile is there as it was or as it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connections(&self) -> Result<Vec<(Key, Connection)>, KernelError> {
        self.connections.entries()
    }

    /// What a program told about a packet, in order; `None` when there is nothing new.
    pub fn next_event(&mut self) -> Option<Event> {
        Event::read(&self.events.next()?)
    }

    /// How many rules have counted, each as often as there are trails that lead to it; staged ones count for themselves.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self) -> Result<usize, KernelError> {
        Ok(self.counters.keys()?.len())
    }

    /// How many trails lead to them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn trails(&self) -> Result<usize, KernelError> {
        Ok(self.trails.keys()?.len())
    }

    /// Packets dropped for each reason, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drops(&self) -> Result<Vec<(Reason, u64)>, KernelError> {
        let each = Reason::ALL.into_iter();
        each.map(|reason| Ok((reason, self.tally(reason as u32)?)))
            .collect()
    }

    /// Connections that were let through, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn admitted(&self) -> Result<u64, KernelError> {
        self.tally(Reason::ADMITTED)
    }

    fn tally(&self, place: u32) -> Result<u64, KernelError> {
        Ok(self.drops.get_of_cpus(&place)?.iter().sum())
    }

    /// How many connections there is room for.
    pub fn room(&self) -> u32 {
        self.room
    }

    /// The first generation of the world of these programs: what was judged before was judged by those of another process,
    /// whose rules had other numbers.
    pub fn first_world(&self) -> u32 {
        self.world
    }
}

/// Of all CPUs.
pub(super) fn sum(counters: &[Counter]) -> Counter {
    let mut sum = Counter::default();
    counters.iter().for_each(|counter| sum.add(counter));
    sum
}
