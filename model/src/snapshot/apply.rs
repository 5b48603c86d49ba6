//! How events change a snapshot.

use super::entry::{DEFAULT, Entry, Slot};
use super::{Changed, EndpointKey, Rejected, Snapshot};
use crate::Kind;
use crate::kv::{Event, Revision};
use crate::object::ObjectId;

impl Snapshot {
    /// Applies an event as the store's follower tells it: each key's events in order, keys of
    /// different prefixes in any.
    pub fn apply(&mut self, local_node: &str, event: &Event) -> Changed {
        if Slot::of(&event.key).is_none() {
            return Changed::NONE;
        }
        self.revision = self.revision.max(event.revision);
        if !self.bookkeeping.echoes.admit(event) {
            return Changed::NONE;
        }
        self.set(local_node, &event.key, event.value.as_deref())
    }

    /// Applies an own write that has just been committed, before the watch brings it.
    ///
    /// What the watch has brought already, and what it brings later, never undo a newer state.
    pub fn echo(&mut self, local_node: &str, event: &Event) -> Changed {
        let Some(slot) = Slot::of(&event.key) else {
            return Changed::NONE;
        };
        let present = self.has(&slot, &event.key);
        if !self.bookkeeping.echoes.own(event, present) {
            return Changed::NONE;
        }
        self.revision = self.revision.max(event.revision);
        self.set(local_node, &event.key, event.value.as_deref())
    }

    /// A complete listing at `revision` was told.
    ///
    /// When the store has gone back in time, own writes of its former life are given up.
    pub fn listed(&mut self, local_node: &str, revision: Revision) -> Changed {
        self.revision = revision;
        let mut changed = Changed::NONE;
        for event in self.bookkeeping.echoes.listed(revision) {
            changed |= self.set(local_node, &event.key, event.value.as_deref());
        }
        changed
    }

    /// Makes a key hold a value, or nothing. What cannot be read is reported, and what was read
    /// before goes on: a truncated value is no order to take anything down.
    fn set(&mut self, local_node: &str, key: &str, value: Option<&[u8]>) -> Changed {
        let Some(slot) = Slot::of(key) else {
            return Changed::NONE;
        };
        let refused = self.rejected.remove(key);
        let read =
            value.map(|v| Entry::read(&slot, key, v, local_node, &mut self.bookkeeping.interner));
        let new = match read {
            Some(Err(why)) => return self.refuse(&slot, key, refused.as_ref(), why),
            Some(Ok(entry)) => Some(entry),
            None => slot.absent(),
        };
        let old = self.take(&slot);
        let part = |entry: &Option<Entry>| entry.as_ref().map_or(Changed::NONE, Entry::part);
        let changed = (part(&old) | part(&new)).when(old != new);
        self.put(new);
        changed | Changed::REJECTED.when(refused.is_some())
    }

    /// Reports a value that cannot be read, and whether an older one stands in for it.
    fn refuse(
        &mut self,
        slot: &Slot,
        key: &str,
        before: Option<&Rejected>,
        mut why: Rejected,
    ) -> Changed {
        let standing = self.take(slot);
        if standing.is_some() && standing != slot.absent() {
            why.message += "; what was read before it stays in force";
            why.standing = true;
        }
        self.put(standing);
        let changed = Changed::REJECTED.when(before != Some(&why));
        self.rejected.insert(key.to_owned(), why);
        changed
    }

    fn has(&mut self, slot: &Slot, key: &str) -> bool {
        let entry = self.take(slot);
        let present = entry.is_some() || self.rejected.contains_key(key);
        self.put(entry);
        present
    }

    /// Takes out what a slot holds.
    fn take(&mut self, slot: &Slot) -> Option<Entry> {
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
            Kind::BGPConfiguration => {
                let configurations = &mut self.bgp_configurations;
                configurations.remove(name).map(Entry::BgpConfiguration)
            }
            Kind::BGPPeer => self.bgp_peers.remove(name).map(Entry::BgpPeer),
            Kind::BGPFilter => self.bgp_filters.remove(name).map(Entry::BgpFilter),
            Kind::Secret => self.secrets.remove(name).map(Entry::Secret),
            Kind::Tier => self.tiers.remove(name).map(Entry::Tier),
            Kind::GlobalNetworkPolicy
            | Kind::NetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedNetworkPolicy => {
                let (id, policy) = self.policies.remove_entry(id)?;
                Some(Entry::Policy(id, policy))
            }
            Kind::GlobalNetworkSet | Kind::NetworkSet => {
                let (id, set) = self.network_sets.remove_entry(id)?;
                Some(Entry::NetworkSet(id, set))
            }
            Kind::HostEndpoint => self.host_endpoints.remove(name).map(Entry::HostEndpoint),
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

    fn put(&mut self, entry: Option<Entry>) {
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
            Some(Entry::BgpConfiguration(r)) => {
                self.bgp_configurations.insert(r.name().to_owned(), r);
            }
            Some(Entry::BgpPeer(r)) => {
                self.bgp_peers.insert(r.name().into(), r);
            }
            Some(Entry::BgpFilter(r)) => {
                self.bgp_filters.insert(r.name().to_owned(), r);
            }
            Some(Entry::Secret(r)) => {
                self.secrets.insert(r.name().into(), r);
            }
            Some(Entry::Tier(r)) => {
                self.tiers.insert(r.name().to_owned(), r);
            }
            Some(Entry::Policy(id, r)) => {
                self.policies.insert(id, r);
            }
            Some(Entry::NetworkSet(id, r)) => {
                self.network_sets.insert(id, r);
            }
            Some(Entry::HostEndpoint(r)) => {
                self.host_endpoints.insert(r.name().to_owned(), r);
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
        }
    }
}

#[cfg(test)]
impl Snapshot {
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
            | Changed::SECRETS.when(self.secrets != other.secrets)
            | Changed::NETWORK_SETS.when(self.network_sets != other.network_sets)
            | Changed::HOST_ENDPOINTS.when(self.host_endpoints != other.host_endpoints)
            | Changed::POLICIES.when(self.tiers != other.tiers || self.policies != other.policies)
            | Changed::BGP.when(
                self.bgp_configurations != other.bgp_configurations
                    || self.bgp_peers != other.bgp_peers
                    || self.bgp_filters != other.bgp_filters,
            )
    }
}
