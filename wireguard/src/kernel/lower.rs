//! Requests as every kernel can carry them out: without taking single allowed IPs away, in messages of
//! bounded length.

use super::encode::{ALLOWED_IP_ROOM, PEER_ROOM, room_for};
use crate::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use crate::keys::PublicKey;

/// The peer that owns prefixes on their way out. Nobody has its private key, and it has no endpoint:
/// what is sent to it is dropped. When it is found on a device, somebody stopped halfway: remove it.
pub const PARTING: PublicKey = PublicKey::new(*b"routerd: prefixes on the way out");

/// Peers in one message stay below this many bytes: the length of an attribute has 16 bits.
const MESSAGE: usize = 32 << 10;
/// Allowed IPs of one peer in one message.
const ALLOWED_IPS: usize = (MESSAGE - PEER_ROOM) / ALLOWED_IP_ROOM;

/// The same request, where a prefix is taken from a peer by moving it to [`PARTING`], which then goes.
pub(super) fn without_removals(request: &SetRequest) -> SetRequest {
    let mut peers = Vec::with_capacity(request.peers.len());
    let mut is_parting = false;
    for peer in &request.peers {
        match peer {
            PeerRequest::Set(change) if change.allowed_ips.iter().any(is_removal) => {
                is_parting = true;
                part(change, &mut peers);
            }
            peer => peers.push(peer.clone()),
        }
    }
    if is_parting {
        peers.push(PeerRequest::Remove(PARTING));
    }
    SetRequest {
        peers,
        ..request.clone()
    }
}

fn is_removal(change: &AllowedIpChange) -> bool {
    matches!(change, AllowedIpChange::Remove(_))
}

/// Runs of additions, and of removals, in the order in which they were.
fn part(change: &PeerChange, out: &mut Vec<PeerRequest>) {
    let head = PeerChange {
        allowed_ips: Vec::new(),
        ..change.clone()
    };
    if !head.changes_nothing() || !head.update_only {
        out.push(PeerRequest::Set(head));
    }
    for run in change
        .allowed_ips
        .chunk_by(|a, b| is_removal(a) == is_removal(b))
    {
        let is_removed = run.first().is_some_and(is_removal);
        let owner = if is_removed {
            PARTING
        } else {
            change.public_key
        };
        let allowed_ips = run.iter().map(|change| match change {
            AllowedIpChange::Add(prefix) | AllowedIpChange::Remove(prefix) => {
                AllowedIpChange::Add(*prefix)
            }
        });
        out.push(PeerRequest::Set(PeerChange {
            update_only: !is_removed,
            allowed_ips: allowed_ips.collect(),
            ..PeerChange::new(owner)
        }));
    }
}

/// Requests that fit into a message each and, one after the other, do the same.
pub(super) fn split(request: &SetRequest) -> Vec<SetRequest> {
    let mut parts = vec![SetRequest {
        peers: Vec::new(),
        ..request.clone()
    }];
    let mut room = MESSAGE;
    for peer in request.peers.iter().flat_map(split_peer) {
        let needed = room_for(&peer);
        if needed > room {
            parts.push(SetRequest::default());
            room = MESSAGE;
        }
        room = room.saturating_sub(needed);
        if let Some(part) = parts.last_mut() {
            part.peers.push(peer);
        }
    }
    parts
}

fn split_peer(peer: &PeerRequest) -> Vec<PeerRequest> {
    let PeerRequest::Set(change) = peer else {
        return vec![peer.clone()];
    };
    let mut runs = change.allowed_ips.chunks(ALLOWED_IPS);
    let first = PeerChange {
        allowed_ips: runs.next().unwrap_or_default().to_vec(),
        ..change.clone()
    };
    // By then the peer is there; if somebody removed it meanwhile, half a peer must not come back.
    let others = runs.map(|run| PeerChange {
        update_only: true,
        allowed_ips: run.to_vec(),
        ..PeerChange::new(change.public_key)
    });
    std::iter::once(first)
        .chain(others)
        .map(PeerRequest::Set)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::DeviceState;
    use crate::kernel::encode::set_device;
    use crate::testing::{naive, requests};

    fn applied(before: &DeviceState, requests: &[SetRequest]) -> DeviceState {
        let mut state = before.clone();
        requests
            .iter()
            .for_each(|r| naive::apply(&mut state, r, &mut |_| {}));
        state
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_request_takes_single_prefixes_away_and_all_do_the_same(
            before in requests::request(), mut request in requests::request(),
        ) {
            let before = applied(&DeviceState::default(), &[before]);
            // As the callers promise: only what the peer owns is taken from it.
            let state = applied(&before, &[SetRequest { peers: Vec::new(), ..request.clone() }]);
            for peer in &mut request.peers {
                if let PeerRequest::Set(change) = peer {
                    change.replace_allowed_ips = false;
                    change.update_only = true;
                    let owned = state.peers.get(&change.public_key).map(|p| p.allowed_ips.clone());
                    change.allowed_ips.retain(|c| match c {
                        AllowedIpChange::Add(_) => false,
                        AllowedIpChange::Remove(p) => owned.as_ref().is_some_and(|o| o.contains(p)),
                    });
                }
            }
            let lowered = without_removals(&request);
            let removes = |p: &PeerRequest| {
                matches!(p, PeerRequest::Set(c) if c.allowed_ips.iter().any(is_removal))
            };
            prop_assert!(!lowered.peers.iter().any(removes));
            let wanted = applied(&before, &[request]);
            prop_assert!(!wanted.peers.contains_key(&PARTING));
            prop_assert_eq!(applied(&before, std::slice::from_ref(&lowered)), wanted.clone());
            prop_assert_eq!(applied(&before, &split(&lowered)), wanted);
        }

        #[test]
        fn prefixes_that_stay_keep_their_owner_meanwhile(
            kept in 0u8..4, taken in 0u8..4, added in 0u8..4,
        ) {
            let key = PublicKey::new([1; 32]);
            let prefix = |kind: u8, n: u8| format!("10.{kind}.{n}.0/26").parse().unwrap();
            let all = |kind, n| (0..n).map(move |n| prefix(kind, n));
            let request = |allowed_ips: Vec<_>| SetRequest {
                peers: vec![PeerRequest::Set(PeerChange { allowed_ips, ..PeerChange::new(key) })],
                ..SetRequest::default()
            };
            let first = all(0, kept).chain(all(1, taken)).map(AllowedIpChange::Add);
            let mut state = applied(&DeviceState::default(), &[request(first.collect())]);
            let changes = all(1, taken).map(AllowedIpChange::Remove);
            let changes = changes.chain(all(2, added).map(AllowedIpChange::Add));
            let lowered = without_removals(&request(changes.collect()));
            let mut held = true;
            naive::apply(&mut state, &lowered, &mut |state| {
                held &= all(0, kept).all(|p| naive::owner(state, &p) == Some(key));
            });
            prop_assert!(held);
            let owned: Vec<_> = state.peers[&key].allowed_ips.iter().copied().collect();
            let wanted: Vec<_> = all(0, kept).chain(all(2, added)).collect();
            prop_assert_eq!(owned, wanted);
            prop_assert!(!state.peers.contains_key(&PARTING));
        }
    }

    #[test]
    fn a_large_request_is_cut_into_messages_that_fit() {
        let peers = (0..300u16).map(|n| {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            let many = if n % 100 == 0 { 3000 } else { 5 };
            let prefix = |m: u16| {
                let text = format!("fd00:{n:x}:{m:x}::/64");
                AllowedIpChange::Add(text.parse().unwrap())
            };
            PeerRequest::Set(PeerChange {
                preshared_key: Some(None),
                endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
                persistent_keepalive: Some(25),
                replace_allowed_ips: true,
                allowed_ips: (0..many).map(prefix).collect(),
                ..PeerChange::new(PublicKey::new(key))
            })
        });
        let request = SetRequest {
            listen_port: Some(1),
            peers: peers.collect(),
            ..SetRequest::default()
        };
        let parts = split(&request);
        assert_eq!(
            applied(&DeviceState::default(), &parts),
            applied(&DeviceState::default(), &[request])
        );
        assert!(parts.iter().skip(1).all(|part| part.listen_port.is_none()));
        for part in &parts {
            let message = set_device("wg0", part);
            let room = 128 + part.peers.iter().map(room_for).sum::<usize>();
            assert!(
                message.len() <= room && room < 60_000,
                "{} {room}",
                message.len()
            );
        }
    }
}
