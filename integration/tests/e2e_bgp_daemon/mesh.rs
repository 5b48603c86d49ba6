//! Nodes among themselves.

use anyhow::{Result, ensure};
use integration::lab::{self, wait};
use integration::scenario;

use crate::rig::{LIMIT, block, established, learnt, no_mesh, rack, subsystem};

#[test]
fn every_node_speaks_to_every_other_unless_told_otherwise() -> Result<()> {
    lab::run("bgp-mesh", |lab| {
        let mesh = rack(lab, 3)?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        for node in &mesh.nodes {
            for other in mesh.nodes.iter().filter(|n| n.name != node.name) {
                established(node, &other.name)?;
            }
        }
        let n1 = mesh.node(0)?;
        let (state, message) = subsystem(n1)?;
        ensure!(state == "Ok", "{message}");
        let table = n1
            .ctl(&["bgp", "peers"])?
            .must_succeed(&["bgp", "peers"])?
            .stdout;
        ensure!(
            table.contains("mesh/n2/") && table.contains("Established"),
            "{table}"
        );
        // Each knows the other's blocks by BGP, and has its own way there from the store.
        let block = block(n1, "n2")?;
        wait("n2's block at n1", LIMIT, || {
            let shown = n1.json(&["bgp", "routes", &block])?;
            let routes = scenario::list(&shown, "routes")?;
            ensure!(routes.iter().any(|r| r["best"] == true), "{shown}");
            ensure!(routes.iter().all(|r| r["installed"] == false), "{shown}");
            Ok(())
        })?;
        ensure!(learnt(n1, &block)?.is_empty());
        scenario::everyone_reaches_everyone(&workloads)?;
        // A node that is away is no fault of the others.
        drop(workloads);
        n1.apply(&no_mesh())?;
        wait("the mesh to be gone", LIMIT, || {
            let shown = n1.json(&["bgp", "peers"])?;
            ensure!(scenario::list(&shown, "peers")?.is_empty(), "{shown}");
            Ok(())
        })
    })
}
