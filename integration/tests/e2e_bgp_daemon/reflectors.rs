//! A node that reflects what the others say.

use anyhow::{Result, ensure};
use integration::lab::{self, Node, wait};
use integration::scenario;
use serde_json::json;

use crate::rig::{FAR, LIMIT, TOR, TOR_AS, bird_tor, block, established, learns, peer, rack};

/// What operators write: the reflector's cluster id, and a label by which the others find it.
fn make_reflector(node: &Node) -> Result<()> {
    let mut resource = node.json(&["get", "node", &node.name])?;
    resource["spec"]["bgp"]["routeReflectorClusterID"] = json!("10.0.0.1");
    resource["metadata"]["labels"]["reflector"] = json!("yes");
    node.apply(&resource.to_string())
}

/// The sessions of a node are with these, and all are up.
fn peers_with(node: &Node, others: &[&str]) -> Result<()> {
    wait(&format!("the sessions of {}", node.name), LIMIT, || {
        let shown = node.json(&["bgp", "peers"])?;
        let peers = scenario::list(&shown, "peers")?;
        let mut with: Vec<_> = peers.iter().filter_map(|p| p["node"].as_str()).collect();
        with.sort_unstable();
        with.dedup();
        ensure!(with == others, "{shown}");
        let up = peers.iter().all(|p| p["state"] == "Established");
        ensure!(up, "{shown}");
        Ok(())
    })
}

#[test]
fn clients_learn_of_each_other_through_a_reflector() -> Result<()> {
    lab::run("bgp-reflector", |lab| {
        let mesh = rack(lab, 3)?;
        let _bird = bird_tor(lab, &mesh.router, "", "")?;
        let (n1, n2, n3) = (mesh.node(0)?, mesh.node(1)?, mesh.node(2)?);
        let workloads = scenario::populate(lab, &mesh, 1)?;
        for node in &mesh.nodes {
            established(node, if node.name == "n1" { "n2" } else { "n1" })?;
        }
        make_reflector(n3)?;
        // Only n1 speaks to the switch, and passes on what it says.
        let all = "apiVersion: routerd/v1\nkind: BGPFilter\nmetadata: { name: all }\n\
                   spec: { exportV4: [ { action: Accept, source: RemotePeers } ] }\n---\n";
        let reflectors = "peerSelector: reflector == 'yes', filters: [all]";
        let tor = format!("node: n1, peerIP: {TOR}, asNumber: {TOR_AS}");
        n1.apply(&format!(
            "{all}{}{}",
            peer("reflectors", reflectors),
            peer("tor", &tor)
        ))?;
        // The mesh is gone.
        peers_with(n1, &["n3"])?;
        peers_with(n2, &["n3"])?;
        peers_with(n3, &["n1", "n2"])?;
        let block = block(n1, "n2")?;
        wait("n2's block at n1, by the reflector", LIMIT, || {
            let shown = n1.json(&["bgp", "routes", &block])?;
            let routes = scenario::list(&shown, "routes")?;
            let by_n3 = routes.iter().find(|r| r["peer"] == "172.31.1.13");
            // Reflection changes no next hop (RFC 4456 §10).
            let right = by_n3.is_some_and(|r| r["best"] == true && r["nextHop"] == "172.31.1.12");
            ensure!(right, "{shown}");
            Ok(())
        })?;
        for node in [n1, n2, n3] {
            learns(node, FAR, &[TOR])?;
        }
        scenario::everyone_reaches_everyone(&workloads).map(drop)
    })
}
