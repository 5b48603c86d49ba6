//! Switches beside ways that nodes make for themselves: the switch hears of every block, and packets between nodes go
//! by the nodes' own way.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Capture, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, POOL_V4, POOL_V6};

use crate::rig::{
    FAR, LIMIT, TOR, TOR_AS, block, established, learns, learnt, no_mesh, peer, talkative_tor,
};

/// The way of a node to a block of another: the device of its route, which is not one that was learnt.
fn device(node: &Node, block: &str) -> Result<String> {
    wait(
        &format!("a way from {} to {block}", node.name),
        LIMIT,
        || {
            let routes = node.ns.ip_json(&format!("route show {block}"))?;
            let device = routes[0]["dev"].as_str().map(str::to_owned);
            device.with_context(|| format!("{routes}"))
        },
    )
}

fn outside_reaches(mesh: &Mesh, workload: &Workload) -> Result<()> {
    let ip = workload.ip(false)?;
    wait(&format!("{ip} to answer the world outside"), LIMIT, || {
        let ping = format!("-c1 -W1 {ip}");
        mesh.outside.output("ping", &ping).map(drop)
    })
}

#[test]
fn encrypted_nodes_and_a_switch() -> Result<()> {
    lab::run("bgp-encrypted", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start_encrypted(&mut mesh)?;
        // It says everything to everybody, so the nodes hear of each other's blocks by it.
        let bird = talkative_tor(lab, &mesh.router)?;
        let n1 = mesh.node(0)?;
        let spec = format!("peerIP: {TOR}, asNumber: {TOR_AS}, numAllowedLocalASNumbers: 1");
        n1.apply(&format!("{}{}", no_mesh(), peer("tor", &spec)))?;
        for node in &mesh.nodes {
            established(node, TOR)?;
            learns(node, FAR, &[TOR])?;
        }
        let workloads = scenario::populate(lab, &mesh, 1)?;
        for (node, address) in [("n1", "172.31.1.11"), ("n2", "172.31.1.12")] {
            bird.has(&block(n1, node)?, &["64512", address])?;
        }
        let theirs = block(n1, "n2")?;
        ensure!(device(n1, &theirs)? == "rtd.wg", "{}", device(n1, &theirs)?);
        // Heard of, and not used.
        let heard = n1.json(&["bgp", "routes", &theirs, "--peer", TOR])?;
        ensure!(heard["routes"][0]["installed"] == false, "{heard}");
        ensure!(learnt(n1, &theirs)?.is_empty());
        let capture = Capture::start(&mesh.router, &[POOL_V4, POOL_V6])?;
        scenario::everyone_reaches_everyone(&workloads)?;
        capture.stop()?.must_be_encrypted()?;
        Ok(())
    })
}

#[test]
fn vxlan_between_racks_and_a_switch_in_one() -> Result<()> {
    lab::run("bgp-vxlan", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[2, 1]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        let bird = talkative_tor(lab, &mesh.router)?;
        let n1 = mesh.node(0)?;
        let mut manifest = no_mesh();
        for node in ["n1", "n2"] {
            let spec = format!(
                "node: {node}, peerIP: {TOR}, asNumber: {TOR_AS}, numAllowedLocalASNumbers: 1"
            );
            manifest.push_str(&peer(&format!("tor-{node}"), &spec));
        }
        n1.apply(&manifest)?;
        for node in mesh.nodes.iter().take(2) {
            established(node, TOR)?;
            learns(node, FAR, &[TOR])?;
        }
        let workloads = scenario::populate(lab, &mesh, 1)?;
        for (node, address) in [("n1", "172.31.1.11"), ("n2", "172.31.1.12")] {
            bird.has(&block(n1, node)?, &["64512", address])?;
        }
        // On the segment straight, beyond it by VXLAN; nothing of the pool by what was learnt.
        for (node, way) in [("n2", "eth0"), ("n3", "rtd.vxlan4")] {
            let block = block(n1, node)?;
            ensure!(device(n1, &block)? == way, "{}", device(n1, &block)?);
            ensure!(learnt(n1, &block)?.is_empty());
        }
        scenario::everyone_reaches_everyone(&workloads)?;
        for workload in workloads.iter().take(2) {
            outside_reaches(&mesh, workload)?;
        }
        Ok(())
    })
}
