//! Maps that have seen a thousand changes: they hold what those of a fresh start hold, under other numbers perhaps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::object::ObjectId;
use model::resources::PolicyType;
use model::snapshot::Snapshot;
use model::{Cidr, Kind};
use policy_ebpf::kernel::{Enforcer, Plain, Table};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Chains, Engine, Op, Settings, feed};

use crate::canonical::canonical;
use crate::compiled::first_packet;
use crate::dice::Dice;
use crate::samples::{self, HERE, Thing};
use crate::small::{self, Tally};

/// Changes between two looks at the maps, and looks.
const CHANGES: usize = 250;
const LOOKS: usize = 4;
const PACKETS: usize = 2_000;

/// A node with its kernel.
struct Node {
    engine: Engine,
    enforcer: Enforcer,
    interfaces: BTreeMap<ObjectId, u32>,
}

impl Node {
    fn new() -> Node {
        Node {
            engine: Engine::new(Settings::default()),
            enforcer: small::enforcer(),
            interfaces: BTreeMap::new(),
        }
    }

    fn take(&mut self, snapshot: &Snapshot, ids: &[ObjectId]) {
        let changes = ids.iter().filter_map(|id| feed::change(snapshot, HERE, id));
        let update = self.engine.apply(changes);
        self.enforcer.apply(&update).expect("room");
        self.attach(snapshot);
    }

    /// Follows who lives here.
    fn attach(&mut self, snapshot: &Snapshot) {
        let here = ids_here(snapshot);
        let gone: Vec<ObjectId> = self
            .interfaces
            .keys()
            .filter(|id| !here.contains_key(id))
            .cloned()
            .collect();
        for id in gone {
            self.enforcer.detach(&id).expect("to detach");
            self.interfaces.remove(&id);
        }
        for (id, ifindex) in here {
            let interface = small::interface(&id, ifindex);
            self.enforcer.attach(&id, &interface).expect("room");
            self.interfaces.insert(id, ifindex);
        }
    }

    /// What is in the maps.
    fn read(&mut self) -> Mirror {
        let maps = &self.enforcer.programs().maps;
        let mut mirror = Mirror::default();
        mirror.classes.extend(rows(&maps.class));
        mirror.ports.extend(rows(&maps.port));
        mirror.cells.extend(rows(&maps.cell));
        mirror.chains.extend(rows(&maps.chain));
        let v4 = rows(&maps.identity4)
            .map(|(k, identity)| (IpAddr::from(k.address), k.prefix_len, identity));
        let v6 = rows(&maps.identity6)
            .map(|(k, identity)| (IpAddr::from(k.address), k.prefix_len, identity));
        for (address, length, identity) in v4.chain(v6) {
            let length = u8::try_from(length).expect("a length");
            let prefix = Cidr::containing(address, length).expect("a prefix");
            mirror.apply(&Op::Identity(prefix, Some(identity)));
        }
        for (ifindex, row) in rows(&maps.endpoints) {
            let (id, _) = self
                .interfaces
                .iter()
                .find(|(_, i)| **i == ifindex)
                .expect("one that is here");
            let chains = Chains {
                ingress: row.ingress,
                egress: row.egress,
                staged_ingress: row.staged_ingress,
                staged_egress: row.staged_egress,
                generation: row.generation,
            };
            assert_eq!(Some(chains), self.engine.chains(id), "{id}");
            mirror.apply(&Op::Endpoint(id.clone(), Some(chains)));
        }
        mirror
    }

    fn passes(&mut self, id: &ObjectId, direction: PolicyType, packet: &[u8]) -> bool {
        small::passes(
            &mut self.enforcer,
            (id, self.interfaces[id]),
            direction,
            packet,
        )
    }
}

fn rows<K: Plain + Copy, V: Plain>(table: &Table<K, V>) -> impl Iterator<Item = (K, V)> {
    let keys = table.keys().expect("keys").into_iter();
    keys.map(|key| (key, table.get(&key).expect("a look").expect("a row")))
}

/// Endpoints of this node, each with an interface of a number that it always has.
fn ids_here(snapshot: &Snapshot) -> BTreeMap<ObjectId, u32> {
    let workloads = snapshot.local_endpoints.keys().map(|key| ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(key.namespace.to_string()),
        name: key.name.to_string(),
    });
    let hosts = snapshot
        .host_endpoints
        .iter()
        .filter(|(_, r)| r.spec.node == HERE);
    let hosts = hosts.map(|(name, _)| ObjectId {
        kind: Kind::HostEndpoint,
        namespace: None,
        name: name.clone(),
    });
    let number = |id: &ObjectId| {
        let text = id.to_string();
        text.bytes()
            .fold(7u32, |sum, b| (sum * 31 + u32::from(b)) % 1_000_003)
            + 2_000
    };
    let all: BTreeMap<ObjectId, u32> = workloads
        .chain(hosts)
        .map(|id| (id.clone(), number(&id)))
        .collect();
    let numbers: std::collections::BTreeSet<u32> = all.values().copied().collect();
    assert_eq!(numbers.len(), all.len());
    all
}

#[test]
fn a_thousand_changes_end_in_the_maps_of_a_fresh_start() {
    let mut dice = Dice::new(31);
    let mut snapshot = Snapshot::default();
    let mut old = Node::new();
    old.take(&snapshot, &[]);
    let mut tally = Tally::default();
    for look in 0..LOOKS {
        for _ in 0..CHANGES {
            let things = [
                Thing::Namespace,
                Thing::Tier,
                Thing::Policy,
                Thing::Policy,
                Thing::Policy,
                Thing::Party,
                Thing::Party,
            ];
            let thing = dice.pick(&things);
            let id = samples::change(&mut dice, &mut snapshot, thing);
            old.take(&snapshot, &[id]);
        }
        let mut fresh = Node::new();
        let ids: Vec<ObjectId> = feed::present(&snapshot).into_iter().collect();
        fresh.take(&snapshot, &ids);
        let (before, now) = (old.read(), fresh.read());
        let (before, now) = (
            canonical(&old.engine, &before),
            canonical(&fresh.engine, &now),
        );
        let differ: Vec<_> = before.symmetric_difference(&now).take(10).collect();
        assert!(differ.is_empty(), "look {look}: {differ:#?}");
        let here: Vec<ObjectId> = old.interfaces.keys().cloned().collect();
        for _ in 0..PACKETS / LOOKS {
            let Some(packet) = first_packet(&samples::packet(&mut dice)) else {
                continue;
            };
            let id = dice.pick(&here);
            let direction = dice.pick(&[PolicyType::Ingress, PolicyType::Egress]);
            let found = old.passes(&id, direction, &packet);
            assert_eq!(
                found,
                fresh.passes(&id, direction, &packet),
                "{id} {direction:?}"
            );
            tally.count(found);
        }
    }
    assert!(tally.is_mixed(), "{tally:?}");
    // And back to nothing: what is left is what a node has that knows nobody.
    let ids: Vec<ObjectId> = feed::known(&old.engine).into_iter().collect();
    old.take(&Snapshot::default(), &ids);
    let mut nobody = Node::new();
    nobody.take(&Snapshot::default(), &[]);
    let (left, none) = (old.read(), nobody.read());
    assert_eq!(
        canonical(&old.engine, &left),
        canonical(&nobody.engine, &none)
    );
}
