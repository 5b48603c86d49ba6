//! The schemas of BGP's peers and routes.

use model::api::{BfdState, BgpPeerShow, BgpPeersShow, BgpRouteShow, BgpRoutesShow, BgpState};

use crate::schemas::{Schemas, cidr, text};

pub(crate) fn compare(s: &mut Schemas) {
    s.words(
        "BgpState",
        &[
            BgpState::Idle,
            BgpState::Connect,
            BgpState::Active,
            BgpState::OpenSent,
            BgpState::OpenConfirm,
            BgpState::Established,
        ],
    );
    s.words("BfdState", &[BfdState::Up, BfdState::Down, BfdState::Off]);
    let peer = BgpPeerShow {
        peer: text("10.0.0.1"),
        name: text("BGPPeer/tor-1"),
        node: Some(text("b")),
        as_number: Some(65001),
        state: BgpState::Established,
        uptime_seconds: Some(7),
        received: 3,
        filtered: 1,
        guarded: 1,
        advertised: 2,
        bfd: BfdState::Up,
        last_down: Some(text("x")),
        last_down_seconds: Some(9),
        flaps: 1,
        messages_received: 5,
        messages_sent: 6,
        refused_updates: 0,
        down_seconds: Some(3),
        fault: Some("IPv6 is not used".to_owned()),
    };
    s.object("BgpPeerShow", &peer);
    s.object("BgpPeersShow", &BgpPeersShow { peers: vec![peer] });
    let route = BgpRouteShow {
        prefix: cidr(),
        next_hop: Some([10, 0, 0, 1].into()),
        peer: Some(text("10.0.0.1")),
        as_path: vec![65001],
        communities: vec![text("64512:100")],
        local_pref: Some(100),
        med: Some(1),
        best: true,
        installed: true,
        filtered: false,
        note: Some(text("x")),
        stale: false,
    };
    s.object("BgpRouteShow", &route);
    let routes = vec![route];
    s.object(
        "BgpRoutesShow",
        &BgpRoutesShow {
            routes,
            next: Some("0.4.64".to_owned()),
        },
    );
}
