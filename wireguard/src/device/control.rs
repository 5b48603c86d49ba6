//! The device as [`crate::control`] sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Device;
use crate::control::{
    AllowedIpChange, ControlError, DeviceState, PeerChange, PeerRequest, PeerState, SetRequest,
};
use crate::keys::{PrivateKey, PublicKey};
use crate::peer::PeerConfig;
use crate::peer_id::PeerId;
use crate::time::{Now, Time};

/// Requests do not say what a path carries. Packets longer than any IPv6 path takes with the overhead
/// of 80 bytes are not padded, as they might not fit then.
const PADDED_UP_TO: u16 = 1200;

impl Device {
    /// What it is now. Port and mark are 0: they belong to whoever owns the sockets.
    pub fn state(&self, now: Now) -> DeviceState {
        let peers = self.ids().into_iter().filter_map(|id| {
            let key = self.peer(id)?.config.public_key;
            Some((key, self.peer_state(now, id)?))
        });
        let mut peers: BTreeMap<_, _> = peers.collect();
        for (prefix, id) in self.allowed_ips.iter() {
            let owner = self
                .peer(id)
                .and_then(|p| peers.get_mut(&p.config.public_key));
            if let Some(owner) = owner {
                owner.allowed_ips.insert(*prefix);
            }
        }
        DeviceState {
            private_key: Some(self.identity.local.private().clone()),
            other_private_key: self.other_key(),
            peers,
            ..DeviceState::default()
        }
    }

    fn peer_state(&self, now: Now, id: PeerId) -> Option<PeerState> {
        let (config, status) = (&self.peer(id)?.config, self.status(now.mono, id)?);
        let keepalive = config.persistent_keepalive.unwrap_or_default().as_secs();
        let since_1970 = |at: Time| now.unix.saturating_sub(now.mono.since(at));
        Some(PeerState {
            preshared_key: config.preshared_key.clone(),
            other_preshared_key: config.other_preshared_key.clone(),
            other_public_key: config.other_public_key,
            endpoint: status.endpoint,
            persistent_keepalive: u16::try_from(keepalive).unwrap_or(u16::MAX),
            last_handshake: status.last_handshake.map(since_1970),
            received_bytes: status.received_bytes,
            sent_bytes: status.sent_bytes,
            ..PeerState::default()
        })
    }

    /// Does what it is told; port and mark are for whoever owns the sockets. The data path sees all
    /// changes of allowed IPs at once. Sessions of peers that stay go on.
    ///
    /// The first peers of a device are greeted with a handshake: they may have a session with the device
    /// before it, and would send into the void until its silence is noticed, fifteen seconds later. A peer
    /// with a session that gets another preshared key is asked for a new one: what the key is to protect from
    /// would else go on for two minutes.
    ///
    /// # Errors
    /// When a change cannot be made; those before it have been.
    pub fn configure(&mut self, now: Now, request: &SetRequest) -> Result<(), ControlError> {
        if request.private_key == Some(None) {
            return Err(ControlError::KeyNeeded);
        }
        let own = self.identity.local.private();
        let own = request
            .private_key
            .clone()
            .flatten()
            .unwrap_or_else(|| own.clone());
        let other = request.other_private_key.clone();
        self.take_keys(now, own, other.unwrap_or_else(|| self.other_key()));
        let is_first = self.ids().is_empty();
        if request.replace_peers {
            self.ids().into_iter().for_each(|id| self.forget(id));
        }
        let mut outcome = Ok(());
        let mut gone = BTreeSet::new();
        for peer in &request.peers {
            match peer {
                PeerRequest::Set(change) => {
                    if gone.remove(&change.public_key) {
                        self.forget_key(&change.public_key);
                    }
                    outcome = outcome.and(self.change_peer(now, change));
                }
                PeerRequest::Remove(key) => {
                    gone.insert(*key);
                }
            }
        }
        // Last, when what they owned has its new owners.
        gone.iter().for_each(|key| self.forget_key(key));
        self.export_routes();
        if is_first {
            (self.ids().into_iter()).for_each(|id| self.initiate(now, id));
        }
        self.publish();
        outcome
    }

    fn forget_key(&mut self, key: &PublicKey) {
        if let Some(id) = self.peer_by_key(key) {
            self.forget(id);
        }
    }

    fn other_key(&self) -> Option<PrivateKey> {
        let other = self.other_identity.as_ref();
        other.map(|identity| identity.local.private().clone())
    }

    fn take_keys(&mut self, now: Now, own: PrivateKey, other: Option<PrivateKey>) {
        let is_new = own != *self.identity.local.private();
        // Handshakes under way would start anew.
        if !is_new && other == self.other_key() {
            return;
        }
        // Nobody is its own peer.
        for key in std::iter::once(&own).chain(&other) {
            self.forget_key(&key.public());
        }
        self.set_keys(now, own, other);
    }

    fn change_peer(&mut self, now: Now, change: &PeerChange) -> Result<(), ControlError> {
        let key = change.public_key;
        let known = self.peer_by_key(&key);
        if key == self.public_key() || change.update_only && known.is_none() {
            return Ok(());
        }
        let config = known.and_then(|id| self.peer(id)).map(|p| p.config.clone());
        let is_new = config.is_none();
        let mut config = config.unwrap_or_else(|| PeerConfig {
            mtu: PADDED_UP_TO,
            ..PeerConfig::new(key)
        });
        let mut is_rekeyed = false;
        if let Some(preshared_key) = &change.preshared_key {
            is_rekeyed = preshared_key.is_some() && *preshared_key != config.preshared_key;
            config.preshared_key = preshared_key.clone();
        }
        if let Some(other) = &change.other_preshared_key {
            config.other_preshared_key = other.clone();
        }
        if let Some(other) = change.other_public_key {
            config.other_public_key = other;
        }
        // It may be known by the other of its keys.
        let is_renamed = config.public_key != key;
        if is_renamed {
            config.other_public_key = change.other_public_key.flatten();
            config.public_key = key;
        }
        if let Some(seconds) = change.persistent_keepalive {
            config.persistent_keepalive =
                (seconds != 0).then(|| Duration::from_secs(seconds.into()));
        }
        config.endpoint = change.endpoint.or(config.endpoint);
        let is_more = is_renamed
            || change.preshared_key.is_some()
            || change.other_preshared_key.is_some()
            || change.other_public_key.is_some()
            || change.persistent_keepalive.is_some()
            || change.endpoint.is_some();
        let id = match known.filter(|_| !is_new && !is_more) {
            Some(id) => id,
            None => self
                .set_peer(now, config)
                .ok_or(ControlError::TooManyPeers(key))?,
        };
        if is_rekeyed
            && self
                .peer(id)
                .is_some_and(|p| p.sessions.current().is_some())
        {
            self.initiate(now, id);
        }
        if change.endpoint.is_some() {
            // Also when it only roamed away from there.
            if let Some(peer) = self.peer_mut(id) {
                peer.endpoint = change.endpoint;
            }
            self.export(id);
        }
        if change.replace_allowed_ips {
            self.allowed_ips.release_all(id);
        }
        for change in &change.allowed_ips {
            match change {
                AllowedIpChange::Add(prefix) => {
                    self.allowed_ips.assign(*prefix, id);
                }
                AllowedIpChange::Remove(prefix) => {
                    self.allowed_ips.release(prefix, id);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::device::DeviceConfig;
    use crate::testing::{Seeded, naive, requests};

    const NOW: Now = Now {
        mono: Time::from_nanos(100_000_000_000),
        unix: Duration::from_secs(1_800_000_000),
    };

    fn device() -> Device {
        let key = PrivateKey::new([99; 32]);
        Device::new(DeviceConfig::new(key), Box::new(Seeded::new(1)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Against a device that does one small step after the other.
        #[test]
        fn configuring_is_what_set_means(history in prop::collection::vec(requests::request(), 1..6)) {
            let mut device = device();
            let mut naive = device.state(NOW);
            for mut request in history {
                // It needs a key.
                request.private_key = request.private_key.filter(Option::is_some);
                device.configure(NOW, &request).unwrap();
                naive::apply(&mut naive, &request, &mut |_| {});
                let mut state = device.state(NOW);
                // A handshake that keepalives ask for is sent, and counted.
                state.peers.values_mut().for_each(|p| p.sent_bytes = 0);
                (naive.listen_port, naive.fwmark) = (0, 0);
                prop_assert_eq!(&state, &naive);
            }
        }
    }

    #[test]
    fn an_endpoint_is_put_back_after_roaming() {
        let (mut device, key) = (device(), PublicKey::new([7; 32]));
        let home = "192.0.2.1:51820".parse().unwrap();
        let request = |endpoint| SetRequest {
            peers: vec![PeerRequest::Set(PeerChange {
                endpoint,
                ..PeerChange::new(key)
            })],
            ..SetRequest::default()
        };
        device.configure(NOW, &request(Some(home))).unwrap();
        let id = device.peer_by_key(&key).unwrap();
        device.roam(id, "198.51.100.1:1".parse().unwrap());
        // What says nothing of the endpoint leaves it.
        device.configure(NOW, &request(None)).unwrap();
        assert_eq!(
            device.state(NOW).peers[&key].endpoint,
            Some("198.51.100.1:1".parse().unwrap())
        );
        device.configure(NOW, &request(Some(home))).unwrap();
        assert_eq!(device.state(NOW).peers[&key].endpoint, Some(home));
    }

    #[test]
    fn the_first_peers_are_greeted() {
        let mut device = device();
        let set = |n: u8, endpoint: Option<&str>| {
            PeerRequest::Set(PeerChange {
                endpoint: endpoint.map(|e| e.parse().unwrap()),
                ..PeerChange::new(PublicKey::new([n; 32]))
            })
        };
        let mut greeted = |peers: &[PeerRequest]| {
            let request = SetRequest {
                peers: peers.to_vec(),
                ..SetRequest::default()
            };
            device.configure(NOW, &request).unwrap();
            let sent = std::iter::from_fn(|| device.poll_transmit());
            sent.map(|t| t.destination.to_string()).collect::<Vec<_>>()
        };
        let (one, two) = ("192.0.2.1:5", "192.0.2.2:5");
        let first = [set(7, Some(one)), set(8, Some(two)), set(9, None)];
        let mut sent = greeted(&first);
        sent.sort_unstable();
        assert_eq!(sent, [one, two]);
        // Who comes later speaks first.
        assert_eq!(greeted(&[set(10, Some("192.0.2.3:5"))]), [""; 0]);
        assert_eq!(greeted(&first), [""; 0]);
    }

    #[test]
    fn a_peer_changes_its_key_and_stays_the_same() {
        let mut device = device();
        let [old, new] = [7, 8].map(|n| PublicKey::new([n; 32]));
        let prefix: model::Cidr = "10.0.0.0/26".parse().unwrap();
        let mut set = |key, other, allowed_ips: Vec<_>| {
            let change = PeerChange {
                other_public_key: other,
                allowed_ips,
                ..PeerChange::new(key)
            };
            let request = SetRequest {
                peers: vec![PeerRequest::Set(change)],
                ..SetRequest::default()
            };
            device.configure(NOW, &request).unwrap();
            let ids = [old, new].map(|key| device.peer_by_key(&key));
            (ids, device.state(NOW).peers)
        };
        let (first, _) = set(old, None, vec![AllowedIpChange::Add(prefix)]);
        let (both, peers) = set(old, Some(Some(new)), Vec::new());
        assert_eq!(both, [first[0]; 2]);
        assert_eq!(peers[&old].other_public_key, Some(new));
        let (last, peers) = set(new, None, Vec::new());
        assert_eq!(last, [None, first[0]]);
        assert_eq!(peers.keys().collect::<Vec<_>>(), [&new]);
        assert!(peers[&new].allowed_ips.contains(&prefix));
    }

    #[test]
    fn it_answers_to_another_key_as_long_as_it_is_told() {
        let mut device = device();
        let keys = [1, 2].map(|n| PrivateKey::new([n; 32]));
        let mut set = |own: Option<&PrivateKey>, other: Option<Option<&PrivateKey>>| {
            let request = SetRequest {
                private_key: own.map(|k| Some(k.clone())),
                other_private_key: other.map(Option::<&PrivateKey>::cloned),
                ..SetRequest::default()
            };
            device.configure(NOW, &request).unwrap();
            let state = device.state(NOW);
            (state.private_key.unwrap(), state.other_private_key)
        };
        let [a, b] = &keys;
        assert_eq!(set(Some(a), Some(Some(b))), (a.clone(), Some(b.clone())));
        assert_eq!(set(None, None), (a.clone(), Some(b.clone())));
        assert_eq!(set(Some(b), Some(Some(a))), (b.clone(), Some(a.clone())));
        assert_eq!(set(None, Some(None)), (b.clone(), None));
    }

    #[test]
    fn a_device_keeps_its_key() {
        let mut device = device();
        let request = SetRequest {
            private_key: Some(None),
            ..SetRequest::default()
        };
        assert_eq!(
            device.configure(NOW, &request),
            Err(ControlError::KeyNeeded)
        );
        assert!(device.state(NOW).private_key.is_some());
    }
}
