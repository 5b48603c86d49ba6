//! Frames between two workloads of a node, which need no routing.

use std::fs::read_to_string;

use anyhow::{Context, Result, ensure};
use integration::lab::Netns;
use integration::lab::probe::dial::Line;
use integration::lab::{self, MeshSpec, wait};
use integration::scenario::{CONVERGE, mesh_configuration};

use crate::rig::{PATIENCE, WEB, calico, enforces, mesh, pod};

const LET_IN: &str =
    "{ selector: app == 'web', types: [Ingress], ingress: [{ action: Allow, protocol: TCP }] }";

/// Packets that a node has routed from one interface to another.
fn routed(node: &Netns) -> Result<u64> {
    node.run(|| {
        // Names on one line, numbers on the next.
        let v4 = read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
        let (names, numbers) = lines
            .next()
            .zip(lines.next())
            .context("no counters of IPv4")?;
        let mut columns = names.split(' ').zip(numbers.split(' '));
        let (_, v4) = columns
            .find(|(name, _)| *name == "ForwDatagrams")
            .context("no column")?;
        let v6 = read_to_string("/proc/thread-self/net/snmp6")?;
        let mut rows = v6
            .lines()
            .filter_map(|row| row.split_once(char::is_whitespace));
        let (_, v6) = rows
            .find(|(name, _)| *name == "Ip6OutForwDatagrams")
            .context("no row")?;
        Ok(v4.parse::<u64>()? + v6.trim().parse::<u64>()?)
    })
}

/// Carries texts by both lines, and says how many packets the node has routed for it.
fn carry(node: &Netns, lines: &mut [Line]) -> Result<u64> {
    let before = routed(node)?;
    for line in lines {
        for _ in 0..20 {
            ensure!(line.carries(PATIENCE)?, "it carries nothing");
        }
    }
    Ok(routed(node)? - before)
}

#[test]
fn workloads_of_a_node_reach_each_other_past_its_routing() -> Result<()> {
    lab::run("policy-straight", |lab| {
        let mut mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        let host = n1.ns.clone();
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        let near = pod(lab, n1, "near", &[])?;
        let mut lines = Vec::new();
        for v6 in [false, true] {
            lines.push(Line::open(near.ns(), web.at(v6, WEB)?, PATIENCE)?);
        }
        let mut straight = || {
            let count = carry(&host, &mut lines)?;
            ensure!(count == 0, "{count} packets were routed");
            Ok(())
        };
        straight()?;
        // Judged anew, under way, at both ends.
        n1.apply(&calico("GlobalNetworkPolicy", "web", LET_IN))?;
        wait("the policy to be in force", CONVERGE, || {
            straight()?;
            let shown = n1.json(&["policy", "show", "web"])?;
            let rules = shown["rules"].as_array().context("no rules")?;
            ensure!(rules.iter().any(|r| r["by"] == "Rule"), "{shown}");
            Ok(())
        })?;
        straight()?;
        let n1 = mesh.node_mut(0)?;
        n1.stop()?;
        straight()?;
        n1.start_ready()?;
        // While the programs take over, and after.
        wait("the daemon to enforce", CONVERGE, || {
            straight()?;
            enforces(n1)
        })?;
        straight()?;
        n1.apply(&mesh_configuration("bpfRedirectToPeer: Disabled"))?;
        wait("packets to be routed", CONVERGE, || {
            ensure!(straight().is_err(), "they are not");
            Ok(())
        })?;
        n1.apply(&mesh_configuration("bpfRedirectToPeer: Enabled"))?;
        wait("packets to be routed no more", CONVERGE, straight)
    })
}
