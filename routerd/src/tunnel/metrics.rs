//! The tunnels as metrics, one series a peer.

use model::api::TunnelsShow;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    /// Its node.
    node: String,
}

/// Adds what the encrypted tunnel's peers say; nothing where there is none.
pub fn register(registry: &mut Registry, shown: &TunnelsShow) {
    let (received, sent) = (
        Family::<Peer, Counter>::default(),
        Family::<Peer, Counter>::default(),
    );
    let handshakes = Family::<Peer, Gauge>::default();
    let quantum = Family::<Peer, Gauge>::default();
    for tunnel in &shown.tunnels {
        let peer = Peer {
            node: tunnel.node.clone(),
        };
        if let Some(bytes) = tunnel.rx_bytes {
            received.get_or_create(&peer).inc_by(bytes);
        }
        if let Some(bytes) = tunnel.tx_bytes {
            sent.get_or_create(&peer).inc_by(bytes);
        }
        if let Some(is) = tunnel.post_quantum {
            quantum.get_or_create(&peer).set(i64::from(is));
        }
        if let Some(age) = tunnel.last_handshake_seconds {
            let age = i64::try_from(age).unwrap_or(i64::MAX);
            handshakes.get_or_create(&peer).set(age);
        }
    }
    registry.register_with_unit(
        "tunnel_received",
        "Authenticated bytes received from a peer by the encrypted tunnel",
        Unit::Bytes,
        received,
    );
    registry.register_with_unit(
        "tunnel_sent",
        "Bytes sent to a peer by the encrypted tunnel",
        Unit::Bytes,
        sent,
    );
    registry.register_with_unit(
        "tunnel_handshake_age",
        "Time since a handshake with a peer of the encrypted tunnel was completed last",
        Unit::Seconds,
        handshakes,
    );
    registry.register(
        "tunnel_post_quantum",
        "1 when sessions with a peer of the encrypted tunnel have a post-quantum preshared key",
        quantum,
    );
    let mut bytes = |name: &str, help: &str, value: Option<u64>| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value.unwrap_or_default());
        // None is not zero.
        if value.is_some() {
            registry.register_with_unit(name, help, Unit::Bytes, counter);
        }
    };
    bytes(
        "clear_text",
        "Bytes between workloads of different nodes that left this one in clear, where encryption is wanted",
        shown.clear_text_bytes,
    );
    bytes(
        "clear_text_dropped",
        "Bytes between workloads of different nodes that were dropped since they would have left in clear",
        shown.clear_text_dropped_bytes,
    );
}

/// A node with everything that there can be.
#[cfg(test)]
pub(crate) fn sample() -> TunnelsShow {
    TunnelsShow {
        tunnels: vec![model::api::TunnelShow {
            node: "b".to_owned(),
            path: model::api::NodePath::WireGuard,
            post_quantum: Some(true),
            last_handshake_seconds: Some(3),
            rx_bytes: Some(1),
            tx_bytes: Some(2),
            mtu: 1440,
            endpoint: None,
        }],
        clear_text_bytes: Some(4),
        clear_text_dropped_bytes: Some(5),
    }
}
