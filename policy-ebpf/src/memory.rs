//! The maps of the kernel in memory: what a program would do, without one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use policy_common::classify::Trail;
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::packet::Packet;
use policy_common::reason::Reason;
use policy_common::tables::{
    Address, Cell as TableCell, CellKey, Chain, ClassKey, Classes, PortKey, Tables,
};
use policy_common::world::World;

use crate::mirror::Mirror;

/// All maps, and what else a verdict depends on.
#[derive(Debug, Default)]
pub struct Memory {
    /// The tables of rules.
    pub tables: Mirror,
    /// What holds for all.
    pub settings: Settings,
    /// Interfaces by index.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// What may be sent by an interface: its index, an address and its bits.
    pub own: Vec<(u32, IpAddr, u32)>,
    /// Ports of the host that no policy closes.
    pub failsafe: Vec<FailsafeKey>,
    /// Nanoseconds of the monotonic clock.
    pub now: u64,
    /// Whether the packet at hand is for the host.
    pub for_host: bool,
    /// Most connections.
    pub room: usize,
    /// Connections.
    pub connections: RefCell<HashMap<Key, Rc<Connection>>>,
    /// Fragmented datagrams.
    pub fragments: RefCell<HashMap<FragmentKey, Fragment>>,
    /// What rules counted.
    pub counters: RefCell<BTreeMap<CounterKey, Counter>>,
    /// What led to what they decided.
    pub trails: RefCell<BTreeMap<CounterKey, Trail>>,
    /// Most of those.
    pub trail_room: usize,
    /// What was dropped.
    pub drops: RefCell<BTreeMap<Reason, u64>>,
    /// Connections that were let through.
    pub admitted: Cell<u64>,
    /// What was told.
    pub events: RefCell<Vec<Event>>,
    /// Where the frame at hand goes straight, and whether it has to pass there.
    pub straight: Cell<Option<(u32, bool)>>,
}

impl Tables for Memory {
    fn identity(&self, address: &Address) -> u32 {
        self.tables.identity(address)
    }

    fn classes(&self, key: &ClassKey) -> Classes {
        self.tables.classes(key)
    }

    fn port(&self, key: &PortKey) -> u32 {
        self.tables.port(key)
    }

    fn cell(&self, key: &CellKey) -> Option<TableCell> {
        self.tables.cell(key)
    }
}

impl World for Memory {
    type Held = Rc<Connection>;

    fn now(&self) -> u64 {
        self.now
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        self.endpoints.get(&ifindex)
    }

    fn chain(&self, number: u32) -> Option<&Chain> {
        self.tables.chains.get(&number)
    }

    fn is_own(&self, key: &OwnKey) -> bool {
        let bits = |address: &Address| u128::from_be_bytes(*address);
        let matches = |&(ifindex, address, len): &(u32, IpAddr, u32)| {
            let (own, len) = match address {
                IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), len + 96),
                IpAddr::V6(v6) => (v6.octets(), len),
            };
            let shift = 128 - len.min(128);
            let same = (bits(&own) ^ bits(&key.address)).checked_shr(shift);
            ifindex.to_be_bytes() == key.ifindex && same.unwrap_or_default() == 0
        };
        self.own.iter().any(matches)
    }

    fn is_failsafe(&self, key: &FailsafeKey) -> bool {
        self.failsafe.contains(key)
    }

    fn is_for_host(&self, _: &Packet) -> bool {
        self.for_host
    }

    fn connection(&self, key: &Key) -> Option<Rc<Connection>> {
        self.connections.borrow().get(key).cloned()
    }

    fn admit(&self, key: &Key, connection: &Connection) -> bool {
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= self.room && !connections.contains_key(key) {
            return false;
        }
        connections.insert(*key, Rc::new(connection.copy()));
        true
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn count(&self, key: &CounterKey, more: &Counter) -> bool {
        let mut counters = self.counters.borrow_mut();
        let counter = counters.get_mut(key);
        counter.map(|counter| counter.add(more)).is_some()
    }

    fn begin_count(&self, key: &CounterKey, more: &Counter) {
        self.counters.borrow_mut().insert(*key, *more);
    }

    fn describe(&self, key: &CounterKey, trail: &Trail) -> bool {
        let mut trails = self.trails.borrow_mut();
        let has_room = trails.len() < self.trail_room || trails.contains_key(key);
        if has_room {
            trails.insert(*key, *trail);
        }
        has_room
    }

    fn count_drop(&self, reason: Reason) {
        *self.drops.borrow_mut().entry(reason).or_default() += 1;
    }

    fn count_admitted(&self) {
        self.admitted.set(self.admitted.get() + 1);
    }

    fn go_straight(&self, to: u32, _: &Endpoint) {
        self.straight.set(Some((to, false)));
    }

    fn ask_there(&self, to: u32) {
        self.straight.set(Some((to, true)));
    }

    fn tell(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}
