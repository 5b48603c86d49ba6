//! What others did to the device since it was left right.
//!
//! As with all drift: the changes back to what was achieved, as far as what is wanted now asks for them too.

use std::collections::BTreeSet;

use model::marks::WIREGUARD;
use model::tunnel::Tunnel;
use wireguard::control::{DeviceState, PeerRequest, SetRequest};
use wireguard::keys::PublicKey;

use crate::reconcile::Drift;

/// The device itself, as drift names it.
pub(super) fn device() -> Drift {
    Drift {
        object: format!("link {WIREGUARD}"),
        found: "missing",
    }
}

/// What is in `back` and in `wanted`, the changes from `state` to what was achieved and to what is wanted.
///
/// Where a peer is heard from is no drift: it may move.
pub(super) fn find(
    back: &SetRequest,
    wanted: &SetRequest,
    state: &DeviceState,
    achieved: &Tunnel,
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
    let mut named = BTreeSet::new();
    for (key, found) in back.peers.iter().filter_map(touched) {
        if !wanted.contains(&key) || !named.insert(key) {
            continue;
        }
        let node = achieved.peers.get(&crate::tunnel::of(key));
        let node = node.map(|p| format!(" ({})", p.node)).unwrap_or_default();
        drifts.push(Drift {
            object: format!("peer {key}{node} dev {WIREGUARD}"),
            found: match state.peers.contains_key(&key) {
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
