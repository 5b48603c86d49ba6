//! What `routerctl tunnels` and the metrics show: the way to each node, and what its peer says.

use std::time::{Duration, SystemTime};

use calc::ways::{NodeWay, Way};
use model::api::{NodePath, TunnelShow, TunnelsShow};
use wireguard::control::DeviceState;
use wireguard::keys::PublicKey;

use crate::control::Control;
use crate::reconcile;

/// The tunnels as they are; `None` when the daemon stops.
pub async fn look(
    node: &str,
    control: &Control,
    reconcile: &reconcile::Handle,
) -> Option<TunnelsShow> {
    let own = node.to_owned();
    let ways = control.query(move |snapshot, underlay| {
        calc::ways::ways(&calc::Inputs {
            node: &own,
            snapshot,
            underlay,
            accepts_ra: false,
        })
    });
    let ways = ways.await?;
    let device = reconcile.tunnel().await.ok()?;
    let clear = reconcile.clear_text().await.ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut shown = show(ways, device.as_ref(), now.unwrap_or_default());
    shown.clear_text_bytes = clear.map(|c| c.left);
    shown.clear_text_dropped_bytes = clear.map(|c| c.dropped);
    Some(shown)
}

fn show(ways: Vec<NodeWay>, device: Option<&DeviceState>, now: Duration) -> TunnelsShow {
    let row = |NodeWay { node, way, mtu }: NodeWay| {
        let (path, key) = match way {
            Way::Direct => (NodePath::Direct, None),
            Way::Vxlan => (NodePath::Vxlan, None),
            Way::WireGuard(key) => (NodePath::WireGuard, Some(key)),
            Way::Barred => (NodePath::Barred, None),
        };
        let peer = key.and_then(|k| device?.peers.get(&PublicKey::new(*k.as_bytes())));
        let since = |at: Duration| now.saturating_sub(at).as_secs();
        TunnelShow {
            node,
            path,
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
        let shown = show(ways, Some(&device), Duration::from_secs(1042));
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
        // No handshake yet, and not even a peer.
        assert_eq!(d["lastHandshakeSeconds"], serde_json::Value::Null);
    }
}
