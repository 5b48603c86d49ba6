//! Requests of all kinds, on few keys and prefixes so that they meet.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use crate::keys::{PresharedKey, PrivateKey, PublicKey};

fn key() -> impl Strategy<Value = PublicKey> {
    (1u8..7).prop_map(|n| PrivateKey::new([n; 32]).public())
}

fn allowed_ip() -> impl Strategy<Value = AllowedIpChange> {
    let prefixes = [
        "10.0.0.0/26",
        "10.0.0.64/26",
        "10.0.0.7/32",
        "0.0.0.0/0",
        "fd00::/122",
        "::/0",
    ];
    let prefix = prop::sample::select(prefixes.map(|p| p.parse().unwrap()).to_vec());
    (prefix, any::<bool>()).prop_map(|(prefix, add)| match add {
        true => AllowedIpChange::Add(prefix),
        false => AllowedIpChange::Remove(prefix),
    })
}

prop_compose! {
    fn change()(
        public_key in key(),
        update_only: bool,
        preshared_key in of(of((1u8..9).prop_map(|n| PresharedKey::new([n; 32])))),
        other_preshared_key in of(of((0u8..9).prop_map(|n| PresharedKey::new([n; 32])))),
        endpoint in of(prop::sample::select(vec!["192.0.2.1:1", "[fe80::1%3]:51820", "[::1]:0"])),
        persistent_keepalive in of(0u16..3),
        replace_allowed_ips: bool,
        allowed_ips in vec(allowed_ip(), 0..5),
    ) -> PeerChange {
        let endpoint = endpoint.map(|text| text.parse().unwrap());
        PeerChange {
            public_key, update_only, preshared_key, other_preshared_key, other_public_key: None,
            endpoint, persistent_keepalive,
            replace_allowed_ips, allowed_ips,
        }
    }
}

prop_compose! {
    /// Any request.
    pub(crate) fn request()(
        private_key in of(of((1u8..7).prop_map(|n| PrivateKey::new([n; 32])))),
        listen_port: Option<u16>,
        fwmark: Option<u32>,
        replace_peers in prop::bool::weighted(0.1),
        peers in vec(prop_oneof![
            4 => change().prop_map(PeerRequest::Set),
            1 => key().prop_map(PeerRequest::Remove),
        ], 0..6),
    ) -> SetRequest {
        SetRequest { private_key, other_private_key: None, listen_port, fwmark, replace_peers, peers }
    }
}
