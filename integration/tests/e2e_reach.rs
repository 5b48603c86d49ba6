//! Who reaches whom: three nodes, 30 workloads, both families, in every mode.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Families, Lab, Mesh, MeshSpec, wait};
use integration::scenario::{self, CONVERGE};
use model::marks;
use serde_json::Value;

/// 30 workloads: 30 × 29 ordered pairs in each of two families.
const PAIRS: usize = 30 * 29 * 2;

fn thirty(lab: &Lab, spec: &MeshSpec, mode: &str) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, spec)?;
    scenario::start(&mut mesh, mode)?;
    let workloads = scenario::populate(lab, &mesh, 10)?;
    ensure!(scenario::everyone_reaches_everyone(&workloads)? == PAIRS);
    Ok(mesh)
}

/// Interfaces by which the routes of a node to other nodes' blocks leave.
fn block_routes(mesh: &Mesh, node: usize, prefix: &str) -> Result<Vec<String>> {
    let routes = scenario::our_routes(mesh.node(node)?)?;
    let leaves = |r: &Value| -> Option<String> {
        let dst = r.get("dst")?.as_str()?;
        (dst.starts_with(prefix) && dst.contains('/') && r.get("type").is_none())
            .then(|| r.get("dev")?.as_str().map(str::to_owned))?
    };
    let mut devs: Vec<String> = routes.iter().filter_map(leaves).collect();
    devs.sort();
    devs.dedup();
    Ok(devs)
}

#[test]
fn native_on_one_segment() -> Result<()> {
    lab::run("native", |lab| {
        let mesh = thirty(lab, &MeshSpec::flat(3), "Never")?;
        ensure!(block_routes(&mesh, 0, "10.65.")? == ["eth0"]);
        ensure!(block_routes(&mesh, 0, "fd65:1:")? == ["eth0"]);
        let tunnels = scenario::our_links(mesh.node(0)?)?;
        ensure!(
            !tunnels.iter().any(|l| l.starts_with("rtd.")),
            "{tunnels:?}"
        );
        Ok(())
    })
}

#[test]
fn vxlan_always_with_a_router_between_subnets() -> Result<()> {
    lab::run("always", |lab| {
        let mesh = thirty(lab, &MeshSpec::routed(&[2, 1]), "Always")?;
        for prefix in ["10.65.", "fd65:1:"] {
            let devs = block_routes(&mesh, 0, prefix)?;
            ensure!(
                !devs.is_empty() && devs.iter().all(|d| d.starts_with("rtd.vxlan")),
                "{devs:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn vxlan_only_across_subnets() -> Result<()> {
    lab::run("cross-subnet", |lab| {
        let mesh = thirty(lab, &MeshSpec::routed(&[2, 1]), "CrossSubnet")?;
        for prefix in ["10.65.", "fd65:1:"] {
            let devs = block_routes(&mesh, 0, prefix)?;
            ensure!(
                devs.iter().any(|d| d == "eth0"),
                "n2 shares the subnet: {devs:?}"
            );
            ensure!(
                devs.iter().any(|d| d.starts_with("rtd.vxlan")),
                "n3 does not: {devs:?}"
            );
            let alone = block_routes(&mesh, 2, prefix)?;
            ensure!(
                alone.iter().all(|d| d.starts_with("rtd.vxlan")),
                "{alone:?}"
            );
        }
        Ok(())
    })
}

/// Both families of workloads over an underlay of one, and the MTU that is left for them.
fn over_one_family(families: Families, device: &str, overhead: usize) -> Result<()> {
    lab::run(device, |lab| {
        let spec = MeshSpec::routed(&[1, 1]).over(families).mtu(1600);
        let mut mesh = Mesh::build(lab, &spec)?;
        scenario::start(&mut mesh, "Always")?;
        let workloads = scenario::populate(lab, &mesh, 3)?;
        ensure!(scenario::everyone_reaches_everyone(&workloads)? == 60);
        let links = scenario::our_links(mesh.node(0)?)?;
        ensure!(links.iter().any(|l| l == device), "{links:?}");
        for workload in &workloads {
            ensure!(
                workload.mtu()? == 1600 - overhead,
                "{} bytes",
                workload.mtu()?
            );
        }
        Ok(())
    })
}

#[test]
fn both_families_over_an_ipv4_underlay() -> Result<()> {
    over_one_family(Families::V4, marks::VXLAN_V4, 50)
}

#[test]
fn both_families_over_an_ipv6_underlay() -> Result<()> {
    over_one_family(Families::V6, marks::VXLAN_V6, 70)
}

#[test]
fn native_routes_leave_the_whole_mtu() -> Result<()> {
    lab::run("jumbo", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2).mtu(9000))?;
        scenario::start(&mut mesh, "Never")?;
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        for workload in &workloads {
            ensure!(workload.mtu()? == 9000, "{} bytes", workload.mtu()?);
        }
        Ok(())
    })
}

#[test]
fn the_world_outside_is_reached_only_by_masquerade() -> Result<()> {
    lab::run("nat", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let workload = workloads.first().context("no workload")?;
        let ping = |ip: &str| workload.ns.output("ping", &format!("-c1 -W1 {ip}"));
        // The router knows no way back to a workload's own address.
        ensure!(
            ping("172.31.0.10").is_err(),
            "an answer came though nothing masquerades"
        );
        mesh.node(0)?.apply(&scenario::pools("Never", true))?;
        for ip in ["172.31.0.10", "fd31::10"] {
            wait(&format!("{ip} to answer"), CONVERGE, || ping(ip).map(drop))?;
        }
        // Between workloads the source stays what it was: the probe insists on it.
        scenario::everyone_reaches_everyone(&workloads).map(drop)
    })
}

#[test]
fn nodes_reach_their_own_and_others_workloads() -> Result<()> {
    lab::run("hosts", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        for node in &mesh.nodes {
            for ip in workloads.iter().flat_map(|w| &w.ips) {
                node.ns.output("ping", &format!("-c1 -W2 {ip}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_first_packet_is_not_slow() -> Result<()> {
    lab::run("first packet", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
        scenario::start(&mut mesh, "Never")?;
        let cni = Cni::of(mesh.node(0)?)?;
        let (a, b) = (cni.add(lab, "a")?, cni.add(lab, "b")?);
        for v6 in [false, true] {
            // Nothing waits for a neighbour to be resolved or a proxy to answer after its delay.
            let out = a.ns.output("ping", &format!("-c1 -W2 {}", b.ip(v6)?))?;
            let time = out
                .split("time=")
                .nth(1)
                .and_then(|t| t.split(' ').next())
                .context("no time")?;
            let ms: f64 = time.parse()?;
            ensure!(ms < 100.0, "the first packet took {ms} ms: {out}");
        }
        Ok(())
    })
}
