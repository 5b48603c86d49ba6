//! A device that does what it is told and nothing else, one small step after the other: what WireGuard
//! means by «set», for comparison.

use std::time::Duration;

use model::Cidr;

use crate::control::{
    AllowedIpChange, DeviceState, PeerChange, PeerRequest, PeerState, SetRequest,
};
use crate::keys::{PrivateKey, PublicKey};

/// Carries out `request`; `each` sees every state on the way.
pub(crate) fn apply(
    state: &mut DeviceState,
    request: &SetRequest,
    each: &mut dyn FnMut(&DeviceState),
) {
    if let Some(key) = &request.private_key {
        state.private_key = key.clone();
        if let Some(own) = key.as_ref().map(PrivateKey::public) {
            state.peers.remove(&own);
        }
    }
    state.listen_port = request.listen_port.unwrap_or(state.listen_port);
    state.fwmark = request.fwmark.unwrap_or(state.fwmark);
    if request.replace_peers {
        state.peers.clear();
    }
    each(state);
    for peer in &request.peers {
        match peer {
            PeerRequest::Set(change) => set(state, change, each),
            PeerRequest::Remove(key) => {
                state.peers.remove(key);
                each(state);
            }
        }
    }
}

fn set(state: &mut DeviceState, change: &PeerChange, each: &mut dyn FnMut(&DeviceState)) {
    let key = change.public_key;
    let is_own = state
        .private_key
        .as_ref()
        .is_some_and(|k| k.public() == key);
    if is_own || change.update_only && !state.peers.contains_key(&key) {
        return;
    }
    let peer = state.peers.entry(key).or_default();
    if let Some(preshared_key) = &change.preshared_key {
        peer.preshared_key = preshared_key.clone();
    }
    if let Some(other) = &change.other_preshared_key {
        peer.other_preshared_key = other.clone();
    }
    peer.endpoint = change.endpoint.or(peer.endpoint);
    peer.persistent_keepalive = change
        .persistent_keepalive
        .unwrap_or(peer.persistent_keepalive);
    if change.replace_allowed_ips {
        peer.allowed_ips.clear();
    }
    each(state);
    for change in &change.allowed_ips {
        match change {
            AllowedIpChange::Add(prefix) => {
                for (other, peer) in &mut state.peers {
                    if *other == key {
                        peer.allowed_ips.insert(*prefix);
                    } else {
                        peer.allowed_ips.remove(prefix);
                    }
                }
            }
            AllowedIpChange::Remove(prefix) => {
                state
                    .peers
                    .entry(key)
                    .or_default()
                    .allowed_ips
                    .remove(prefix);
            }
        }
        each(state);
    }
}

/// Who owns a prefix.
pub(crate) fn owner(state: &DeviceState, prefix: &Cidr) -> Option<PublicKey> {
    let mut owners = state
        .peers
        .iter()
        .filter(|(_, p)| p.allowed_ips.contains(prefix));
    let owner = owners.next().map(|(key, _)| *key);
    assert!(owners.next().is_none(), "{prefix} has two owners");
    owner
}

/// A peer with a session of this moment.
pub(crate) fn alive(at: Duration) -> PeerState {
    PeerState {
        last_handshake: Some(at),
        ..PeerState::default()
    }
}
