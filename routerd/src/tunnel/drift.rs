//! What others did to the device since it was left right.
//!
//! As with all drift: the changes back to what was achieved, as far as what is wanted now asks for them too.

use std::collections::BTreeSet;

use model::marks::WIREGUARD;
use model::tunnel::Tunnel;
use wireguard::control::{DeviceState, PeerRequest, SetRequest};
use wireguard::keys::PublicKey;

use crate::reconcile::Drift;

/// What became of the device since it was left right.
#[derive(Debug, Default)]
pub struct Findings {
    /// What others changed.
    pub drift: Vec<Drift>,
    /// Its interface was taken away by ourselves, and with it what hung on it: addresses and routes.
    pub removed: bool,
}

/// The device itself, as drift names it.
pub(super) fn device() -> Drift {
    Drift {
        object: format!("link {WIREGUARD}"),
        found: "missing",
    }
}

/// What is in `back` and in `wanted`, the changes from `state` to what was achieved and to what is wanted.
///
/// Where a peer is heard from is no drift: it may move. Nor is by which of its keys, where a device has
/// `single_keys` and each of the two is a peer: what they own follows the handshakes.
pub(super) fn find(
    back: &SetRequest,
    wanted: &SetRequest,
    state: &DeviceState,
    (achieved, single_keys): (&Tunnel, bool),
) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let settings = [
        (
            "private-key",
            back.private_key.is_some() && wanted.private_key.is_some(),
        ),
        (
            "listen-port",
            back.listen_port.is_some() && wanted.listen_port.is_some(),
        ),
        ("fwmark", back.fwmark.is_some() && wanted.fwmark.is_some()),
    ];
    for (what, _) in settings.iter().filter(|(_, differs)| *differs) {
        drifts.push(Drift {
            object: format!("{WIREGUARD} {what}"),
            found: "changed",
        });
    }
    let wanted: BTreeSet<PublicKey> = wanted
        .peers
        .iter()
        .filter_map(|p| Some(touched(p)?.0))
        .collect();
    let changing = achieved.peers.iter().filter_map(|(key, p)| {
        let keys = [*key, p.next_key?];
        Some(keys.map(|k| PublicKey::new(*k.as_bytes())))
    });
    let changing: BTreeSet<PublicKey> = changing.flatten().filter(|_| single_keys).collect();
    let mut named = BTreeSet::new();
    for (key, found) in back.peers.iter().filter_map(touched) {
        let is_there = state.peers.contains_key(&key);
        if !wanted.contains(&key) || (is_there && changing.contains(&key)) || !named.insert(key) {
            continue;
        }
        let node = achieved.peers.get(&crate::tunnel::of(key));
        let node = node.map(|p| format!(" ({})", p.node)).unwrap_or_default();
        drifts.push(Drift {
            object: format!("peer {key}{node} dev {WIREGUARD}"),
            found: match is_there {
                true => found,
                false => "missing",
            },
        });
    }
    drifts
}

/// The peer that a request changes in more than its endpoint.
fn touched(request: &PeerRequest) -> Option<(PublicKey, &'static str)> {
    match request {
        PeerRequest::Remove(key) => Some((*key, "unexpected")),
        PeerRequest::Set(change) => {
            let mut change = change.clone();
            change.endpoint = None;
            let is_new = !change.update_only;
            (is_new || !change.changes_nothing()).then_some((change.public_key, "changed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use model::tunnel::TunnelPeer;
    use wireguard::control::{AllowedIpChange, PeerChange, PeerState};
    use wireguard::keys::KEY_LEN;

    use super::*;

    #[test]
    fn the_first_handshake_by_a_new_key_is_no_drift() {
        let [key, next] = [1, 2].map(|n| model::tunnel::PublicKey::new([n; KEY_LEN]));
        let given = PeerChange {
            update_only: true,
            allowed_ips: vec![AllowedIpChange::Add("10.0.1.0/26".parse().unwrap())],
            ..PeerChange::new(PublicKey::new(*next.as_bytes()))
        };
        let request = SetRequest {
            peers: vec![PeerRequest::Set(given)],
            ..SetRequest::default()
        };
        let peer = |next_key| TunnelPeer {
            node: "n1".into(),
            encapsulation_key: None,
            next_key,
            endpoint: "192.0.2.1:51820".parse().unwrap(),
            allowed_ips: ["10.0.1.0/26".parse().unwrap()].into(),
        };
        let mut achieved = Tunnel {
            port: 51820,
            fwmark: 0,
            post_quantum: model::resources::PostQuantum::Off,
            post_quantum_port: 51821,
            peers: [(key, peer(Some(next)))].into(),
        };
        let mut state = DeviceState::default();
        let named = |state: &DeviceState, achieved: &Tunnel, single_keys| {
            let drifts = find(&request, &request, state, (achieved, single_keys));
            drifts.first().map(|d| d.found)
        };
        assert_eq!(named(&state, &achieved, true), Some("missing"));
        let keys = [key, next].map(|k| PublicKey::new(*k.as_bytes()));
        state.peers = keys.map(|k| (k, PeerState::default())).into();
        assert_eq!(named(&state, &achieved, true), None);
        // Of a device that has both keys as one peer, and of a peer that does not change its key.
        assert_eq!(named(&state, &achieved, false), Some("changed"));
        achieved.peers = [(next, peer(None))].into();
        assert_eq!(named(&state, &achieved, true), Some("changed"));
    }
}
