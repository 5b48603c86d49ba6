//! Full recompute at 5,000 nodes and 100,000 endpoints: prints the median in milliseconds.
//!
//! `cargo bench -p calc`; with `--check` it fails above 20 ms.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use calc::{Inputs, desired_state};
use model::block::BlockSummary;
use model::kernel::Mac;
use model::object::Resource;
use model::resources::{
    BgpConfigurationSpec, IpPoolSpec, NodeBgp, NodeSpec, VxlanMode, WorkloadEndpointSpec,
};
use model::snapshot::{EndpointKey, RemoteEndpoint, Snapshot};
use model::state::{Underlay, UnderlayLink};
use model::{Cidr, Metadata};

const NODES: u32 = 5_000;
const ENDPOINTS_PER_NODE: u32 = 20;
const RUNS: usize = 51;
const LIMIT_MS: f64 = 20.0;

fn name(n: u32) -> String {
    format!("rack{:03}-node{:02}", n / 40, n % 40)
}

/// Every node on a /24 of its rack, with two blocks in each family and 20 workloads in both.
fn snapshot() -> Snapshot {
    let mut s = Snapshot::default();
    for (pool, range) in [("four", "10.0.0.0/8"), ("six", "fd00::/48")] {
        let mut spec = IpPoolSpec::new(range.parse().unwrap());
        spec.vxlan_mode = VxlanMode::CrossSubnet;
        s.pools.insert(pool.to_owned(), Resource::named(pool, spec));
    }
    let labels = Arc::new(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    for n in 0..NODES {
        let node: Arc<str> = name(n).into();
        let (rack, host) = (n / 40, n % 40 + 1);
        let spec = NodeSpec {
            bgp: Some(NodeBgp {
                ipv4_address: format!("192.168.{rack}.{host}/24").parse().ok(),
                ipv6_address: format!("2001:db8:{rack:x}::{host:x}/64").parse().ok(),
                ..NodeBgp::default()
            }),
            ipv4_vxlan_tunnel_addr: format!("10.{}.{}.0", n >> 8, n & 255).parse().ok(),
            ipv6_vxlan_tunnel_addr: format!("fd00:0:0:{n:x}::").parse().ok(),
            vxlan_tunnel_mac_addr: Some(mac(4, n)),
            vxlan_tunnel_mac_addr_v6: Some(mac(6, n)),
            ..NodeSpec::default()
        };
        s.nodes.insert(node.clone(), Resource::named(&*node, spec));
        for b in 0..2 {
            for range in [
                format!("10.{}.{}.{}/26", n >> 8, n & 255, b * 64),
                format!("fd00:0:0:{n:x}::{b:x}00/122"),
            ] {
                let block = BlockSummary {
                    node: Some(node.clone()),
                    in_use: true,
                    borrowed: Vec::new(),
                };
                s.blocks.insert(range.parse().unwrap(), block);
            }
        }
        for e in 1..=ENDPOINTS_PER_NODE {
            let ips = [
                format!("10.{}.{}.{e}/32", n >> 8, n & 255),
                format!("fd00:0:0:{n:x}::{e:x}/128"),
            ]
            .map(|i| i.parse::<Cidr>().unwrap());
            let key = EndpointKey {
                namespace: "default".into(),
                name: format!("w{n}-{e}").into(),
            };
            if n == 0 {
                let metadata = Metadata::namespaced("default", &*key.name);
                let spec = WorkloadEndpointSpec {
                    node: node.to_string(),
                    interface_name: format!("rtd{e:012x}"),
                    ip_networks: ips.to_vec(),
                    mac: Some(mac(0, e)),
                    ..WorkloadEndpointSpec::default()
                };
                (s.local_endpoints).insert(key, Resource { metadata, spec });
            } else {
                let remote = RemoteEndpoint {
                    node: node.clone(),
                    ips: ips.iter().map(Cidr::network).collect(),
                    labels: labels.clone(),
                    ports: [].into(),
                    workload: "".into(),
                };
                s.remote_endpoints.insert(key, remote);
            }
        }
    }
    s
}

fn mac(over: u8, n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([2 | over << 4, a, b, c, d, 0])
}

/// A switch for each rack of 40, which the labels of the nodes choose.
fn with_switches(mut s: Snapshot) -> Snapshot {
    for (n, node) in s.nodes.values_mut().enumerate() {
        let rack = (n / 40).to_string();
        node.metadata.labels.insert("rack".to_owned(), rack);
    }
    for rack in 0..NODES / 40 {
        let name = format!("switch{rack}");
        let spec = serde_json::json!({
            "nodeSelector": format!("rack == '{rack}'"), "peerIP": format!("192.168.{rack}.254"), "asNumber": 65000,
        });
        let spec = serde_json::from_value(spec).unwrap();
        s.bgp_peers
            .insert(name.as_str().into(), Resource::named(name, spec));
    }
    s
}

/// Everybody with everybody, as nobody should.
fn with_mesh(mut s: Snapshot) -> Snapshot {
    let spec = BgpConfigurationSpec {
        node_to_node_mesh_enabled: Some(true),
        ..BgpConfigurationSpec::default()
    };
    let resource = Resource::named("default", spec);
    s.bgp_configurations.insert("default".to_owned(), resource);
    s
}

/// Prints the median of a few runs, milliseconds, and returns it.
fn measure(what: &str, snapshot: &Snapshot, peers: usize) -> f64 {
    let link = |address: &str| {
        Some(UnderlayLink {
            interface: "eth0".parse().unwrap(),
            address: address.parse().unwrap(),
            mtu: 1500,
        })
    };
    let underlay = Underlay {
        v4: link("192.168.0.1/24"),
        v6: link("2001:db8::1/64"),
    };
    let node = name(0);
    let inputs = Inputs {
        node: &node,
        snapshot,
        underlay: &underlay,
        accepts_ra: false,
    };
    let state = desired_state(&inputs);
    assert!(state.problems.is_empty(), "{:?}", state.problems);
    assert_eq!(state.kernel.routes.len(), 4 * 5_000 + 2 * 20);
    assert_eq!(state.bgp.as_ref().map_or(0, |b| b.peers.len()), peers);

    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let state = black_box(desired_state(black_box(&inputs)));
            let took = start.elapsed();
            drop(state); // not part of the decision
            took.as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[RUNS / 2];
    println!(
        "calc: {NODES} nodes, {} endpoints, {} routes, {what}: recompute median {median:.2} ms (best {:.2}, worst {:.2})",
        NODES * ENDPOINTS_PER_NODE,
        state.kernel.routes.len(),
        times[0],
        times[RUNS - 1],
    );
    median
}

fn main() -> ExitCode {
    let plain = measure("no BGP", &snapshot(), 0);
    let switches = measure(
        "BGP with the switches of 125 racks",
        &with_switches(snapshot()),
        1,
    );
    measure(
        "BGP with every node",
        &with_mesh(snapshot()),
        2 * (NODES as usize - 1),
    );
    let slowest = plain.max(switches);
    if std::env::args().any(|a| a == "--check") && slowest > LIMIT_MS {
        eprintln!("calc: slower than {LIMIT_MS} ms");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
