//! Next hops of one family for the other, and families that end.

use bgp::rib::{PeerId, PeerKind};
use bgp::{Family, NextHop};

use crate::lab::{Lab, config, external, from_as, link_local};

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
