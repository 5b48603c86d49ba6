//! Where the programs are: at the interfaces of endpoints of this node.

use std::collections::BTreeSet;

use model::marks;
use model::object::ObjectId;
use policy_ebpf::kernel::Interface;
use tracing::warn;

use super::Owner;
use super::enforce::Enforce;

impl Owner {
    /// Brings programs to where endpoints are, and has them take over once they are everywhere.
    pub(super) fn look(&mut self) {
        if !self.taken_over {
            self.announce();
        }
        let ids: Vec<ObjectId> = self.places.keys().cloned().collect();
        ids.iter().for_each(|id| self.settle(id));
        let is_whole =
            self.is_configured() && self.unattached.is_empty() && self.unwritten.is_empty();
        let Ok(kernel) = &mut self.kernel else {
            return;
        };
        if !self.taken_over && is_whole {
            match kernel.take_over() {
                Ok(()) => self.taken_over = true,
                Err(e) => warn!("policy of the daemon before remains: {e}"),
            }
        }
    }

    /// Lets the maps know who is where before the first program looks: one that found nobody at the other end of a
    /// connection would leave it to routing for good.
    fn announce(&mut self) {
        let Ok(kernel) = &mut self.kernel else {
            return;
        };
        for (id, place) in self.places.iter().filter(|(_, p)| p.goes_straight) {
            let Some(interface) = kernel.find(place) else {
                continue;
            };
            if self.attached.get(id, interface.ifindex).is_none()
                && let Err(e) = kernel.announce(id, &interface)
            {
                warn!(endpoint = %id, "{e}");
            }
        }
    }

    /// Brings the programs to where an endpoint is.
    pub(super) fn settle(&mut self, id: &ObjectId) {
        let (Some(place), Ok(kernel)) = (self.places.get(id), &self.kernel) else {
            return;
        };
        if place.is_everywhere() {
            match self.everywhere(id, kernel.as_ref()) {
                Ok(wanted) => self.bring(id, wanted),
                Err(why) => self.complain(id, &why),
            }
            return;
        }
        // Its interface came with ADD and ends with DEL.
        if place.of_cni && self.attached.of(id).any(|i| place.is_as(i)) {
            return;
        }
        match kernel.find(place) {
            Some(interface) => self.bring(id, vec![interface]),
            // Nothing can pass an interface that is not there; one that comes is looked at.
            None => {
                self.unattached.remove(id);
            }
        }
    }

    /// The interfaces of an endpoint that is at all of the host: those that are no workload's, and that no other
    /// endpoint of the host names.
    fn everywhere(&self, id: &ObjectId, kernel: &dyn Enforce) -> Result<Vec<Interface>, String> {
        let mut others = self.places.iter().filter(|(other, _)| *other != id);
        let rival = others.find(|(other, place)| *other < id && place.is_everywhere());
        if let Some((rival, _)) = rival {
            return Err(format!(
                "{id}: {rival} is for all interfaces of this node already: delete one of them"
            ));
        }
        let others = self.places.iter().filter(|(other, _)| *other != id);
        let named = others.filter_map(|(_, place)| match place.interface.as_str() {
            "" => kernel.find(place).map(|interface| interface.name),
            name => Some(name.to_owned()),
        });
        let held = self.attached.iter().filter(|(_, at)| !at.host);
        let taken: BTreeSet<String> = held.map(|(_, at)| at.name.clone()).chain(named).collect();
        let mut all = kernel.interfaces();
        all.retain(|i| !marks::is_workload_link(&i.name) && !taken.contains(&i.name));
        Ok(all)
    }

    /// Brings the programs of an endpoint to these interfaces, and takes them away from its others.
    fn bring(&mut self, id: &ObjectId, wanted: Vec<Interface>) {
        let Ok(kernel) = &mut self.kernel else {
            return;
        };
        let there = |ifindex| wanted.iter().any(|i| i.ifindex == ifindex);
        let of = self.attached.of(id).map(|i| i.ifindex);
        let gone: Vec<u32> = of.filter(|ifindex| !there(*ifindex)).collect();
        let mut failed = None;
        for interface in wanted {
            if self.attached.get(id, interface.ifindex) == Some(&interface) {
                continue;
            }
            match kernel.attach(id, &interface) {
                Ok(()) => {
                    self.attached.put(id, interface);
                }
                Err(e) => failed = Some(e),
            }
        }
        for ifindex in gone {
            self.attached.remove(id, ifindex);
            if let Err(e) = kernel.detach(id, ifindex) {
                warn!(endpoint = %id, "{e}");
            }
        }
        match failed {
            Some(why) => self.complain(id, &why),
            None => {
                self.unattached.remove(id);
            }
        }
    }

    /// Says once why an endpoint is not where it should be.
    fn complain(&mut self, id: &ObjectId, why: &str) {
        let before = self.unattached.insert(id.clone(), why.to_owned());
        if before.is_none() {
            warn!(endpoint = %id, "{why}");
        }
    }

    /// Has endpoints that are at all interfaces of the host make way for one that is at one, or come back.
    pub(super) fn settle_everywhere(&mut self) {
        if !self.listed {
            return;
        }
        let everywhere = self
            .places
            .iter()
            .filter(|(_, place)| place.is_everywhere());
        let ids: Vec<ObjectId> = everywhere.map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.settle(id));
    }

    /// Takes the programs away from an endpoint that is gone.
    pub(super) fn leave(&mut self, id: &ObjectId) {
        let place = self.places.remove(id);
        self.added.remove(id);
        self.unattached.remove(id);
        if place.is_some_and(|place| !place.of_cni) {
            // Before it leaves, so that there is no moment without one.
            self.settle_everywhere();
        }
        self.bring(id, Vec::new());
    }
}
