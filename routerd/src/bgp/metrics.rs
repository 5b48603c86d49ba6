//! The sessions as metrics, one series a peer.

use model::api::{BfdState, BgpPeersShow, BgpState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    /// Its address.
    peer: String,
    /// What asks for it.
    name: String,
}

/// Adds what is known of the peers, and the number of learnt routes in the kernel.
pub fn register(registry: &mut Registry, shown: &BgpPeersShow, installed: usize) {
    let gauges = || Family::<Peer, Gauge>::default();
    let counters = || Family::<Peer, Counter>::default();
    let (up, uptime, bfd) = (gauges(), gauges(), gauges());
    let (received, refused, guarded, advertised) = (gauges(), gauges(), gauges(), gauges());
    let (flaps, came, sent, unused) = (counters(), counters(), counters(), counters());
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for p in &shown.peers {
        let peer = Peer {
            peer: p.peer.clone(),
            name: p.name.clone(),
        };
        let is_up = p.state == BgpState::Established;
        up.get_or_create(&peer).set(i64::from(is_up));
        let seconds = p.uptime_seconds.unwrap_or_default();
        uptime.get_or_create(&peer).set(number(seconds));
        if p.bfd != BfdState::Off {
            let is_up = p.bfd == BfdState::Up;
            bfd.get_or_create(&peer).set(i64::from(is_up));
        }
        received.get_or_create(&peer).set(number(p.received));
        refused.get_or_create(&peer).set(number(p.filtered));
        guarded.get_or_create(&peer).set(number(p.guarded));
        advertised.get_or_create(&peer).set(number(p.advertised));
        flaps.get_or_create(&peer).inc_by(p.flaps);
        came.get_or_create(&peer).inc_by(p.messages_received);
        sent.get_or_create(&peer).inc_by(p.messages_sent);
        unused.get_or_create(&peer).inc_by(p.refused_updates);
    }
    registry.register(
        "bgp_session_up",
        "1 when the session with a BGP peer is Established",
        up,
    );
    registry.register_with_unit(
        "bgp_session_uptime",
        "How long the session with a BGP peer has been Established",
        Unit::Seconds,
        uptime,
    );
    registry.register("bgp_bfd_up", "1 when a BGP peer is heard by BFD", bfd);
    registry.register(
        "bgp_received_routes",
        "Routes that a BGP peer announces",
        received,
    );
    registry.register(
        "bgp_refused_routes",
        "Routes of a BGP peer that are refused, by a filter or by the guard of our pools",
        refused,
    );
    registry.register(
        "bgp_guarded_routes",
        "Routes of a BGP peer that the guard of our pools refuses",
        guarded,
    );
    registry.register(
        "bgp_advertised_routes",
        "Routes that a BGP peer was told",
        advertised,
    );
    registry.register(
        "bgp_session_flaps",
        "Established sessions with a BGP peer that ended",
        flaps,
    );
    registry.register("bgp_messages_received", "Messages from a BGP peer", came);
    registry.register("bgp_messages_sent", "Messages to a BGP peer", sent);
    registry.register(
        "bgp_refused_updates",
        "UPDATEs of a BGP peer whose routes were not used: loops, leaks, a wrong first AS",
        unused,
    );
    let routes = Gauge::<i64>::default();
    routes.set(i64::try_from(installed).unwrap_or(i64::MAX));
    registry.register(
        "bgp_installed_routes",
        "Prefixes that BGP learnt and wants in the kernel",
        routes,
    );
}

/// A peer with everything that there can be.
#[cfg(test)]
pub(crate) fn sample() -> BgpPeersShow {
    BgpPeersShow {
        peers: vec![model::api::BgpPeerShow {
            peer: "10.0.0.1".to_owned(),
            name: "BGPPeer/tor-1".to_owned(),
            node: None,
            as_number: Some(65001),
            state: BgpState::Established,
            uptime_seconds: Some(7),
            received: 3,
            filtered: 1,
            guarded: 1,
            advertised: 2,
            bfd: BfdState::Up,
            last_down: None,
            last_down_seconds: None,
            flaps: 1,
            messages_received: 5,
            messages_sent: 6,
            refused_updates: 2,
            down_seconds: None,
            fault: None,
        }],
    }
}
