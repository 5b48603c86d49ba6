//! Operations and objects in the words of `ip`, `bridge` and `sysctl`: for errors, logs and `diff`.

use model::kernel::{
    FdbEntry, Guard, Link, LinkName, Nat, Neighbour, NextHop, Op, Route, RouteKey, RouteTarget,
    Vxlan,
};
use model::marks;

/// `RT_TABLE_MAIN`.
pub(crate) const TABLE_MAIN: u32 = 254;

/// What an operation does: `create`, `set`, `add`, `replace` or `delete`.
pub fn operation(op: &Op) -> &'static str {
    match op {
        Op::CreateVxlan(_) => "create",
        Op::AddAddress(..) | Op::AddRoute(..) => "add",
        Op::ReplaceRoute(..) => "replace",
        Op::SetMtu(..)
        | Op::SetMac(..)
        | Op::SetUp(_)
        | Op::SetNeighbour(_)
        | Op::SetFdb(_)
        | Op::SetNat(_)
        | Op::SetGuard(_)
        | Op::SetSysctl(..) => "set",
        Op::DeleteLink(_)
        | Op::DeleteAddress(..)
        | Op::DeleteRoute(..)
        | Op::DeleteNeighbour(_)
        | Op::DeleteFdb(_)
        | Op::DeleteNat
        | Op::DeleteGuard => "delete",
    }
}

/// What an operation is about, such as `route 10.0.0.0/26 via 192.0.2.7 dev eth0`.
pub fn object(op: &Op) -> String {
    match op {
        Op::CreateVxlan(v) => vxlan(v),
        Op::SetMtu(dev, mtu) => format!("link {dev} mtu {mtu}"),
        Op::SetMac(dev, mac) => format!("link {dev} address {mac}"),
        Op::SetUp(dev) => format!("link {dev} up"),
        Op::DeleteLink(dev) => link(dev),
        Op::AddAddress(dev, a) | Op::DeleteAddress(dev, a) => {
            format!("address {}/{} dev {dev}", a.ip, a.prefix)
        }
        Op::AddRoute(k, r) | Op::ReplaceRoute(k, r) | Op::DeleteRoute(k, r) => route(k, r),
        Op::SetNeighbour(n) | Op::DeleteNeighbour(n) => neighbour(n),
        Op::SetFdb(e) | Op::DeleteFdb(e) => fdb(e),
        Op::SetNat(n) => nat(n),
        Op::DeleteNat => format!("table inet {}", marks::NFT_TABLE),
        Op::SetGuard(g) => guard(g),
        Op::DeleteGuard => format!("table inet {}", marks::NFT_GUARD),
        Op::SetSysctl(path, value) => format!("sysctl {path} = {value}"),
    }
}

/// `link NAME`.
pub fn link(dev: &LinkName) -> String {
    format!("link {dev}")
}

/// `vxlan NAME id VNI ...`.
pub fn vxlan(v: &Vxlan) -> String {
    let s = &v.settings;
    format!(
        "vxlan {} id {} local {} dev {} dstport {}",
        v.name, s.vni, s.local, v.parent, s.port
    )
}

/// `route DST ...` as `ip route` prints it.
pub fn route(key: &RouteKey, route: &Route) -> String {
    let mut text = match &route.target {
        RouteTarget::Blackhole => format!("route blackhole {}", key.dst),
        RouteTarget::Unreachable => format!("route unreachable {}", key.dst),
        RouteTarget::Hop(hop) => format!("route {}{}", key.dst, next_hop(hop)),
        RouteTarget::Multipath(hops) => {
            let hops: String = hops
                .iter()
                .map(|h| format!(" nexthop{}", next_hop(h)))
                .collect();
            format!("route {}{hops}", key.dst)
        }
    };
    text.push_str(&key_suffix(key));
    text
}

/// `route DST` by its key alone.
pub fn route_key(key: &RouteKey) -> String {
    format!("route {}{}", key.dst, key_suffix(key))
}

fn key_suffix(key: &RouteKey) -> String {
    let mut text = String::new();
    if key.table != TABLE_MAIN {
        text = format!(" table {}", key.table);
    }
    if key.metric != 0 {
        text = format!("{text} metric {}", key.metric);
    }
    text
}

fn next_hop(hop: &NextHop) -> String {
    let via = hop.via.map(|via| format!(" via {via}")).unwrap_or_default();
    let onlink = if hop.onlink { " onlink" } else { "" };
    format!("{via} dev {}{onlink}", hop.dev)
}

/// `neighbour IP lladdr MAC dev NAME`.
pub fn neighbour(n: &Neighbour) -> String {
    format!("neighbour {} lladdr {} dev {}", n.ip, n.mac, n.dev)
}

/// `fdb MAC dst IP dev NAME`.
pub fn fdb(e: &FdbEntry) -> String {
    format!("fdb {} dst {} dev {}", e.mac, e.dst, e.dev)
}

fn nat(n: &Nat) -> String {
    let (sources, exempt) = (n.sources.len(), n.exempt.len());
    format!(
        "table inet {} ({sources} sources, {exempt} exempt)",
        marks::NFT_TABLE
    )
}

fn guard(g: &Guard) -> String {
    let what = if g.drop { "drops" } else { "counts" };
    let (pools, inside) = (g.pools.len(), g.inside.len());
    format!(
        "table inet {} ({what}, {pools} pools, {inside} interfaces inside)",
        marks::NFT_GUARD
    )
}

/// What is noteworthy of a link: for `diff` and discrepancies.
pub fn link_state(l: &Link) -> String {
    let state = if l.up { "up" } else { "down" };
    let mac = l.mac.map(|m| format!(" address {m}")).unwrap_or_default();
    format!("{state} mtu {}{mac}", l.mtu)
}
