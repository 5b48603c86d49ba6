//! A daemon that starts over a store of 5,000 nodes and 100,000 endpoints.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use model::block::{Allocation, Block, FORMAT, Handle};
use model::kernel::Mac;
use model::manifest::encode_stored;
use model::resources::node::InterfaceAddress;
use model::resources::{IpPoolSpec, NodeBgp, NodeSpec, VxlanMode, WorkloadEndpointSpec};
use model::{Cidr, Metadata, Object, Resource, keys};

use super::{Row, Section};
use crate::lab::{Lab, Mesh, MeshSpec, wait};
use crate::scenario;

const NODES: u32 = 5000;
const ENDPOINTS_PER_NODE: u32 = 20;
const PREFIX: &str = "/routerd/v1/";
const POOL: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const IDLE: Duration = Duration::from_secs(10);

/// Loads etcd, starts a daemon over it and watches it rest.
///
/// # Errors
/// When it does not converge.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(1))?;
    let pairs = objects()?;
    let count = pairs.len();
    mesh.etcd.put_all(&pairs)?;
    drop(pairs);

    let node = mesh.node_mut(0)?;
    let start = Instant::now();
    node.start()?;
    wait("the daemon to converge", Duration::from_secs(120), || {
        let answer = node.http("GET", "/v1/status", b"")?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(
            status.get("inSync") == Some(&serde_json::Value::Bool(true)),
            "{status}"
        );
        Ok(())
    })?;
    let converged = start.elapsed();
    let routes = scenario::our_routes(node)?.len();
    ensure!(
        routes >= usize::try_from(NODES)? - 1,
        "only {routes} routes"
    );
    let daemon = node.daemon().context("not started")?;
    let resident = daemon.resident()?;
    let before = daemon.cpu_time()?;
    std::thread::sleep(IDLE);
    let idle = (daemon.cpu_time()? - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let later = daemon.resident()?;
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let worst = resident.max(later);
    Ok(Section {
        title: "A large mesh",
        how: "One daemon over an etcd that holds 5,000 nodes and blocks, 100,000 endpoints and their handles; from exec \
              to `inSync`, every route, neighbour and forwarding entry in the kernel.",
        rows: vec![
            Row::shown("keys in etcd", count.to_string()),
            Row::shown("routes in the kernel", routes.to_string()),
            Row::goal(
                "start to converged",
                format!("{:.2} s", converged.as_secs_f64()),
                "≤ 3 s",
                converged <= Duration::from_secs(3),
            ),
            Row::goal(
                "resident memory",
                mib(worst),
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
    take(pairs, &mut block, 0, &format!("tunnel.{name}"), &name, "")?;
    for place in 1..=ENDPOINTS_PER_NODE {
        let workload = format!("w-{n:04}-{place:02}");
        let handle = format!("cni.{n:032x}{place:032x}.eth0");
        let ip = take(pairs, &mut block, place, &handle, &name, &workload)?;
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

/// Hands out one place of a block and writes its handle.
fn take(
    pairs: &mut Vec<(String, String)>,
    block: &mut Block,
    place: u32,
    handle: &str,
    node: &str,
    workload: &str,
) -> Result<IpAddr> {
    let ip = block
        .cidr
        .nth(place.into())
        .context("past the block's end")?;
    let allocation = Allocation {
        handle: handle.to_owned(),
        node: Some(node.to_owned()),
        holder: None,
    };
    block.used.insert(place, allocation);
    let record = Handle {
        version: FORMAT,
        addresses: vec![ip],
        node: Some(node.to_owned()),
        identity: None,
        namespace: if workload.is_empty() {
            String::new()
        } else {
            "default".to_owned()
        },
        name: workload.to_owned(),
        blocks: vec![block.cidr],
    };
    put(
        pairs,
        &keys::handle(handle),
        &String::from_utf8(record.encode())?,
    );
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
        assert_eq!(pairs.len(), 1 + 2 * count + 1 + 2);
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
            } else if key.starts_with(keys::HANDLES) {
                assert_eq!(Handle::decode(value.as_bytes()).unwrap().addresses.len(), 1);
            }
        }
    }
}
