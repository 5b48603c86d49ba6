//! A small world of random states and mishaps, and the naive answer that plans are held against.

use std::net::IpAddr;

use model::kernel::{
    Address, FdbEntry, KernelState, Link, LinkKind, LinkName, Mac, Nat, Neighbour, NextHop, Route,
    RouteKey, RouteTarget, Vxlan, VxlanSettings,
};
use model::{Cidr, Family, marks};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use netlink::plan::{hops, sysctl_link};
use netlink::{FakeKernel, Kernel, nat, plan};

pub(crate) fn name(s: &str) -> LinkName {
    s.parse().unwrap()
}

pub(crate) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

pub(crate) fn link(n: &str, kind: LinkKind, addresses: &[(&str, u8)]) -> Link {
    Link {
        name: name(n),
        index: 0,
        mac: Some(Mac([2, 0, 0, 0, 0, 9])),
        mtu: 1500,
        up: true,
        running: true,
        kind,
        addresses: addresses
            .iter()
            .map(|&(a, prefix)| Address { ip: ip(a), prefix })
            .collect(),
    }
}

/// A host with one underlay interface and three workload links.
pub(crate) fn host() -> FakeKernel {
    let mut k = FakeKernel::new();
    k.add_link(link("eth0", LinkKind::Other(String::new()), &UNDERLAY));
    for n in WORKLOADS {
        k.add_link(link(n, LinkKind::Veth, &[]));
    }
    k
}

pub(crate) const UNDERLAY: [(&str, u8); 2] = [("192.0.2.1", 24), ("2001:db8::1", 64)];
pub(crate) const WORKLOADS: [&str; 3] = ["rtd0a", "rtd0b", "rtd0c"];

pub(crate) fn vxlan(n: &str) -> impl Strategy<Value = Vxlan> {
    let local = if n == marks::VXLAN_V4 {
        UNDERLAY[0].0
    } else {
        UNDERLAY[1].0
    };
    let n = name(n);
    (4096u32..4098, 1400u32..1402, 0u8..2).prop_map(move |(vni, mtu, mac)| Vxlan {
        name: n,
        settings: VxlanSettings {
            vni,
            port: 4789,
            local: ip(local),
            learning: false,
        },
        parent: name("eth0"),
        mac: Mac([2, 0, 0, 0, 0, mac]),
        mtu,
    })
}

/// An optional device of a family, with what a mesh puts on it.
pub(crate) fn overlay(family: Family) -> impl Strategy<Value = KernelState> {
    let n = if family == Family::V4 {
        marks::VXLAN_V4
    } else {
        marks::VXLAN_V6
    };
    let peers = btree_set(0u8..4, 0..4);
    (prop::option::of(vxlan(n)), peers, 0u8..3).prop_map(move |(vxlan, peers, own)| {
        let mut state = KernelState::default();
        let Some(v) = vxlan else { return state };
        state.vxlan.insert(v.name, v);
        let inner = |i: u8| IpAddr::from([10, 200, 0, i]);
        state.addresses.insert((
            v.name,
            Address {
                ip: inner(100 + own),
                prefix: 32,
            },
        ));
        for i in peers {
            let mac = Mac([2, 0, 0, 1, own, i]);
            let dst = match family {
                Family::V4 => IpAddr::from([192, 0, 2, 10 + i]),
                Family::V6 => format!("2001:db8::{}", 10 + i + own).parse().unwrap(),
            };
            state.neighbours.insert(Neighbour {
                dev: v.name,
                ip: inner(i),
                mac,
            });
            state.fdb.insert(FdbEntry {
                dev: v.name,
                mac,
                dst,
            });
            let key = RouteKey {
                table: 254,
                dst: block(40 + i),
                metric: 0,
            };
            let hop = NextHop {
                via: Some(inner(i)),
                dev: v.name,
                onlink: true,
            };
            let src = Some(inner(100 + own));
            let target = RouteTarget::Hop(hop);
            state.routes.insert(
                key,
                Route {
                    protocol: 82,
                    target,
                    src,
                    mtu: None,
                },
            );
        }
        let path = format!("net/ipv4/conf/{}/rp_filter", v.name);
        state.sysctls.insert(path, "0".to_owned());
        state
    })
}

pub(crate) fn block(i: u8) -> Cidr {
    Cidr::containing(IpAddr::from([10, 0, i, 0]), 26).unwrap()
}

pub(crate) fn target() -> impl Strategy<Value = RouteTarget> {
    let hop = (2u8..5).prop_map(|i| NextHop {
        via: Some(IpAddr::from([192, 0, 2, i])),
        dev: name("eth0"),
        onlink: false,
    });
    let missing = NextHop {
        via: None,
        dev: name("rtd0d"),
        onlink: false,
    };
    prop_oneof![
        4 => hop.clone().prop_map(RouteTarget::Hop),
        1 => btree_set(hop, 2..4).prop_map(|h| RouteTarget::Multipath(h.into_iter().collect())),
        1 => Just(RouteTarget::Blackhole),
        1 => Just(RouteTarget::Unreachable),
        1 => Just(RouteTarget::Hop(missing)),
    ]
}

pub(crate) fn route() -> impl Strategy<Value = (RouteKey, Route)> {
    let key = (select(vec![254u32, 8200]), 0u8..6, select(vec![0u32, 100]));
    (key, target(), prop::option::of(1300u32..1302)).prop_map(
        |((table, i, metric), target, mtu)| {
            let key = RouteKey {
                table,
                dst: block(i),
                metric,
            };
            (
                key,
                Route {
                    protocol: model::marks::ROUTE_PROTOCOL,
                    target,
                    src: None,
                    mtu,
                },
            )
        },
    )
}

pub(crate) fn workloads() -> impl Strategy<Value = KernelState> {
    btree_set(0usize..WORKLOADS.len(), 0..=WORKLOADS.len()).prop_map(|set| {
        let mut state = KernelState::default();
        for i in set {
            let dev = name(WORKLOADS[i]);
            let ip = IpAddr::from([10, 0, 99, u8::try_from(i).unwrap()]);
            state.workload_links.insert(dev);
            state.neighbours.insert(Neighbour {
                dev,
                ip,
                mac: Mac([2, 0, 0, 2, 0, 0]),
            });
            let target = RouteTarget::Hop(NextHop {
                via: None,
                dev,
                onlink: false,
            });
            let key = RouteKey {
                table: 254,
                dst: Cidr::host(ip),
                metric: 0,
            };
            state.routes.insert(
                key,
                Route {
                    protocol: 82,
                    target,
                    src: None,
                    mtu: None,
                },
            );
        }
        state
    })
}

pub(crate) fn masquerade() -> impl Strategy<Value = Option<Nat>> {
    let cidrs = || btree_set((0u8..4).prop_map(block), 0..3);
    prop::option::of((cidrs(), cidrs()).prop_map(|(sources, exempt)| Nat { sources, exempt }))
}

pub(crate) fn state() -> impl Strategy<Value = KernelState> {
    let parts = (overlay(Family::V4), overlay(Family::V6), workloads());
    (parts, vec(route(), 0..8), masquerade(), 0u8..2).prop_map(|((a, b, c), routes, nat, fwd)| {
        let mut s = KernelState {
            nat,
            ..KernelState::default()
        };
        for part in [a, b, c] {
            s.vxlan.extend(part.vxlan);
            s.workload_links.extend(part.workload_links);
            s.addresses.extend(part.addresses);
            s.routes.extend(part.routes);
            s.neighbours.extend(part.neighbours);
            s.fdb.extend(part.fdb);
            s.sysctls.extend(part.sysctls);
        }
        s.routes.extend(routes);
        s.sysctls
            .insert("net/ipv4/ip_forward".to_owned(), fwd.to_string());
        s
    })
}

/// The naive answer: all that is wanted but for what hangs on missing links or meets an alien.
pub(crate) fn reachable(desired: &KernelState, k: &FakeKernel) -> KernelState {
    let mut s = desired.clone();
    let there = |n: &LinkName| desired.vxlan.contains_key(n) || k.links.contains_key(n);
    s.workload_links.retain(there);
    s.neighbours.retain(|n| there(&n.dev));
    s.addresses.retain(|(dev, _)| there(dev));
    s.sysctls
        .retain(|path, _| sysctl_link(path).is_none_or(|l| there(&l)));
    s.routes.retain(|key, r| {
        hops(&r.target).iter().all(|h| there(&h.dev)) && !k.alien_routes.contains_key(key)
    });
    s.nat = s.nat.as_ref().map(nat::canonical);
    s
}

/// What a plan answers for: switches are never unset, and a route that cannot be made as wanted
/// stays as it was (fail static).
pub(crate) fn answered_for(
    mut found: KernelState,
    desired: &KernelState,
    k: &FakeKernel,
) -> KernelState {
    let expected = reachable(desired, k);
    found
        .sysctls
        .retain(|path, _| desired.sysctls.contains_key(path));
    found
        .routes
        .retain(|key, _| expected.routes.contains_key(key) || !desired.routes.contains_key(key));
    found
}

pub(crate) fn settle(k: &mut impl Kernel, desired: &KernelState) -> Vec<String> {
    let plan = plan(desired, &k.observe().unwrap());
    k.apply(&plan.ops)
        .into_iter()
        .filter_map(Result::err)
        .map(|e| e.to_string())
        .collect()
}
