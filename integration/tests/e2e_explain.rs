//! `routerctl explain`: why packets go where they go, and whether the kernel does what was stored.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE};
use serde_json::Value;

fn explain(node: &Node, from: &str, to: &str, more: &[&str]) -> Result<Value> {
    node.json(&[&["explain", from, to], more].concat())
}

fn text(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The first two workloads of a mesh, one on each of its first nodes.
fn two(lab: &Lab, mesh: &Mesh) -> Result<[Workload; 2]> {
    let all = scenario::populate(lab, mesh, 1)?;
    scenario::everyone_reaches_everyone(&all)?;
    let mut all = all.into_iter();
    let two = all.next().zip(all.next()).context("two nodes")?;
    Ok(two.into())
}

fn pod(workload: &Workload) -> String {
    format!("default/{}", workload.name)
}

/// What the kernel was asked about and does not have.
fn differing(told: &Value) -> Vec<String> {
    let checks = told["kernel"].as_array().into_iter().flatten();
    let differ = checks.filter(|c| c["agrees"] == false);
    differ
        .map(|c| format!("{}: {}", c["object"].as_str().unwrap_or(""), c["found"]))
        .collect()
}

fn agrees(told: &Value, verdict: &str, path: &str) -> Result<()> {
    ensure!(told["verdict"] == verdict, "{}", text(told));
    ensure!(told["route"]["path"] == path, "{}", text(told));
    ensure!(
        told["kernelAgrees"] == true,
        "{:?}: {}",
        differing(told),
        text(told)
    );
    Ok(())
}

/// The steps at a place, as `decision policy[rule]`.
fn steps(told: &Value, at: &str) -> Vec<String> {
    let steps = told["steps"].as_array().into_iter().flatten();
    let steps = steps.filter(|s| s["at"] == at);
    steps
        .map(|s| {
            let policy = s["policy"].as_str().unwrap_or("-");
            let rule = s["rule"].as_u64().map(|r| format!("[{r}]"));
            let decision = s["decision"].as_str().unwrap_or("");
            format!("{decision} {policy}{}", rule.unwrap_or_default())
        })
        .collect()
}

#[test]
fn native_and_local_ways_and_ends_of_every_sort() -> Result<()> {
    lab::run("explain-native", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        mesh.node(0)?.apply(&scenario::pools("Never", true))?;
        let [here, there] = two(lab, &mesh)?;
        let node = mesh.node(0)?;
        let beside = Cni::of(node)?.add(lab, "beside")?;

        let told = explain(node, &pod(&here), &pod(&there), &["--port", "80"])?;
        agrees(&told, "Allow", "Direct")?;
        ensure!(
            told["route"]["nextNode"] == "n2" && told["mtu"] == here.mtu()?,
            "{}",
            text(&told)
        );
        ensure!(told["source"]["name"] == here.name, "{}", text(&told));
        ensure!(
            told["notChecked"].to_string().contains("node n2"),
            "{}",
            text(&told)
        );
        // On the other node, what was not checked here.
        let told = explain(mesh.node(1)?, &pod(&here), &pod(&there), &[])?;
        agrees(&told, "Allow", "Direct")?;
        ensure!(
            told["notChecked"].to_string().contains("node n1"),
            "{}",
            text(&told)
        );

        // Both families, by address and by name.
        let (v4, v6) = (there.ip(false)?.to_string(), there.ip(true)?.to_string());
        agrees(
            &explain(node, &here.name, &v4, &["--proto", "icmp"])?,
            "Allow",
            "Direct",
        )?;
        agrees(
            &explain(node, &pod(&here), &v6, &["--proto", "icmp"])?,
            "Allow",
            "Direct",
        )?;
        agrees(
            &explain(node, &pod(&here), &pod(&beside), &[])?,
            "Allow",
            "Local",
        )?;
        agrees(&explain(node, &pod(&here), "n1", &[])?, "Allow", "Local")?;
        agrees(&explain(node, "n1", &pod(&here), &[])?, "Allow", "Local")?;
        agrees(&explain(node, "n1", &pod(&there), &[])?, "Allow", "Direct")?;

        // Beyond the mesh: by the host's own routes, with its address.
        let told = explain(node, &pod(&here), "198.51.100.7", &[])?;
        agrees(&told, "Allow", "Host")?;
        let own = node
            .ips
            .iter()
            .find(|ip| ip.is_ipv4())
            .context("an address")?;
        ensure!(
            told["route"]["masquerade"] == own.to_string(),
            "{}",
            text(&told)
        );
        ensure!(told["route"]["device"] == "eth0", "{}", text(&told));
        let told = explain(node, "198.51.100.7", &pod(&here), &[])?;
        agrees(&told, "Allow", "Local")?;

        // Nobody's address, of this node's block and of the other's.
        for workload in [&here, &there] {
            let block = block_of(node, workload)?;
            let nobody = unused(node, &block)?;
            let told = explain(node, &pod(&here), &nobody, &[])?;
            ensure!(
                told["verdict"] == "Deny" && told["kernelAgrees"] == true,
                "{}",
                text(&told)
            );
            let why = steps(&told, "Destination");
            ensure!(why == ["Deny -"], "{}", text(&told));
            let text = told["destination"]["text"].as_str().unwrap_or_default();
            ensure!(
                text.contains("no workload has") && text.contains(&block),
                "{text}"
            );
        }

        // Nothing to explain.
        for (from, to, word) in [
            (
                "default/none",
                &*pod(&here),
                "no workload, node or host endpoint",
            ),
            ("8.8.8.8", "9.9.9.9", "nothing here decides"),
            (&*pod(&here), "n1-w", "\"n1-w\""),
        ] {
            let out = node.ctl(&["explain", from, to])?;
            ensure!(out.code == Some(1) && out.stderr.contains(word), "{out:?}");
        }
        let people = node.ctl(&["explain", &pod(&here), &pod(&there)])?;
        ensure!(people.code == Some(0), "{people:?}");
        for word in [
            "Verdict:   Allow",
            "Way:       direct",
            "Kernel:    agrees",
            "WHY",
        ] {
            ensure!(people.stdout.contains(word), "{word}: {}", people.stdout);
        }
        Ok(())
    })
}

/// The block that an IPv4 address of a workload is of.
fn block_of(node: &Node, workload: &Workload) -> Result<String> {
    let told = explain(node, "n1", &workload.ip(false)?.to_string(), &[])?;
    let block = told["destination"]["block"].as_str();
    Ok(block.with_context(|| text(&told))?.to_owned())
}

/// The last address of a block, which nobody has.
fn unused(node: &Node, block: &str) -> Result<String> {
    let cidr: model::Cidr = block.parse()?;
    let last = cidr.nth(cidr.size() - 1).context("an address")?.to_string();
    let shown = node.json(&["ipam", "show", "--ip", &last])?;
    ensure!(shown["state"] == "Free", "{shown}");
    Ok(last)
}

#[test]
fn vxlan_is_looked_up_to_the_node_behind_it() -> Result<()> {
    lab::run("explain-vxlan", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        let [here, there] = two(lab, &mesh)?;
        let node = mesh.node(0)?;
        for v6 in [false, true] {
            let to = there.ip(v6)?.to_string();
            let told = explain(node, &pod(&here), &to, &[])?;
            agrees(&told, "Allow", "Vxlan")?;
            ensure!(told["mtu"] == 1450, "{}", text(&told));
            ensure!(
                told["kernel"].as_array().is_some_and(|c| c.len() >= 4),
                "{}",
                text(&told)
            );
        }
        Ok(())
    })
}

#[test]
fn encryption_is_looked_up_to_its_peer() -> Result<()> {
    lab::run("explain-encrypted", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start_encrypted(&mut mesh)?;
        let [here, there] = two(lab, &mesh)?;
        let told = explain(mesh.node(0)?, &pod(&here), &pod(&there), &[])?;
        agrees(&told, "Allow", "WireGuard")?;
        ensure!(
            told["route"]["encrypted"] == true && told["mtu"] == 1440,
            "{}",
            text(&told)
        );
        let found = told["kernel"].to_string();
        ensure!(found.contains("last handshake"), "{}", text(&told));
        Ok(())
    })
}

const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  types: [Ingress, Egress]
  ingress:
    - {action: Allow, protocol: TCP, destination: {ports: [80, '8000:8999']}}
    - {action: Deny, protocol: TCP, destination: {ports: [443]}}
  egress:
    - {action: Deny, destination: {nets: [198.51.100.0/24]}}
    - {action: Allow}
";

const HOST: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1-eth0}
spec: {node: n1, interfaceName: eth0}
";

#[test]
fn policy_is_read_from_the_maps() -> Result<()> {
    lab::run("explain-policy", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let [here, there] = two(lab, &mesh)?;
        let node = mesh.node(0)?;
        node.apply(POLICY)?;
        let known = || {
            let both = mesh.nodes.iter();
            both.map(|n| n.json(&["get", "networkpolicies"]))
                .collect::<Result<Vec<_>>>()
        };
        wait("every node to know the policy", CONVERGE, || {
            let lists = known()?;
            ensure!(lists.iter().all(|l| scenario::names(l) == ["web"]));
            Ok(())
        })?;
        // At once after the change, at both ends.
        for (node, port, verdict) in [
            (0, "80", "Allow"),
            (0, "443", "Deny"),
            (1, "8080", "Allow"),
            (1, "22", "Deny"),
        ] {
            let told = explain(
                mesh.node(node)?,
                &pod(&here),
                &pod(&there),
                &["--port", port],
            )?;
            agrees(&told, verdict, "Direct")?;
        }
        let told = explain(node, &pod(&there), &pod(&here), &[])?;
        agrees(&told, "Deny", "Direct")?;
        let ports: Vec<_> = told["ports"].as_array().into_iter().flatten().collect();
        ensure!(
            ports.len() == 2 && ports.iter().any(|p| p["verdict"] == "Allow"),
            "{}",
            text(&told)
        );
        let told = explain(node, &pod(&here), "198.51.100.7", &[])?;
        agrees(&told, "Deny", "Host")?;
        ensure!(
            steps(&told, "Egress") == ["Deny default/web[0]"],
            "{}",
            text(&told)
        );
        ensure!(
            told["summary"]
                .as_str()
                .is_some_and(|s| s.contains("egress[0] of NetworkPolicy default/web")),
            "{}",
            text(&told)
        );

        // The host itself, with its failsafe ports.
        node.apply(HOST)?;
        let outside = "172.31.0.10";
        for (port, verdict) in [("22", "Allow"), ("80", "Deny")] {
            let told = explain(node, outside, "n1", &["--port", port])?;
            agrees(&told, verdict, "Local")?;
        }

        // Somebody takes away the program of what the workload sends: everything passes, and nothing but a look tells.
        let interface = here.host_interface()?;
        (node.ns).output("tc", &format!("filter del dev {interface} ingress pref 82"))?;
        let told = explain(node, &pod(&here), "198.51.100.7", &[])?;
        ensure!(
            told["verdict"] == "Deny" && told["kernelAgrees"] == false,
            "{}",
            text(&told)
        );
        let differ = differing(&told);
        ensure!(
            differ.len() == 1
                && differ[0].contains("egress policy")
                && differ[0].contains("everything passes"),
            "{differ:?}"
        );
        Ok(())
    })
}

#[test]
fn a_foreign_route_in_the_way_is_named() -> Result<()> {
    lab::run("explain-foreign", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let [here, there] = two(lab, &mesh)?;
        let node = mesh.node(0)?;
        let to = there.ip(false)?;
        // More exact than ours, so ours stands and is not used.
        node.ns.ip(&format!("route add blackhole {to}/32"))?;
        let told = explain(node, &pod(&here), &pod(&there), &[])?;
        ensure!(
            told["verdict"] == "Allow" && told["kernelAgrees"] == false,
            "{}",
            text(&told)
        );
        let differ = differing(&told);
        ensure!(
            differ.len() == 1 && differ[0].contains("blackhole"),
            "{differ:?}"
        );
        let people = node.ctl(&["explain", &pod(&here), &pod(&there)])?;
        ensure!(
            people.stdout.contains("differs in 1 of"),
            "{}",
            people.stdout
        );
        node.ns.ip(&format!("route del blackhole {to}/32"))?;
        agrees(
            &explain(node, &pod(&here), &pod(&there), &[])?,
            "Allow",
            "Direct",
        )
    })
}
