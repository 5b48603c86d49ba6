//! Plans against a naive device, on few keys and prefixes so that they collide.

use proptest::prelude::*;

use super::*;
use crate::testing::naive::{alive, apply, owner};

const NOW: Duration = Duration::from_secs(1_800_000_000);

pub(crate) fn private(n: u8) -> PrivateKey {
    PrivateKey::new([n + 1; 32])
}

fn key(n: u8) -> PublicKey {
    private(n).public()
}

fn prefix(n: u8) -> Cidr {
    let text = [
        "10.0.0.0/26",
        "10.0.0.64/26",
        "10.0.0.7/32",
        "0.0.0.0/0",
        "fd00::/122",
        "::/0",
    ];
    text[usize::from(n) % text.len()].parse().unwrap()
}

fn endpoint() -> impl Strategy<Value = Option<SocketAddr>> {
    let some = prop_oneof![
        Just("192.0.2.1:1"),
        Just("192.0.2.2:1"),
        Just("[fe80::1%3]:1")
    ];
    prop::option::of(some.prop_map(|text| text.parse().unwrap()))
}

fn preshared_key() -> impl Strategy<Value = Option<PresharedKey>> {
    prop::option::of((0u8..3).prop_map(|n| PresharedKey::new([n; 32])))
}

fn keepalive() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(25)]
}

/// Owners of prefixes by number, `None` where there is none.
fn owners() -> impl Strategy<Value = Vec<Option<u8>>> {
    prop::collection::vec(prop::option::of(0u8..5), 6)
}

prop_compose! {
    fn specs()(
        own in 5u8..7, port in 0u16..3, fwmark in 0u32..2, owners in owners(),
        peers in prop::collection::btree_map(
            0u8..5, (preshared_key(), endpoint(), any::<bool>(), keepalive()), 0..5),
    ) -> DeviceSpec {
        let peers = peers.into_iter().map(|(n, (preshared_key, endpoint, pinned, persistent_keepalive))| {
            let owned = (0u8..).zip(&owners).filter(|(_, o)| **o == Some(n)).map(|(p, _)| prefix(p));
            let allowed_ips = owned.collect();
            (key(n), PeerSpec {
                other_preshared_key: preshared_key.clone(),
                preshared_key, other_public_key: None, endpoint, pinned, persistent_keepalive, allowed_ips
            })
        });
        DeviceSpec { private_key: private(own), other_private_key: None, listen_port: port, fwmark, peers: peers.collect() }
    }
}

prop_compose! {
    fn states()(
        own in prop::option::of(4u8..7), listen_port in 0u16..3, fwmark in 0u32..2, owners in owners(),
        peers in prop::collection::btree_map(
            0u8..5, (preshared_key(), endpoint(), keepalive(), prop::option::of(0u64..400)), 0..5),
    ) -> DeviceState {
        let peers = peers.into_iter().map(|(n, (preshared_key, endpoint, persistent_keepalive, age))| {
            let owned = (0u8..).zip(&owners).filter(|(_, o)| **o == Some(n)).map(|(p, _)| prefix(p));
            (key(n), PeerState {
                preshared_key, endpoint, persistent_keepalive,
                allowed_ips: owned.collect(),
                last_handshake: age.map(|secs| NOW - Duration::from_secs(secs)),
                ..PeerState::default()
            })
        });
        // Nobody is its own peer.
        let peers = peers.filter(|(k, _)| own.map(key) != Some(*k)).collect();
        DeviceState { private_key: own.map(private), other_private_key: None, listen_port, fwmark, peers }
    }
}

fn is_as_wanted(spec: &DeviceSpec, state: &DeviceState) -> Result<(), TestCaseError> {
    prop_assert_eq!(state.private_key.as_ref(), Some(&spec.private_key));
    prop_assert!(spec.listen_port == 0 || spec.listen_port == state.listen_port);
    prop_assert_eq!(spec.fwmark, state.fwmark);
    let keys = |a: &BTreeMap<PublicKey, PeerState>| a.keys().copied().collect::<Vec<_>>();
    prop_assert_eq!(
        spec.peers.keys().copied().collect::<Vec<_>>(),
        keys(&state.peers)
    );
    for (key, wanted) in &spec.peers {
        let found = &state.peers[key];
        prop_assert_eq!(&wanted.allowed_ips, &found.allowed_ips);
        prop_assert_eq!(
            real(wanted.preshared_key.as_ref()),
            real(found.preshared_key.as_ref())
        );
        prop_assert_eq!(&wanted.other_preshared_key, &found.other_preshared_key);
        prop_assert_eq!(wanted.persistent_keepalive, found.persistent_keepalive);
        let is_there = wanted.endpoint.is_none() || wanted.endpoint == found.endpoint;
        prop_assert!(is_there || !wanted.pinned && found.last_handshake.is_some());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_leads_there_and_the_next_is_empty(spec in specs(), before in states()) {
        let request = plan(&spec, &before, NOW).unwrap();
        let mut state = before.clone();
        apply(&mut state, &request, &mut |_| {});
        is_as_wanted(&spec, &state)?;
        prop_assert_eq!(plan(&spec, &state, NOW).unwrap(), SetRequest::default());
    }

    #[test]
    fn a_prefix_has_the_old_or_the_new_owner_at_every_moment(spec in specs(), before in states()) {
        let request = plan(&spec, &before, NOW).unwrap();
        let wanted = |p: &Cidr| {
            spec.peers.iter().find(|(_, s)| s.allowed_ips.contains(p)).map(|(key, _)| *key)
        };
        // A device drops a peer that has its own new key; nothing can keep that one's prefixes.
        let own = spec.private_key.public();
        let mut trace = Vec::new();
        apply(&mut before.clone(), &request, &mut |state| trace.push(state.clone()));
        for p in (0..6).map(prefix) {
            let (old, new) = (owner(&before, &p).filter(|o| *o != own), wanted(&p));
            let mut moved = false;
            for state in &trace {
                let at = owner(state, &p);
                moved |= at == new;
                prop_assert!(if moved { at == new } else { at == old }, "{} {:?}", p, at);
            }
        }
    }

    #[test]
    fn what_is_right_is_not_touched_and_removal_comes_last(spec in specs(), before in states()) {
        let request = plan(&spec, &before, NOW).unwrap();
        let is_removal = |p: &PeerRequest| matches!(p, PeerRequest::Remove(_));
        prop_assert!(request.peers.is_sorted_by_key(is_removal));
        for peer in &request.peers {
            let PeerRequest::Set(change) = peer else { continue };
            let key = change.public_key;
            prop_assert_eq!(change.update_only, before.peers.contains_key(&key));
            prop_assert!(!change.replace_allowed_ips);
            if let Some(found) = before.peers.get(&key) {
                // Every field that is mentioned differs.
                prop_assert!(!change.changes_nothing());
                prop_assert!(change.endpoint.is_none_or(|e| Some(e) != found.endpoint));
                prop_assert!(change.persistent_keepalive.is_none_or(|k| k != found.persistent_keepalive));
                for ip in &change.allowed_ips {
                    let (has, p) = match ip {
                        AllowedIpChange::Add(p) => (false, p),
                        AllowedIpChange::Remove(p) => (true, p),
                    };
                    prop_assert_eq!(found.allowed_ips.contains(p), has);
                }
            }
        }
    }
}

fn spec_of(peers: impl IntoIterator<Item = (PublicKey, PeerSpec)>) -> DeviceSpec {
    DeviceSpec {
        private_key: private(6),
        other_private_key: None,
        listen_port: 51820,
        fwmark: 0,
        peers: peers.into_iter().collect(),
    }
}

fn state_of(peers: impl IntoIterator<Item = (PublicKey, PeerState)>) -> DeviceState {
    DeviceState {
        private_key: Some(private(6)),
        other_private_key: None,
        listen_port: 51820,
        fwmark: 0,
        peers: peers.into_iter().collect(),
    }
}

#[test]
fn where_a_key_is_one_peer_the_owner_is_who_was_heard_last() {
    let prefix: Cidr = "10.0.0.0/26".parse().unwrap();
    let wanted = PeerSpec {
        other_public_key: Some(key(2)),
        allowed_ips: BTreeSet::from([prefix]),
        ..PeerSpec::default()
    };
    let peer = |seconds: Option<u64>| PeerState {
        last_handshake: seconds.map(Duration::from_secs),
        ..PeerState::default()
    };
    for (old, new, owner) in [
        (None, None, 1),
        (Some(5), None, 1),
        (Some(5), Some(6), 2),
        (Some(7), Some(6), 1),
    ] {
        let observed = state_of([(key(1), peer(old)), (key(2), peer(new))]);
        let spec = with_single_keys(spec_of([(key(1), wanted.clone())]), &observed);
        let owners = spec
            .peers
            .iter()
            .filter(|(_, p)| p.allowed_ips.contains(&prefix));
        assert_eq!(owners.map(|(k, _)| *k).collect::<Vec<_>>(), [key(owner)]);
        assert_eq!(spec.peers.len(), 2);
        assert!(spec.peers.values().all(|p| p.other_public_key.is_none()));
    }
}

#[test]
fn an_endpoint_that_roamed_is_put_back_only_where_no_session_breaks() {
    let at = |text: &str| Some(text.parse().unwrap());
    let spec = |pinned| {
        let endpoint = at("192.0.2.1:51820");
        spec_of([(
            key(0),
            PeerSpec {
                endpoint,
                pinned,
                ..PeerSpec::default()
            },
        )])
    };
    let roamed = |age| PeerState {
        endpoint: at("198.51.100.9:4000"),
        ..alive(NOW - Duration::from_secs(age))
    };
    for (pinned, age, moves) in [(false, 60, false), (false, 180, true), (true, 60, true)] {
        let request = plan(&spec(pinned), &state_of([(key(0), roamed(age))]), NOW).unwrap();
        assert_eq!(!request.is_empty(), moves, "pinned {pinned}, {age} s");
    }
    let mut never = roamed(0);
    never.last_handshake = None;
    assert!(
        !plan(&spec(false), &state_of([(key(0), never)]), NOW)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn impossible_specifications_are_refused_by_name() {
    let greedy = || PeerSpec {
        allowed_ips: [prefix(0)].into(),
        ..PeerSpec::default()
    };
    let both = spec_of([(key(0), greedy()), (key(1), greedy())]);
    let error = plan(&both, &DeviceState::default(), NOW).unwrap_err();
    assert!(matches!(error, PlanError::TwoOwners { prefix: p, .. } if p == prefix(0)));
    assert!(error.to_string().contains(&key(1).to_string()));
    let selfish = spec_of([(key(6), PeerSpec::default())]);
    assert_eq!(
        plan(&selfish, &DeviceState::default(), NOW),
        Err(PlanError::OwnKey(key(6)))
    );
}

#[test]
fn a_plan_prints_every_change_and_no_secret() {
    let spec = spec_of([(
        key(0),
        PeerSpec {
            preshared_key: Some(PresharedKey::new([0x77; 32])),
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            persistent_keepalive: 25,
            allowed_ips: [prefix(0)].into(),
            ..PeerSpec::default()
        },
    )]);
    let mut before = state_of([(key(1), PeerState::default())]);
    before.private_key = None;
    let request = plan(&spec, &before, NOW).unwrap();
    let (own, new, old) = (private(6).public(), key(0), key(1));
    let lines = [
        format!("private key: the one of {own}"),
        format!(
            "peer {new}: set preshared-key endpoint 192.0.2.1:51820 keepalive 25s +10.0.0.0/26"
        ),
        format!("peer {old}: remove"),
    ];
    assert_eq!(request.to_string(), lines.map(|line| line + "\n").concat());
    let debug = format!("{request:?}");
    assert!(!debug.contains("119") && !debug.contains("77, "), "{debug}");
}
