//! `BGPPeer`s that are for nobody.

use calc::Witnesses;

use super::*;

#[test]
fn a_selector_that_selects_no_node_is_a_problem_until_it_does() {
    let tor = "peerIP: 192.0.1.254, asNumber: 65001";
    let mut witnesses = Witnesses::default();
    for (spec, found) in [
        (format!("nodeSelector: rack == 'a', {tor}"), false),
        (format!("nodeSelector: rack == 'c', {tor}"), true),
        (format!("nodeSelector: rack == 'b', {tor}"), false),
        (tor.to_owned(), false),
    ] {
        let store = peered(&spec);
        let fresh = Witnesses::default().unselected(&store.snapshot());
        let remembered = witnesses.unselected(&store.snapshot());
        assert_eq!(fresh, remembered, "{spec}");
        assert_eq!(fresh.len(), usize::from(found), "{spec}: {fresh:?}");
        let words = fresh
            .iter()
            .all(|p| p.object == "BGPPeer/p" && p.message.contains("selects no node"));
        assert!(words, "{fresh:?}");
    }
    // The node by which it was for somebody goes.
    let alone = |rack: &str| {
        peered(&format!("nodeSelector: rack == 'a' && has(edge), {tor}"))
            .label("a2", &[("rack", rack), ("edge", "yes")])
    };
    assert_eq!(witnesses.unselected(&alone("a").snapshot()), []);
    assert_eq!(witnesses.unselected(&alone("b").snapshot()).len(), 1);
}
