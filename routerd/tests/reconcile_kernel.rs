//! Two nodes in namespaces: `calc` decides, `reconcile` makes it true in the real kernel, packets arrive.
//!
//! Needs root.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed test panics

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use calc::{Inputs, desired_state};
use model::block::BlockSummary;
use model::kernel::Mac;
use model::object::Resource;
use model::resources::{IpPoolSpec, NodeBgp, NodeSpec, VxlanMode};
use model::snapshot::Snapshot;
use model::state::{NodeState, Underlay, UnderlayLink};
use netlink::testing::Netns;
use netlink::{Kernel, Netlink};
use routerd::reconcile::{Action, Core, Now, Timing, cleanup::cleanup};

const NODES: [(&str, u8); 2] = [("a", 1), ("b", 2)];
const POOLS: [&str; 2] = ["10.0.0.0/16", "fd00::/64"];

fn node(n: u8) -> NodeSpec {
    NodeSpec {
        bgp: Some(NodeBgp {
            ipv4_address: format!("192.0.2.{n}/24").parse().ok(),
            ipv6_address: format!("2001:db8::{n}/64").parse().ok(),
            ..NodeBgp::default()
        }),
        ipv4_vxlan_tunnel_addr: format!("10.0.{n}.0").parse().ok(),
        ipv6_vxlan_tunnel_addr: format!("fd00::{n}00").parse().ok(),
        vxlan_tunnel_mac_addr: Some(Mac([2, 4, 0, 0, 0, n])),
        vxlan_tunnel_mac_addr_v6: Some(Mac([2, 6, 0, 0, 0, n])),
        ..NodeSpec::default()
    }
}

/// One block in each family on each node; the tunnel address is its first address.
fn snapshot(revision: i64, mode: VxlanMode) -> Snapshot {
    let mut s = Snapshot {
        revision,
        ..Snapshot::default()
    };
    for range in POOLS {
        let mut spec = IpPoolSpec::new(range.parse().unwrap());
        spec.vxlan_mode = mode;
        spec.nat_outgoing = true;
        s.pools
            .insert(range.to_owned(), Resource::named(range, spec));
    }
    for (name, n) in NODES {
        s.nodes.insert(name.into(), Resource::named(name, node(n)));
        for range in [format!("10.0.{n}.0/26"), format!("fd00::{n}00/122")] {
            let block = BlockSummary {
                node: Some(name.into()),
                in_use: true,
                borrowed: Vec::new(),
            };
            s.blocks.insert(range.parse().unwrap(), block);
        }
    }
    s
}

fn desired(name: &str, n: u8, revision: i64, mode: VxlanMode, v4: bool) -> NodeState {
    let spec = node(n);
    let link = |f| {
        Some(UnderlayLink {
            interface: "eth0".parse().unwrap(),
            address: spec.underlay(f)?,
            mtu: 1500,
        })
    };
    let underlay = Underlay {
        v4: link(model::Family::V4).filter(|_| v4),
        v6: link(model::Family::V6),
    };
    let snapshot = snapshot(revision, mode);
    let state = desired_state(&Inputs {
        node: name,
        snapshot: &snapshot,
        underlay: &underlay,
        accepts_ra: false,
    });
    assert_eq!(state.problems, []);
    state
}

struct Node {
    ns: Netns,
    core: Core,
    kernel: Netlink,
}

impl Node {
    /// Brings the kernel to a state, within a handful of runs, and sees that nothing is left to do.
    fn reconcile(&mut self, state: NodeState, seconds: u64) {
        let Node { ns, core, kernel } = self;
        let expected = state.kernel.clone();
        ns.run(move || {
            let now = Now {
                since_start: Duration::from_secs(seconds),
                wall: SystemTime::UNIX_EPOCH,
            };
            core.handle_desired(Arc::new(state), true, now);
            while let Some(action) = core.poll_action(now) {
                match action {
                    Action::Raise(_) | Action::Look(_) | Action::Retire(_) => {
                        unreachable!("no tunnel is wanted")
                    }
                    Action::Observe => core.handle_observed(kernel.observe(), now),
                    Action::Apply { ops, .. } => {
                        let results = kernel.apply(&ops);
                        for (op, result) in ops.iter().zip(&results) {
                            assert!(result.is_ok(), "{op:?}: {result:?}");
                        }
                        core.handle_applied(ops, results);
                    }
                }
            }
            let left = netlink::plan(&expected, &kernel.observe().unwrap());
            assert_eq!((left.ops, left.conflicts), (vec![], vec![]));
            assert!(core.status().in_sync);
        });
    }
}

fn lab() -> Vec<Node> {
    let nodes: Vec<Node> = (NODES.iter())
        .map(|_| {
            let ns = Netns::new();
            ns.sh("ip link set lo up");
            let kernel = ns.run(|| Netlink::open([]).unwrap());
            let core = Core::new(Timing::default(), 1);
            Node { ns, core, kernel }
        })
        .collect();
    let far = nodes[1].ns.path();
    nodes[0].ns.sh(&format!(
        "ip link add eth0 type veth peer name eth0 netns {far}"
    ));
    for (node, (_, n)) in nodes.iter().zip(NODES) {
        node.ns.sh(&format!(
            "ip link set eth0 up
             ip addr add 192.0.2.{n}/24 dev eth0
             ip -6 addr add 2001:db8::{n}/64 dev eth0 nodad
             ip route add 10.99.0.0/16 via 192.0.2.77 proto 4"
        ));
    }
    nodes
}

#[test]
fn every_change_of_mode_is_carried_out_and_packets_arrive() {
    let mut nodes = lab();
    let modes = [
        (VxlanMode::Never, true),
        (VxlanMode::Always, true),
        (VxlanMode::CrossSubnet, true),
        (VxlanMode::Always, false), // over the IPv6 underlay
        (VxlanMode::Never, true),
        (VxlanMode::Always, true),
    ];
    for (i, (mode, v4)) in modes.into_iter().enumerate() {
        let revision = i64::try_from(i).unwrap() + 1;
        for (node, (name, n)) in nodes.iter_mut().zip(NODES) {
            let state = desired(name, n, revision, mode, v4);
            let tunnelled = mode == VxlanMode::Always;
            let routes = (state.kernel.routes.values()).filter(|r| r.src.is_some());
            assert_eq!(routes.count(), if tunnelled { 2 } else { 0 });
            node.reconcile(state, 100 * (u64::try_from(i).unwrap() + 1));
        }
        if mode == VxlanMode::Always {
            let dev = if v4 {
                " dev rtd.vxlan4 "
            } else {
                " dev rtd.vxlan6 "
            };
            for (from, to) in [("10.0.1.0", "10.0.2.0"), ("fd00::100", "fd00::200")] {
                let way = nodes[0].ns.sh(&format!("ip route get {to}"));
                assert!(way.contains(dev), "{way}");
                let ping = format!("ping -c 2 -i 0.2 -W 5 -I {from} {to}");
                let said = nodes[0].ns.sh(&ping);
                assert!(said.contains(" 0% packet loss"), "{said}");
            }
        }
    }
    for node in &mut nodes {
        let Node { ns, kernel, .. } = node;
        ns.run(|| {
            let switches = [("net/ipv4/ip_forward".to_owned(), "0".to_owned())];
            cleanup(kernel, &BTreeMap::from(switches)).unwrap();
        });
        let left = ns.sh(
            "ip link; ip route; ip -6 route; nft list tables; cat /proc/sys/net/ipv4/ip_forward",
        );
        assert!(
            !left.contains("rtd") && !left.contains("proto 82") && !left.contains("routerd"),
            "{left}"
        );
        assert!(left.contains("10.99.0.0/16 via 192.0.2.77"), "{left}");
        assert!(left.ends_with("0\n"), "{left}");
    }
}
