//! From what is wanted and what is there to what is to be done: pure, and the same every time.
//!
//! Mark and sweep over the union of both sides. Create before use, delete after use; a link that
//! has to be made anew takes what hangs on it along, so that is planned anew as well.

mod links;
mod routes;

pub use routes::hops;

use std::collections::BTreeSet;
use std::fmt;

use model::kernel::{KernelState, LinkName, Observed, Op, RouteKey};
use model::marks;

use crate::{describe, nat};

/// What is to be done, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Operations, in order.
    pub ops: Vec<Op>,
    /// Wanted objects that are left out, and why.
    pub conflicts: Vec<Conflict>,
}

/// Why a wanted object is not planned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// Somebody else has a route with this key; it is never replaced.
    AlienRoute {
        /// The key.
        key: RouteKey,
        /// Whose: `rtm_protocol`.
        protocol: u8,
    },
    /// The interface does not exist.
    MissingLink {
        /// The interface.
        link: LinkName,
        /// What needs it.
        object: String,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::AlienRoute { key, protocol } => write!(
                f,
                "{}: another route with protocol {protocol} has this key: remove it or give it another metric",
                describe::route_key(key)
            ),
            Conflict::MissingLink { link, object } => {
                write!(f, "{object}: there is no interface {link}")
            }
        }
    }
}

/// Plans the way from `observed` to `desired`.
///
/// Everything of ours that is not desired is deleted, workload links included: the caller puts
/// links that are being made into `desired.workload_links` before they are made.
pub fn plan(desired: &KernelState, observed: &Observed) -> Plan {
    let mut planner = Planner::new(desired, observed);
    planner.links();
    planner.sysctls();
    planner.addresses();
    planner.neighbours();
    planner.fdb();
    planner.nat();
    planner.guard();
    planner.routes();
    planner.finish()
}

/// A plan in the making.
struct Planner<'a> {
    desired: &'a KernelState,
    observed: &'a Observed,
    /// Operations of the way up.
    ops: Vec<Op>,
    /// Operations of the way down: run after all others, last pushed first.
    cleanup: Vec<Op>,
    conflicts: BTreeSet<Conflict>,
    /// Links that exist once the plan is under way.
    present: BTreeSet<LinkName>,
    /// Links made anew: what was observed on them is gone.
    remade: BTreeSet<LinkName>,
    /// Links whose Ethernet address changes: the kernel flushes their neighbours.
    flushed: BTreeSet<LinkName>,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a KernelState, observed: &'a Observed) -> Planner<'a> {
        Planner {
            desired,
            observed,
            ops: Vec::new(),
            cleanup: Vec::new(),
            conflicts: BTreeSet::new(),
            present: observed.links.keys().copied().collect(),
            remade: BTreeSet::new(),
            flushed: BTreeSet::new(),
        }
    }

    fn finish(mut self) -> Plan {
        self.cleanup.reverse();
        self.ops.append(&mut self.cleanup);
        Plan {
            ops: self.ops,
            conflicts: self.conflicts.into_iter().collect(),
        }
    }

    /// Whether `link` will be there; a conflict is noted when not.
    fn needs(&mut self, link: LinkName, object: impl FnOnce() -> String) -> bool {
        let there = self.present.contains(&link);
        if !there {
            self.conflicts.insert(Conflict::MissingLink {
                link,
                object: object(),
            });
        }
        there
    }

    fn sysctls(&mut self) {
        for (path, value) in &self.desired.sysctls {
            let link = sysctl_link(path);
            if let Some(link) = link
                && !self.needs(link, || format!("sysctl {path}"))
            {
                continue;
            }
            let reset = link.is_some_and(|l| self.remade.contains(&l));
            let found = self.observed.ours.sysctls.get(path).filter(|_| !reset);
            // The kernel separates several values by tabs.
            if found.is_none_or(|v| !v.split_whitespace().eq(value.split_whitespace())) {
                self.ops.push(Op::SetSysctl(path.clone(), value.clone()));
            }
        }
    }

    fn addresses(&mut self) {
        for &(dev, address) in &self.desired.addresses {
            let op = Op::AddAddress(dev, address);
            // One that somebody else put there serves as well, and stays theirs.
            let link = self.observed.links.get(&dev);
            let found = link.is_some_and(|l| l.addresses.contains(&address));
            if self.needs(dev, || describe::object(&op)) && (!found || self.remade.contains(&dev)) {
                self.ops.push(op);
            }
        }
        for &(dev, address) in self
            .observed
            .ours
            .addresses
            .difference(&self.desired.addresses)
        {
            if !self.remade.contains(&dev) {
                self.cleanup.push(Op::DeleteAddress(dev, address));
            }
        }
    }

    fn neighbours(&mut self) {
        for n in &self.desired.neighbours {
            let lost = self.remade.contains(&n.dev) || self.flushed.contains(&n.dev);
            let found = self.observed.ours.neighbours.contains(n);
            if self.needs(n.dev, || describe::neighbour(n)) && (lost || !found) {
                self.ops.push(Op::SetNeighbour(*n));
            }
        }
        let wanted: BTreeSet<_> = self
            .desired
            .neighbours
            .iter()
            .map(|n| (n.dev, n.ip))
            .collect();
        for n in &self.observed.ours.neighbours {
            let lost = self.remade.contains(&n.dev) || self.flushed.contains(&n.dev);
            if !lost && !wanted.contains(&(n.dev, n.ip)) {
                self.cleanup.push(Op::DeleteNeighbour(*n));
            }
        }
    }

    fn fdb(&mut self) {
        let observed = &self.observed.ours.fdb;
        for e in &self.desired.fdb {
            let found = observed.contains(e) && !self.remade.contains(&e.dev);
            if self.needs(e.dev, || describe::fdb(e)) && !found {
                self.ops.push(Op::SetFdb(*e));
            }
        }
        // One MAC may have been given a second destination by hand. Setting replaces one of
        // them, so where the wanted one was missing any of the others may be gone by then.
        let wanted: BTreeSet<_> = self.desired.fdb.iter().map(|e| (e.dev, e.mac)).collect();
        for e in observed.difference(&self.desired.fdb) {
            let of_mac = observed
                .iter()
                .filter(|o| (o.dev, o.mac) == (e.dev, e.mac))
                .count();
            let replaced = wanted.contains(&(e.dev, e.mac)) && of_mac == 1;
            if !replaced && !self.remade.contains(&e.dev) {
                self.cleanup.push(Op::DeleteFdb(*e));
            }
        }
    }

    fn nat(&mut self) {
        let found = self.observed.ours.nat.as_ref();
        match &self.desired.nat {
            Some(wanted) if found != Some(&nat::canonical(wanted)) => {
                self.ops.push(Op::SetNat(wanted.clone()));
            }
            None if found.is_some() => self.cleanup.push(Op::DeleteNat),
            _ => {}
        }
    }

    fn guard(&mut self) {
        let found = self.observed.ours.guard.as_ref();
        match &self.desired.guard {
            Some(wanted) if found != Some(&nat::canonical_guard(wanted)) => {
                self.ops.push(Op::SetGuard(wanted.clone()));
            }
            None if found.is_some() => self.cleanup.push(Op::DeleteGuard),
            _ => {}
        }
    }
}

/// The interface that a switch belongs to, if it is one of an interface.
pub fn sysctl_link(path: &str) -> Option<LinkName> {
    let mut parts = path.split('/');
    let (net, _family, table) = (parts.next()?, parts.next()?, parts.next()?);
    let name = parts.next()?;
    (net == "net" && matches!(table, "conf" | "neigh") && !matches!(name, "all" | "default"))
        .then(|| name.parse().ok())?
}

/// Whether a link of this name may be deleted by a plan: it carries our mark.
fn is_ours(name: &LinkName) -> bool {
    marks::is_our_link(name.as_str())
}
