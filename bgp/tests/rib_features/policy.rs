//! Filters, roles and limits.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bgp::attributes::Attributes;
use bgp::rib::filter::{Community, Filter, Operation, Rule};
use bgp::rib::{Import, PeerId, Refusal};
use bgp::wire::open::Role;
use bgp::{Family, NextHop, PerFamily};

use crate::lab::{Lab, OWN_AS, cidr, external, from_as, reject};

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
    assert!(lab.routes(Some("10.1.0.0/16"))[0].filtered);
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
        lab.routes(None).is_empty(),
        "the good one is withdrawn by the bad"
    );
}
