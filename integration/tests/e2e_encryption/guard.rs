//! The watch over clear text itself.

use std::io::Write;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use integration::lab::cni::Call;
use integration::lab::{self, Cni, MeshSpec, Node};
use integration::scenario;
use model::marks;

use super::*;

/// A program that has the table to itself, until it is dropped.
struct Owner(Child);

impl Owner {
    fn seize(node: &Node) -> Result<Owner> {
        let mut nft = node.ns.command(lab::binaries::system("nft")?);
        let child = nft.arg("-i").stdin(Stdio::piped()).spawn()?;
        let mut owner = Owner(child);
        let table = format!("table inet {}", marks::NFT_GUARD);
        let line = format!("delete {table}; add {table} {{ flags owner; }}\n");
        let stdin = owner.0.stdin.as_mut().context("no stdin")?;
        stdin.write_all(line.as_bytes())?;
        wait("the table to be another's", CONVERGE, || {
            let shown = node.ns.output("nft", &format!("list {table}"))?;
            ensure!(shown.contains("flags owner"), "{shown}");
            Ok(())
        })?;
        Ok(owner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The table goes with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_workload_begins_in_a_pool_that_is_not_watched_over() -> Result<()> {
    lab::run("not watched over", |lab| {
        let (mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(2))?;
        let node = mesh.node(0)?;
        let owner = Owner::seize(node)?;
        node.apply(
            "apiVersion: routerd/v1\nkind: IPPool\nmetadata: { name: late }\n\
             spec: { cidr: 10.66.0.0/16 }\n",
        )?;
        let cni = Cni::of(node)?;
        let ns = lab.workload_netns("late")?;
        let call = Call {
            id: "late".to_owned(),
            netns: ns.path().to_string_lossy().into_owned(),
            ..Call::default()
        };
        let refused = cni.call("ADD", &call)?;
        ensure!(refused.code() == Some(11), "{}", refused.value);
        ensure!(
            refused.value.to_string().contains("could leave in clear"),
            "{}",
            refused.value
        );
        let inside = ns.output("ip", "-o link show type veth")?;
        ensure!(inside.is_empty(), "left in the workload: {inside}");
        scenario::ipam_is_clean(node)?;
        // What was there before goes on.
        scenario::everyone_reaches_everyone(&workloads)?;
        drop(owner);
        wait("a workload to begin", CONVERGE, || {
            cni.call("ADD", &call)?.must_succeed("ADD", "late")
        })?;
        capture.stop()?.must_be_encrypted()
    })
}
