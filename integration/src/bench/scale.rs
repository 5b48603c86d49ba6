//! A daemon that starts over a store of 5,000 nodes and 100,000 endpoints.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use model::block::{Allocation, Block, FORMAT};
use model::kernel::Mac;
use model::kv::Event;
use model::manifest::encode_stored;
use model::resources::node::InterfaceAddress;
use model::resources::{IpPoolSpec, NodeBgp, NodeSpec, VxlanMode, WorkloadEndpointSpec};
use model::snapshot::Snapshot;
use model::state::{Underlay, UnderlayLink};
use model::{Cidr, Metadata, Object, Resource, keys};

use super::{Row, Section, median_f64, spread};
use crate::lab::{Lab, Mesh, MeshSpec, Node, wait};
use crate::scenario;

const NODES: u32 = 5000;
const ENDPOINTS_PER_NODE: u32 = 20;
const PREFIX: &str = "/routerd/v1/";
const POOL: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const IDLE: Duration = Duration::from_secs(30);
/// Daemons started one after the other, each over an empty kernel.
const STARTS: u8 = 3;
/// Times that everything is calculated anew.
const RUNS: usize = 51;

/// A daemon that has converged.
struct Start {
    /// Seconds from exec.
    converged: f64,
    /// Bytes.
    resident: u64,
    routes: usize,
}

/// Calculates, then loads etcd, starts daemons over it and watches the last one rest.
///
/// # Errors
/// When one does not converge.
pub fn run() -> Result<Section> {
    let pairs = objects()?;
    let count = pairs.len();
    let mut recompute = recompute(&pairs)?;
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(STARTS))?;
    mesh.etcd.put_all(&pairs)?;
    drop(pairs);

    let (mut starts, mut idle) = (Vec::new(), 0.0);
    for node in &mut mesh.nodes {
        let mut started = start(node)?;
        if starts.len() + 1 == usize::from(STARTS) {
            let daemon = node.daemon().context("not started")?;
            let before = daemon.cpu_time()?;
            std::thread::sleep(IDLE);
            idle = (daemon.cpu_time()? - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
            started.resident = started.resident.max(daemon.resident()?);
        }
        node.stop()?;
        starts.push(started);
    }
    let mut converged: Vec<f64> = starts.iter().map(|s| s.converged).collect();
    let worst = starts.iter().map(|s| s.resident).max().unwrap_or_default();
    let routes = starts.iter().map(|s| s.routes).max().unwrap_or_default();
    let seconds = |s: f64| format!("{s:.2} s");
    let millis = |s: f64| format!("{:.1} ms", s * 1e3);
    let shown = spread(&mut recompute, millis);
    Ok(Section {
        title: "A large mesh",
        how: "One daemon over an etcd that holds 5,000 nodes and blocks, 100,000 endpoints; three \
              starts, each over an empty kernel, from exec to `inSync`, every route, neighbour and forwarding entry in \
              the kernel; median and extremes. Memory is the largest resident set seen; the processor is watched for \
              30 s after the last start. `cargo bench -p calc` calculates a mesh with two families and two pools.",
        rows: vec![
            Row::shown("keys in etcd", count.to_string()),
            Row::shown("routes in the kernel", routes.to_string()),
            Row::goal(
                "full recompute, 51 times",
                shown,
                "≤ 20 ms",
                median_f64(&mut recompute) <= 0.02,
            ),
            Row::goal(
                "start to converged",
                spread(&mut converged, seconds),
                "≤ 3 s",
                median_f64(&mut converged) <= 3.0,
            ),
            Row::goal(
                "resident memory",
                format!("{:.0} MB", f64::from(u32::try_from(worst >> 10)?) * 1024e-6),
                "≤ 150 MB",
                worst <= 150_000_000,
            ),
            Row::goal(
                "processor when idle",
                format!("{idle:.2} %"),
                "~ 0",
                idle < 1.0,
            ),
        ],
    })
}

fn start(node: &mut Node) -> Result<Start> {
    let start = Instant::now();
    let mut routes = 0;
    node.start()?;
    wait("the daemon to converge", Duration::from_secs(120), || {
        let answer = node.http("GET", "/v1/status", b"")?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let is = |field| status.get(field) == Some(&serde_json::Value::Bool(true));
        ensure!(is("ready") && is("inSync"), "{status}");
        // In sync with a snapshot that lacks its own tunnel address yet, it has no way to the others.
        routes = scenario::our_routes(node)?.len();
        ensure!(
            routes >= usize::try_from(NODES)? - 1,
            "only {routes} routes"
        );
        Ok(())
    })?;
    let converged = start.elapsed().as_secs_f64();
    let resident = node.daemon().context("not started")?.resident()?;
    Ok(Start {
        converged,
        resident,
        routes,
    })
}

/// Seconds that each full calculation took, as one of the stored nodes.
fn recompute(pairs: &[(String, String)]) -> Result<Vec<f64>> {
    let local = "far-0000";
    let mut snapshot = Snapshot::default();
    for (revision, (key, value)) in (1..).zip(pairs) {
        let event = Event {
            key: key.strip_prefix(PREFIX).unwrap_or(key).to_owned(),
            value: Some(value.clone().into_bytes()),
            revision,
        };
        snapshot.apply(local, &event);
    }
    let underlay = Underlay {
        v4: Some(UnderlayLink {
            interface: "eth0".parse()?,
            address: "10.200.0.0/16".parse()?,
            mtu: 1500,
        }),
        v6: None,
    };
    let inputs = calc::Inputs {
        node: local,
        snapshot: &snapshot,
        underlay: &underlay,
        accepts_ra: false,
    };
    let once = || {
        let start = Instant::now();
        let state = calc::desired_state(&inputs);
        (start.elapsed().as_secs_f64(), state)
    };
    let (_, state) = once();
    let nodes = usize::try_from(NODES)?;
    ensure!(
        state.kernel.routes.len() >= nodes - 1,
        "{} routes",
        state.kernel.routes.len()
    );
    Ok((0..RUNS).map(|_| once().0).collect())
}

/// Keys and values of the whole mesh.
fn objects() -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut pool = IpPoolSpec::new(Cidr::containing(POOL.into(), 10).context("the pool")?);
    pool.vxlan_mode = VxlanMode::Always;
    resource(&mut pairs, &Object::IPPool(Resource::named("large", pool)))?;
    for n in 0..NODES {
        node(&mut pairs, n)?;
    }
    Ok(pairs)
}

fn node(pairs: &mut Vec<(String, String)>, n: u32) -> Result<()> {
    let name = format!("far-{n:04}");
    let first = POOL.to_bits() + n * 64;
    let cidr = Cidr::containing(Ipv4Addr::from_bits(first).into(), 26).context("a block")?;
    let [.., high, low] = n.to_be_bytes();
    let spec = NodeSpec {
        bgp: Some(NodeBgp {
            ipv4_address: Some(InterfaceAddress {
                ip: Ipv4Addr::new(10, 200, high, low).into(),
                prefix: 16,
            }),
            ..NodeBgp::default()
        }),
        ipv4_vxlan_tunnel_addr: Some(Ipv4Addr::from_bits(first)),
        vxlan_tunnel_mac_addr: Some(Mac([0x66, 0, 0, 0, high, low])),
        ..NodeSpec::default()
    };
    resource(pairs, &Object::Node(Resource::named(&name, spec)))?;

    let mut block = Block::new(cidr, Some(name.clone()));
    take(&mut block, 0, &format!("tunnel4:{name}"), &name, None)?;
    for place in 1..=ENDPOINTS_PER_NODE {
        let workload = format!("w-{n:04}-{place:02}");
        let handle = format!("cni.{n:032x}{place:032x}.eth0");
        let ip = take(&mut block, place, &handle, &name, Some(&workload))?;
        let spec = WorkloadEndpointSpec {
            orchestrator: "cni".to_owned(),
            workload: workload.clone(),
            node: name.clone(),
            container_id: format!("{n:032x}{place:032x}"),
            endpoint: "eth0".to_owned(),
            ip_networks: vec![Cidr::host(ip)],
            interface_name: format!("rtd{:012x}", n * 100 + place),
            ..WorkloadEndpointSpec::default()
        };
        let mut metadata = Metadata::namespaced("default", &workload);
        metadata
            .labels
            .insert("app".to_owned(), format!("app-{}", place % 5));
        resource(
            pairs,
            &Object::WorkloadEndpoint(Resource { metadata, spec }),
        )?;
    }
    put(
        pairs,
        &keys::affinity(&name, &cidr),
        &serde_json::json!({ "version": FORMAT }).to_string(),
    );
    put(
        pairs,
        &keys::block(&cidr),
        &String::from_utf8(block.encode())?,
    );
    Ok(())
}

/// Hands out one place of a block.
fn take(
    block: &mut Block,
    place: u32,
    handle: &str,
    node: &str,
    workload: Option<&str>,
) -> Result<IpAddr> {
    let ip = block
        .cidr
        .nth(place.into())
        .context("past the block's end")?;
    let allocation = Allocation {
        handle: handle.to_owned(),
        node: Some(node.to_owned()),
        holder: None,
        workload: workload.map(|name| format!("default/{name}")),
    };
    block.used.insert(place, allocation);
    Ok(ip)
}

fn resource(pairs: &mut Vec<(String, String)>, object: &Object) -> Result<()> {
    let value = String::from_utf8(encode_stored(object))?;
    put(pairs, &keys::resource(&object.id()), &value);
    Ok(())
}

fn put(pairs: &mut Vec<(String, String)>, key: &str, value: &str) {
    pairs.push((format!("{PREFIX}{key}"), value.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_what_a_daemon_would_have_stored() {
        let mut pairs = Vec::new();
        node(&mut pairs, 4999).unwrap();
        let count = usize::try_from(ENDPOINTS_PER_NODE).unwrap();
        // The node, its endpoints, the block and its affinity.
        assert_eq!(pairs.len(), 1 + count + 2);
        for (key, value) in &pairs {
            let key = key.strip_prefix(PREFIX).unwrap();
            if let Some(id) = keys::parse_resource(key) {
                assert_eq!(
                    model::manifest::decode_stored(value.as_bytes())
                        .unwrap()
                        .id(),
                    id
                );
            } else if key.starts_with(keys::BLOCKS) {
                let block = Block::decode(value.as_bytes()).unwrap();
                assert_eq!(keys::parse_block(key), Some(block.cidr));
                assert_eq!(block.used.len(), count + 1);
            }
        }
    }
}
