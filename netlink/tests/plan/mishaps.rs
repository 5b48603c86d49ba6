//! What others and accidents do to a kernel.

use model::kernel::{FdbEntry, LinkName, Mac, Neighbour, Route, RouteKey};
use model::marks;
use netlink::FakeKernel;
use netlink::plan::hops;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::universe::{ip, name, route};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Mishap {
    Alien(RouteKey, Route),
    LinkGone(Index),
    LinkDown(Index),
    RouteGone(Index),
    SecondDestination(Index),
    ForeignMac(Index),
}

pub(crate) fn mishap() -> impl Strategy<Value = Mishap> {
    let alien = route().prop_filter("on a link that exists", |(_, r)| {
        hops(&r.target).iter().all(|h| h.dev == name("eth0"))
    });
    prop_oneof![
        alien.prop_map(|(k, r)| Mishap::Alien(k, Route { protocol: 4, ..r })),
        any::<Index>().prop_map(Mishap::LinkGone),
        any::<Index>().prop_map(Mishap::LinkDown),
        any::<Index>().prop_map(Mishap::RouteGone),
        any::<Index>().prop_map(Mishap::SecondDestination),
        any::<Index>().prop_map(Mishap::ForeignMac),
    ]
}

fn pick<T>(index: Index, from: impl IntoIterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = from.into_iter().collect();
    (!all.is_empty()).then(|| all.swap_remove(index.index(all.len())))
}

pub(crate) fn befall(k: &mut FakeKernel, mishap: &Mishap) {
    let ours = |k: &FakeKernel| -> Vec<LinkName> {
        k.links
            .keys()
            .filter(|n| marks::is_our_link(n.as_str()))
            .copied()
            .collect()
    };
    match mishap {
        Mishap::Alien(key, route) => {
            k.state.routes.remove(key);
            k.alien_routes.insert(*key, route.clone());
        }
        Mishap::LinkGone(i) => {
            if let Some(n) = pick(*i, ours(k)) {
                k.remove_link(n);
            }
        }
        Mishap::LinkDown(i) => {
            if let Some(n) = pick(*i, ours(k)) {
                k.links.get_mut(&n).unwrap().up = false;
                k.state.neighbours.retain(|e| e.dev != n);
                k.state
                    .routes
                    .retain(|_, r| hops(&r.target).iter().all(|h| h.dev != n));
            }
        }
        Mishap::RouteGone(i) => {
            if let Some(key) = pick(*i, k.state.routes.keys().copied()) {
                k.state.routes.remove(&key);
            }
        }
        Mishap::SecondDestination(i) => {
            if let Some(e) = pick(*i, k.state.fdb.iter().copied()) {
                let other = if e.dst.is_ipv4() {
                    "192.0.2.77"
                } else {
                    "2001:db8::77"
                };
                k.state.fdb.insert(FdbEntry {
                    dst: ip(other),
                    ..e
                });
            }
        }
        Mishap::ForeignMac(i) => {
            if let Some(n) = pick(*i, k.state.neighbours.iter().copied()) {
                k.state.neighbours.remove(&n);
                k.state.neighbours.insert(Neighbour {
                    mac: Mac([6; 6]),
                    ..n
                });
            }
        }
    }
}
