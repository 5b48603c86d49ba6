//! Routes.

use std::collections::BTreeSet;

use model::kernel::{LinkName, NextHop, Op, Route, RouteKey, RouteTarget};
use model::marks;

use super::{Conflict, Planner};
use crate::describe;

/// The next hops of a route; none for one that leads nowhere.
pub fn hops(target: &RouteTarget) -> &[NextHop] {
    match target {
        RouteTarget::Hop(hop) => std::slice::from_ref(hop),
        RouteTarget::Multipath(hops) => hops,
        RouteTarget::Blackhole | RouteTarget::Unreachable => &[],
    }
}

/// Whether the kernel has to resolve a gateway: such routes come after those that it may need.
fn has_gateway(route: &Route) -> bool {
    hops(&route.target).iter().any(|h| h.via.is_some())
}

/// What became of an observed route through links made anew.
enum Fate {
    Whole,
    Crippled,
    Gone,
}

fn fate(route: &Route, remade: &BTreeSet<LinkName>) -> Fate {
    let hops = hops(&route.target);
    match hops.iter().filter(|h| remade.contains(&h.dev)).count() {
        0 => Fate::Whole,
        n if n == hops.len() => Fate::Gone,
        _ => Fate::Crippled,
    }
}

impl Planner<'_> {
    /// Plans routes last: they need links, addresses and neighbours.
    pub(super) fn routes(&mut self) {
        let (mut direct, mut via) = (Vec::new(), Vec::new());
        for (key, route) in &self.desired.routes {
            if let Some(op) = self.route(key, route) {
                let list = if has_gateway(route) {
                    &mut via
                } else {
                    &mut direct
                };
                list.push(op);
            }
        }
        self.ops.append(&mut direct);
        self.ops.append(&mut via);

        let ours = &self.observed.ours.routes;
        let swept = ours.iter().filter(|(key, route)| {
            !self.desired.routes.contains_key(key)
                && !matches!(fate(route, &self.remade), Fate::Gone)
        });
        // Run from the back: those with a gateway go before those that they may need.
        let (via, direct): (Vec<_>, Vec<_>) = swept.partition(|(_, route)| has_gateway(route));
        for (key, route) in direct.into_iter().chain(via) {
            self.cleanup.push(Op::DeleteRoute(*key, route.clone()));
        }
    }

    fn route(&mut self, key: &RouteKey, route: &Route) -> Option<Op> {
        if let Some(&protocol) = self.observed.alien_routes.get(key) {
            // Even where ours stands beside it: a replacement would hit either.
            self.conflicts.insert(Conflict::AlienRoute {
                key: *key,
                protocol,
            });
            return None;
        }
        let mut route = std::borrow::Cow::Borrowed(route);
        for hop in hops(&route.target).to_vec() {
            if self.needs(hop.dev, || describe::route(key, &route)) {
                continue;
            }
            if hop.dev.as_str() != marks::WIREGUARD {
                return None;
            }
            // What is to be encrypted goes nowhere rather than by a route from before, or a wider one.
            route = std::borrow::Cow::Owned(Route {
                protocol: route.protocol,
                target: RouteTarget::Unreachable,
                src: None,
                mtu: None,
            });
            break;
        }
        let route = &*route;
        let add = || Some(Op::AddRoute(*key, route.clone()));
        let replace = || Some(Op::ReplaceRoute(*key, route.clone()));
        match self.observed.ours.routes.get(key) {
            None => add(),
            Some(found) => match fate(found, &self.remade) {
                Fate::Gone => add(),
                Fate::Whole if found == route => None,
                Fate::Whole | Fate::Crippled => replace(),
            },
        }
    }
}
