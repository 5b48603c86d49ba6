//! A plan in stages: what fails blocks what hangs on it, and nothing else.
//!
//! Links come first, then what is on them, then routes, then what is to go. Between two stages
//! it is known what failed, so that what cannot work is not tried, and what a route that could not be
//! replaced still uses is not taken away from under it.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use model::kernel::{LinkName, Observed, Op};
use netlink::Error;

use super::target::{hops, is_of};

#[derive(Debug)]
pub(super) struct Stages {
    observed: Arc<Observed>,
    waiting: VecDeque<Vec<Op>>,
    /// Links that could not be made or set up.
    dead: BTreeSet<LinkName>,
    /// Addresses that could not be added: no source for a route.
    no_source: BTreeSet<IpAddr>,
    /// Links that routes still use which should have left them.
    in_use: BTreeSet<LinkName>,
    pub(super) done: usize,
    pub(super) failed: Vec<(Op, Error)>,
    pub(super) blocked: Vec<Op>,
}

/// Which stage an operation belongs to.
fn stage(op: &Op) -> u8 {
    match op {
        Op::CreateVxlan(_) | Op::SetMtu(..) | Op::SetMac(..) | Op::SetUp(_) => 0,
        Op::AddAddress(..)
        | Op::SetNeighbour(_)
        | Op::SetFdb(_)
        | Op::SetNat(_)
        | Op::SetGuard(_)
        | Op::SetSysctl(..) => 1,
        Op::AddRoute(..) | Op::ReplaceRoute(..) => 2,
        Op::DeleteLink(_)
        | Op::DeleteAddress(..)
        | Op::DeleteRoute(..)
        | Op::DeleteNeighbour(_)
        | Op::DeleteFdb(_)
        | Op::DeleteNat
        | Op::DeleteGuard => 3,
    }
}

impl Stages {
    /// Cuts a plan, whose order is kept.
    pub(super) fn new(ops: Vec<Op>, observed: Arc<Observed>) -> Stages {
        let mut waiting: VecDeque<Vec<Op>> = VecDeque::new();
        let mut at = 0;
        for op in ops {
            // A link that is deleted ahead of others makes room for one to come.
            let making_room = at == 0 && matches!(op, Op::DeleteLink(_));
            let next = if making_room { 0 } else { at.max(stage(&op)) };
            match waiting.back_mut().filter(|_| next == at) {
                Some(batch) => batch.push(op),
                None => waiting.push_back(vec![op]),
            }
            at = next;
        }
        Stages {
            observed,
            waiting,
            dead: BTreeSet::new(),
            no_source: BTreeSet::new(),
            in_use: BTreeSet::new(),
            done: 0,
            failed: Vec::new(),
            blocked: Vec::new(),
        }
    }

    /// The next operations to try. `spared` links came under protection after the plan was made.
    pub(super) fn next(&mut self, spared: impl Fn(LinkName) -> bool) -> Option<Vec<Op>> {
        while let Some(batch) = self.waiting.pop_front() {
            let mut runnable = Vec::with_capacity(batch.len());
            for op in batch {
                if takes_from(&op).iter().any(|l| spared(*l)) {
                    continue;
                }
                if self.is_blocked(&op) {
                    self.missed(&op);
                    self.blocked.push(op);
                } else {
                    runnable.push(op);
                }
            }
            if !runnable.is_empty() {
                return Some(runnable);
            }
        }
        None
    }

    /// Files the results of what [`Stages::next`] gave.
    pub(super) fn file(&mut self, ops: Vec<Op>, results: Vec<Result<(), Error>>) {
        let mut results = results.into_iter();
        for op in ops {
            match results.next() {
                Some(Ok(())) => self.done += 1,
                Some(Err(error)) => {
                    self.missed(&op);
                    self.failed.push((op, error));
                }
                // No answer: tried again with the rest.
                None => self.blocked.push(op),
            }
        }
    }

    pub(super) fn observed(&self) -> &Arc<Observed> {
        &self.observed
    }

    fn is_blocked(&self, op: &Op) -> bool {
        let dead = |l: &LinkName| self.dead.contains(l);
        match op {
            Op::SetMtu(l, _) | Op::SetMac(l, _) | Op::SetUp(l) | Op::AddAddress(l, _) => dead(l),
            Op::SetNeighbour(n) => dead(&n.dev),
            Op::SetFdb(e) => dead(&e.dev),
            Op::SetSysctl(path, _) => self.dead.iter().any(|l| is_of(path, *l)),
            Op::AddRoute(_, r) | Op::ReplaceRoute(_, r) => {
                hops(r).iter().any(|h| dead(&h.dev))
                    || r.src.is_some_and(|s| self.no_source.contains(&s))
            }
            Op::CreateVxlan(_)
            | Op::SetNat(_)
            | Op::DeleteNat
            | Op::SetGuard(_)
            | Op::DeleteGuard
            | Op::DeleteRoute(..) => false,
            Op::DeleteLink(_)
            | Op::DeleteAddress(..)
            | Op::DeleteNeighbour(_)
            | Op::DeleteFdb(_) => takes_from(op).iter().any(|l| self.in_use.contains(l)),
        }
    }

    /// Notes what an operation that was not carried out leaves undone.
    fn missed(&mut self, op: &Op) {
        match op {
            Op::CreateVxlan(v) => drop(self.dead.insert(v.name)),
            Op::SetUp(l) => drop(self.dead.insert(*l)),
            Op::AddAddress(_, a) => drop(self.no_source.insert(a.ip)),
            Op::ReplaceRoute(key, _) => {
                let old = self.observed.ours.routes.get(key);
                let devs = old.map(hops).into_iter().flatten().map(|h| h.dev);
                self.in_use.extend(devs);
            }
            _ => {}
        }
    }
}

/// The links that a deletion takes something from.
fn takes_from(op: &Op) -> Vec<LinkName> {
    match op {
        Op::DeleteLink(l) | Op::DeleteAddress(l, _) => vec![*l],
        Op::DeleteNeighbour(n) => vec![n.dev],
        Op::DeleteFdb(e) => vec![e.dev],
        Op::DeleteRoute(_, r) => hops(r).iter().map(|h| h.dev).collect(),
        _ => Vec::new(),
    }
}
