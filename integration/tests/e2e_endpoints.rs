//! Endpoints that an operator writes: interfaces that somebody else made, as for a virtual machine.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Netns, Node, Workload, probe, wait};
use integration::scenario::{self, CONVERGE};
use serde_json::{Value, json};

const V4: &str = "10.65.200.7";
const V6: &str = "fd65:1::c8:7";
const TAP: &str = "vm-tap0";

/// A guest as its own kernel sets it up: it asks for its gateway, and nobody told it any MAC.
fn guest(lab: &Lab, node: &Node, name: &str, tap: &str, ips: &[&str]) -> Result<Workload> {
    let ns = lab.netns(name)?;
    lab.veth((&node.ns, tap), (&ns, "eth0"), 1450)?;
    for ip in ips {
        let v6 = ip.contains(':');
        let (len, flag, gateway) = match v6 {
            true => (128, " nodad", "fe80::1"),
            false => (32, "", "169.254.1.1"),
        };
        ns.ip(&format!(
            "addr add {ip}/{len} dev eth0{flag}\nroute add {gateway} dev eth0\n\
             route add default via {gateway} dev eth0"
        ))
        .or_else(|_| {
            // A link-local gateway needs no route of its own.
            ns.ip(&format!("route add default via {gateway} dev eth0 onlink"))
        })?;
    }
    Ok(Workload {
        name: name.to_owned(),
        id: name.to_owned(),
        ns,
        ips: ips.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?,
        result: Value::Null,
    })
}

fn manifest(name: &str, node: &str, tap: &str, ips: &[&str]) -> String {
    let networks: Vec<String> = ips
        .iter()
        .map(|ip| format!("{ip}/{}", if ip.contains(':') { 128 } else { 32 }))
        .collect();
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": { "name": name, "namespace": "vms" },
        "spec": { "orchestrator": "libvirt", "workload": name, "node": node, "endpoint": "eth0",
                  "interfaceName": tap, "ipNetworks": networks },
    })
    .to_string()
}

/// What of ours is on an interface: its addresses and the routes that lead to it.
fn on_interface(node: &Node, tap: &str) -> Result<Vec<String>> {
    let addresses = node.ns.ip_json(&format!("addr show dev {tap}"))?;
    let addresses = addresses.pointer("/0/addr_info").and_then(Value::as_array);
    let local = addresses.into_iter().flatten();
    let mut found: Vec<String> = local
        .filter_map(|a| a.get("local")?.as_str())
        .filter(|a| ["169.254.1.1", "fe80::1"].contains(a))
        .map(str::to_owned)
        .collect();
    for route in scenario::our_routes(node)? {
        if route.get("dev") == Some(&json!(tap)) {
            found.push(scenario::text(&route, "dst")?.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn refused(node: &Node, manifest: &str, words: &[&str]) -> Result<()> {
    let out = node.ctl_stdin(&["apply", "-f", "-"], manifest)?;
    ensure!(out.code == Some(1), "exit {:?}: {}", out.code, out.stdout);
    for word in words {
        ensure!(
            out.stderr.contains(word),
            "{word:?} is not named: {}",
            out.stderr
        );
    }
    Ok(())
}

fn ping(ns: &Netns, ip: &str) -> Result<()> {
    ns.output("ping", &format!("-n -c 1 -W 2 {ip}")).map(drop)
}

#[test]
fn a_guest_that_asks_for_its_gateway_is_reached_from_other_nodes() -> Result<()> {
    lab::run("guest", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        let mut all = scenario::populate(lab, &mesh, 1)?;
        let (here, there) = (mesh.node(0)?, mesh.node(1)?);
        let guest = guest(lab, here, "guest", TAP, &[V4, V6])?;
        let wanted = manifest("vm1", "n1", TAP, &[V4, V6]);

        // An address of a pool is taken from IPAM, on the node that takes it.
        refused(there, &wanted, &["vm1", "spec.node", "n1"])?;
        here.apply(&wanted)?;
        for ip in [V4, V6] {
            let ip: IpAddr = ip.parse()?;
            let shown = here.json(&["ipam", "show", "--ip", &ip.to_string()])?;
            ensure!(
                scenario::text(&shown, "state")? == "Used"
                    && scenario::text(&shown, "node")? == "n1"
                    && scenario::text(&shown, "name")? == "vm1",
                "{shown}"
            );
        }
        // Again is no change; elsewhere or with another address is refused.
        let args = ["apply", "-f", "-"];
        let again = here.ctl_stdin(&args, &wanted)?.must_succeed(&args)?;
        ensure!(again.stdout.contains("unchanged"), "{}", again.stdout);
        let moved = wanted.replace(V4, "10.65.200.8");
        refused(here, &moved, &["vm1", "spec.ipNetworks", "delete"])?;
        // Nobody else gets it, by manifest or by CNI.
        refused(here, &manifest("vm2", "n1", "tap9", &[V4]), &["vm2", V4])?;
        let extra = json!({ "args": { "cni": { "ips": [V4] } } });
        ensure!(Cni::of(there)?.add_with(lab, "thief", &extra).is_err());

        all.push(guest.clone());
        let everyone: Vec<&Workload> = all.iter().collect();
        probe::all_pairs(&everyone, probe::Size::Small, CONVERGE)?;
        probe::all_pairs(&everyone, probe::Size::FullMtu, CONVERGE)?;
        // It learnt its gateway by asking.
        for gateway in ["169.254.1.1", "fe80::1"] {
            ping(
                &guest.ns,
                &format!(
                    "{gateway}{}",
                    if gateway.contains(':') { "%eth0" } else { "" }
                ),
            )
            .with_context(|| format!("the gateway {gateway}"))?;
        }
        scenario::ipam_is_clean(here)?;

        // What is removed by hand comes back, and a restart adopts what stands.
        here.ns.ip(&format!("addr del 169.254.1.1/32 dev {TAP}"))?;
        here.ns
            .output("ip", &format!("route flush {V4} proto 82"))?;
        let whole = ["10.65.200.7", "169.254.1.1", V6, "fe80::1"];
        let all_there = |node: &Node| {
            let found = on_interface(node, TAP)?;
            ensure!(
                whole.iter().all(|w| found.iter().any(|f| f == w)),
                "{found:?}"
            );
            Ok(())
        };
        wait("the gateway and the route to come back", CONVERGE, || {
            all_there(here)
        })?;
        mesh.node_mut(0)?.stop()?;
        mesh.node_mut(0)?.start_ready()?;
        let here = mesh.node(0)?;
        all_there(here)?;
        let plan = here.json(&["status", "--plan"])?;
        ensure!(plan == json!([]), "a node at rest plans {plan}");
        probe::all_pairs(&everyone, probe::Size::Small, CONVERGE)?;

        // Deleted from any node: nothing of ours stays on an interface that is not ours.
        let args = ["delete", "workloadendpoint", "vm1", "-n", "vms"];
        mesh.node(1)?.ctl(&args)?.must_succeed(&args)?;
        wait("the interface to be left alone", CONVERGE, || {
            let found = on_interface(here, TAP)?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        })?;
        here.ns.output("ip", &format!("link show dev {TAP}"))?;
        ensure!(scenario::address_state(here, V4.parse()?)? != "Used");
        scenario::ipam_is_clean(here)
    })
}

#[test]
fn a_deleted_node_takes_its_operators_endpoints_along() -> Result<()> {
    lab::run("guest of a deleted node", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let second = mesh.node(1)?;
        second.apply(&manifest("vm1", "n2", TAP, &[V4]))?;
        // Outside every pool: the operator's own affair, and no part of the address records.
        second.apply(&manifest("vm2", "n2", "tap1", &["192.0.2.77"]))?;
        let workload = Cni::of(second)?.add(lab, "w")?;
        scenario::ipam_is_clean(mesh.node(0)?)?;

        // A node whose daemon runs is not deleted.
        let first = mesh.node(0)?;
        let out = first.ctl(&["delete", "node", "n2"])?;
        ensure!(
            out.code == Some(1) && out.stderr.contains("n2") && out.stderr.contains("stop"),
            "exit {:?}: {}",
            out.code,
            out.stderr
        );
        ensure!(scenario::names(&first.json(&["get", "nodes"])?).len() == 2);
        scenario::everyone_reaches_everyone(&[workload.clone(), Cni::of(first)?.add(lab, "x")?])?;

        mesh.node_mut(1)?.stop()?;
        let first = mesh.node(0)?;
        let args = ["delete", "node", "n2"];
        first.ctl(&args)?.must_succeed(&args)?;
        scenario::ipam_is_clean(first)?;
        for ip in [workload.ip(false)?, workload.ip(true)?, V4.parse()?] {
            ensure!(scenario::address_state(first, ip)? != "Used", "{ip}");
        }
        for (key, value) in mesh.etcd.list("/routerd/v1/")? {
            ensure!(
                !(key.contains("n2") && key.contains("/ipam/") && !key.contains("fence")),
                "{key} stays: {value}"
            );
            ensure!(
                !key.contains("/workloadendpoints/") || !value.contains("\"n2\""),
                "{key} stays: {value}"
            );
        }

        // It may come back under its name, with nothing of what it had.
        let second = mesh.node_mut(1)?;
        second.start_ready()?;
        let cni = Cni::of(second)?;
        let back = cni.add(lab, "back")?;
        let local = Cni::of(mesh.node(0)?)?.add(lab, "local")?;
        scenario::everyone_reaches_everyone(&[back, local])?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}

#[test]
fn what_a_workload_uses_is_not_taken_from_under_it() -> Result<()> {
    lab::run("pulled rug", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Always")?;
        let all = scenario::populate(lab, &mesh, 1)?;
        let (here, there) = (mesh.node(0)?, mesh.node(1)?);
        let workload = all.first().context("no workload")?;
        // Right after an ADD, its link is counted.
        let status = here.status()?.to_string();
        ensure!(status.contains("1 workload links"), "{status}");

        let endpoints = here.json(&["get", "workloadendpoints", "-n", "default"])?;
        let mine = scenario::list(&endpoints, "items")?;
        let mine = mine
            .iter()
            .find(|e| e.pointer("/spec/node") == Some(&json!("n1")))
            .context("no endpoint on n1")?;
        let pointed = |pointer| mine.pointer(pointer).and_then(Value::as_str);
        let name = pointed("/metadata/name").context("no name")?;
        let link = pointed("/spec/interfaceName").context("no link")?;
        let v4 = workload.ip(false)?.to_string();
        let shown = here.json(&["ipam", "show", "--ip", &v4])?;
        let handle = scenario::text(&shown, "handle")?.to_owned();
        let tunnel = here.json(&["get", "node", "n1"])?;
        let tunnel = scenario::text(
            tunnel.get("spec").context("no spec")?,
            "ipv4VXLANTunnelAddr",
        )?
        .to_owned();
        let not = |node: &Node, args: &[&str], words: &[&str]| -> Result<()> {
            let out = node.ctl(args)?;
            let named = words.iter().all(|w| out.stderr.contains(w));
            ensure!(out.code == Some(1) && named, "{args:?}, {words:?}: {out:?}");
            Ok(())
        };
        let delete = ["delete", "workloadendpoint", name, "-n", "default"];
        not(here, &delete, &[name, link, "runtime"])?;
        not(there, &delete, &[name, "node n1", "runtime"])?;
        let release = ["ipam", "release", "--ip", &v4];
        not(here, &release, &[&v4, name, "runtime"])?;
        not(there, &release, &[&v4, name, "runtime"])?;
        not(
            here,
            &["ipam", "release", "--handle", &handle],
            &[&v4, name],
        )?;
        not(
            there,
            &["ipam", "release", "--ip", &tunnel],
            &["tunnel", "Node/n1"],
        )?;
        // Nor is it led elsewhere in place.
        let mut changed = mine.clone();
        if let Some(spec) = changed.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("interfaceName".to_owned(), json!("eth0"));
        }
        refused(here, &changed.to_string(), &[name, "spec.interfaceName"])?;
        scenario::everyone_reaches_everyone(&all)?;
        scenario::ipam_is_clean(here)?;

        // Gone without a DEL: then the operator may tidy up after it.
        here.ns.output("ip", &format!("link del {link}"))?;
        here.ctl(&delete)?.must_succeed(&delete)?;
        ensure!(scenario::address_state(here, v4.parse()?)? == "Cooldown");
        scenario::ipam_is_clean(here)
    })
}
