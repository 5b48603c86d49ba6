//! The maps of the programs, with their types.

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use policy_common::classify::Trail;
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::reason::Reason;
use policy_common::tables::{Cell, CellKey, Chain, ClassKey, Classes, PortKey};
use std::os::fd::AsFd;

use super::error::KernelError;
use super::reader::{self, Reader};
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
    /// Connections; about 230 bytes each.
    pub connections: u32,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            endpoints: 4096,
            prefixes: 1 << 20,
            rows: crate::engine::ROWS,
            connections: 1 << 17,
        }
    }
}

impl Sizes {
    /// Chains: two directions, and as many staged ones, of endpoints that have nothing in common.
    pub fn chains(&self) -> u32 {
        self.endpoints.saturating_mul(4)
    }

    /// Rules that count, each as often as there are trails that lead to it.
    pub fn counters(&self) -> u32 {
        (self.rows / 8).max(1024)
    }

    /// Trails that lead to rules. They leave room among the counters for rules without one.
    pub fn trails(&self) -> u32 {
        self.counters() / 4
    }

    /// By name of map.
    pub(super) fn each(&self) -> [(&'static str, u32); 13] {
        [
            ("ENDPOINTS", self.endpoints),
            ("OWN", self.endpoints.saturating_mul(16)),
            ("IDENTITY4", self.prefixes),
            ("IDENTITY6", self.prefixes),
            ("CLASS", self.rows),
            ("PORT", self.rows),
            ("CELL", self.rows),
            ("CHAIN", self.chains()),
            ("CONNECTIONS", self.connections),
            ("FRAGMENTS", (self.connections / 16).max(64)),
            ("COUNTERS", self.counters()),
            ("TRAILS", self.trails()),
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
    pub(super) counters: Table<CounterKey, Counter>,
    pub(super) trails: Table<CounterKey, Trail>,
    drops: Table<u32, u64>,
    /// None once a [`Reader`] has it.
    events: Option<RingBuf<MapData>>,
    sizes: Sizes,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    pub(super) fn take(bpf: &mut Ebpf, sizes: Sizes) -> Result<Maps, KernelError> {
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
            trails: table(bpf, "TRAILS")?,
            drops: table(bpf, "DROPS")?,
            events: Some(RingBuf::try_from(
                bpf.take_map("EVENTS")
                    .ok_or(KernelError::NoSuchPart("EVENTS"))?,
            )?),
            sizes,
        })
    }

    /// What a program told about a packet, in order; `None` when there is nothing new.
    pub fn next_event(&mut self) -> Option<Event> {
        Event::read(&self.events.as_mut()?.next()?)
    }

    /// What somebody else reads by, who is told all events from here on.
    ///
    /// # Errors
    /// Somebody has it already, or the kernel refuses.
    pub(super) fn reader(&mut self, world: u32) -> Result<Reader, KernelError> {
        Ok(Reader {
            connections: self.connections.again()?,
            counters: self.counters.again()?,
            trails: self.trails.again()?,
            drops: self.drops.again()?,
            events: (self.events.take()).ok_or(KernelError::NoSuchPart("EVENTS"))?,
            room: self.sizes.connections,
            world,
        })
    }

    /// How many entries maps have at most.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// What a rule decided at the end of a trail, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counter(&self, key: CounterKey) -> Result<Counter, KernelError> {
        Ok(reader::sum(&self.counters.get_of_cpus(&key)?))
    }

    /// The rules that have counted something, by each trail.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self) -> Result<Vec<CounterKey>, KernelError> {
        self.counters.keys()
    }

    /// Begins to count anew for a rule at the end of a trail.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self, key: CounterKey) -> Result<(), KernelError> {
        self.counters.remove(&key)?;
        self.trails.remove(&key)
    }

    /// What leads to a rule.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn trail(&self, key: CounterKey) -> Result<Option<Trail>, KernelError> {
        self.trails.get(&key)
    }

    /// Packets dropped for a reason, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drops(&self, reason: Reason) -> Result<u64, KernelError> {
        Ok(self.drops.get_of_cpus(&(reason as u32))?.iter().sum())
    }

    /// Connections that were let through, of all CPUs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn admitted(&self) -> Result<u64, KernelError> {
        Ok(self.drops.get_of_cpus(&Reason::ADMITTED)?.iter().sum())
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
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf,
    };
    match map {
        Array(data) | HashMap(data) | LpmTrie(data) | LruHashMap(data) | PerCpuArray(data)
        | PerCpuHashMap(data) | ProgramArray(data) | RingBuf(data) => Some(data),
        _ => None,
    }
}
