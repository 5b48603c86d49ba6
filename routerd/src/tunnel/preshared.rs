//! Which preshared keys the device has for its peers: what was agreed on, and until somebody says so what an
//! earlier daemon left.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::resources::PostQuantum;
use model::tunnel::{Tunnel, TunnelPeer};
use wireguard::control::{DeviceState, PeerChange, PeerRequest, SetRequest};
use wireguard::keys::{PresharedKey, PublicKey};
use wireguard::postquantum::{Install, PairKeys};
use wireguard::userspace::random_key;

/// By the peer's name: its key may change.
#[derive(Debug, Default)]
pub(super) struct Preshared {
    /// As the exchange says.
    said: BTreeMap<Arc<str>, PairKeys>,
    /// As they were found, for who takes part.
    kept: BTreeMap<Arc<str>, PairKeys>,
    /// The keys by which the device knows a peer, the next one included.
    keys: BTreeMap<Arc<str>, (PublicKey, Option<PublicKey>)>,
}

fn public(key: model::tunnel::PublicKey) -> PublicKey {
    PublicKey::new(*key.as_bytes())
}

fn takes_part(peer: &TunnelPeer) -> bool {
    peer.encapsulation_key.is_some()
}

impl Preshared {
    /// A restart takes no preshared key away that a session may need, and where they are required a peer
    /// without one gets one that nobody else has.
    pub(super) fn keep(&mut self, wanted: &Tunnel, state: &DeviceState) {
        let peers = wanted.peers.iter();
        for (key, peer) in peers.filter(|(_, p)| takes_part(p)) {
            if self.said.contains_key(&peer.node) || self.kept.contains_key(&peer.node) {
                continue;
            }
            let keys = std::iter::once(*key).chain(peer.next_key);
            let found = keys.into_iter().find_map(|k| state.peers.get(&public(k)));
            let mut keys = found.map_or_else(PairKeys::none, |found| PairKeys {
                first: found
                    .preshared_key
                    .clone()
                    .unwrap_or_else(PresharedKey::none),
                other: found.other_preshared_key.clone(),
            });
            if wanted.post_quantum == PostQuantum::Required && keys.first.is_none() {
                let Ok(random) = random_key() else { continue };
                keys = PairKeys {
                    first: PresharedKey::new(*random.expose()),
                    other: None,
                };
            }
            self.kept.insert(Arc::clone(&peer.node), keys);
        }
    }

    /// What a peer is to have.
    pub(super) fn of(&self, peer: &TunnelPeer) -> (Option<PresharedKey>, Option<PresharedKey>) {
        let kept = || self.kept.get(&peer.node).filter(|_| takes_part(peer));
        match self.said.get(&peer.node).or_else(kept) {
            Some(keys) => (Some(keys.first.clone()), keys.other.clone()),
            None => (None, None),
        }
    }

    /// The device has these peers now.
    pub(super) fn know(&mut self, wanted: &Tunnel) {
        let peers = wanted.peers.iter();
        let keys = peers.map(|(key, peer)| {
            let next = peer.next_key.map(public);
            (Arc::clone(&peer.node), (public(*key), next))
        });
        self.keys = keys.collect();
        let keys = &self.keys;
        self.kept.retain(|node, _| keys.contains_key(node));
    }

    /// Takes what the exchange says, and tells the changes of a device that has these peers. `single`: it has
    /// room for one key, and has a peer that changes its own twice.
    pub(super) fn take(&mut self, installs: Vec<Install>, single: bool) -> SetRequest {
        let mut request = SetRequest::default();
        for Install { node, keys } in installs {
            let before = self.said.get(&node).or_else(|| self.kept.get(&node));
            let is_same = keys.is_some() && before == keys.as_ref();
            if let Some((key, next)) = self.keys.get(&node).filter(|_| !is_same) {
                let now = keys.clone().unwrap_or_else(PairKeys::none);
                let first = Some(now.first).filter(|key| !key.is_none());
                let change = |key| PeerChange {
                    update_only: true,
                    preshared_key: Some(first.clone()),
                    other_preshared_key: Some(now.other.clone().filter(|_| !single)),
                    ..PeerChange::new(key)
                };
                let next = next.filter(|_| single);
                let changes = std::iter::once(*key).chain(next).map(change);
                request.peers.extend(changes.map(PeerRequest::Set));
            }
            self.kept.remove(&node);
            match keys {
                Some(keys) => self.said.insert(node, keys),
                None => self.said.remove(&node),
            };
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use wireguard::control::PeerState;

    use super::*;

    fn key(n: u8) -> PresharedKey {
        PresharedKey::new([n; 32])
    }

    fn tunnel(post_quantum: PostQuantum) -> Tunnel {
        let tunnel = crate::tunnel::tests::tunnel(&[1, 2]);
        let mut tunnel = Tunnel {
            post_quantum,
            ..tunnel
        };
        for peer in tunnel.peers.values_mut() {
            let encapsulation = model::tunnel::EncapsulationKey::new([1; 1184]);
            peer.encapsulation_key = Some(encapsulation);
        }
        tunnel
    }

    fn of(preshared: &Preshared, tunnel: &Tunnel) -> Vec<Option<PresharedKey>> {
        let peers = tunnel.peers.values();
        peers
            .map(|p| preshared.of(p).0.filter(|k| !k.is_none()))
            .collect()
    }

    #[test]
    fn what_was_left_stays_until_the_exchange_says_something() {
        let mut state = DeviceState::default();
        let peer = PeerState {
            preshared_key: Some(key(7)),
            ..PeerState::default()
        };
        state.peers.insert(PublicKey::new([1; 32]), peer);
        for (wanted, second) in [
            (PostQuantum::Preferred, false),
            (PostQuantum::Required, true),
        ] {
            let (mut preshared, tunnel) = (Preshared::default(), tunnel(wanted));
            preshared.keep(&tunnel, &state);
            let first = of(&preshared, &tunnel);
            assert_eq!(first[0], Some(key(7)));
            assert_eq!(first[1].is_some(), second);
            preshared.keep(&tunnel, &state);
            assert_eq!(of(&preshared, &tunnel), first);
            preshared.know(&tunnel);
            let say = |preshared: &mut Preshared, n: Option<u8>| {
                let keys = n.map(|n| PairKeys {
                    first: key(n),
                    other: Some(key(9)),
                });
                let install = Install {
                    node: "n1".into(),
                    keys,
                };
                preshared.take(vec![install], false).peers.len()
            };
            assert_eq!(say(&mut preshared, Some(8)), 1);
            assert_eq!(of(&preshared, &tunnel)[0], Some(key(8)));
            assert_eq!(say(&mut preshared, Some(8)), 0);
            assert_eq!(say(&mut preshared, None), 1);
            // It is found again, by whoever asks first.
            assert_eq!(of(&preshared, &tunnel)[0], None);
        }
    }

    #[test]
    fn who_takes_no_part_keeps_nothing() {
        let mut preshared = Preshared::default();
        let mut tunnel = tunnel(PostQuantum::Required);
        preshared.keep(&tunnel, &DeviceState::default());
        tunnel
            .peers
            .values_mut()
            .for_each(|p| p.encapsulation_key = None);
        assert_eq!(of(&preshared, &tunnel), [None, None]);
    }
}
