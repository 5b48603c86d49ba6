//! A running tunnel, told what to do as `wg` would tell it.

use wireguard::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use wireguard::device::DeviceConfig;
use wireguard::keys::PrivateKey;
use wireguard::uapi::DeviceControl;
use wireguard::userspace::{Sockets, Tunnel};

use crate::net::{Netns, PORT, Plan, Underlay, Wire, inner};
use crate::transfer::transfer;

const MIB: usize = 1 << 20;

#[test]
fn a_tunnel_is_configured_by_requests_alone() {
    let plan = Plan::new(Underlay::V4, 1500);
    let wire = Wire::new(1500);
    let start = |ns: &Netns, side: u8| {
        // Any key to begin with.
        let config = DeviceConfig::new(PrivateKey::new([side; 32]));
        let queues = Plan::queues(ns, "wg0", 1);
        // The sockets that the tunnel opens itself are of the namespace that it was started in.
        let tunnel = ns.run(|| Tunnel::start(config, queues, |_| {}).unwrap());
        plan.address(ns, side, "wg0");
        let other = 3 - side;
        let prefixes = [format!("10.9.0.{other}/32"), format!("fd09::{other}/128")];
        let peer = PeerChange {
            endpoint: Some(plan.underlay.endpoint(other)),
            allowed_ips: prefixes
                .map(|p| AllowedIpChange::Add(p.parse().unwrap()))
                .into(),
            ..PeerChange::new(plan.public(other))
        };
        let request = SetRequest {
            private_key: Some(Some(plan.key(side).clone())),
            listen_port: Some(PORT),
            fwmark: Some(7),
            peers: vec![PeerRequest::Set(peer)],
            ..SetRequest::default()
        };
        tunnel.set(request).unwrap();
        tunnel
    };
    let (left, right) = (start(&wire.left, 1), start(&wire.right, 2));
    transfer(&wire.left, &wire.right, inner(2)[0], MIB);
    let state = left.get().unwrap();
    assert_eq!((state.listen_port, state.fwmark), (PORT, 7));
    assert_eq!(state.private_key.as_ref(), Some(plan.key(1)));
    let peer = &state.peers[&plan.public(2)];
    assert!(peer.last_handshake.is_some() && peer.sent_bytes > MIB as u64);
    assert_eq!(peer.allowed_ips.len(), 2);

    let shown = wire.left.sh("ip -o link show wg0");
    assert!(shown.contains("qlen 1024"), "{shown}");

    // What cannot be done leaves the rest undone.
    let taken = wire.left.run(|| Sockets::open(0, 1).unwrap());
    let to_port = |port| SetRequest {
        listen_port: Some(port),
        fwmark: Some(8),
        replace_peers: true,
        ..SetRequest::default()
    };
    let refused = left.set(to_port(taken[0].port().unwrap())).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(left.get().unwrap().peers.len(), 1);
    assert_eq!(left.get().unwrap().fwmark, 7);

    // Sessions survive another port.
    let mut request = to_port(PORT + 1);
    request.replace_peers = false;
    left.set(request).unwrap();
    transfer(&wire.left, &wire.right, inner(2)[1], MIB);
    let state = left.get().unwrap();
    assert_eq!((state.listen_port, state.fwmark), (PORT + 1, 8));
    let again = state.peers[&plan.public(2)].last_handshake;
    let moved = again.unwrap().abs_diff(peer.last_handshake.unwrap());
    assert!(moved.as_millis() < 100, "another handshake");
    drop(right);
}
