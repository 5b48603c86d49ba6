//! Sessions and routes as they are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::bfd;
use bgp::fsm::State;
use bgp::speaker::{PeerStatus, RouteInfo, RouteQuery, Speaker, View};
use model::Cidr;
use model::api::{BfdState, BgpPeerShow, BgpPeersShow, BgpRouteShow, BgpRoutesShow, BgpState};
use model::bgp::{Bgp, Community, LargeCommunity, Neighbour};

/// Which routes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutesQuery {
    /// Of one prefix.
    pub prefix: Option<Cidr>,
    /// Of one peer, by address, name or node.
    pub peer: Option<String>,
    /// What peers were told.
    pub advertised: bool,
}

fn state(state: State) -> BgpState {
    match state {
        State::Idle => BgpState::Idle,
        State::Connect => BgpState::Connect,
        State::Active => BgpState::Active,
        State::OpenSent => BgpState::OpenSent,
        State::OpenConfirm => BgpState::OpenConfirm,
        State::Established => BgpState::Established,
    }
}

/// What a peer is called by those who look at it: its address, or the interface where it was not heard yet.
fn address(address: IpAddr, neighbour: Option<&Neighbour>) -> String {
    let interface = neighbour.and_then(|n| n.interface);
    match (address, interface) {
        (ip, Some(interface)) if ip.is_unspecified() => interface.to_string(),
        (IpAddr::V6(ip), Some(interface)) if ip.is_unicast_link_local() => {
            format!("{ip}%{interface}")
        }
        (ip, _) => ip.to_string(),
    }
}

/// The peers of a plan, with what the speaker says of each; `refused` are those that are left out.
pub(super) fn peers(
    plan: Option<&Bgp>,
    statuses: &[PeerStatus],
    refused: &BTreeMap<String, String>,
) -> BgpPeersShow {
    let by_name: BTreeMap<&str, &PeerStatus> =
        statuses.iter().map(|s| (s.name.as_str(), s)).collect();
    let planned = plan.into_iter().flat_map(|plan| &plan.peers);
    let peers = planned.map(|(name, neighbour)| match by_name.get(&**name) {
        Some(status) => shown(neighbour, status),
        None => absent(name, neighbour, refused.get(&**name)),
    });
    BgpPeersShow {
        peers: peers.collect(),
    }
}

fn absent(name: &str, neighbour: &Neighbour, why: Option<&String>) -> BgpPeerShow {
    let ip = neighbour.address;
    BgpPeerShow {
        peer: address(
            ip.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED.into()),
            Some(neighbour),
        ),
        name: name.to_owned(),
        node: neighbour.node.as_deref().map(str::to_owned),
        as_number: neighbour.asn,
        state: BgpState::Idle,
        uptime_seconds: None,
        received: 0,
        filtered: 0,
        guarded: 0,
        advertised: 0,
        bfd: match neighbour.bfd {
            Some(_) => BfdState::Down,
            None => BfdState::Off,
        },
        last_down: why.cloned(),
        last_down_seconds: None,
        flaps: 0,
        messages_received: 0,
        messages_sent: 0,
        refused_updates: 0,
    }
}

fn shown(neighbour: &Neighbour, s: &PeerStatus) -> BgpPeerShow {
    let up = s.state == State::Established;
    let total = |count: fn(&bgp::rib::Counters) -> u32| {
        u64::from(count(&s.routes.v4)) + u64::from(count(&s.routes.v6))
    };
    // Of a session that is not up, why the last attempt failed says more than why the one before ended.
    let failure = s.last_failure.as_ref().filter(|_| !up);
    let held = s.held_back.map(|wait| {
        let words = format!(
            "it had too many prefixes: tried again in {} s",
            wait.as_secs()
        );
        (words, None)
    });
    let down = s
        .shutdown
        .clone()
        .map(|why| (format!("shut down: {why}"), None));
    let down = down.or(held).or_else(|| {
        let failure = failure.or(s.last_down.as_ref());
        failure.map(|f| (f.words.clone(), Some(f.ago.as_secs())))
    });
    let (last_down, last_down_seconds) = down.unzip();
    BgpPeerShow {
        peer: address(s.address, Some(neighbour)),
        as_number: s.asn,
        state: state(s.state),
        uptime_seconds: up.then_some(s.since.as_secs()),
        received: total(|c| c.received),
        filtered: total(|c| c.filtered),
        guarded: total(|c| c.guarded),
        advertised: u64::try_from(s.advertised.v4 + s.advertised.v6).unwrap_or(u64::MAX),
        bfd: match s.bfd {
            Some(bfd::State::Up) => BfdState::Up,
            Some(_) => BfdState::Down,
            None => absent(&s.name, neighbour, None).bfd,
        },
        last_down,
        last_down_seconds: last_down_seconds.flatten(),
        flaps: s.flaps,
        messages_received: s.traffic.messages_in,
        messages_sent: s.traffic.messages_out,
        refused_updates: s.refused,
        ..absent(&s.name, neighbour, None)
    }
}

/// Routes. `installed` says which prefixes the kernel has.
pub(super) fn routes(
    speaker: &Speaker,
    query: &RoutesQuery,
    statuses: &[PeerStatus],
    plan: Option<&Bgp>,
    installed: impl FnOnce(Vec<Cidr>) -> BTreeSet<Cidr>,
) -> Result<BgpRoutesShow, String> {
    let neighbour = |name: &str| plan.and_then(|plan| plan.peers.get(name));
    let called = |s: &PeerStatus| address(s.address, neighbour(&s.name));
    let names: BTreeMap<&str, String> = statuses
        .iter()
        .map(|s| (s.name.as_str(), called(s)))
        .collect();
    let wanted: Vec<&PeerStatus> = match &query.peer {
        None => statuses.iter().collect(),
        Some(peer) => {
            let is = |s: &&PeerStatus| {
                let node = neighbour(&s.name).and_then(|n| n.node.as_deref());
                s.name == *peer
                    || called(s) == *peer
                    || s.address.to_string() == *peer
                    || node == Some(peer)
            };
            let found: Vec<_> = statuses.iter().filter(is).collect();
            if found.is_empty() {
                return Err(format!(
                    "no BGP peer is called {peer}: see `routerctl bgp peers`"
                ));
            }
            found
        }
    };
    let ask = |view: View| {
        let query = RouteQuery {
            prefix: query.prefix,
            limit: usize::MAX,
            ..RouteQuery::new(view)
        };
        speaker.routes(query).map_err(|e| e.to_string())
    };
    let mut found: Vec<(Option<&str>, RouteInfo)> = Vec::new();
    match (query.advertised, &query.peer) {
        (true, _) => {
            for status in wanted {
                let told = ask(View::Advertised(status.name.clone()))?;
                found.extend(told.into_iter().map(|r| (Some(status.name.as_str()), r)));
            }
        }
        (false, Some(_)) => {
            for status in wanted {
                let heard = ask(View::Received(status.name.clone()))?;
                found.extend(heard.into_iter().map(|r| (Some(status.name.as_str()), r)));
            }
        }
        (false, None) => {
            let all = ask(View::All)?;
            let own = |r: &RouteInfo| {
                let from = statuses.iter().find(|s| Some(&s.name) == r.from.as_ref());
                from.map(|s| s.name.as_str())
            };
            found.extend(all.into_iter().map(|r| (own(&r), r)));
        }
    }
    found.sort_by_key(|(_, r)| (r.prefix, !r.best));
    let learnt = found.iter().filter(|(_, r)| r.used && r.from.is_some());
    let installed = installed(learnt.map(|(_, r)| r.prefix).collect());
    let row = |(peer, route): (Option<&str>, RouteInfo)| BgpRouteShow {
        peer: peer.and_then(|peer| names.get(peer).cloned()),
        installed: route.used && route.from.is_some() && installed.contains(&route.prefix),
        next_hop: Some(route.next_hop).filter(|ip| !ip.is_unspecified()),
        communities: communities(&route),
        note: (route.stance.words())
            .filter(|_| route.from.is_some() && !query.advertised)
            .map(str::to_owned),
        prefix: route.prefix,
        local_pref: route.attributes.local_pref,
        med: route.attributes.med,
        as_path: route.attributes.as_path,
        best: route.best,
        filtered: route.filtered,
        stale: route.stale,
    };
    Ok(BgpRoutesShow {
        routes: found.into_iter().map(row).collect(),
    })
}

fn communities(route: &RouteInfo) -> Vec<String> {
    let standard = route.attributes.communities.iter().copied();
    let large = route.attributes.large_communities.iter();
    let large = large.map(|c| LargeCommunity {
        global: c.global,
        local1: c.local1,
        local2: c.local2,
    });
    let all = standard.map(Community::Standard);
    let all = all.chain(large.map(Community::Large));
    all.map(|c| c.to_string()).collect()
}
