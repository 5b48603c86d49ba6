//! A model of the kernel's rules, for tests of whoever plans or applies.
//!
//! It keeps to what the kernel checks: a route needs its interface up and its gateway reachable,
//! deleting a link takes along what hangs on it, keys are unique. And it fails on demand.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};

use model::kernel::{
    ClearText, KernelState, Link, LinkKind, LinkName, Observed, Op, Route, RouteKey,
};

use crate::{Error, Kernel, Refusal, describe, nat};

/// A kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// Every interface, ours and others, without our addresses' copy in `state`.
    pub links: BTreeMap<LinkName, Link>,
    /// What is ours, but for workload links: those are the veth links with our prefix.
    pub state: KernelState,
    /// Routes of others.
    pub alien_routes: BTreeMap<RouteKey, Route>,
    /// Every operation asked for, in order, failed ones as well.
    pub log: Vec<Op>,
    fail_calls: BTreeSet<usize>,
    fail_kinds: Vec<Discriminant<Op>>,
    fail_observe: bool,
    next_index: u32,
}

impl FakeKernel {
    /// A kernel with nothing in it.
    pub fn new() -> FakeKernel {
        FakeKernel {
            next_index: 1,
            ..FakeKernel::default()
        }
    }

    /// Adds a link as somebody else would: hardware, or the CNI path. Its index is chosen here.
    pub fn add_link(&mut self, mut link: Link) {
        link.index = self.index();
        self.links.insert(link.name, link);
    }

    /// Deletes a link as somebody else would, and what hangs on it.
    pub fn remove_link(&mut self, name: LinkName) {
        rules::delete_link(self, name);
    }

    /// Fails the operation that is `n` operations away, counted over all calls of `apply` from
    /// now on; 0 is the next one.
    pub fn fail_call(&mut self, n: usize) {
        self.fail_calls.insert(self.log.len() + n);
    }

    /// Fails the next operation of the same kind as `op`, once.
    pub fn fail_kind(&mut self, op: &Op) {
        self.fail_kinds.push(discriminant(op));
    }

    /// Fails the next observation, once.
    pub fn fail_observe(&mut self) {
        self.fail_observe = true;
    }

    fn index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }

    fn injected(&mut self, op: &Op) -> bool {
        let by_call = self.fail_calls.remove(&self.log.len());
        let kind = self.fail_kinds.iter().position(|k| *k == discriminant(op));
        if let Some(at) = kind {
            self.fail_kinds.swap_remove(at);
        }
        by_call || kind.is_some()
    }
}

impl Kernel for FakeKernel {
    fn observe(&mut self) -> Result<Observed, Error> {
        if std::mem::take(&mut self.fail_observe) {
            return Err(Refusal::errno(libc::ENOBUFS).during("dump", "everything"));
        }
        let mut links = self.links.clone();
        for (dev, address) in &self.state.addresses {
            if let Some(link) = links.get_mut(dev) {
                link.addresses.push(*address);
            }
        }
        let mut ours = self.state.clone();
        ours.nat = ours.nat.as_ref().map(nat::canonical);
        ours.guard = ours.guard.as_ref().map(nat::canonical_guard);
        ours.workload_links = links
            .values()
            .filter(|l| l.kind == LinkKind::Veth && model::marks::is_our_link(l.name.as_str()))
            .map(|l| l.name)
            .collect();
        ours.tunnel = links.values().find_map(crate::observe::tunnel_link);
        let alien_routes = self
            .alien_routes
            .iter()
            .map(|(k, r)| (*k, r.protocol))
            .collect();
        Ok(Observed {
            links,
            ours,
            alien_routes,
        })
    }

    fn clear_text(&mut self) -> Result<Option<ClearText>, Error> {
        Ok(self.state.guard.as_ref().map(|_| ClearText::default()))
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), Error>> {
        ops.iter()
            .map(|op| {
                let result = if self.injected(op) {
                    Err(Refusal {
                        errno: libc::EIO,
                        text: Some("on demand".to_owned()),
                    })
                } else {
                    rules::apply(self, op)
                };
                self.log.push(op.clone());
                result.map_err(|r| r.during(describe::operation(op), describe::object(op)))
            })
            .collect()
    }
}
