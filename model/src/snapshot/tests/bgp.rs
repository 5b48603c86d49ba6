//! What is for BGP alone.

use super::*;

#[test]
fn bgp_resources_come_change_and_go() {
    let mut s = Snapshot::default();
    let cases = [
        (
            "bgpconfigurations/default",
            "BGPConfiguration",
            "default",
            json!({"asNumber": 65001}),
        ),
        (
            "bgpconfigurations/node.a",
            "BGPConfiguration",
            "node.a",
            json!({"listenPort": 1179}),
        ),
        (
            "bgppeers/p",
            "BGPPeer",
            "p",
            json!({"peerIP": "192.0.2.1", "asNumber": 65001}),
        ),
        (
            "bgpfilters/f",
            "BGPFilter",
            "f",
            json!({"importV4": [{"action": "Reject"}]}),
        ),
    ];
    let secret = json!({"data": {"k": "c2VjcmV0"}});
    for (key, kind, name, spec) in cases {
        let key = format!("resources/{key}");
        let value = stored(kind, None, name, spec);
        assert_eq!(apply(&mut s, 1, &key, Some(value.clone())), Changed::BGP);
        assert_eq!(apply(&mut s, 2, &key, Some(value)), Changed::NONE);
        let kept = apply(
            &mut s,
            3,
            &key,
            Some(stored(kind, None, name, json!({"zzz": 1}))),
        );
        assert_eq!(kept, Changed::REJECTED, "{key}");
    }
    assert!(!s.lacks_bgp(), "what was read before stands");
    assert_eq!(s.bgp_configurations.len(), 2);
    assert!(s.bgp_peers.contains_key("p") && s.bgp_filters.contains_key("f"));
    let key = "resources/secrets/s";
    let value = stored("Secret", None, "s", secret);
    assert_eq!(apply(&mut s, 4, key, Some(value)), Changed::SECRETS);
    assert_eq!(s.secrets["s"].spec.data["k"].expose(), b"secret");
    assert!(!format!("{s:?}").contains("c2VjcmV0"));
    assert_eq!(apply(&mut s, 5, key, None), Changed::SECRETS);
    let mut fresh = Snapshot::default();
    apply(
        &mut fresh,
        1,
        "resources/bgpconfigurations/default",
        Some(b"{".to_vec()),
    );
    assert!(fresh.lacks_bgp());
}
