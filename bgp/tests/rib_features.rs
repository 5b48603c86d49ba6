//! What the model of `rib_model.rs` leaves out: filters, roles, limits, restarts, IPv6, next hops.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bgp::attributes::{AttrView, Attributes};
use bgp::rib::filter::{Community, Filter, MatchOperator, Operation, PrefixMatch, Rule};
use bgp::rib::{
    Applied, Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Refusal, Rib, RibConfig,
};
use bgp::wire::open::Role;
use bgp::wire::update::MpNlri;
use bgp::wire::{Context, frame, render, update};
use bgp::{Family, NextHop, PerFamily, PrefixKey, V4, V6};
use model::Cidr;
use model::bgp::PoolGuard;

const OWN_AS: u32 = 64512;

fn config(n: u8, kind: PeerKind) -> PeerConfig {
    let address = Ipv4Addr::new(10, 0, 0, n);
    let external = kind == PeerKind::External;
    PeerConfig {
        address: address.into(),
        router_id: address,
        asn: if external {
            65000 + u32::from(n)
        } else {
            OWN_AS
        },
        import: Import::default(),
        export: Export {
            kind,
            local_as: OWN_AS,
            context: Context {
                ibgp: !external,
                extended_next_hop: true,
                ..Context::default()
            },
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(Ipv4Addr::new(10, 0, 0, 254)),
            own_v6: Some(NextHop::LinkLocal(link_local())),
            max_paths: 1,
        },
    }
}

fn link_local() -> Ipv6Addr {
    "fe80::fe".parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn from_as(n: u8) -> Attributes {
    Attributes {
        as_path: vec![65000 + u32::from(n)],
        ..Attributes::default()
    }
}

struct Lab {
    rib: Rib,
    /// What each neighbour was told, by prefix.
    heard: BTreeMap<(u16, Cidr), (Attributes, NextHop)>,
    ends: u32,
}

impl Lab {
    fn new(peers: impl IntoIterator<Item = (u8, PeerConfig)>) -> Lab {
        let mut rib = Rib::new(RibConfig::new(Ipv4Addr::new(10, 0, 0, 254)));
        for (n, config) in peers {
            rib.peer_up(PeerId(n.into()), config);
        }
        Lab {
            rib,
            heard: BTreeMap::new(),
            ends: 0,
        }
    }

    fn announce(&mut self, n: u8, prefix: &str, attributes: &Attributes, hop: NextHop) -> Applied {
        let context = Context {
            extended_next_hop: true,
            ..Context::default()
        };
        let block = attributes.block().unwrap();
        let mut message = None;
        let send = |m| message = Some(m);
        match V4::from_cidr(&cidr(prefix)) {
            Some(key) => render::announce(&context, &block, &hop, std::iter::once((0, key)), send),
            None => {
                let key = V6::from_cidr(&cidr(prefix)).unwrap();
                render::announce(&context, &block, &hop, std::iter::once((0, key)), send)
            }
        }
        .unwrap();
        let message = message.unwrap();
        let frame = frame::next(&message, 4096).unwrap().unwrap();
        let mut scratch = Vec::new();
        let update = update::split(frame.body, &context, &mut scratch).unwrap();
        assert_eq!(update.faults, []);
        self.rib.apply(PeerId(n.into()), &update)
    }

    fn v4(&mut self, n: u8, prefix: &str, attributes: &Attributes) -> Applied {
        self.announce(
            n,
            prefix,
            attributes,
            NextHop::V4(Ipv4Addr::new(10, 0, 0, n)),
        )
    }

    fn settle(&mut self) {
        let context = Context {
            extended_next_hop: true,
            ..Context::default()
        };
        let (heard, ends) = (&mut self.heard, &mut self.ends);
        while self.rib.transmit(
            |_| true,
            |to, message| {
                let frame = frame::next(message, 4096).unwrap().unwrap();
                let mut scratch = Vec::new();
                let update = update::split(frame.body, &context, &mut scratch).unwrap();
                *ends += u32::from(update.end_of_rib.is_some());
                let what = Attributes::from(AttrView::new(update.block));
                for (_, key) in update.withdrawn.iter() {
                    heard.remove(&(to.0, key.cidr()));
                }
                if let Some(MpNlri::V6(nlri)) = update.mp_withdrawn {
                    for (_, key) in nlri.iter() {
                        heard.remove(&(to.0, key.cidr()));
                    }
                }
                for (_, key) in update.announced.iter() {
                    let hop = NextHop::V4(update.next_hop.unwrap());
                    heard.insert((to.0, key.cidr()), (what.clone(), hop));
                }
                match update.mp_announced {
                    Some((MpNlri::V4(nlri), hop)) => heard.extend(
                        nlri.iter()
                            .map(|(_, k)| ((to.0, k.cidr()), (what.clone(), hop))),
                    ),
                    Some((MpNlri::V6(nlri), hop)) => heard.extend(
                        nlri.iter()
                            .map(|(_, k)| ((to.0, k.cidr()), (what.clone(), hop))),
                    ),
                    None => {}
                }
            },
        ) {}
    }

    fn told(&mut self, to: u8, prefix: &str) -> Option<(Attributes, NextHop)> {
        self.settle();
        self.heard.get(&(u16::from(to), cidr(prefix))).cloned()
    }
}

fn external(n: u8) -> (u8, PeerConfig) {
    (n, config(n, PeerKind::External))
}

fn reject(prefix: &str) -> Rule {
    Rule {
        accept: false,
        prefix: Some(PrefixMatch {
            cidr: cidr(prefix),
            operator: MatchOperator::In,
            min_len: None,
            max_len: None,
        }),
        ..Rule::default()
    }
}

#[test]
fn a_new_import_filter_needs_nothing_from_the_neighbour() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.v4(1, "10.2.0.0/16", &from_as(1));
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    let tag = Rule {
        operations: vec![
            Operation::AddCommunity(Community::Standard(77)),
            Operation::PrependAsPath(vec![1, 2]),
        ],
        ..Rule::default()
    };
    let filter = Filter {
        rules: vec![reject("10.1.0.0/16"), tag],
    };
    let import = Import {
        filter: Some(Arc::new(filter)),
        ..Import::default()
    };
    lab.rib.set_import(PeerId(1), import);
    assert_eq!(lab.told(2, "10.1.0.0/16"), None);
    let (tagged, _) = lab.told(2, "10.2.0.0/16").unwrap();
    assert_eq!(tagged.communities, [77]);
    assert_eq!(tagged.as_path, [OWN_AS, 1, 2, 65001]);
    let counters = lab.rib.counters(PeerId(1), Family::V4);
    assert_eq!((counters.received, counters.filtered), (2, 1));
    assert!(lab.rib.routes(Family::V4, Some(&cidr("10.1.0.0/16")), None)[0].filtered);
    // Taken away again: as at first.
    lab.rib.set_import(PeerId(1), Import::default());
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    assert!(lab.told(2, "10.2.0.0/16").unwrap().0.communities.is_empty());
    assert_eq!(lab.rib.counters(PeerId(1), Family::V4).filtered, 0);
}

#[test]
fn export_filters_tell_ours_from_others_and_change_what_is_told() {
    let mut receiver = external(2);
    let remote = Rule {
        accept: false,
        remote: true,
        ..Rule::default()
    };
    let tag = Rule {
        operations: vec![Operation::SetMed(9)],
        ..Rule::default()
    };
    receiver.1.export.filter = Some(Arc::new(Filter {
        rules: vec![remote, tag],
    }));
    let mut lab = Lab::new([external(1), receiver]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.rib
        .local_set(&cidr("10.3.0.0/16"), &Attributes::default())
        .unwrap();
    assert_eq!(lab.told(2, "10.1.0.0/16"), None);
    let (ours, hop) = lab.told(2, "10.3.0.0/16").unwrap();
    assert_eq!((ours.as_path, ours.med), (vec![OWN_AS], Some(9)));
    assert_eq!(hop, NextHop::V4(Ipv4Addr::new(10, 0, 0, 254)));
}

#[test]
fn roles_keep_routes_from_leaking() {
    let with_role = |n, role| {
        let mut peer = external(n);
        peer.1.export.role = Some(role);
        peer
    };
    // 1 carries our traffic, 2 and 3 are on a level, we carry the traffic of 4.
    let peers = [
        with_role(1, Role::Customer),
        with_role(2, Role::Peer),
        with_role(3, Role::Peer),
        with_role(4, Role::Provider),
    ];
    let mut lab = Lab::new(peers);
    for n in 1..=4 {
        let prefix = format!("10.{n}.0.0/16");
        assert_eq!(lab.v4(n, &prefix, &from_as(n)).refused, None);
    }
    // Of a provider and of a peer, only the customer hears, with the mark.
    for from in [1u8, 2] {
        let prefix = format!("10.{from}.0.0/16");
        assert_eq!(
            lab.told(4, &prefix).unwrap().0.otc,
            Some(65000 + u32::from(from))
        );
        assert_eq!(lab.told(3, &prefix), None);
    }
    // Of a customer, everybody hears; peers with our mark.
    assert_eq!(lab.told(1, "10.4.0.0/16").unwrap().0.otc, None);
    assert_eq!(lab.told(2, "10.4.0.0/16").unwrap().0.otc, Some(OWN_AS));
    // What must not come from there.
    let marked = |n, otc| Attributes {
        otc: Some(otc),
        ..from_as(n)
    };
    let leak = Some(Refusal::RouteLeak);
    assert_eq!(lab.v4(4, "10.9.0.0/16", &marked(4, 65004)).refused, leak);
    assert_eq!(lab.v4(2, "10.9.0.0/16", &marked(2, 65009)).refused, leak);
    assert_eq!(lab.v4(2, "10.9.0.0/16", &marked(2, 65002)).refused, None);
}

#[test]
fn one_prefix_too_many_is_said_and_another_path_of_a_known_one_is_none() {
    let mut limited = external(1);
    limited.1.import.max_prefixes.v4 = Some(2);
    let mut lab = Lab::new([limited]);
    for prefix in ["10.1.0.0/16", "10.2.0.0/16", "10.1.0.0/16"] {
        assert_eq!(lab.v4(1, prefix, &from_as(1)).too_many, None);
    }
    let over = lab.v4(1, "10.3.0.0/16", &from_as(1));
    assert_eq!(over.too_many, Some(Family::V4));
    lab.rib.peer_down(PeerId(1), PerFamily::default());
    lab.settle();
    assert_eq!(lab.rib.counters(PeerId(1), Family::V4).received, 0);
}

#[test]
fn own_as_and_wrong_first_as_are_refused_as_configured() {
    let mut strict = external(1);
    strict.1.import.enforce_first_as = true;
    strict.1.import.allowed_own_as = 1;
    let mut lab = Lab::new([strict]);
    let path = |as_path: &[u32]| Attributes {
        as_path: as_path.to_vec(),
        ..Attributes::default()
    };
    let mut refused = |p: &[u32]| lab.v4(1, "10.1.0.0/16", &path(p)).refused;
    assert_eq!(refused(&[65001, OWN_AS]), None);
    assert_eq!(refused(&[65001, OWN_AS, OWN_AS]), Some(Refusal::OwnAs));
    assert_eq!(refused(&[65009]), Some(Refusal::FirstAs));
    assert_eq!(refused(&[]), Some(Refusal::FirstAs));
    assert_eq!(lab.rib.refused(PeerId(1)), 3);
    assert!(
        lab.rib.routes(Family::V4, None, None).is_empty(),
        "the good one is withdrawn by the bad"
    );
}

#[test]
fn routes_of_a_restarting_neighbour_stay_until_they_are_swept() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.v4(1, "10.2.0.0/16", &from_as(1));
    lab.settle();
    let keep = PerFamily {
        v4: true,
        v6: false,
    };
    lab.rib.peer_down(PeerId(1), keep);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    let (n, config) = external(1);
    lab.rib.peer_up(PeerId(n.into()), config);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.rib.sweep_stale(PeerId(1), Family::V4);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    assert_eq!(lab.told(2, "10.2.0.0/16"), None);
}

#[test]
fn what_is_stale_stays_so_when_it_is_judged_again() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    let keep = PerFamily {
        v4: true,
        v6: false,
    };
    lab.rib.peer_down(PeerId(1), keep);
    lab.rib.set_import(PeerId(1), Import::default());
    let guard = |importable: &[&str]| PoolGuard {
        pools: [cidr("10.1.0.0/16")].into(),
        importable: importable.iter().map(|c| cidr(c)).collect(),
        ..PoolGuard::default()
    };
    lab.rib.set_guard(&guard(&[]));
    lab.rib.set_guard(&guard(&["10.1.0.0/16"]));
    let stale: Vec<bool> = (lab.rib.routes(Family::V4, None, None).iter())
        .map(|r| r.stale)
        .collect();
    assert_eq!(stale, [true]);
}

#[test]
fn a_new_guard_says_nothing_of_numbers_that_are_free() {
    let mut lab = Lab::new([external(1)]);
    let settle = |lab: &mut Lab| {
        lab.settle();
        lab.rib.kernel_changes(Family::V4, 9)
    };
    // Two prefixes come and go; one comes back, under the number of the other.
    for prefix in ["10.1.0.0/24", "10.2.0.0/24"] {
        lab.v4(1, prefix, &from_as(1));
    }
    settle(&mut lab);
    lab.rib.peer_down(PeerId(1), PerFamily::default());
    settle(&mut lab);
    let (n, config) = external(1);
    lab.rib.peer_up(PeerId(n.into()), config);
    for prefix in ["10.1.0.0/24", "10.2.0.0/24"] {
        lab.v4(1, prefix, &from_as(1));
        settle(&mut lab);
        lab.rib.set_guard(&PoolGuard {
            pools: [cidr(prefix)].into(),
            importable: [cidr(prefix)].into(),
            ..PoolGuard::default()
        });
        let changes = settle(&mut lab);
        assert!(changes.iter().all(|c| c.hops.len() == 1), "{changes:?}");
    }
}

#[test]
fn the_guard_stands_before_the_filter_and_is_told_from_it() {
    let mut receiver = external(1);
    receiver.1.import.filter = Some(Arc::new(Filter {
        rules: vec![reject("10.1.1.0/24")],
    }));
    let mut lab = Lab::new([receiver, external(2)]);
    let guard = |importable: &[&str], passable: &[&str]| PoolGuard {
        pools: [cidr("10.1.0.0/16")].into(),
        importable: importable.iter().map(|c| cidr(c)).collect(),
        passable: passable.iter().map(|c| cidr(c)).collect(),
    };
    for prefix in ["10.1.1.0/24", "10.1.2.0/24", "10.2.0.0/24", "0.0.0.0/0"] {
        lab.v4(1, prefix, &from_as(1));
    }
    let refused = |lab: &Lab| {
        let c = lab.rib.counters(PeerId(1), Family::V4);
        (c.received, c.filtered, c.guarded)
    };
    let installed = |lab: &mut Lab| -> Vec<String> {
        lab.rib.decide();
        let changes = lab.rib.kernel_changes(Family::V4, 9);
        let used = changes.iter().filter(|c| !c.hops.is_empty());
        used.map(|c| c.prefix.to_string()).collect()
    };
    assert_eq!(refused(&lab), (4, 1, 0));
    assert_eq!(installed(&mut lab).len(), 3);
    lab.rib.set_guard(&guard(&[], &[]));
    assert_eq!(refused(&lab), (4, 2, 2));
    assert_eq!(lab.told(2, "10.1.2.0/24"), None);
    assert!(lab.told(2, "0.0.0.0/0").is_some(), "it covers the pool");
    assert_eq!(installed(&mut lab), [""; 0]);
    // What may come in is still the filter's business.
    lab.rib
        .set_guard(&guard(&["10.1.1.0/24", "10.1.2.0/24"], &[]));
    assert_eq!(refused(&lab), (4, 1, 0));
    assert_eq!(installed(&mut lab), ["10.1.2.0/24"]);
    // Passed on, and out of the kernel.
    lab.rib.set_guard(&guard(&[], &["10.1.2.0/24"]));
    lab.rib.decide();
    let changes = lab.rib.kernel_changes(Family::V4, 9);
    assert!(changes.iter().all(|c| c.hops.is_empty()), "{changes:?}");
    assert!(lab.told(2, "10.1.2.0/24").is_some());
    assert_eq!(
        lab.rib.stance(&cidr("10.1.1.0/24")).words(),
        Some("inside our pools, and no other node has this block")
    );
}

#[test]
fn a_restarted_speaker_says_nothing_until_it_has_heard_everybody() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.rib.set_deferred(true);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.settle();
    assert_eq!((lab.heard.len(), lab.ends), (0, 0));
    assert!(lab.rib.kernel_changes(Family::V4, 9).is_empty());
    lab.rib.set_deferred(false);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    assert_eq!(lab.ends, 4, "two families, two neighbours");
}

#[test]
fn link_local_next_hops_are_used_and_never_passed_on() {
    let mut inside = (3, config(3, PeerKind::Internal));
    inside.1.export.own_v6 = Some(NextHop::V6 {
        global: "2001:db8::fe".parse().unwrap(),
        link_local: None,
    });
    let mut unnumbered = external(2);
    unnumbered.1.export.own_v4 = None;
    let mut lab = Lab::new([external(1), unnumbered, inside]);
    let hop = NextHop::LinkLocal("fe80::1".parse().unwrap());
    lab.announce(1, "2001:db8:1::/48", &from_as(1), hop);
    lab.announce(1, "10.1.0.0/16", &from_as(1), hop);
    lab.rib.decide();
    for family in Family::ALL {
        let changes = lab.rib.kernel_changes(family, 9);
        assert_eq!(
            (changes[0].hops[0].hop, changes[0].hops[0].peer),
            (hop, PeerId(1))
        );
    }
    let own = NextHop::LinkLocal(link_local());
    assert_eq!(lab.told(2, "2001:db8:1::/48").unwrap().1, own);
    assert_eq!(lab.told(2, "10.1.0.0/16").unwrap().1, own, "IPv4 over IPv6");
    let (_, inner) = lab.told(3, "2001:db8:1::/48").unwrap();
    assert_eq!(inner.address().to_string(), "2001:db8::fe");
    let (_, inner) = lab.told(3, "10.1.0.0/16").unwrap();
    assert_eq!(inner.address().to_string(), "10.0.0.254");
}

#[test]
fn a_disabled_family_is_gone_and_the_other_stays() {
    let mut lab = Lab::new([external(1), external(2)]);
    let hop = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    lab.announce(1, "2001:db8:1::/48", &from_as(1), hop);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    assert!(lab.told(2, "2001:db8:1::/48").is_some());
    lab.rib.disable_family(PeerId(1), Family::V6);
    assert_eq!(lab.told(2, "2001:db8:1::/48"), None);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    lab.rib.peer_remove(PeerId(1));
    lab.settle();
    assert!(lab.heard.is_empty());
}
