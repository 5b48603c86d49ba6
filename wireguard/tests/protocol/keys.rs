//! Keys that change while packets go on.

use std::time::Duration;

use wireguard::PeerConfig;
use wireguard::control::{PeerChange, PeerRequest, SetRequest};
use wireguard::keys::{PresharedKey, PrivateKey};

use crate::net::{FINE, Net, inner, outer, packet};

/// Node 0 changes its key pair: published to the others as a second key first, then used, then alone.
#[test]
fn a_node_changes_its_keys_without_losing_a_packet() {
    let mut net = Net::mesh(11, 2, FINE);
    let (old, new) = (net.nodes[0].key.clone(), PrivateKey::generate(&mut net.rng));
    let mut id = 0;
    let mut talk = |net: &mut Net, seconds: u64| {
        for _ in 0..seconds * 2 {
            net.send(0, &packet(inner(0), inner(1), id, 60));
            net.send(1, &packet(inner(1), inner(0), id, 60));
            id += 1;
            net.run(Duration::from_millis(500));
        }
    };
    talk(&mut net, 130);
    // 1: the node answers to both, its peer knows both.
    let now = net.clock();
    net.nodes[0]
        .device
        .set_keys(now, old.clone(), Some(new.clone()));
    let mut config = PeerConfig::new(old.public());
    config.other_public_key = Some(new.public());
    config.endpoint = Some(outer(0));
    assert!(net.nodes[1].device.set_peer(now, config.clone()).is_some());
    talk(&mut net, 130);
    // 2: everybody starts with the new one.
    let now = net.clock();
    net.nodes[0]
        .device
        .set_keys(now, new.clone(), Some(old.clone()));
    config.public_key = new.public();
    config.other_public_key = Some(old.public());
    let same = net.nodes[1].device.set_peer(now, config.clone());
    assert_eq!(same, net.nodes[1].device.peer_by_key(&old.public()));
    talk(&mut net, 130);
    // 3: the old one is retired.
    let now = net.clock();
    net.nodes[0].device.set_keys(now, new, None);
    config.other_public_key = None;
    assert_eq!(net.nodes[1].device.set_peer(now, config), same);
    assert_eq!(net.nodes[1].device.peer_by_key(&old.public()), None);
    talk(&mut net, 400);
    for n in 0..2 {
        let mut ids = net.ids(n);
        ids.sort_unstable();
        assert_eq!(ids, (0..id).collect::<Vec<u64>>());
    }
}

#[test]
fn preshared_keys_change_without_losing_a_packet() {
    let mut net = Net::mesh(12, 2, FINE);
    let keys = [1, 2].map(|n| PresharedKey::new([n; 32]));
    let mut id = 0;
    let set = |net: &mut Net, n: usize, first: &PresharedKey, other: Option<&PresharedKey>| {
        let mut config = PeerConfig::new(net.key(1 - n));
        config.endpoint = Some(outer(1 - n));
        config.preshared_key = Some(first.clone());
        config.other_preshared_key = other.cloned();
        let now = net.clock();
        net.nodes[n].device.set_peer(now, config).unwrap();
    };
    let mut talk = |net: &mut Net| {
        for _ in 0..200 {
            net.send(0, &packet(inner(0), inner(1), id, 60));
            net.send(1, &packet(inner(1), inner(0), id, 60));
            id += 1;
            net.run_secs(1);
        }
    };
    for n in 0..2 {
        set(&mut net, n, &keys[0], None);
    }
    talk(&mut net);
    // One node after the other, with rekeys in every state between.
    set(&mut net, 1, &keys[0], Some(&keys[1]));
    talk(&mut net);
    set(&mut net, 0, &keys[1], Some(&keys[0]));
    talk(&mut net);
    set(&mut net, 1, &keys[1], Some(&keys[0]));
    talk(&mut net);
    set(&mut net, 0, &keys[1], None);
    talk(&mut net);
    for n in 0..2 {
        let mut ids = net.ids(n);
        ids.sort_unstable();
        assert_eq!(ids, (0..id).collect::<Vec<u64>>());
    }
}

#[test]
fn an_answer_uses_the_other_preshared_key_when_the_first_had_no_echo() {
    let mut net = Net::mesh(17, 2, FINE);
    let keys = [1, 2].map(|n| PresharedKey::new([n; 32]));
    let mut config = PeerConfig::new(net.key(1));
    config.endpoint = Some(outer(1));
    config.preshared_key = Some(keys[1].clone());
    net.introduce(0, 1, config);
    let mut config = PeerConfig::new(net.key(0));
    config.preshared_key = Some(keys[0].clone());
    config.other_preshared_key = Some(keys[1].clone());
    net.introduce(1, 0, config);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(7);
    assert_eq!(net.ids(1), [1]);
}

#[test]
fn a_wrong_preshared_key_makes_no_session() {
    let mut net = Net::mesh(13, 2, FINE);
    let mut config = PeerConfig::new(net.key(1));
    config.endpoint = Some(outer(1));
    config.preshared_key = Some(PresharedKey::new([1; 32]));
    net.introduce(0, 1, config);
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(80);
    assert!(net.ids(1).is_empty());
    assert!(net.nodes.iter().all(|n| n.events.is_empty()));
}

/// Both ends are told as the exchange of preshared keys tells them: one after the other, each with the other key to fall
/// back on.
#[test]
fn a_new_preshared_key_is_used_at_once() {
    let mut net = Net::mesh(18, 2, FINE);
    net.send(0, &packet(inner(0), inner(1), 0, 60));
    net.run_secs(1);
    let told = |net: &mut Net, n: usize, first: u8, other: Option<u8>| {
        let key = |n| Some(PresharedKey::new([n; 32]));
        let change = PeerChange {
            update_only: true,
            preshared_key: Some(key(first)),
            other_preshared_key: Some(other.and_then(key)),
            ..PeerChange::new(net.key(1 - n))
        };
        let request = SetRequest {
            peers: vec![PeerRequest::Set(change)],
            ..SetRequest::default()
        };
        net.configure(n, &request);
        net.run_secs(1);
    };
    told(&mut net, 0, 1, None);
    told(&mut net, 1, 1, None);
    let sessions = |net: &Net| net.nodes.iter().map(|n| n.events.len()).min().unwrap();
    assert!(sessions(&net) > 1, "nothing was sent since, and yet");
    // What was told already changes nothing.
    let before = sessions(&net);
    told(&mut net, 1, 1, None);
    assert_eq!(sessions(&net), before);
    // One without a session has nothing to renew.
    net.run_secs(600);
    net.record_wire = true;
    told(&mut net, 0, 2, Some(1));
    assert!(net.wire.is_empty());
    net.send(0, &packet(inner(0), inner(1), 1, 60));
    net.run_secs(8);
    assert_eq!(net.ids(1), [0, 1]);
}
