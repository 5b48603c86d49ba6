//! What the kernel has for a packet's way: its route, what that leads to, and masquerade.

use std::net::IpAddr;

use calc::explain::{Explained, Way};
use model::Cidr;
use model::api::{
    ExplainAt, ExplainCheck, ExplainDecision, ExplainKind, ExplainPath, ExplainVerdict, Explanation,
};
use model::kernel::{LinkName, Nat, Route, RouteKey, RouteTarget};
use model::marks;
use netlink::lookup::{Asked, Found};
use netlink::{Error, Lookup, describe};

/// What to look for.
pub(super) struct Wanted {
    way: Way,
    source: IpAddr,
    destination: IpAddr,
    /// Interface that the packet comes in by; none where this host makes it or nobody knows.
    came_by: Option<LinkName>,
    delivery: Option<(RouteKey, Route)>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) checks: Vec<ExplainCheck>,
    /// The way that the host's own routes make, where those decide.
    pub(super) host: Option<HostWay>,
}

/// A way by what is no route of the mesh.
pub(super) struct HostWay {
    found: Found,
    mtu: Option<u32>,
}

/// The prefix that a workload here is reached by, where the way to it begins on another node.
pub(super) fn delivery(explained: &Explained, here: &str) -> Option<Cidr> {
    let end = &explained.explanation.destination;
    let comes_here = end.kind == ExplainKind::Workload && end.node == here;
    (comes_here && !explained.way.is_here).then(|| Cidr::host(end.ip))
}

impl Wanted {
    pub(super) fn of(explained: &Explained, delivery: Option<(RouteKey, Route)>) -> Wanted {
        let came_by = explained.source_interface.as_ref();
        Wanted {
            way: explained.way.clone(),
            source: explained.packet.source,
            destination: explained.packet.destination,
            came_by: came_by.and_then(|name| name.parse().ok()),
            delivery,
        }
    }
}

/// Looks. Blocks.
pub(super) fn look(wanted: &Wanted) -> Looked {
    let mut looked = Looked::default();
    let done = Lookup::open().and_then(|mut kernel| all(wanted, &mut kernel, &mut looked));
    if let Err(e) = done {
        looked.checks.push(ExplainCheck {
            object: "kernel".to_owned(),
            agrees: false,
            expected: "to be asked".to_owned(),
            found: e.to_string(),
        });
    }
    looked
}

fn all(wanted: &Wanted, kernel: &mut Lookup, looked: &mut Looked) -> Result<(), Error> {
    let way = &wanted.way;
    let asked = Asked {
        destination: wanted.destination,
        source: wanted.came_by.map(|_| wanted.source),
        came_by: wanted.came_by,
    };
    if let Some((key, route)) = &wanted.delivery {
        let arrives = Asked {
            source: None,
            came_by: None,
            ..asked
        };
        let found = kernel.route(&arrives)?;
        looked
            .checks
            .push(compare(Some((key, route)), &found, "route to the workload"));
    }
    if !way.is_here {
        return Ok(());
    }
    let found = kernel.route(&asked)?;
    if way.path == ExplainPath::Host {
        looked.checks.push(of_host(&found));
        let mtu = first_hop(&found).and_then(|dev| Some(kernel.link(dev)?.mtu));
        looked.host = Some(HostWay { found, mtu });
    } else {
        let expected = way.key.as_ref().zip(way.route.as_ref());
        looked.checks.push(compare(expected, &found, "route"));
    }
    if let Some(wanted) = &way.neighbour {
        let found = kernel.neighbour(wanted)?;
        looked.checks.push(ExplainCheck {
            object: "next hop in the VXLAN device".to_owned(),
            agrees: found.as_ref() == Some(wanted),
            expected: describe::neighbour(wanted),
            found: found.map_or("no such neighbour".to_owned(), |n| describe::neighbour(&n)),
        });
    }
    if let Some(wanted) = &way.fdb {
        let found = kernel.fdb(wanted)?;
        looked.checks.push(ExplainCheck {
            object: "node behind the VXLAN device".to_owned(),
            agrees: found.as_ref() == Some(wanted),
            expected: describe::fdb(wanted),
            found: found.map_or("no such forwarding entry".to_owned(), |e| describe::fdb(&e)),
        });
    }
    let leaves = !matches!(way.path, ExplainPath::Local | ExplainPath::None);
    if leaves && wanted.came_by.is_some() {
        let nat = kernel.nat()?;
        looked.checks.push(masquerade(wanted, nat.as_ref()));
    }
    Ok(())
}

/// A route that should be ours beside what was found; `None`: the packet is for this host.
fn compare(expected: Option<(&RouteKey, &Route)>, found: &Found, object: &str) -> ExplainCheck {
    let agrees = match (expected, found) {
        (None, found) => *found == Found::Local,
        (Some((key, route)), Found::Route(other, has)) => {
            key.dst == other.dst && route.protocol == has.protocol && route.target == has.target
        }
        // The kernel says no more of what it drops.
        (Some((_, route)), Found::Blackhole) => route.target == RouteTarget::Blackhole,
        (Some((_, route)), Found::Unreachable) => route.target == RouteTarget::Unreachable,
        _ => false,
    };
    let expected = expected.map(|(key, route)| describe::route(key, route));
    ExplainCheck {
        object: object.to_owned(),
        agrees,
        expected: expected.unwrap_or_else(|| told(&Found::Local)),
        found: told(found),
    }
}

/// What the host's own routes say: anything that leads somewhere and is not left over from the mesh.
fn of_host(found: &Found) -> ExplainCheck {
    let is_others = |r: &Route| r.protocol != marks::ROUTE_PROTOCOL;
    ExplainCheck {
        object: "route".to_owned(),
        agrees: matches!(found, Found::Route(_, route) if is_others(route)),
        expected: "a route of the host, or one learnt by BGP".to_owned(),
        found: told(found),
    }
}

fn masquerade(wanted: &Wanted, nat: Option<&Nat>) -> ExplainCheck {
    let has = |cidrs: &std::collections::BTreeSet<Cidr>, ip| cidrs.iter().any(|c| c.contains(ip));
    let is_done = nat.is_some_and(|nat| {
        has(&nat.sources, wanted.source) && !has(&nat.exempt, wanted.destination)
    });
    let text = |is: bool| match is {
        true => format!("{} leaves with another address", wanted.source),
        false => format!("{} leaves as it is", wanted.source),
    };
    let is_wanted = wanted.way.masquerade.is_some();
    ExplainCheck {
        object: "masquerade".to_owned(),
        agrees: is_done == is_wanted,
        expected: text(is_wanted),
        found: match nat {
            None if is_wanted => format!("no table inet {}", marks::NFT_TABLE),
            _ => text(is_done),
        },
    }
}

/// In the words of `ip route`.
fn told(found: &Found) -> String {
    match found {
        Found::Route(key, route) => {
            let text = describe::route(key, route);
            match route.protocol {
                marks::ROUTE_PROTOCOL => text,
                marks::BGP_ROUTE_PROTOCOL => format!("{text}, learnt by BGP"),
                other => format!("{text}, not of the mesh (proto {other})"),
            }
        }
        Found::Local => "it is for this host itself".to_owned(),
        Found::Blackhole => "dropped by a blackhole".to_owned(),
        Found::Unreachable => "unreachable, or forwarding is off".to_owned(),
        Found::Nothing => "there is no route".to_owned(),
        Found::Martian => {
            "dropped: an answer to its source would not go back that way (reverse-path filter)"
                .to_owned()
        }
        Found::Other => "a route of another type".to_owned(),
    }
}

fn first_hop(found: &Found) -> Option<LinkName> {
    match found {
        Found::Route(_, route) => match &route.target {
            RouteTarget::Hop(hop) => Some(hop.dev),
            RouteTarget::Multipath(hops) => hops.first().map(|hop| hop.dev),
            RouteTarget::Blackhole | RouteTarget::Unreachable => None,
        },
        _ => None,
    }
}

/// Where the host's own routes decide, what they say is the way.
pub(super) fn go_by_host(explanation: &mut Explanation, host: &HostWay) {
    let way = told(&host.found);
    let leads = first_hop(&host.found).is_some();
    let mut steps = explanation.steps.iter_mut();
    if let Some(step) = steps.find(|s| s.at == ExplainAt::Route) {
        step.reason = format!("{}: {way}", step.reason);
        if !leads {
            step.decision = ExplainDecision::Deny;
        }
    }
    let route = &mut explanation.route;
    if let (Found::Route(key, has), true) = (&host.found, leads) {
        route.prefix = Some(key.dst);
        route.device = first_hop(&host.found).map(|dev| dev.to_string());
        route.via = match &has.target {
            RouteTarget::Hop(hop) => hop.via,
            RouteTarget::Multipath(hops) => hops.first().and_then(|hop| hop.via),
            RouteTarget::Blackhole | RouteTarget::Unreachable => None,
        };
        let least = host
            .mtu
            .into_iter()
            .chain(Some(explanation.mtu))
            .filter(|m| *m > 0);
        explanation.mtu = least.min().unwrap_or(0);
        return;
    }
    route.path = ExplainPath::None;
    explanation.mtu = 0;
    if explanation.verdict == ExplainVerdict::Allow {
        explanation.verdict = ExplainVerdict::Deny;
        explanation.summary = format!("denied on the way: {way}");
    }
}

#[cfg(test)]
mod tests {
    use model::kernel::NextHop;

    use super::*;

    fn route(dst: &str, dev: &str, protocol: u8) -> (RouteKey, Route) {
        let key = RouteKey {
            table: 254,
            dst: dst.parse().unwrap(),
            metric: 0,
        };
        let hop = NextHop {
            via: "192.0.2.2".parse().ok(),
            dev: dev.parse().unwrap(),
            onlink: false,
        };
        let route = Route {
            protocol,
            target: RouteTarget::Hop(hop),
            src: None,
            mtu: None,
        };
        (key, route)
    }

    fn found(dst: &str, dev: &str, protocol: u8) -> Found {
        let (key, route) = route(dst, dev, protocol);
        Found::Route(key, route)
    }

    #[test]
    fn a_route_agrees_when_prefix_owner_and_hop_do() {
        let (key, ours) = route("10.0.1.0/26", "eth0", marks::ROUTE_PROTOCOL);
        let agrees = |found: &Found| compare(Some((&key, &ours)), found, "route").agrees;
        assert!(agrees(&found("10.0.1.0/26", "eth0", marks::ROUTE_PROTOCOL)));
        for other in [
            found("10.0.1.7/32", "eth0", marks::ROUTE_PROTOCOL),
            found("10.0.1.0/26", "eth1", marks::ROUTE_PROTOCOL),
            found("10.0.1.0/26", "eth0", 3),
            Found::Nothing,
            Found::Blackhole,
            Found::Martian,
        ] {
            assert!(!agrees(&other), "{other:?}");
        }
        let dropped = Route {
            target: RouteTarget::Blackhole,
            ..ours.clone()
        };
        assert!(compare(Some((&key, &dropped)), &Found::Blackhole, "route").agrees);
        assert!(!compare(Some((&key, &dropped)), &Found::Unreachable, "route").agrees);
        assert!(compare(None, &Found::Local, "route").agrees);
        assert!(!compare(None, &Found::Nothing, "route").agrees);
    }

    #[test]
    fn the_hosts_own_routes_are_any_but_left_overs_of_ours() {
        assert!(of_host(&found("0.0.0.0/0", "eth0", 3)).agrees);
        let learnt = of_host(&found("10.0.1.0/26", "eth0", marks::BGP_ROUTE_PROTOCOL));
        assert!(learnt.agrees && learnt.found.ends_with("learnt by BGP"));
        assert!(!of_host(&found("10.0.1.0/26", "eth0", marks::ROUTE_PROTOCOL)).agrees);
        assert!(!of_host(&Found::Nothing).agrees);
    }
}
