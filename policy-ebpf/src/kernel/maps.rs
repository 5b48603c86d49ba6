//! The maps of the programs, with their types.

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::reason::Reason;
use policy_common::tables::{Cell, CellKey, Chain, ClassKey, Classes, PortKey};
use std::os::fd::{AsFd, BorrowedFd};

use super::error::KernelError;
use super::sys::{Plain, Prefix4, Prefix6};
use super::table::Table;

/// How many entries maps have at most. Only those of connections and fragments take their memory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Interfaces.
    pub endpoints: u32,
    /// Prefixes with an identity, of each version.
    pub prefixes: u32,
    /// Rows of CLASS, PORT and CELL, of each.
    pub rows: u32,
    /// Connections; about 220 bytes each.
    pub connections: u32,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            endpoints: 4096,
            prefixes: 1 << 20,
            rows: 1 << 19,
            connections: 1 << 17,
        }
    }
}

impl Sizes {
    /// By name of map.
    pub(super) fn each(&self) -> [(&'static str, u32); 12] {
        [
            ("ENDPOINTS", self.endpoints),
            ("OWN", self.endpoints.saturating_mul(16)),
            ("IDENTITY4", self.prefixes),
            ("IDENTITY6", self.prefixes),
            ("CLASS", self.rows),
            ("PORT", self.rows),
            ("CELL", self.rows),
            // Two directions, and as many staged ones, of endpoints that have nothing in common.
            ("CHAIN", self.endpoints.saturating_mul(4)),
            ("CONNECTIONS", self.connections),
            ("FRAGMENTS", (self.connections / 16).max(64)),
            ("COUNTERS", (self.rows / 8).max(1024)),
            ("FAILSAFE", 256),
        ]
    }
}

/// The maps.
pub struct Maps {
    /// What holds for all.
    pub global: Table<u32, Settings>,
    /// Interfaces by index.
    pub endpoints: Table<u32, Endpoint>,
    /// Addresses that workloads send from.
    pub own: Table<OwnKey, u32>,
    /// Ports of the host that no policy closes.
    pub failsafe: Table<FailsafeKey, u32>,
    /// Identities of IPv4 prefixes.
    pub identity4: Table<Prefix4, u32>,
    /// Identities of IPv6 prefixes.
    pub identity6: Table<Prefix6, u32>,
    /// Classes of identities.
    pub class: Table<ClassKey, Classes>,
    /// Classes of ports.
    pub port: Table<PortKey, u32>,
    /// First rules.
    pub cell: Table<CellKey, Cell>,
    /// Chains.
    pub chain: Table<u32, Chain>,
    /// Connections; shared with whoever was there before.
    pub connections: Table<Key, Connection>,
    /// Fragmented datagrams; shared as well.
    pub fragments: Table<FragmentKey, Fragment>,
    counters: Table<CounterKey, Counter>,
    drops: Table<u32, u64>,
    events: RingBuf<MapData>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Maps, KernelError> {
        Ok(Maps {
            global: table(bpf, "GLOBAL")?,
            endpoints: table(bpf, "ENDPOINTS")?,
            own: table(bpf, "OWN")?,
            failsafe: table(bpf, "FAILSAFE")?,
            identity4: table(bpf, "IDENTITY4")?,
            identity6: table(bpf, "IDENTITY6")?,
            class: table(bpf, "CLASS")?,
            port: table(bpf, "PORT")?,
            cell: table(bpf, "CELL")?,
            chain: table(bpf, "CHAIN")?,
            connections: table(bpf, "CONNECTIONS")?,
            fragments: table(bpf, "FRAGMENTS")?,
            counters: table(bpf, "COUNTERS")?,
            drops: table(bpf, "DROPS")?,
            events: RingBuf::try_from(
                bpf.take_map("EVENTS")
                    .ok_or(KernelError::NoSuchPart("EVENTS"))?,
            )?,
        })
    }

    /// What a program told about a packet, in order; `None` when there is nothing new.
    pub fn next_event(&mut self) -> Option<Event> {
        Event::read(&self.events.next()?)
    }

    /// What can be waited for until there is an event.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// What a rule decided, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counter(&self, key: CounterKey) -> Result<Counter, KernelError> {
        let counters = self.counters.get_of_cpus(&key)?;
        Ok(Counter {
            packets: counters.iter().map(|c| c.packets).sum(),
            bytes: counters.iter().map(|c| c.bytes).sum(),
        })
    }

    /// The rules that have counted something.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self) -> Result<Vec<CounterKey>, KernelError> {
        self.counters.keys()
    }

    /// Forgets what a rule has counted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self, key: CounterKey) -> Result<(), KernelError> {
        self.counters.remove(&key)
    }

    /// Packets dropped for a reason, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drops(&self, reason: Reason) -> Result<u64, KernelError> {
        Ok(self.drops.get_of_cpus(&(reason as u32))?.iter().sum())
    }
}

fn table<K: Plain + Copy, V: Plain>(
    bpf: &Ebpf,
    name: &'static str,
) -> Result<Table<K, V>, KernelError> {
    let missing = || KernelError::NoSuchPart(name);
    let map = bpf.map(name).ok_or_else(missing)?;
    let fd = data(map).ok_or_else(missing)?.fd().as_fd();
    let fd = fd.try_clone_to_owned();
    Table::new(
        name,
        fd.map_err(|source| KernelError::Map {
            operation: "open",
            map: name,
            source,
        })?,
    )
}

/// What is in a map of any kind that the programs have.
pub(super) fn data(map: &aya::maps::Map) -> Option<&MapData> {
    use aya::maps::Map::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
    };
    match map {
        Array(data) | HashMap(data) | LpmTrie(data) | LruHashMap(data) | PerCpuArray(data)
        | PerCpuHashMap(data) | RingBuf(data) => Some(data),
        _ => None,
    }
}
