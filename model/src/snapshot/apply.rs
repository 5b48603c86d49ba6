//! How events change a snapshot.

use super::entry::{DEFAULT, Entry, Slot};
use super::{Changed, EndpointKey, Snapshot};
use crate::Kind;
use crate::kv::{Event, KeyValue, Op, Revision, Txn, TxnOutcome};
use crate::object::ObjectId;

impl Snapshot {
    /// The snapshot of a complete listing of the store at `revision`.
    pub fn from_list(
        local_node: &str,
        revision: Revision,
        pairs: impl IntoIterator<Item = KeyValue>,
    ) -> Snapshot {
        let mut snapshot = Snapshot {
            revision,
            ..Snapshot::default()
        };
        for pair in pairs {
            snapshot.set(local_node, &pair.key, Some(&pair.value));
        }
        snapshot
    }

    /// Takes over a newer listing (after a compaction, a lost watch).
    ///
    /// Own writes past the listing's revision stay. A listing *older* than this snapshot comes from
    /// a store with another history and is taken as it is; whether to do that at all is for the
    /// caller to decide before.
    pub fn replace(&mut self, mut fresh: Snapshot) -> Changed {
        if fresh.revision >= self.revision {
            for (key, revision) in std::mem::take(&mut self.bookkeeping.pending) {
                if revision > fresh.revision {
                    if let Some(slot) = Slot::of(&key) {
                        fresh.take(&slot, &key);
                        let entry = self.take(&slot, &key);
                        self.put(&key, entry.clone());
                        fresh.put(&key, entry);
                    }
                    fresh.bookkeeping.pending.insert(key, revision);
                }
            }
        }
        let changed = self.differs(&fresh);
        *self = fresh;
        changed
    }

    /// Applies one event: of the watch, or of an own write that has just been committed.
    ///
    /// Idempotent. An event that is not newer than what is known of its key changes nothing, so own
    /// writes may be applied early and come again with the watch, and a late event of the watch
    /// never undoes them.
    pub fn apply(&mut self, local_node: &str, event: &Event) -> Changed {
        let known = self.bookkeeping.pending.get(&*event.key).copied();
        if event.revision <= self.revision || known.is_some_and(|known| event.revision <= known) {
            return Changed::NONE;
        }
        if Slot::of(&event.key).is_none() {
            return Changed::NONE;
        }
        // A deleted key stays here as a tombstone until the watch is past it.
        self.bookkeeping
            .pending
            .insert(event.key.as_str().into(), event.revision);
        self.set(local_node, &event.key, event.value.as_deref())
    }

    /// Applies the writes of an own transaction as soon as its outcome is known.
    pub fn echo(&mut self, local_node: &str, txn: &Txn, outcome: &TxnOutcome) -> Changed {
        let done = if outcome.succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let mut changed = Changed::NONE;
        for op in done {
            let (key, value) = match op {
                Op::Put { key, value, .. } => (key, Some(value.clone())),
                Op::Delete(key) => (key, None),
                Op::Get(_) => continue,
            };
            let event = Event {
                key: key.clone(),
                value,
                revision: outcome.revision,
            };
            changed |= self.apply(local_node, &event);
        }
        changed
    }

    /// The watch has delivered every event up to `revision`.
    ///
    /// To be called after the last event of a revision, never between two of the same.
    pub fn advance(&mut self, revision: Revision) {
        if revision > self.revision {
            self.revision = revision;
            self.bookkeeping
                .pending
                .retain(|_, known| *known > revision);
        }
    }

    /// Makes a key hold a value, or nothing.
    fn set(&mut self, local_node: &str, key: &str, value: Option<&[u8]>) -> Changed {
        let Some(slot) = Slot::of(key) else {
            return Changed::NONE;
        };
        let new =
            value.map(|v| Entry::read(&slot, key, v, local_node, &mut self.bookkeeping.interner));
        let new = new.or_else(|| slot.absent());
        let old = self.take(&slot, key);
        let part = |entry: &Option<Entry>| entry.as_ref().map_or(Changed::NONE, Entry::part);
        let changed = (part(&old) | part(&new)).when(old != new);
        self.put(key, new);
        changed
    }

    /// Takes out what a key holds.
    fn take(&mut self, slot: &Slot, key: &str) -> Option<Entry> {
        if let Some(rejected) = self.rejected.remove(key) {
            return Some(Entry::Rejected(rejected));
        }
        match slot {
            Slot::Resource(id) => self.take_resource(id),
            Slot::Block(cidr) => self.blocks.remove(cidr).map(|b| Entry::Block(*cidr, b)),
            Slot::Foreign => None,
        }
    }

    fn take_resource(&mut self, id: &ObjectId) -> Option<Entry> {
        let name = id.name.as_str();
        match id.kind {
            Kind::Node => self.nodes.remove(name).map(Entry::Node),
            Kind::IPPool => self.pools.remove(name).map(Entry::Pool),
            Kind::IPReservation => self.reservations.remove(name).map(Entry::Reservation),
            Kind::Namespace => self.namespaces.remove(name).map(Entry::Namespace),
            // A name that is not `default` is rejected on reading, so it never stands here.
            Kind::IPAMConfiguration if id.name == DEFAULT => {
                Some(Entry::Ipam(std::mem::take(&mut self.ipam)))
            }
            Kind::MeshConfiguration if id.name == DEFAULT => {
                Some(Entry::Mesh(std::mem::take(&mut self.mesh)))
            }
            Kind::IPAMConfiguration | Kind::MeshConfiguration => None,
            Kind::WorkloadEndpoint => {
                let key = EndpointKey {
                    namespace: self
                        .bookkeeping
                        .interner
                        .name(id.namespace.as_deref().unwrap_or_default()),
                    name: name.into(),
                };
                if let Some(local) = self.local_endpoints.remove(&key) {
                    return Some(Entry::LocalEndpoint(key, local));
                }
                let remote = self.remote_endpoints.remove(&key)?;
                Some(Entry::RemoteEndpoint(key, remote))
            }
        }
    }

    fn put(&mut self, key: &str, entry: Option<Entry>) {
        match entry {
            None => {}
            Some(Entry::Node(r)) => {
                self.nodes
                    .insert(self.bookkeeping.interner.name(r.name()), r);
            }
            Some(Entry::Pool(r)) => {
                self.pools.insert(r.name().to_owned(), r);
            }
            Some(Entry::Reservation(r)) => {
                self.reservations.insert(r.name().to_owned(), r);
            }
            Some(Entry::Namespace(r)) => {
                self.namespaces.insert(r.name().to_owned(), r);
            }
            Some(Entry::Ipam(spec)) => self.ipam = spec,
            Some(Entry::Mesh(spec)) => self.mesh = spec,
            Some(Entry::LocalEndpoint(key, r)) => {
                self.local_endpoints.insert(key, r);
            }
            Some(Entry::RemoteEndpoint(key, r)) => {
                self.remote_endpoints.insert(key, r);
            }
            Some(Entry::Block(cidr, summary)) => {
                self.blocks.insert(cidr, summary);
            }
            Some(Entry::Rejected(rejected)) => {
                self.rejected.insert(key.to_owned(), rejected);
            }
        }
    }

    /// The parts in which two snapshots differ.
    pub(super) fn differs(&self, other: &Snapshot) -> Changed {
        Changed::NODES.when(self.nodes != other.nodes)
            | Changed::POOLS.when(self.pools != other.pools)
            | Changed::RESERVATIONS.when(self.reservations != other.reservations)
            | Changed::IPAM.when(self.ipam != other.ipam)
            | Changed::MESH.when(self.mesh != other.mesh)
            | Changed::NAMESPACES.when(self.namespaces != other.namespaces)
            | Changed::LOCAL_ENDPOINTS.when(self.local_endpoints != other.local_endpoints)
            | Changed::REMOTE_ENDPOINTS.when(self.remote_endpoints != other.remote_endpoints)
            | Changed::BLOCKS.when(self.blocks != other.blocks)
            | Changed::REJECTED.when(self.rejected != other.rejected)
    }
}
