//! What a run aims at: the desired state, but for links that the CNI path is busy with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::kernel::{KernelState, LinkName, NextHop, Observed, Route, RouteKey, RouteTarget};
use model::marks;
use model::state::NodeState;

/// What a run aims at.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The desired state.
    Whole(Arc<NodeState>),
    /// The desired state with changes.
    Edited(Arc<KernelState>),
}

impl Target {
    pub(super) fn kernel(&self) -> &KernelState {
        match self {
            Target::Whole(state) => &state.kernel,
            Target::Edited(state) => state,
        }
    }

    /// Whether both are the same value in memory.
    pub(super) fn is(&self, other: &Target) -> bool {
        std::ptr::eq(self.kernel(), other.kernel())
    }
}

/// What the CNI path does with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It makes the link; its endpoint is known from this calculation on, if it is committed already.
    Attaching(Option<u64>),
    /// It takes the link away.
    Detaching,
}

/// The links that the CNI path is busy with.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<LinkName, Mark>);

impl Marks {
    pub(super) fn attach(&mut self, link: LinkName, committed: Option<u64>) {
        self.0.insert(link, Mark::Attaching(committed));
    }

    pub(super) fn detach(&mut self, link: LinkName) {
        self.0.insert(link, Mark::Detaching);
    }

    pub(super) fn is_attaching(&self, link: LinkName) -> bool {
        matches!(self.0.get(&link), Some(Mark::Attaching(_)))
    }

    /// Whether a link is being made whose endpoint is not committed yet.
    pub(super) fn any_being_made(&self) -> bool {
        let mut marks = self.0.values();
        marks.any(|mark| matches!(mark, Mark::Attaching(None)))
    }

    /// Drops what `desired` knows by itself.
    pub(super) fn settle(&mut self, desired: &NodeState) {
        self.0.retain(|link, mark| match mark {
            Mark::Attaching(committed) => committed.is_none_or(|g| desired.generation < g),
            Mark::Detaching => desired.kernel.workload_links.contains(link),
        });
    }

    /// The target: of a link being made all that is there stays as it is, of one being taken away nothing is wanted.
    pub(super) fn target(&self, desired: &Arc<NodeState>, observed: &Observed) -> Target {
        if self.0.is_empty() && !desired.partial {
            return Target::Whole(desired.clone());
        }
        let mut state = desired.kernel.clone();
        if desired.partial {
            keep(&mut state, &observed.ours);
            if desired.barred {
                keep_open(&mut state, &observed.ours);
            }
        }
        for (&link, mark) in &self.0 {
            match mark {
                // Both at once would meet: who makes the link makes all that is on it.
                Mark::Attaching(_) => {
                    remove(&mut state, link);
                    adopt(&mut state, &observed.ours, link);
                }
                Mark::Detaching => remove(&mut state, link),
            }
        }
        Target::Edited(Arc::new(state))
    }
}

/// Takes over everything that does not contradict.
fn keep(state: &mut KernelState, ours: &KernelState) {
    for (name, device) in &ours.vxlan {
        state.vxlan.entry(*name).or_insert(*device);
    }
    if state.tunnel.is_none() && ours.tunnel.is_some() {
        // Whether to encrypt may be what was not read: nothing that is encrypted goes to clear for that.
        state.tunnel = ours.tunnel;
        let closed = ours.routes.iter().filter(|(_, r)| is_closed(r));
        state.routes.extend(closed.map(|(k, r)| (*k, r.clone())));
    }
    if let (Some(guard), Some(found)) = (&mut state.guard, &ours.guard) {
        guard.pools.extend(&found.pools);
    } else if state.guard.is_none() {
        state.guard.clone_from(&ours.guard);
    }
    state.workload_links.extend(&ours.workload_links);
    state.addresses.extend(&ours.addresses);
    for (key, route) in &ours.routes {
        state.routes.entry(*key).or_insert_with(|| route.clone());
    }
    let wanted: BTreeSet<_> = state.neighbours.iter().map(|n| (n.dev, n.ip)).collect();
    let others = ours.neighbours.iter();
    let others = others.filter(|n| !wanted.contains(&(n.dev, n.ip)));
    state.neighbours.extend(others);
    let wanted: BTreeSet<_> = state.fdb.iter().map(|f| (f.dev, f.mac)).collect();
    let others = ours.fdb.iter();
    let others = others.filter(|f| !wanted.contains(&(f.dev, f.mac)));
    state.fdb.extend(others);
}

/// Takes over what somebody who knew whether to encrypt has left open. Where nothing was left, as after
/// a boot, everything stays barred.
fn keep_open(state: &mut KernelState, ours: &KernelState) {
    let catches_all = |key: &RouteKey| key.metric == marks::LAST_METRIC;
    if !ours.routes.is_empty() && !ours.routes.keys().any(catches_all) {
        state.routes.retain(|key, _| !catches_all(key));
        if let Some(guard) = &mut state.guard {
            guard.drop = false;
        }
    }
    for (key, route) in &mut state.routes {
        let found = ours.routes.get(key);
        if let (RouteTarget::Unreachable, Some(found)) = (&route.target, found) {
            *route = found.clone();
        }
    }
}

/// Whether what goes by it cannot leave in clear.
fn is_closed(route: &Route) -> bool {
    route.target == RouteTarget::Unreachable
        || hops(route)
            .iter()
            .any(|h| h.dev.as_str() == marks::WIREGUARD)
}

/// Takes over everything on a link. A route of the same key gives way: the link is newer.
fn adopt(state: &mut KernelState, ours: &KernelState, link: LinkName) {
    if ours.workload_links.contains(&link) {
        state.workload_links.insert(link);
    }
    let addresses = ours.addresses.iter().filter(|(dev, _)| *dev == link);
    state.addresses.extend(addresses);
    for n in ours.neighbours.iter().filter(|n| n.dev == link) {
        state.neighbours.retain(|o| (o.dev, o.ip) != (n.dev, n.ip));
        state.neighbours.insert(*n);
    }
    let routes = ours.routes.iter().filter(|(_, r)| leads_to(r, link));
    state.routes.extend(routes.map(|(k, r)| (*k, r.clone())));
    // Not its switches: they are never swept, and a half-made link's are not yet what they will be.
}

/// Removes everything on a link.
fn remove(state: &mut KernelState, link: LinkName) {
    state.workload_links.remove(&link);
    state.addresses.retain(|(dev, _)| *dev != link);
    state.neighbours.retain(|n| n.dev != link);
    state.routes.retain(|_, r| !leads_to(r, link));
    state.sysctls.retain(|p, _| !is_of(p, link));
}

/// The next hops of a route.
pub(super) fn hops(route: &Route) -> &[NextHop] {
    match &route.target {
        RouteTarget::Hop(hop) => std::slice::from_ref(hop),
        RouteTarget::Multipath(hops) => hops,
        RouteTarget::Blackhole | RouteTarget::Unreachable => &[],
    }
}

fn leads_to(route: &Route, link: LinkName) -> bool {
    hops(route).iter().any(|h| h.dev == link)
}

/// Whether a kernel switch is one of a link: `net/ipv4/conf/NAME/rp_filter`.
pub(super) fn is_of(path: &str, link: LinkName) -> bool {
    path.split('/').nth(3) == Some(link.as_str())
}
