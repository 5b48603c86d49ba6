//! Writes what the compiler says into the maps, and what is known of interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::Cidr;
use model::kernel::Mac;
use model::object::ObjectId;
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings, flag, setting};
use policy_common::event::{Counter, CounterKey};
use policy_common::packet::mapped;

use super::attached::Attached;
use super::counters::{Counted, Counters};
use super::error::KernelError;
use super::loaded::{First, Loaded};
use super::programs::Programs;
use super::reader::Reader;
use super::sys::{Plain, Prefix4, Prefix6};
use super::table::Table;
use crate::op::{Chains, Op, Update};

/// An interface, and who is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ifindex: u32,
    /// MAC address of the workload.
    pub mac: Mac,
    /// What the workload may send from; of the host, its addresses there.
    pub own: Vec<Cidr>,
    /// The host itself is the endpoint, and no MAC address counts.
    pub host: bool,
    /// Bytes of the largest packet that may go straight to the workload from another one, as what is put to one end of
    /// a pair comes out of the other. 0 where nothing may: it is no pair, or none of ours, or the workload may send from
    /// addresses that are not its own, so that what answers it need not be for it.
    pub mtu: u16,
}

/// The programs with what they are to enforce.
#[derive(Debug)]
pub struct Enforcer {
    programs: Programs,
    chains: BTreeMap<ObjectId, Chains>,
    counters: Counters,
    attached: Attached,
    settings: Settings,
    /// Where the generations of the world begin, behind those of the process before.
    world: u32,
}

impl Enforcer {
    /// With programs that were just loaded. Nothing is enforced yet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(programs: Programs) -> Result<Enforcer, KernelError> {
        let world = programs.before.map_or(0, |s| s.world).wrapping_add(1);
        let settings = Settings {
            world,
            events: 1000,
            ..Settings::default()
        };
        let enforcer = Enforcer {
            programs,
            chains: BTreeMap::new(),
            counters: Counters::default(),
            attached: Attached::default(),
            settings,
            world,
        };
        enforcer.write_settings()?;
        enforcer.programs.claim()?;
        Ok(enforcer)
    }

    /// The programs and maps.
    pub fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// What somebody else reads connections, counters and events by.
    ///
    /// # Errors
    /// Somebody has it already, or the kernel refuses.
    pub fn reader(&mut self) -> Result<Reader, KernelError> {
        self.programs.maps.reader(self.world)
    }

    /// What each rule has counted, since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<BTreeMap<Counted, Counter>, KernelError> {
        self.counters.read(&self.programs.maps)
    }

    /// The words of all rules that a counter is for.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted_by(&self, key: &CounterKey) -> Result<Vec<u32>, KernelError> {
        self.counters.words(&self.programs.maps, key)
    }

    /// What the maps say about the first packet of a connection at an endpoint; `outbound`: the endpoint sends it.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub fn judge(
        &self,
        id: &ObjectId,
        outbound: bool,
        packet: &First,
    ) -> Result<Loaded, KernelError> {
        // What is at several interfaces is the same at each.
        match self.attached.of(id).next() {
            Some(interface) => self.programs.judge(interface.ifindex, outbound, packet),
            None => Ok(Loaded::Detached),
        }
    }

    /// Whether workloads may reach their own host, where their policy lets them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn allow_endpoint_to_host(&mut self, allow: bool) -> Result<(), KernelError> {
        self.set(setting::ENDPOINT_TO_HOST, allow)
    }

    /// Whether a connection goes on until it ends, rather than being cut by new policy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keep_connections(&mut self, keep: bool) -> Result<(), KernelError> {
        self.set(setting::KEEP_CONNECTIONS, keep)
    }

    /// Until when, in nanoseconds of the monotonic clock, TCP may go on that began before there was policy, and how
    /// many events a CPU tells in a second.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn configure(&mut self, grace_until: u64, events: u32) -> Result<(), KernelError> {
        self.settings.grace_until = grace_until;
        self.settings.events = events;
        self.write_settings()
    }

    /// Whether what goes between workloads of this host may go straight.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn go_straight(&mut self, may: bool) -> Result<(), KernelError> {
        self.flag(setting::STRAIGHT, may);
        self.write_settings()
    }

    fn set(&mut self, flag: u32, on: bool) -> Result<(), KernelError> {
        self.flag(flag, on);
        // Connections are judged by it as well.
        self.world = self.world.wrapping_add(1);
        self.settings.world = self.settings.world.wrapping_add(1);
        self.write_settings()
    }

    fn flag(&mut self, flag: u32, on: bool) {
        match on {
            true => self.settings.flags |= flag,
            false => self.settings.flags &= !flag,
        }
    }

    fn write_settings(&self) -> Result<(), KernelError> {
        self.programs.maps.global.put(&0, &self.settings)
    }

    /// The ports of the host that no policy closes: protocol and port, inbound and outbound.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_failsafe(
        &self,
        inbound: &BTreeSet<(u8, u16)>,
        outbound: &BTreeSet<(u8, u16)>,
    ) -> Result<(), KernelError> {
        let table = &self.programs.maps.failsafe;
        let key = |outbound| {
            move |&(protocol, port): &(u8, u16)| FailsafeKey {
                outbound,
                protocol,
                port,
            }
        };
        let wanted: BTreeSet<FailsafeKey> = (inbound.iter().map(key(0)))
            .chain(outbound.iter().map(key(1)))
            .collect();
        wanted.iter().try_for_each(|key| table.put(key, &1))?;
        for key in table.keys()? {
            if !wanted.contains(&key) {
                table.remove(&key)?;
            }
        }
        Ok(())
    }

    /// Puts an endpoint to an interface, beside others that it has: from here on its policy is enforced there, and
    /// until the compiler has spoken of it nothing passes. Another endpoint that was there gives way in one write.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), KernelError> {
        self.announce(id, interface)?;
        let (name, ifindex) = (&interface.name, interface.ifindex);
        match self.programs.is_attached(name, ifindex) {
            true => Ok(()),
            false => self.programs.attach(name, ifindex, interface.host),
        }
    }

    /// Says who is at an interface, without enforcing anything there: for programs at other interfaces, which look at both
    /// ends of what they let pass.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn announce(&mut self, id: &ObjectId, interface: &Interface) -> Result<(), KernelError> {
        let before = self.attached.put(id, interface.clone());
        let before = before.map(|(_, old)| old.own).unwrap_or_default();
        self.write_own(interface, &before)?;
        self.write_endpoint(id, interface)
    }

    /// Takes an endpoint away from all its interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self, id: &ObjectId) -> Result<(), KernelError> {
        let own: Vec<u32> = self.attached.of(id).map(|i| i.ifindex).collect();
        let mut own = own.into_iter();
        own.try_for_each(|ifindex| self.detach_from(id, ifindex))
    }

    /// Takes an endpoint away from an interface, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach_from(&mut self, id: &ObjectId, ifindex: u32) -> Result<(), KernelError> {
        let Some(interface) = self.attached.remove(id, ifindex) else {
            return Ok(());
        };
        self.programs.detach(&interface.name, interface.ifindex)?;
        self.programs.maps.endpoints.remove(&interface.ifindex)?;
        let gone = Interface {
            own: Vec::new(),
            ..interface.clone()
        };
        self.write_own(&gone, &interface.own)
    }

    /// Writes the addresses of an interface, and removes those that it had and has no more.
    fn write_own(&self, interface: &Interface, before: &[Cidr]) -> Result<(), KernelError> {
        let (table, ifindex) = (&self.programs.maps.own, interface.ifindex);
        for prefix in &interface.own {
            table.put(&own(ifindex, prefix), &1)?;
        }
        let gone = before.iter().filter(|p| !interface.own.contains(p));
        gone.into_iter()
            .try_for_each(|p| table.remove(&own(ifindex, p)))
    }

    fn write_endpoints(&self, id: &ObjectId) -> Result<(), KernelError> {
        let mut interfaces = self.attached.of(id);
        interfaces.try_for_each(|interface| self.write_endpoint(id, interface))
    }

    fn write_endpoint(&self, id: &ObjectId, interface: &Interface) -> Result<(), KernelError> {
        // Without chains there is no such chain: nothing passes.
        let chains = self.chains.get(id).copied().unwrap_or_default();
        let endpoint = Endpoint {
            generation: chains.generation,
            flags: match interface.host {
                true => flag::HOST,
                false => 0,
            },
            ingress: chains.ingress,
            egress: chains.egress,
            staged_ingress: chains.staged_ingress,
            staged_egress: chains.staged_egress,
            mac: interface.mac.0,
            mtu: interface.mtu,
        };
        (self.programs.maps.endpoints).put(&interface.ifindex, &endpoint)
    }

    /// Writes what the compiler says, in its order. After an error what stood before is in force, besides rows
    /// that nothing leads to; the same update may be written again.
    ///
    /// # Errors
    /// A map is full, or the kernel refuses.
    pub fn apply(&mut self, update: &Update) -> Result<(), KernelError> {
        let mut at = Some(update);
        while let Some(update) = at {
            self.write(&update.puts)?;
            for later in [&update.merges, &update.deletes] {
                if !later.is_empty() {
                    self.programs.settle();
                    self.write(later)?;
                }
            }
            at = update.next.as_deref();
        }
        Ok(())
    }

    fn write(&mut self, mut ops: &[Op]) -> Result<(), KernelError> {
        while let Some(first) = ops.first() {
            let alike = ops.iter().take_while(|op| is_alike(first, op)).count();
            let (run, rest) = ops.split_at(alike);
            self.write_run(first, run)?;
            ops = rest;
        }
        Ok(())
    }

    /// Writes operations that are all of the kind of the first, and all write or all remove.
    fn write_run(&mut self, first: &Op, run: &[Op]) -> Result<(), KernelError> {
        let maps = &self.programs.maps;
        match first {
            Op::Class(..) => rows(&maps.class, run, |op| match op {
                Op::Class(key, value) => Some((*key, *value)),
                _ => None,
            }),
            Op::Port(..) => rows(&maps.port, run, |op| match op {
                Op::Port(key, value) => Some((*key, *value)),
                _ => None,
            }),
            Op::Cell(..) => rows(&maps.cell, run, |op| match op {
                Op::Cell(key, value) => Some((*key, *value)),
                _ => None,
            }),
            Op::Chain(..) => rows(&maps.chain, run, |op| match op {
                Op::Chain(number, chain) => Some((*number, chain.as_deref().copied())),
                _ => None,
            }),
            Op::Identity(..) => {
                rows(&maps.identity4, run, |op| match op {
                    Op::Identity(prefix, value) => Some((prefix4(prefix)?, *value)),
                    _ => None,
                })?;
                rows(&maps.identity6, run, |op| match op {
                    Op::Identity(prefix, value) => Some((prefix6(prefix)?, *value)),
                    _ => None,
                })
            }
            Op::Forget(_) => {
                let numbers = run.iter().filter_map(|op| match op {
                    Op::Forget(number) => Some(*number),
                    _ => None,
                });
                (self.counters).forget(&self.programs.maps, &numbers.collect())
            }
            Op::World(_) | Op::Endpoint(..) | Op::List(..) => {
                run.iter().try_for_each(|op| self.write_one(op))
            }
        }
    }

    fn write_one(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::World(generation) => {
                self.settings.world = self.world.wrapping_add(*generation);
                self.write_settings()
            }
            Op::Endpoint(id, Some(chains)) => {
                self.chains.insert(id.clone(), *chains);
                self.write_endpoints(id)
            }
            Op::Endpoint(id, None) => {
                self.chains.remove(id);
                self.write_endpoints(id)
            }
            Op::List(number, list) => {
                self.counters.put_list(*number, list.as_deref());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whether two operations can be written in one call.
fn is_alike(one: &Op, other: &Op) -> bool {
    match (one, other) {
        (Op::Class(_, a), Op::Class(_, b)) => a.is_some() == b.is_some(),
        (Op::Port(_, a), Op::Port(_, b)) | (Op::Identity(_, a), Op::Identity(_, b)) => {
            a.is_some() == b.is_some()
        }
        (Op::Cell(_, a), Op::Cell(_, b)) => a.is_some() == b.is_some(),
        (Op::Chain(_, a), Op::Chain(_, b)) => a.is_some() == b.is_some(),
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// Writes the operations of a run that a table is for.
fn rows<K: Plain + Copy, V: Plain>(
    table: &Table<K, V>,
    run: &[Op],
    row: impl Fn(&Op) -> Option<(K, Option<V>)>,
) -> Result<(), KernelError> {
    let mut keys = Vec::new();
    let mut values = Vec::new();
    for (key, value) in run.iter().filter_map(row) {
        match value {
            Some(value) => {
                keys.push(key);
                values.push(value);
            }
            None => table.remove(&key)?,
        }
    }
    table.put_all(&keys, &values)
}

fn prefix4(prefix: &Cidr) -> Option<Prefix4> {
    let IpAddr::V4(address) = prefix.network() else {
        return None;
    };
    Some(Prefix4 {
        prefix_len: u32::from(prefix.prefix_len()),
        address: address.octets(),
    })
}

fn prefix6(prefix: &Cidr) -> Option<Prefix6> {
    let IpAddr::V6(address) = prefix.network() else {
        return None;
    };
    Some(Prefix6 {
        prefix_len: u32::from(prefix.prefix_len()),
        address: address.octets(),
    })
}

fn own(ifindex: u32, prefix: &Cidr) -> OwnKey {
    let (address, bits) = match prefix.network() {
        IpAddr::V4(a) => (mapped(a.octets()), 96 + u32::from(prefix.prefix_len())),
        IpAddr::V6(a) => (a.octets(), u32::from(prefix.prefix_len())),
    };
    OwnKey {
        prefix_len: 32 + bits,
        ifindex: ifindex.to_be_bytes(),
        address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The programs know the gateway without the model.
    #[test]
    fn nobody_pretends_to_be_the_gateway() {
        let gateway = model::marks::GATEWAY_V6.octets();
        assert_eq!(policy_common::verdict::GATEWAY, gateway);
    }

    #[test]
    fn an_own_prefix_counts_its_interface() {
        let key = own(7, &"10.0.0.0/24".parse().unwrap());
        assert_eq!((key.prefix_len, key.ifindex), (32 + 96 + 24, [0, 0, 0, 7]));
        let key = own(7, &"fd00::/64".parse().unwrap());
        assert_eq!(key.prefix_len, 32 + 64);
    }
}
