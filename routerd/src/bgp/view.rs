//! Sessions as they are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::fsm::State;
use bgp::speaker::PeerStatus;
use model::api::{BfdState, BgpPeerShow, BgpPeersShow, BgpState};
use model::bgp::{Bgp, Neighbour};

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
pub(super) fn address(address: IpAddr, neighbour: Option<&Neighbour>) -> String {
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

/// A peer of the plan that the speaker does not know, and why.
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
        down_seconds: None,
        fault: None,
        received: 0,
        filtered: 0,
        guarded: 0,
        advertised: 0,
        bfd: bfd(neighbour, None),
        last_down: why.cloned(),
        last_down_seconds: None,
        flaps: 0,
        messages_received: 0,
        messages_sent: 0,
        refused_updates: 0,
    }
}

fn bfd(neighbour: &Neighbour, state: Option<bgp::bfd::State>) -> BfdState {
    match (neighbour.bfd, state) {
        (None, _) => BfdState::Off,
        (Some(_), Some(bgp::bfd::State::Up)) => BfdState::Up,
        (Some(_), _) => BfdState::Down,
    }
}

/// Why a session is not up, or ended last, and how long ago.
fn down(neighbour: &Neighbour, s: &PeerStatus) -> (Option<String>, Option<u64>) {
    if let Some(why) = &s.shutdown {
        return (Some(format!("shut down: {why}")), None);
    }
    if let Some(wait) = s.held_back {
        let words = format!(
            "it had too many prefixes: tried again in {} s",
            wait.as_secs()
        );
        return (Some(words), None);
    }
    // Of a session that is not up, why the last attempt failed says more than why the one before ended.
    let up = s.state == State::Established;
    let failure = s.last_failure.as_ref().filter(|_| !up);
    if let Some(failure) = failure.or(s.last_down.as_ref()) {
        return (Some(failure.words.clone()), Some(failure.ago.as_secs()));
    }
    let words = match neighbour.interface {
        Some(link) if s.address.is_unspecified() => {
            Some(format!("no router advertised itself on {link} yet"))
        }
        _ => None,
    };
    (words, None)
}

/// What is wrong with a session that is up.
fn fault(s: &PeerStatus) -> Option<String> {
    let family = s.lost.enabled().next()?;
    Some(format!(
        "{family} is not used until the session ends: the peer sent prefixes that cannot be read"
    ))
}

fn shown(neighbour: &Neighbour, s: &PeerStatus) -> BgpPeerShow {
    let up = s.state == State::Established;
    let total = |count: fn(&bgp::rib::Counters) -> u32| {
        u64::from(count(&s.routes.v4)) + u64::from(count(&s.routes.v6))
    };
    let (last_down, last_down_seconds) = down(neighbour, s);
    let since = s.since.as_secs();
    BgpPeerShow {
        peer: address(s.address, Some(neighbour)),
        as_number: s.asn,
        state: state(s.state),
        uptime_seconds: up.then_some(since),
        down_seconds: (!up).then_some(since),
        fault: fault(s),
        received: total(|c| c.received),
        filtered: total(|c| c.filtered),
        guarded: total(|c| c.guarded),
        advertised: u64::try_from(s.advertised.v4 + s.advertised.v6).unwrap_or(u64::MAX),
        bfd: bfd(neighbour, s.bfd),
        last_down,
        last_down_seconds,
        flaps: s.flaps,
        messages_received: s.traffic.messages_in,
        messages_sent: s.traffic.messages_out,
        refused_updates: s.refused,
        ..absent(&s.name, neighbour, None)
    }
}
