//! What `routerctl tunnels` and the metrics show: the way to each node, and what its peer says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use calc::ways::{NodeWay, Way};
use model::api::{NodePath, TunnelShow, TunnelsShow};
use wireguard::control::DeviceState;
use wireguard::keys::PublicKey;

use super::exchange::{self, PeerStatus};
use crate::control::Control;
use crate::reconcile;
use crate::services::Services;

/// Who is asked.
#[derive(Clone)]
pub struct Sources {
    /// The ways.
    pub control: Control,
    /// The device.
    pub reconcile: reconcile::Handle,
    /// The preshared keys.
    pub exchange: exchange::Handle,
}

impl From<Services> for Sources {
    fn from(services: Services) -> Sources {
        Sources {
            control: services.control,
            reconcile: services.reconcile,
            exchange: services.exchange,
        }
    }
}

/// The tunnels as they are; `None` when the daemon stops.
pub async fn look(node: &str, s: &Sources) -> Option<TunnelsShow> {
    let own = node.to_owned();
    let ways = s.control.query(move |snapshot, underlay| {
        calc::ways::ways(&calc::Inputs {
            node: &own,
            snapshot,
            underlay,
            accepts_ra: false,
        })
    });
    let ways = ways.await?;
    let device = s.reconcile.tunnel().await.ok()?;
    let clear = s.reconcile.clear_text().await.ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let preshared = s.exchange.statuses().await;
    let now = now.unwrap_or_default();
    let mut shown = show(ways, device.as_ref(), preshared.as_ref(), now);
    shown.clear_text_bytes = clear.map(|c| c.left);
    shown.clear_text_dropped_bytes = clear.map(|c| c.dropped);
    Some(shown)
}

fn show(
    ways: Vec<NodeWay>,
    device: Option<&DeviceState>,
    preshared: Option<&BTreeMap<Arc<str>, PeerStatus>>,
    now: Duration,
) -> TunnelsShow {
    let row = |NodeWay { node, way, mtu }: NodeWay| {
        let (path, key) = match way {
            Way::Direct => (NodePath::Direct, None),
            Way::Vxlan => (NodePath::Vxlan, None),
            Way::WireGuard(key) => (NodePath::WireGuard, Some(key)),
            Way::Barred => (NodePath::Barred, None),
        };
        let peer = key.and_then(|k| device?.peers.get(&PublicKey::new(*k.as_bytes())));
        let since = |at: Duration| now.saturating_sub(at).as_secs();
        let last = peer
            .and_then(|p| p.last_handshake)
            .map(|at| now.saturating_sub(at));
        // A session that began before there was a key is none of a key.
        let has_quantum = |all: &BTreeMap<Arc<str>, PeerStatus>| {
            all.get(&*node).is_some_and(|pair| {
                let is_of_key = |age: Duration| pair.since.is_none_or(|since| age <= since);
                pair.is_agreed && last.is_none_or(is_of_key)
            })
        };
        let post_quantum = peer.and(preshared).map(has_quantum);
        TunnelShow {
            node,
            path,
            post_quantum,
            last_handshake_seconds: peer.and_then(|p| p.last_handshake).map(since),
            rx_bytes: peer.map(|p| p.received_bytes),
            tx_bytes: peer.map(|p| p.sent_bytes),
            mtu,
            endpoint: peer.and_then(|p| p.endpoint),
        }
    };
    TunnelsShow {
        tunnels: ways.into_iter().map(row).collect(),
        clear_text_bytes: None,
        clear_text_dropped_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use wireguard::control::PeerState;

    use super::*;

    #[test]
    fn a_peer_is_shown_with_the_way_to_its_node() {
        let key = model::tunnel::PublicKey::new([7; 32]);
        let way = |node: &str, way| NodeWay {
            node: node.into(),
            way,
            mtu: 1440,
        };
        let ways = vec![
            way("b", Way::WireGuard(key)),
            way("c", Way::Vxlan),
            way("d", Way::WireGuard(model::tunnel::PublicKey::new([8; 32]))),
        ];
        let mut device = DeviceState::default();
        let peer = PeerState {
            last_handshake: Some(Duration::from_secs(1000)),
            received_bytes: 5,
            sent_bytes: 6,
            ..PeerState::default()
        };
        device.peers.insert(PublicKey::new([7; 32]), peer);
        let shown = show(ways.clone(), Some(&device), None, Duration::from_secs(1042));
        let value = serde_json::to_value(&shown).unwrap();
        let (b, c, d) = (
            &value["tunnels"][0],
            &value["tunnels"][1],
            &value["tunnels"][2],
        );
        assert_eq!((&b["path"], &b["mtu"]), (&"WireGuard".into(), &1440.into()));
        assert_eq!(b["lastHandshakeSeconds"], 42);
        assert_eq!((&b["rxBytes"], &b["txBytes"]), (&5.into(), &6.into()));
        assert_eq!(
            (&c["path"], &c["rxBytes"]),
            (&"Vxlan".into(), &serde_json::Value::Null)
        );
        assert_eq!(b["postQuantum"], serde_json::Value::Null);
        // The session is as old as the handshake, and the key may be younger.
        for (is_agreed, since, is_quantum) in [
            (true, None, true),
            (false, None, false),
            (true, Some(43), true),
            (true, Some(41), false),
        ] {
            let since = since.map(Duration::from_secs);
            let all = [("b".into(), PeerStatus { is_agreed, since })].into();
            let now = Duration::from_secs(1042);
            let shown = show(ways.clone(), Some(&device), Some(&all), now);
            assert_eq!(shown.tunnels[0].post_quantum, Some(is_quantum));
            assert_eq!(shown.tunnels[1].post_quantum, None);
        }
        // No handshake yet, and not even a peer.
        assert_eq!(d["lastHandshakeSeconds"], serde_json::Value::Null);
    }
}
