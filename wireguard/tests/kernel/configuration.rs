//! What the kernel is told, it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::Cidr;
use wireguard::control::{AllowedIpChange, DeviceState, PeerChange, PeerRequest, SetRequest};
use wireguard::keys::PresharedKey;
use wireguard::plan::{DeviceSpec, PeerSpec};

use crate::{ip, private, public, reconcile, with_device};

fn prefixes(n: u16) -> BTreeSet<Cidr> {
    let [high, low] = n.to_be_bytes();
    let texts = [
        format!("10.{high}.{low}.0/26"),
        format!("10.{high}.{low}.64/26"),
        format!("172.16.{high}.{low}/32"),
        format!("fd00:0:{n:x}::/122"),
        format!("fd00:1:{n:x}::1/128"),
    ];
    texts.map(|text| text.parse().unwrap()).into()
}

/// A mesh of `n` other nodes.
fn mesh(n: u16) -> DeviceSpec {
    let peer = |n: u16| PeerSpec {
        other_preshared_key: None,
        preshared_key: n.is_multiple_of(2).then(|| PresharedKey::new([7; 32])),
        other_public_key: None,
        endpoint: Some(if n.is_multiple_of(3) {
            SocketAddr::from(([192, 0, 2, 1], 1 + n))
        } else {
            SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 51820))
        }),
        pinned: true,
        persistent_keepalive: n % 3,
        allowed_ips: prefixes(n),
    };
    DeviceSpec {
        private_key: private(9999),
        other_private_key: None,
        listen_port: 51820,
        fwmark: 0x1234,
        peers: (0..n).map(|n| (public(n), peer(n))).collect(),
    }
}

#[test]
fn a_mesh_of_five_hundred_is_told_and_read_back() {
    with_device(|kernel| {
        assert_eq!(kernel.get("wg0").unwrap(), DeviceState::default());
        let mut spec = mesh(500);
        let (_, state) = reconcile(kernel, &spec);
        assert_eq!(state.private_key.unwrap().public(), private(9999).public());
        assert_eq!(
            (state.listen_port, state.fwmark, state.peers.len()),
            (51820, 0x1234, 500)
        );
        for (key, peer) in &state.peers {
            let wanted = &spec.peers[key];
            assert_eq!(peer.allowed_ips, wanted.allowed_ips);
            assert_eq!(peer.endpoint, wanted.endpoint);
            assert_eq!(peer.preshared_key, wanted.preshared_key);
            assert_eq!(peer.persistent_keepalive, wanted.persistent_keepalive);
        }

        // One changes, one goes, one comes: three lines.
        let changed = spec.peers.get_mut(&public(1)).unwrap();
        (changed.preshared_key, changed.persistent_keepalive) =
            (Some(PresharedKey::new([8; 32])), 9);
        spec.peers.remove(&public(2));
        spec.peers.extend(
            mesh(501)
                .peers
                .remove(&public(500))
                .map(|peer| (public(500), peer)),
        );
        let (request, state) = reconcile(kernel, &spec);
        assert_eq!(request.peers.len(), 3, "{request}");
        assert_eq!(
            state.peers[&public(1)].preshared_key,
            Some(PresharedKey::new([8; 32]))
        );
        assert!(!state.peers.contains_key(&public(2)));

        spec.peers = BTreeMap::new();
        assert!(reconcile(kernel, &spec).1.peers.is_empty());
    });
}

#[test]
fn a_peer_may_own_more_than_a_message_holds() {
    with_device(|kernel| {
        let mut spec = mesh(3);
        let many =
            (0..6000u32).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap());
        spec.peers.get_mut(&public(1)).unwrap().allowed_ips = many.collect();
        let (_, state) = reconcile(kernel, &spec);
        assert_eq!(state.peers[&public(1)].allowed_ips.len(), 6000);
        // Nearly all of them move to another, and one stays.
        let mut moved = std::mem::take(&mut spec.peers.get_mut(&public(1)).unwrap().allowed_ips);
        spec.peers
            .get_mut(&public(1))
            .unwrap()
            .allowed_ips
            .extend(moved.pop_first());
        spec.peers
            .get_mut(&public(0))
            .unwrap()
            .allowed_ips
            .append(&mut moved);
        let (request, state) = reconcile(kernel, &spec);
        assert_eq!(request.peers.len(), 1, "{request}");
        assert_eq!(state.peers[&public(1)].allowed_ips.len(), 1);
    });
}

#[test]
fn every_flag_means_what_it_says() {
    with_device(|kernel| {
        let set = |change| SetRequest {
            peers: vec![PeerRequest::Set(change)],
            ..SetRequest::default()
        };
        let (a, b) = (PeerChange::new(public(1)), PeerChange::new(public(2)));
        let update_only = PeerChange {
            update_only: true,
            ..a.clone()
        };
        kernel.set("wg0", &set(update_only)).unwrap();
        assert!(kernel.get("wg0").unwrap().peers.is_empty());

        let own = |range: std::ops::Range<u16>| range.flat_map(prefixes).collect::<Vec<_>>();
        let add = |range| own(range).into_iter().map(AllowedIpChange::Add).collect();
        kernel
            .set(
                "wg0",
                &set(PeerChange {
                    allowed_ips: add(0..2),
                    ..a.clone()
                }),
            )
            .unwrap();
        let replace = PeerChange {
            replace_allowed_ips: true,
            allowed_ips: add(1..3),
            ..a.clone()
        };
        kernel.set("wg0", &set(replace)).unwrap();
        let owned = &kernel.get("wg0").unwrap().peers[&public(1)].allowed_ips;
        assert_eq!(*owned, own(1..3).into_iter().collect());

        let mut request = set(b);
        request.replace_peers = true;
        kernel.set("wg0", &request).unwrap();
        let state = kernel.get("wg0").unwrap();
        assert_eq!(state.peers.keys().collect::<Vec<_>>(), [&public(2)]);

        let none = SetRequest {
            private_key: Some(None),
            fwmark: Some(0),
            peers: vec![
                PeerRequest::Remove(public(2)),
                PeerRequest::Remove(public(3)),
            ],
            ..SetRequest::default()
        };
        kernel.set("wg0", &none).unwrap();
        assert_eq!(kernel.get("wg0").unwrap().private_key, None);
    });
}

#[test]
fn refusals_name_the_device_and_the_reason() {
    with_device(|kernel| {
        let texts = [
            (
                kernel.create("wg0").unwrap_err(),
                "create WireGuard device wg0",
                "EEXIST",
            ),
            (
                kernel.get("wg9").unwrap_err(),
                "read WireGuard device wg9",
                "ENODEV",
            ),
            (
                kernel.get("lo").unwrap_err(),
                "read WireGuard device lo",
                "EOPNOTSUPP",
            ),
            (
                kernel.delete("wg9").unwrap_err(),
                "delete WireGuard device wg9",
                "ENODEV",
            ),
            (
                kernel.create("a-name-too-long-for-it").unwrap_err(),
                "1 to 15 bytes",
                "",
            ),
        ];
        for (error, what, why) in texts {
            let text = error.to_string();
            assert!(text.contains(what) && text.contains(why), "{text}");
        }
        ip("link set wg0 up");
        kernel.delete("wg0").unwrap();
        assert_eq!(kernel.get("wg0").unwrap_err().errno(), Some(19));
    });
}
