//! What many end-to-end tests begin and end with: pools, workloads on every node, clean address records.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Cni, Lab, Mesh, Node, Workload, probe, wait};

/// Time for a change to reach every node and its kernel.
pub const CONVERGE: Duration = Duration::from_secs(15);
/// The IPv4 pool of the tests.
pub const POOL_V4: &str = "10.65.0.0/16";
/// The IPv6 pool of the tests.
pub const POOL_V6: &str = "fd65:1::/64";

/// Manifest of one pool of each family.
pub fn pools(vxlan_mode: &str, nat_outgoing: bool) -> String {
    [("v4", POOL_V4), ("v6", POOL_V6)]
        .map(|(name, cidr)| {
            format!(
                "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ name: {name} }}\n\
                 spec: {{ cidr: \"{cidr}\", vxlanMode: {vxlan_mode}, natOutgoing: {nat_outgoing} }}\n"
            )
        })
        .join("---\n")
}

/// Starts every daemon and creates the pools.
///
/// # Errors
/// When a daemon is not ready in time or refuses the pools.
pub fn start(mesh: &mut Mesh, vxlan_mode: &str) -> Result<()> {
    mesh.start()?;
    mesh.node(0)?.apply(&pools(vxlan_mode, false))?;
    for node in &mesh.nodes {
        pools_known(node)?;
    }
    Ok(())
}

/// Manifest of the mesh-wide settings, such as `encryption: Required`.
pub fn mesh_configuration(spec: &str) -> String {
    format!(
        "apiVersion: routerd/v1\nkind: MeshConfiguration\nmetadata: {{ name: default }}\nspec: {{ {spec} }}\n"
    )
}

/// Starts every daemon with `encryption: Required` and the tunnel in userspace, and creates the pools.
///
/// # Errors
/// When a daemon is not ready in time, or one does not encrypt.
pub fn start_encrypted(mesh: &mut Mesh) -> Result<()> {
    for node in &mesh.nodes {
        node.configure("[wireguard]\nbackend = \"userspace\"")?;
    }
    start(mesh, "Never")?;
    require_encryption(mesh)
}

/// Applies `encryption: Required` and waits until every node has a tunnel.
///
/// # Errors
/// When one has none in time.
pub fn require_encryption(mesh: &Mesh) -> Result<()> {
    let configuration = mesh_configuration("encryption: Required");
    mesh.node(0)?.apply(&configuration)?;
    mesh.nodes.iter().try_for_each(encrypts)
}

/// Waits until a node has a tunnel.
///
/// # Errors
/// When it does not in time.
pub fn encrypts(node: &Node) -> Result<()> {
    let what = format!("{} to encrypt", node.name);
    wait(&what, CONVERGE, || {
        let status = node.status()?;
        ensure!(status["encryption"] == "Required", "{status}");
        node.wg_show("listen-port").map(drop)
    })
}

/// State and message of a part of a node, as its status has them.
///
/// # Errors
/// When the daemon does not answer, or says nothing of it.
pub fn subsystem(node: &Node, name: &str) -> Result<(String, String)> {
    let status = node.status()?;
    let all = list(&status, "subsystems")?;
    let part = all.iter().find(|s| s["name"] == *name);
    let part = part.with_context(|| format!("no subsystem {name} in {status}"))?;
    let of = |field| text(part, field).map(str::to_owned);
    Ok((of("state")?, of("message")?))
}

/// Waits until a node enforces policy, and has no trouble with it.
///
/// # Errors
/// When it does not in time.
pub fn enforces_policy(node: &Node) -> Result<()> {
    let what = format!("{} to enforce policy", node.name);
    wait(&what, CONVERGE, || {
        let (state, message) = subsystem(node, "policy")?;
        ensure!(state == "Ok", "{state}: {message}");
        Ok(())
    })
}

/// Waits until a node has seen both pools.
///
/// # Errors
/// When it does not in time.
pub fn pools_known(node: &Node) -> Result<()> {
    wait(
        &format!("{} to know the pools", node.name),
        CONVERGE,
        || {
            let names = names(&node.json(&["get", "ippools"])?);
            ensure!(
                names.iter().any(|n| n == "v4") && names.iter().any(|n| n == "v6"),
                "pools: {names:?}"
            );
            Ok(())
        },
    )
}

/// Makes `per_node` workloads on every node.
///
/// # Errors
/// When an ADD fails.
pub fn populate(lab: &Lab, mesh: &Mesh, per_node: usize) -> Result<Vec<Workload>> {
    let mut all = Vec::new();
    for node in &mesh.nodes {
        all.extend(populate_node(lab, node, per_node)?);
    }
    Ok(all)
}

/// Makes `count` workloads on one node, named after it.
///
/// # Errors
/// When an ADD fails.
pub fn populate_node(lab: &Lab, node: &Node, count: usize) -> Result<Vec<Workload>> {
    let cni = Cni::of(node)?;
    (0..count)
        .map(|i| cni.add(lab, &format!("{}-w{i}", node.name)))
        .collect()
}

/// All pairs, with small packets until the mesh has converged, then with packets of full size.
///
/// # Errors
/// With the pairs that have no connection.
pub fn everyone_reaches_everyone(workloads: &[Workload]) -> Result<usize> {
    let all: Vec<&Workload> = workloads.iter().collect();
    let pairs = probe::all_pairs(&all, probe::Size::Small, CONVERGE)?;
    let full = probe::all_pairs(&all, probe::Size::FullMtu, CONVERGE)
        .context("packets of the MTU of the workloads")?;
    ensure!(pairs == full);
    Ok(pairs)
}

/// `ipam check` finds nothing.
///
/// # Errors
/// With what it found.
pub fn ipam_is_clean(node: &Node) -> Result<()> {
    let args = ["ipam", "check", "-o", "json"];
    let out = node.ctl(&args)?;
    let report = out.json().with_context(|| out.stderr.clone())?;
    ensure!(
        out.code == Some(0) && report.get("clean") == Some(&Value::Bool(true)),
        "ipam check, exit {:?}: {report}",
        out.code
    );
    Ok(())
}

/// Addresses in use over all pools.
///
/// # Errors
/// When the daemon does not answer.
pub fn addresses_used(node: &Node) -> Result<u64> {
    let show = node.json(&["ipam", "show"])?;
    let pools = list(&show, "pools")?;
    Ok(pools.iter().filter_map(|p| p.get("used")?.as_u64()).sum())
}

/// What IPAM says of one address.
///
/// # Errors
/// When the daemon does not answer.
pub fn address_state(node: &Node, ip: IpAddr) -> Result<String> {
    let show = node.json(&["ipam", "show", "--ip", &ip.to_string()])?;
    text(&show, "state").map(str::to_owned)
}

/// A field that is a list.
///
/// # Errors
/// When there is none.
pub fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value
        .get(field)
        .and_then(Value::as_array)
        .with_context(|| format!("no list {field:?} in {value}"))
}

/// A field that is a text.
///
/// # Errors
/// When there is none.
pub fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("no text {field:?} in {value}"))
}

/// Names of the resources in a `List`.
pub fn names(list: &Value) -> Vec<String> {
    list.get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|i| i.pointer("/metadata/name")?.as_str())
        .map(str::to_owned)
        .collect()
}

/// Routes of a node with our protocol number, as `ip -j route` shows them.
///
/// # Errors
/// When `ip` fails.
pub fn our_routes(node: &Node) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        let args = format!(
            "{family} route show table all proto {}",
            model::marks::ROUTE_PROTOCOL
        );
        if let Value::Array(routes) = node.ns.ip_json(&args)? {
            all.extend(routes);
        }
    }
    Ok(all)
}

/// Interfaces of a node that carry our prefix.
///
/// # Errors
/// When `ip` fails.
pub fn our_links(node: &Node) -> Result<Vec<String>> {
    let links = node.ns.ip_json("link show")?;
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|l| l.get("ifname")?.as_str())
        .filter(|name| model::marks::is_our_link(name))
        .map(str::to_owned)
        .collect())
}
