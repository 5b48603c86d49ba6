//! Sessions as they are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp::bfd;
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
