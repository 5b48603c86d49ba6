//! From a device as it should be and as it is, to the few changes in between.
//!
//! * Nothing differs: the plan is empty. A peer that is right is not mentioned, so its session stands.
//! * A prefix moves by being given to its new owner, which takes it from the old one in the same step:
//!   it is never without an owner unless it should have none.
//! * Removal comes last: peers that go keep what nobody else gets until then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use model::Cidr;

use crate::control::{
    AllowedIpChange, DeviceState, PeerChange, PeerRequest, PeerState, SetRequest,
};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// Sessions are not used for longer (`Reject-After-Time`): a peer that completed no handshake for this
/// long has none to lose.
const SESSION_LIFE: Duration = Duration::from_secs(180);

/// A device as it should be.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// Its key.
    pub private_key: PrivateKey,
    /// Another key to answer to, while this node changes keys.
    pub other_private_key: Option<PrivateKey>,
    /// UDP port that it receives on; 0: any.
    pub listen_port: u16,
    /// Mark on the datagrams it sends; 0: none.
    pub fwmark: u32,
    /// All its peers.
    pub peers: BTreeMap<PublicKey, PeerSpec>,
}

/// A peer as it should be.
#[derive(Clone, Debug, Default)]
pub struct PeerSpec {
    /// Shared secret besides the key pairs; one of zeros is the same as none.
    pub preshared_key: Option<PresharedKey>,
    /// Another to try as well while it changes, also the one of zeros.
    pub other_preshared_key: Option<PresharedKey>,
    /// Another key by which it is the same peer, while that node changes keys.
    pub other_public_key: Option<PublicKey>,
    /// Where it is; `None`: it will speak first.
    pub endpoint: Option<SocketAddr>,
    /// Whether to put the endpoint back when the peer is heard from elsewhere. Otherwise it is put back
    /// only when there is no session that this could break.
    pub pinned: bool,
    /// Seconds between persistent keepalives; 0: off.
    pub persistent_keepalive: u16,
    /// What it owns.
    pub allowed_ips: BTreeSet<Cidr>,
}

/// Why a specification cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two owners of one prefix.
    #[error("allowed IP {prefix}: peers {one} and {other} both claim it: give it to one of them")]
    TwoOwners {
        /// The prefix.
        prefix: Cidr,
        /// The one owner.
        one: PublicKey,
        /// The other.
        other: PublicKey,
    },
    /// A device would be its own peer.
    #[error(
        "peer {0}: this is the device's own key: another node uses it too, make a new one there"
    )]
    OwnKey(PublicKey),
}

impl PlanError {
    /// Whether the same specification may be right later: never.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The changes that make `observed` what `spec` says. `now`: time since 1970.
///
/// # Errors
/// When no device can be as `spec` says.
pub fn plan(
    spec: &DeviceSpec,
    observed: &DeviceState,
    now: Duration,
) -> Result<SetRequest, PlanError> {
    let own = spec.private_key.public();
    check(spec, own)?;
    // Private keys are compared by their public halves: devices clamp what they are given.
    let has_key = observed.private_key.as_ref().map(PrivateKey::public) == Some(own);
    let public = |key: &Option<PrivateKey>| key.as_ref().map(PrivateKey::public);
    let has_other = public(&observed.other_private_key) == public(&spec.other_private_key);
    let has_port = spec.listen_port == 0 || spec.listen_port == observed.listen_port;
    let mut request = SetRequest {
        private_key: (!has_key).then(|| Some(spec.private_key.clone())),
        other_private_key: (!has_other).then(|| spec.other_private_key.clone()),
        listen_port: (!has_port).then_some(spec.listen_port),
        fwmark: (spec.fwmark != observed.fwmark).then_some(spec.fwmark),
        ..SetRequest::default()
    };
    let claimed: BTreeSet<&Cidr> = spec.peers.values().flat_map(|p| &p.allowed_ips).collect();
    let mut orphans = Vec::new();
    for (key, wanted) in &spec.peers {
        let Some(found) = observed.peers.get(key) else {
            request.peers.push(PeerRequest::Set(new_peer(*key, wanted)));
            continue;
        };
        let change = changed_peer(*key, wanted, found, now);
        if !change.changes_nothing() {
            request.peers.push(PeerRequest::Set(change));
        }
        let orphaned = found.allowed_ips.iter().filter(|p| !claimed.contains(p));
        let removed: Vec<_> = orphaned.copied().map(AllowedIpChange::Remove).collect();
        if !removed.is_empty() {
            orphans.push(PeerRequest::Set(PeerChange {
                update_only: true,
                allowed_ips: removed,
                ..PeerChange::new(*key)
            }));
        }
    }
    request.peers.append(&mut orphans);
    let gone = observed
        .peers
        .keys()
        .filter(|k| !spec.peers.contains_key(k));
    request.peers.extend(gone.copied().map(PeerRequest::Remove));
    Ok(request)
}

/// The same for a device whose peers and which itself have one key each: a peer that changes keys is two, and
/// what it owns is of the one that `observed` had a handshake with last.
#[must_use]
pub fn with_single_keys(mut spec: DeviceSpec, observed: &DeviceState) -> DeviceSpec {
    spec.other_private_key = None;
    let last = |key: &PublicKey| observed.peers.get(key).and_then(|p| p.last_handshake);
    let mut others = BTreeMap::new();
    for (key, peer) in &mut spec.peers {
        peer.other_preshared_key = None;
        let Some(other) = peer.other_public_key.take() else {
            continue;
        };
        let mut second = peer.clone();
        let unowned = match last(&other) > last(key) {
            true => peer,
            false => &mut second,
        };
        unowned.allowed_ips.clear();
        others.insert(other, second);
    }
    spec.peers.extend(others);
    spec
}

fn check(spec: &DeviceSpec, own: PublicKey) -> Result<(), PlanError> {
    if spec.peers.contains_key(&own) {
        return Err(PlanError::OwnKey(own));
    }
    let mut owners = BTreeMap::new();
    for (key, peer) in &spec.peers {
        for prefix in &peer.allowed_ips {
            if let Some(one) = owners.insert(*prefix, *key) {
                return Err(PlanError::TwoOwners {
                    prefix: *prefix,
                    one,
                    other: *key,
                });
            }
        }
    }
    Ok(())
}

fn new_peer(key: PublicKey, wanted: &PeerSpec) -> PeerChange {
    let keepalive = wanted.persistent_keepalive;
    PeerChange {
        preshared_key: real(wanted.preshared_key.as_ref()).map(|k| Some(k.clone())),
        other_preshared_key: wanted.other_preshared_key.clone().map(Some),
        other_public_key: wanted.other_public_key.map(Some),
        endpoint: wanted.endpoint,
        persistent_keepalive: (keepalive != 0).then_some(keepalive),
        allowed_ips: wanted
            .allowed_ips
            .iter()
            .copied()
            .map(AllowedIpChange::Add)
            .collect(),
        ..PeerChange::new(key)
    }
}

/// All but what it owns and nobody should.
fn changed_peer(key: PublicKey, wanted: &PeerSpec, found: &PeerState, now: Duration) -> PeerChange {
    let preshared_key = real(wanted.preshared_key.as_ref());
    let has_preshared_key = preshared_key == real(found.preshared_key.as_ref());
    let has_keepalive = wanted.persistent_keepalive == found.persistent_keepalive;
    let gained = wanted.allowed_ips.difference(&found.allowed_ips);
    PeerChange {
        update_only: true,
        other_public_key: (wanted.other_public_key != found.other_public_key)
            .then_some(wanted.other_public_key),
        preshared_key: (!has_preshared_key).then(|| preshared_key.cloned()),
        other_preshared_key: (wanted.other_preshared_key != found.other_preshared_key)
            .then(|| wanted.other_preshared_key.clone()),
        endpoint: wanted
            .endpoint
            .filter(|e| must_move(*e, wanted.pinned, found, now)),
        persistent_keepalive: (!has_keepalive).then_some(wanted.persistent_keepalive),
        allowed_ips: gained.copied().map(AllowedIpChange::Add).collect(),
        ..PeerChange::new(key)
    }
}

/// Devices show the absence of a preshared key as one of zeros.
fn real(key: Option<&PresharedKey>) -> Option<&PresharedKey> {
    key.filter(|key| **key != PresharedKey::new([0; KEY_LEN]))
}

fn must_move(wanted: SocketAddr, pinned: bool, found: &PeerState, now: Duration) -> bool {
    let has_session = || {
        found
            .last_handshake
            .is_some_and(|at| now.saturating_sub(at) < SESSION_LIFE)
    };
    match found.endpoint {
        None => true,
        Some(at) if is_same(at, wanted) => false,
        Some(_) => pinned || !has_session(),
    }
}

/// Flow labels are no part of where a peer is.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    match (a, b) {
        (SocketAddr::V6(a), SocketAddr::V6(b)) => {
            (a.ip(), a.port(), a.scope_id()) == (b.ip(), b.port(), b.scope_id())
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
