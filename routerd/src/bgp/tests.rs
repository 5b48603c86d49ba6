use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bgp::attributes::NextHop;
use bgp::fsm::State;
use bgp::speaker::{LastFailure, PeerStatus, Ttl};
use model::Family;
use model::api::{BfdState, BgpState, Health};
use model::bgp::{Announcement, Bgp, Filter, LargeCommunity, Neighbour, Password, SecretValue};
use model::kernel::{Address, Link, LinkKind, LinkName};

use super::{status, translate, view};

fn neighbour(address: &str) -> Neighbour {
    Neighbour {
        resource: Some("tor".into()),
        node: None,
        address: address.parse().ok(),
        interface: None,
        port: 179,
        asn: Some(65001),
        local_as: 64512,
        source: None,
        own_v4: None,
        own_v6: None,
        families: Family::ALL.into(),
        extended_next_hop: false,
        hold_time: 9,
        restart_time: 120,
        ttl: model::bgp::Ttl::Auto,
        password: None,
        bfd: None,
        import: None,
        export: None,
        client: false,
        next_hop: model::bgp::NextHopMode::Auto,
        allowed_own_as: 0,
        max_prefixes: 1000,
    }
}

fn plan(peers: &[(&str, Neighbour)]) -> Bgp {
    let peers = peers.iter();
    Bgp {
        asn: 64512,
        router_id: Ipv4Addr::new(10, 0, 0, 9),
        cluster_id: Some(7),
        listen: Some(179),
        listen_addresses: BTreeSet::new(),
        multipath: 4,
        peers: peers.map(|(name, n)| ((*name).into(), n.clone())).collect(),
        announce: BTreeMap::new(),
        guard: Arc::default(),
    }
}

fn links() -> BTreeMap<LinkName, Link> {
    let name: LinkName = "eth0".parse().unwrap();
    let address = |ip: &str, prefix| Address {
        ip: ip.parse().unwrap(),
        prefix,
    };
    let link = Link {
        name,
        index: 2,
        mac: None,
        mtu: 1500,
        up: true,
        running: true,
        kind: LinkKind::Veth,
        addresses: vec![address("10.0.0.9", 24), address("fd00::9", 64)],
    };
    [(name, link)].into()
}

fn translated(plan: &Bgp) -> translate::Translated {
    translate::config(
        plan,
        &translate::Host {
            links: &links(),
            ipv6: true,
            read: &|path| match path.to_str() {
                Some("/good") => Ok(b"swordfish\nsecond line\n".to_vec()),
                _ => Err("No such file or directory".to_owned()),
            },
        },
    )
}

#[test]
fn a_peer_is_what_the_plan_says() {
    let filter: Arc<Filter> = Arc::default();
    let tor = Neighbour {
        families: [Family::V4].into(),
        hold_time: 30,
        restart_time: 60,
        bfd: Some(model::bgp::Bfd {
            transmit_ms: 100,
            receive_ms: 200,
            multiplier: 3,
        }),
        import: Some(Arc::clone(&filter)),
        export: Some(filter),
        own_v6: "fd00::9".parse().ok(),
        allowed_own_as: 2,
        ..neighbour("10.0.0.1")
    };
    let translated = translated(&plan(&[("tor", tor)]));
    assert!(translated.refused.is_empty());
    let config = translated.config;
    assert_eq!((config.cluster_id, config.port), (Some(7), Some(179)));
    assert_eq!((config.decision.multipath, config.listen.len()), (4, 2));
    let peer = &config.peers["tor"];
    assert_eq!(
        (peer.session.hold.offered, peer.session.restart_time),
        (30, 60)
    );
    assert!(peer.session.families.v4 && !peer.session.families.v6);
    assert_eq!(peer.bfd.unwrap().transmit, Duration::from_millis(100));
    assert!(peer.import.filter.is_some() && peer.export.is_some());
    assert_eq!(peer.import.max_prefixes.v4, Some(1000));
    assert_eq!(peer.import.allowed_own_as, 2);
    let global = "fd00::9".parse().unwrap();
    let own = NextHop::V6 {
        global,
        link_local: None,
    };
    assert_eq!(peer.own_v6, Some(own));
}

#[test]
fn only_who_is_on_a_link_is_one_hop_away() {
    let peers = [
        ("near", neighbour("10.0.0.1")),
        ("near6", neighbour("fd00::1")),
        ("far", neighbour("10.0.1.1")),
        ("far6", neighbour("fd00:0:0:1::1")),
        (
            "local",
            Neighbour {
                interface: "eth0".parse().ok(),
                ..neighbour("fe80::1")
            },
        ),
        (
            "unnumbered",
            Neighbour {
                interface: "eth0".parse().ok(),
                ..neighbour("")
            },
        ),
        (
            "secure",
            Neighbour {
                ttl: model::bgp::Ttl::Security(1),
                ..neighbour("10.0.0.2")
            },
        ),
    ];
    let config = translated(&plan(&peers)).config;
    let ttl: BTreeMap<&str, Ttl> = (config.peers.iter())
        .map(|(name, peer)| (name.as_str(), peer.ttl))
        .collect();
    let wanted = [
        ("near", Ttl::Direct),
        ("near6", Ttl::Direct),
        ("far", Ttl::Multihop(255)),
        ("far6", Ttl::Multihop(255)),
        ("local", Ttl::Direct),
        ("unnumbered", Ttl::Direct),
        ("secure", Ttl::Security(1)),
    ];
    assert_eq!(ttl, wanted.into());
}

#[test]
fn without_its_password_a_peer_is_not_spoken_to() {
    let with = |password| Neighbour {
        password: Some(password),
        ..neighbour("10.0.0.1")
    };
    let secret = |value: &[u8]| Password::Secret {
        name: "bgp".into(),
        key: "tor".into(),
        value: SecretValue::new(value),
    };
    for (password, error) in [
        (Password::File("/good".into()), None),
        (secret(b"swordfish"), None),
        (
            Password::File("/bad".into()),
            Some("password file /bad: No such file"),
        ),
        (secret(b""), Some("Secret/bgp tor: the password is empty")),
    ] {
        let peers = [("tor", with(password)), ("other", neighbour("10.0.0.2"))];
        let translated = translated(&plan(&peers));
        let peer = translated.config.peers.get("tor");
        match error {
            None => assert_eq!(
                peer.unwrap().password,
                bgp::speaker::Password::new(b"swordfish").ok()
            ),
            Some(words) => {
                assert!(peer.is_none() && translated.config.peers.contains_key("other"));
                assert!(translated.refused["tor"].contains(words));
            }
        }
        let printed = format!("{translated:?}");
        assert!(!printed.contains("swordfish"), "{printed}");
    }
}

#[test]
fn one_peer_that_cannot_be_keeps_no_other_from_being() {
    let twice = [
        ("a", neighbour("10.0.0.1")),
        ("b", neighbour("10.0.0.1")),
        ("c", neighbour("224.0.0.1")),
        ("d", neighbour("10.0.0.2")),
    ];
    let translated = translated(&plan(&twice));
    let left: Vec<_> = translated.config.peers.keys().cloned().collect();
    assert_eq!(left, ["a", "d"]);
    let refused: Vec<_> = translated.refused.keys().cloned().collect();
    assert_eq!(refused, ["b", "c"]);
    assert_eq!(translated.config.check(), Ok(()));
}

#[test]
fn routes_are_announced_with_what_belongs_to_them() {
    let mut plan = plan(&[]);
    let large = LargeCommunity {
        global: 1,
        local1: 2,
        local2: 3,
    };
    let announcement = Announcement {
        communities: vec![7],
        large_communities: vec![large],
        local_pref: Some(200),
    };
    let prefix = "10.1.0.0/26".parse().unwrap();
    plan.announce.insert(prefix, announcement);
    let announced = translate::announcements(&plan);
    let attributes = &announced[&prefix];
    assert_eq!(attributes.communities, [7]);
    assert_eq!(attributes.large_communities.len(), 1);
    assert_eq!((attributes.local_pref, attributes.med), (Some(200), None));
}

fn said(name: &str, state: State) -> PeerStatus {
    let ago = |words: &str| {
        Some(LastFailure {
            words: words.to_owned(),
            ago: Duration::from_secs(4),
        })
    };
    PeerStatus {
        name: name.to_owned(),
        address: Ipv4Addr::new(10, 0, 0, 1).into(),
        asn: Some(65001),
        state,
        shutdown: None,
        held_back: None,
        since: Duration::from_secs(70),
        last_down: ago("the connection was closed without a word"),
        last_failure: ago("TCP connection refused"),
        flaps: 1,
        agreed: None,
        lost: bgp::PerFamily::default(),
        routes: bgp::PerFamily::default(),
        advertised: bgp::PerFamily { v4: 2, v6: 1 },
        pending: bgp::PerFamily::default(),
        refused: 0,
        traffic: bgp::speaker::Traffic::default(),
        bfd: Some(bgp::bfd::State::Init),
    }
}

#[test]
fn a_session_is_shown_with_why_it_is_not_up() {
    let bfd = model::bgp::Bfd {
        transmit_ms: 300,
        receive_ms: 300,
        multiplier: 3,
    };
    let tor = Neighbour {
        bfd: Some(bfd),
        ..neighbour("10.0.0.1")
    };
    let plan = plan(&[("refused", neighbour("10.0.0.3")), ("tor", tor)]);
    let refused = [("refused".to_owned(), "no password".to_owned())].into();
    let show = |state| view::peers(Some(&plan), &[said("tor", state)], &refused).peers;
    let active = show(State::Active);
    assert_eq!(active[0].state, BgpState::Idle);
    assert_eq!(active[0].last_down.as_deref(), Some("no password"));
    assert_eq!(
        active[1].last_down.as_deref(),
        Some("TCP connection refused")
    );
    assert_eq!(
        (active[1].uptime_seconds, active[1].bfd),
        (None, BfdState::Down)
    );
    let up = show(State::Established);
    let why = Some("the connection was closed without a word");
    assert_eq!(up[1].last_down.as_deref(), why);
    assert_eq!(
        (up[1].uptime_seconds, up[1].last_down_seconds),
        (Some(70), Some(4))
    );
    assert_eq!((up[1].advertised, up[1].flaps), (3, 1));
}

#[test]
fn the_status_counts_what_an_operator_asked_for() {
    let mesh = Neighbour {
        resource: None,
        node: Some("n2".into()),
        ..neighbour("10.0.0.2")
    };
    let plan = plan(&[("mesh/n2/ipv4", mesh), ("tor", neighbour("10.0.0.1"))]);
    let of = |tor: PeerStatus, running, failed| {
        let statuses = [tor, said("mesh/n2/ipv4", State::Active)];
        let shown = view::peers(Some(&plan), &statuses, &BTreeMap::new());
        let subsystem = status::subsystem(&status::Facts {
            plan: Some(&plan),
            shown: &shown,
            failed,
            deaf: None,
            running,
            advice: &["set up route reflectors".to_owned()],
        });
        subsystem.unwrap()
    };
    // A node that is away is no fault of this one.
    let well = of(said("tor", State::Established), true, None);
    assert_eq!(well.state, Health::Ok);
    assert_eq!(
        well.message,
        "1 of 2 sessions established; set up route reflectors"
    );
    let ill = of(said("tor", State::Active), true, None);
    assert_eq!(ill.state, Health::Degraded);
    assert!(
        ill.message
            .contains("tor (10.0.0.1): TCP connection refused"),
        "{ill:?}"
    );
    // It takes its time to come up the first time, and no longer.
    let young = |flaps, seconds| PeerStatus {
        flaps,
        since: Duration::from_secs(seconds),
        ..said("tor", State::Active)
    };
    for (flaps, seconds, state) in [
        (0, 1, Health::Ok),
        (0, 9, Health::Degraded),
        (1, 1, Health::Degraded),
    ] {
        assert_eq!(of(young(flaps, seconds), true, None).state, state);
    }
    // Up, and less than was agreed on.
    let half = of(
        PeerStatus {
            lost: bgp::PerFamily {
                v4: false,
                v6: true,
            },
            ..said("tor", State::Established)
        },
        true,
        None,
    );
    assert_eq!(half.state, Health::Degraded);
    assert!(half.message.contains("IPv6 is not used"), "{half:?}");
    assert_eq!(
        of(said("tor", State::Idle), false, Some("no thread")).state,
        Health::Failed
    );
}
