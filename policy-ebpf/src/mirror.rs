//! The tables in memory: what the kernel has, for tests and to explain a verdict without the kernel.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use model::object::ObjectId;
use model::{Cidr, Family};
use policy_common::tables::{
    Address, Cell, CellKey, Chain, ClassKey, Classes, NO_CLASS, NO_IDENTITY, PortKey, Tables,
};

use crate::op::{Chains, Op, Update};

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Identities of prefixes.
    pub identities: BTreeMap<Cidr, u32>,
    /// Classes of identities.
    pub classes: HashMap<ClassKey, Classes>,
    /// Classes of ports.
    pub ports: HashMap<PortKey, u32>,
    /// Cells.
    pub cells: HashMap<CellKey, Cell>,
    /// Lists of `Log` rules by number.
    pub lists: HashMap<u32, Box<[Cell]>>,
    /// Chains by number.
    pub chains: HashMap<u32, Chain>,
    /// Chains of endpoints.
    pub endpoints: BTreeMap<ObjectId, Chains>,
    /// Under which connections are judged.
    pub world: u32,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<(Family, u8), usize>,
}

impl Mirror {
    /// Does all writes of an update.
    pub fn update(&mut self, update: &Update) {
        for op in update.ops() {
            self.apply(op);
        }
    }

    /// Does one write.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Class(key, value) => set(&mut self.classes, *key, *value),
            Op::Port(key, value) => set(&mut self.ports, *key, *value),
            Op::Cell(key, value) => set(&mut self.cells, *key, *value),
            Op::List(number, value) => set(&mut self.lists, *number, value.clone()),
            Op::Chain(number, value) => set(&mut self.chains, *number, value.as_deref().copied()),
            Op::Identity(prefix, identity) => self.set_identity(*prefix, *identity),
            Op::Endpoint(id, Some(chains)) => {
                self.endpoints.insert(id.clone(), *chains);
            }
            Op::Endpoint(id, None) => {
                self.endpoints.remove(id);
            }
            Op::World(generation) => self.world = *generation,
            Op::Forget(_) => {}
        }
    }

    /// The identity of an address: that of the longest prefix that holds it.
    pub fn identity_of(&self, ip: IpAddr) -> u32 {
        let family = Family::of(ip);
        let lengths = self.lengths.range((family, 0)..=(family, u8::MAX)).rev();
        let mut prefixes = lengths.filter_map(|((_, len), _)| Cidr::containing(ip, *len));
        let found = prefixes.find_map(|prefix| self.identities.get(&prefix));
        found.copied().unwrap_or(NO_IDENTITY)
    }

    fn set_identity(&mut self, prefix: Cidr, identity: Option<u32>) {
        let old = match identity {
            Some(identity) => self.identities.insert(prefix, identity),
            None => self.identities.remove(&prefix),
        };
        let length = (prefix.family(), prefix.prefix_len());
        let count = self.lengths.entry(length).or_default();
        *count = *count + usize::from(identity.is_some()) - usize::from(old.is_some());
        if *count == 0 {
            self.lengths.remove(&length);
        }
    }
}

fn set<K: std::hash::Hash + Eq, V>(table: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    };
}

impl Tables for Mirror {
    fn identity(&self, address: &Address) -> u32 {
        let ip = Ipv6Addr::from(*address);
        let v4 = ip.to_ipv4_mapped().map(IpAddr::V4);
        self.identity_of(v4.unwrap_or(IpAddr::V6(ip)))
    }

    fn classes(&self, key: &ClassKey) -> Classes {
        self.classes.get(key).copied().unwrap_or_default()
    }

    fn port(&self, key: &PortKey) -> u32 {
        let port = u16::from_be_bytes(key.port);
        let by_length = (0..=16).rev().map(|bits: u32| PortKey {
            prefix_len: 48 + bits,
            port: (port & u16::MAX.checked_shl(16 - bits).unwrap_or(0)).to_be_bytes(),
            ..*key
        });
        let others = PortKey {
            prefix_len: 40,
            protocol: 0,
            port: [0; 2],
            ..*key
        };
        let found = by_length
            .chain([others])
            .find_map(|key| self.ports.get(&key));
        found.copied().unwrap_or(NO_CLASS)
    }

    fn cell(&self, key: &CellKey) -> Option<Cell> {
        self.cells.get(key).copied()
    }
}

/// An address as tables have it.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
