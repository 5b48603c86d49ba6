//! Who is at which interface: one endpoint at each, and perhaps several interfaces of an endpoint.

use std::collections::{BTreeMap, BTreeSet};

use model::object::ObjectId;

use super::enforcer::Interface;

/// Interfaces by number, and the endpoint of each.
#[derive(Debug, Default)]
pub struct Attached {
    at: BTreeMap<u32, (ObjectId, Interface)>,
    of: BTreeMap<ObjectId, BTreeSet<u32>>,
}

impl Attached {
    /// Puts an endpoint to an interface. Who was there comes back; it may be itself.
    pub fn put(&mut self, id: &ObjectId, interface: Interface) -> Option<(ObjectId, Interface)> {
        let ifindex = interface.ifindex;
        let before = self.at.insert(ifindex, (id.clone(), interface));
        if let Some((other, _)) = before.as_ref().filter(|(other, _)| other != id) {
            self.part(&other.clone(), ifindex);
        }
        self.of.entry(id.clone()).or_default().insert(ifindex);
        before
    }

    /// Takes an endpoint away from an interface, if it is there.
    pub fn remove(&mut self, id: &ObjectId, ifindex: u32) -> Option<Interface> {
        self.get(id, ifindex)?;
        self.part(id, ifindex);
        self.at.remove(&ifindex).map(|(_, interface)| interface)
    }

    fn part(&mut self, id: &ObjectId, ifindex: u32) {
        if let Some(own) = self.of.get_mut(id) {
            own.remove(&ifindex);
            if own.is_empty() {
                self.of.remove(id);
            }
        }
    }

    /// An interface of an endpoint.
    pub fn get(&self, id: &ObjectId, ifindex: u32) -> Option<&Interface> {
        let (owner, interface) = self.at.get(&ifindex)?;
        (owner == id).then_some(interface)
    }

    /// The interfaces of an endpoint.
    pub fn of(&self, id: &ObjectId) -> impl Iterator<Item = &Interface> {
        let own = self.of.get(id).into_iter().flatten();
        own.filter_map(|ifindex| self.at.get(ifindex).map(|(_, interface)| interface))
    }

    /// Whether an endpoint has any.
    pub fn has(&self, id: &ObjectId) -> bool {
        self.of.contains_key(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Interface)> {
        self.at.values().map(|(id, interface)| (id, interface))
    }

    /// How many interfaces there are.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}
