//! The device and the kernel together: what is done in which order, and what is never done.

mod barred;
mod renewal;

use std::sync::{Arc, Mutex};

use model::kernel::{KernelState, LinkKind, Op, RouteTarget, TunnelLink};
use model::marks;
use model::resources::PostQuantum;
use model::state::NodeState;
use model::tunnel::{PublicKey, Tunnel, TunnelPeer};
use netlink::{FakeKernel, Kernel};
use wireguard::control::{AllowedIpChange, DeviceState, PeerRequest, PeerState, SetRequest};
use wireguard::keys::{KEY_LEN, PrivateKey};

use super::{Findings, TunnelBackend, TunnelError, Tunnels};
use crate::reconcile::tests::rig::{key, link, name, route};
use crate::reconcile::{Action, Core, Now, Timing};

/// A device in memory, shared with the test that looks at it.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<FakeDevice>>);

#[derive(Default)]
struct FakeDevice {
    state: Option<DeviceState>,
    fails: bool,
    /// The port is for the life of the interface, which is another afterwards.
    port_is_for_life: bool,
    removed: bool,
    log: Vec<String>,
}

impl TunnelBackend for Fake {
    fn prepare(&mut self, port: u16, _fwmark: u32) -> Result<Option<DeviceState>, TunnelError> {
        let mut device = self.0.lock().unwrap();
        let state = device.state.as_ref();
        if device.port_is_for_life && state.is_some_and(|s| s.listen_port != port) {
            (device.state, device.removed) = (None, true);
        }
        Ok(device.state.clone())
    }

    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        Ok(self.0.lock().unwrap().state.clone())
    }

    fn has_removed(&mut self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().removed)
    }

    fn has_single_keys(&self) -> bool {
        false
    }

    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError> {
        let mut device = self.0.lock().unwrap();
        if device.fails {
            return Err(TunnelError::NoBackend("on demand"));
        }
        let mut state = device.state.take().unwrap_or_default();
        if let Some(key) = &request.private_key {
            state.private_key = key.clone();
        }
        state.listen_port = request.listen_port.unwrap_or(state.listen_port);
        state.fwmark = request.fwmark.unwrap_or(state.fwmark);
        for peer in &request.peers {
            match peer {
                PeerRequest::Remove(key) => {
                    state.peers.remove(key);
                    device.log.push("remove".into());
                }
                PeerRequest::Set(change) => {
                    device.log.push("set".into());
                    for ip in &change.allowed_ips {
                        let (AllowedIpChange::Add(ip) | AllowedIpChange::Remove(ip)) = ip;
                        for other in state.peers.values_mut() {
                            other.allowed_ips.remove(ip);
                        }
                    }
                    let peer: &mut PeerState = state.peers.entry(change.public_key).or_default();
                    peer.endpoint = change.endpoint.or(peer.endpoint);
                    peer.allowed_ips
                        .extend(change.allowed_ips.iter().filter_map(|c| match c {
                            AllowedIpChange::Add(ip) => Some(*ip),
                            AllowedIpChange::Remove(_) => None,
                        }));
                }
            }
        }
        device.state = Some(state);
        Ok(())
    }
}

/// Peers by number, each with its block.
pub(super) fn tunnel(peers: &[u8]) -> Tunnel {
    let peer = |n: &u8| {
        let peer = TunnelPeer {
            node: format!("n{n}").into(),
            next_key: None,
            encapsulation_key: None,
            endpoint: format!("192.0.2.{n}:51820").parse().unwrap(),
            allowed_ips: [format!("10.0.{n}.0/26").parse().unwrap()].into(),
        };
        (PublicKey::new([*n; KEY_LEN]), peer)
    };
    Tunnel {
        port: 51820,
        fwmark: marks::WIREGUARD_FWMARK,
        post_quantum: PostQuantum::Off,
        post_quantum_port: 51821,
        peers: peers.iter().map(peer).collect(),
    }
}

fn state(generation: u64, peers: Option<&[u8]>) -> NodeState {
    let mut kernel = KernelState {
        tunnel: peers.map(|_| TunnelLink {
            name: name(marks::WIREGUARD),
            mtu: 1440,
        }),
        ..KernelState::default()
    };
    for n in peers.unwrap_or_default() {
        let dst = key(&format!("10.0.{n}.0/26"));
        kernel.routes.insert(dst, route(None, marks::WIREGUARD));
    }
    NodeState {
        generation,
        kernel,
        tunnel: peers.map(tunnel),
        ..NodeState::default()
    }
}

struct Bench {
    core: Core,
    kernel: FakeKernel,
    tunnels: Tunnels,
    device: Fake,
    now: std::time::Duration,
}

impl Bench {
    fn new() -> Bench {
        let device = Fake::default();
        let key = PrivateKey::new([200; KEY_LEN]);
        Bench {
            core: Core::new(Timing::default(), 7),
            kernel: crate::reconcile::tests::rig::host(),
            tunnels: Tunnels::new(Some(Box::new(device.clone())), key),
            device,
            now: std::time::Duration::ZERO,
        }
    }

    fn at(&self) -> Now {
        Now {
            since_start: self.now,
            wall: std::time::SystemTime::UNIX_EPOCH + self.now,
        }
    }

    fn want(&mut self, state: NodeState) {
        let now = self.at();
        self.core.handle_desired(Arc::new(state), true, now);
    }

    /// Does what is due within a minute; after each step `check` sees kernel and device.
    fn run(&mut self, mut check: impl FnMut(&FakeKernel, &FakeDevice)) {
        for _ in 0..20 {
            while let Some(action) = self.core.poll_action(self.at()) {
                match action {
                    Action::Raise(state) => {
                        let wanted = state.tunnel.as_ref().unwrap();
                        let done = self.tunnels.raise(wanted, self.now);
                        let found = self.tunnels.take_findings();
                        if found.removed {
                            self.kernel.remove_link(name(marks::WIREGUARD));
                        }
                        self.sync_link();
                        (self.core).handle_raised(done.map_err(|e| e.to_string()), found);
                    }
                    Action::Look(state) => {
                        let wanted = state.tunnel.as_ref().unwrap();
                        let differs = self.tunnels.differs(wanted, self.now);
                        let now = self.at();
                        self.core.handle_looked(differs, now);
                    }
                    Action::Retire(state) => {
                        let wanted = state.tunnel.as_ref().unwrap();
                        let done = self.tunnels.retire(wanted, self.now);
                        let now = self.at();
                        (self.core).handle_retired(done.map_err(|e| e.to_string()), now);
                    }
                    Action::Observe => {
                        let observed = self.kernel.observe();
                        let now = self.at();
                        self.core.handle_observed(observed, now);
                    }
                    Action::Apply { ops, .. } => {
                        // One by one: an operator's packet may come between any two.
                        let apply = |op: &Op| self.kernel.apply(std::slice::from_ref(op)).remove(0);
                        let results = ops.iter().map(apply).collect();
                        self.core.handle_applied(ops, results);
                    }
                }
                check(&self.kernel, &self.device.0.lock().unwrap());
            }
            match self.core.poll_timeout() {
                Some(at) if at < self.now + std::time::Duration::from_secs(40) => {
                    self.now = at.max(self.now);
                }
                _ => return,
            }
        }
    }

    /// A device that was made is a link.
    fn sync_link(&mut self) {
        let made = self.device.0.lock().unwrap().state.is_some();
        if made && !self.kernel.links.contains_key(&name(marks::WIREGUARD)) {
            let kind = LinkKind::Other("wireguard".into());
            self.kernel
                .add_link(link(name(marks::WIREGUARD), kind, &[]));
        }
    }

    /// Lets others change the device, looks again, and tells what was named.
    fn damaged(&mut self, damage: impl FnOnce(&mut FakeDevice, &mut FakeKernel)) -> Vec<String> {
        let before = self.core.status().drift.len();
        damage(&mut self.device.0.lock().unwrap(), &mut self.kernel);
        self.now += Timing::default().look;
        self.run(|_, _| {});
        let drift = self.core.status().drift;
        let new = drift.iter().take(drift.len() - before);
        new.map(|d| format!("{}: {}", d.object, d.found)).collect()
    }

    fn tunnels_line(&self) -> String {
        let status = self.core.status();
        let line = status.subsystems.iter().find(|s| s.name == "tunnels");
        let line = line.unwrap();
        format!("{:?}: {}", line.state, line.message)
    }
}

/// Every route into the tunnel leads to a prefix that the device has an owner for.
fn owned(kernel: &FakeKernel, device: &FakeDevice) {
    let routes = kernel.state.routes.iter();
    let into = routes.filter(
        |(_, r)| matches!(&r.target, RouteTarget::Hop(h) if h.dev.as_str() == marks::WIREGUARD),
    );
    let state = device.state.clone().unwrap_or_default();
    for (key, _) in into {
        let owners = state
            .peers
            .values()
            .filter(|p| p.allowed_ips.contains(&key.dst));
        assert_eq!(owners.count(), 1, "{} has no owner", key.dst);
    }
}

#[test]
fn peers_come_before_their_routes_and_go_after_them() {
    let mut b = Bench::new();
    b.want(state(1, Some(&[1, 2])));
    b.run(owned);
    assert_eq!(b.tunnels_line(), "Ok: rtd.wg, 2 peers");
    b.want(state(2, Some(&[2, 3])));
    b.run(owned);
    let device = b.device.0.lock().unwrap();
    let peers = &device.state.as_ref().unwrap().peers;
    assert_eq!(peers.len(), 2);
    assert_eq!(device.log, ["set", "set", "set", "remove"]);
    assert_eq!(b.kernel.state.routes.len(), 2);
}

#[test]
fn nothing_is_told_to_a_device_that_is_right() {
    let mut b = Bench::new();
    b.want(state(1, Some(&[1, 2])));
    b.run(owned);
    b.want(state(2, Some(&[1, 2])));
    b.run(owned);
    assert_eq!(b.device.0.lock().unwrap().log.len(), 2);
}

#[test]
fn a_device_that_fails_is_tried_again_and_meanwhile_nothing_goes_in_clear() {
    let mut b = Bench::new();
    // In clear until now.
    let mut before = state(1, None);
    let clear = route(Some("192.0.2.11"), "eth0");
    before.kernel.routes.insert(key("10.0.1.0/26"), clear);
    b.want(before);
    b.run(|_, _| {});
    b.device.0.lock().unwrap().fails = true;
    b.want(state(2, Some(&[1])));
    b.run(|_, _| {});
    let target = |b: &Bench| b.kernel.state.routes[&key("10.0.1.0/26")].target.clone();
    assert_eq!(target(&b), RouteTarget::Unreachable);
    let line = b.tunnels_line();
    assert!(line.starts_with("Failed: device on demand"), "{line}");

    b.device.0.lock().unwrap().fails = false;
    b.now += std::time::Duration::from_secs(60);
    b.run(|_, _| {});
    assert!(matches!(target(&b), RouteTarget::Hop(h) if h.dev.as_str() == marks::WIREGUARD));
    assert_eq!(b.tunnels_line(), "Ok: rtd.wg, 1 peers");
}

#[test]
fn a_newer_state_that_comes_while_the_kernel_is_looked_at_is_raised_first() {
    let mut b = Bench::new();
    b.want(state(1, Some(&[1])));
    let Some(Action::Raise(first)) = b.core.poll_action(b.at()) else {
        panic!("no tunnel was raised");
    };
    let left = b.tunnels.raise(first.tunnel.as_ref().unwrap(), b.now);
    (b.core).handle_raised(left.map_err(|e| e.to_string()), Findings::default());
    b.sync_link();
    assert!(matches!(b.core.poll_action(b.at()), Some(Action::Observe)));
    b.want(state(2, Some(&[1, 4])));
    let (observed, now) = (b.kernel.observe(), b.at());
    b.core.handle_observed(observed, now);
    b.run(owned);
    assert_eq!(b.kernel.state.routes.len(), 2);
}

#[test]
fn what_others_do_to_the_device_is_named_and_undone() {
    let key = |n: u8| wireguard::keys::PublicKey::new([n; KEY_LEN]);
    let mut b = Bench::new();
    b.want(state(1, Some(&[1, 2])));
    b.run(owned);
    let right = b.device.0.lock().unwrap().state.clone();
    assert!(b.damaged(|_, _| {}).is_empty());

    let peer = |n: u8, found: &str| {
        let node = if n < 9 {
            format!(" (n{n})")
        } else {
            String::new()
        };
        vec![format!("peer {}{node} dev rtd.wg: {found}", key(n))]
    };
    let named = b.damaged(|d, _| drop(d.state.as_mut().unwrap().peers.remove(&key(1))));
    assert_eq!(named, peer(1, "missing"));
    let named = b.damaged(|d, _| {
        let peer = d.state.as_mut().unwrap().peers.get_mut(&key(2)).unwrap();
        peer.allowed_ips.clear();
    });
    assert_eq!(named, peer(2, "changed"));
    let named = b.damaged(|d, _| {
        let peers = &mut d.state.as_mut().unwrap().peers;
        peers.insert(key(9), PeerState::default());
    });
    assert_eq!(named, peer(9, "unexpected"));
    let named = b.damaged(|d, _| d.state.as_mut().unwrap().listen_port = 7);
    assert_eq!(named, ["rtd.wg listen-port: changed"]);
    assert_eq!(b.device.0.lock().unwrap().state, right);

    // With all its routes.
    let named = b.damaged(|d, k| {
        d.state = None;
        k.remove_link(name(marks::WIREGUARD));
    });
    assert_eq!(named, ["link rtd.wg: missing"]);
    assert_eq!(b.device.0.lock().unwrap().state, right);
    // One that cannot be made again is named once, and so is nothing when it comes back.
    let named = b.damaged(|d, k| {
        (d.state, d.fails) = (None, true);
        k.remove_link(name(marks::WIREGUARD));
    });
    assert_eq!(named, ["link rtd.wg: missing"]);
    assert!(b.damaged(|_, _| {}).is_empty());
    let named = b.damaged(|d, _| d.fails = false);
    assert!(named.is_empty(), "{named:?}");
    b.now += std::time::Duration::from_secs(60);
    b.run(|_, _| {});
    assert_eq!(b.device.0.lock().unwrap().state, right);
    assert_eq!(b.tunnels_line(), "Ok: rtd.wg, 2 peers");
}

#[test]
fn a_peer_heard_from_elsewhere_is_left_there_until_it_says_that_it_moved() {
    let endpoint = |b: &Bench| {
        let device = b.device.0.lock().unwrap();
        let peers = &device.state.as_ref().unwrap().peers;
        peers.values().next().unwrap().endpoint.unwrap().to_string()
    };
    let mut b = Bench::new();
    b.want(state(1, Some(&[1])));
    b.run(owned);
    let wall = std::time::Duration::from_secs(1000);
    b.now = wall;
    let named = b.damaged(|d, _| {
        let peer = d.state.as_mut().unwrap().peers.values_mut().next().unwrap();
        peer.endpoint = Some("198.51.100.7:1025".parse().unwrap());
        peer.last_handshake = Some(wall);
    });
    assert!(named.is_empty(), "{named:?}");
    assert_eq!(endpoint(&b), "198.51.100.7:1025");
    let mut moved = state(2, Some(&[1]));
    let peers = &mut moved.tunnel.as_mut().unwrap().peers;
    peers.values_mut().next().unwrap().endpoint = "192.0.2.99:51820".parse().unwrap();
    b.want(moved);
    b.run(owned);
    assert_eq!(endpoint(&b), "192.0.2.99:51820");
}

#[test]
fn where_encryption_is_required_and_cannot_be_status_says_so() {
    use model::resources::Encryption;
    for (encryption, barred, starts) in [
        (Encryption::Off, false, "Ok: none needed"),
        (
            Encryption::Preferred,
            false,
            "Degraded: nothing is encrypted",
        ),
        (
            Encryption::Required,
            false,
            "Failed: encryption is required",
        ),
        (
            Encryption::Required,
            true,
            "Degraded: MeshConfiguration/default",
        ),
    ] {
        let mut b = Bench::new();
        let mut wanted = state(1, None);
        (wanted.encryption, wanted.barred) = (encryption, barred);
        b.want(wanted);
        b.run(|_, _| {});
        let line = b.tunnels_line();
        assert!(line.starts_with(starts), "{line}");
        assert_eq!(b.core.status().lacks_tunnel(), starts.starts_with("Failed"));
    }
}
