//! VXLAN devices and workload links.

use model::Family;
use model::kernel::{Op, TunnelLink, Vxlan};

use super::{Planner, is_ours};
use crate::describe;

impl Planner<'_> {
    /// Plans links first: everything else hangs on them.
    pub(super) fn links(&mut self) {
        for wanted in self.desired.vxlan.values() {
            self.vxlan(wanted);
        }
        if let Some(wanted) = self.desired.tunnel {
            self.tunnel(wanted);
        }
        for link in &self.desired.workload_links {
            let up = self.observed.links.get(link).is_some_and(|l| l.up);
            if self.needs(*link, || describe::link(link)) && !up {
                self.ops.push(Op::SetUp(*link));
            }
        }
        self.sweep();
    }

    fn vxlan(&mut self, wanted: &Vxlan) {
        let name = wanted.name;
        if !self.observed.links.contains_key(&wanted.parent) {
            self.needs(wanted.parent, || describe::vxlan(wanted));
            // What is left of it cannot work, and nothing can be built on it.
            return;
        }
        let found = self.observed.ours.vxlan.get(&name);
        let same = found.filter(|f| f.settings == wanted.settings && f.parent == wanted.parent);
        let Some(same) = same else {
            if self.present.contains(&name) {
                self.ops.push(Op::DeleteLink(name));
            }
            self.make_room(wanted);
            self.ops.push(Op::CreateVxlan(*wanted));
            self.present.insert(name);
            self.remade.insert(name);
            return;
        };
        if same.mtu != wanted.mtu {
            self.ops.push(Op::SetMtu(name, wanted.mtu));
        }
        if same.mac != wanted.mac {
            self.ops.push(Op::SetMac(name, wanted.mac));
            self.flushed.insert(name);
        }
        if self.observed.links.get(&name).is_some_and(|l| !l.up) {
            self.ops.push(Op::SetUp(name));
        }
    }

    /// Somebody else makes it: where it is missing, what hangs on it waits.
    fn tunnel(&mut self, wanted: TunnelLink) {
        let TunnelLink { name, mtu } = wanted;
        if !self.needs(name, || describe::link(&name)) {
            return;
        }
        let found = self.observed.links.get(&name);
        if found.is_some_and(|l| l.mtu != mtu) {
            self.ops.push(Op::SetMtu(name, mtu));
        }
        if found.is_some_and(|l| !l.up) {
            self.ops.push(Op::SetUp(name));
        }
    }

    /// The kernel has one VXLAN device per VNI, port and family: one in the way goes first.
    fn make_room(&mut self, wanted: &Vxlan) {
        let id = |v: &Vxlan| {
            (
                v.settings.vni,
                v.settings.port,
                Family::of(v.settings.local),
            )
        };
        for other in self.observed.ours.vxlan.values() {
            let in_the_way = other.name != wanted.name
                && id(other) == id(wanted)
                && !self.remade.contains(&other.name)
                && self.present.contains(&other.name);
            if in_the_way {
                self.ops.push(Op::DeleteLink(other.name));
                self.present.remove(&other.name);
                self.remade.insert(other.name);
            }
        }
    }

    fn sweep(&mut self) {
        let ours = &self.observed.ours;
        let vxlan = ours
            .vxlan
            .keys()
            .filter(|n| !self.desired.vxlan.contains_key(n));
        let workload = ours.workload_links.difference(&self.desired.workload_links);
        // A process that serves it ends when it goes.
        let tunnel = ours.tunnel.as_ref().map(|t| &t.name);
        let tunnel = tunnel.filter(|_| self.desired.tunnel.is_none());
        for name in vxlan.chain(workload).chain(tunnel) {
            let named_otherwise =
                self.desired.vxlan.contains_key(name) || self.desired.workload_links.contains(name);
            if is_ours(name) && !named_otherwise && self.present.contains(name) {
                self.cleanup.push(Op::DeleteLink(*name));
            }
        }
    }
}
