//! Three nodes, a real etcd, containers of a real runtime: native routes, VXLAN, then WireGuard with a capture of the wire.

use anyhow::{Context, Result, ensure};
use integration::lab::containerd::Container;
use integration::lab::probe::{self, Size, Stream};
use integration::lab::{Capture, Cni, Containerd, Lab, Mesh, MeshSpec, Node, Workload, binaries};
use integration::scenario::{self, CONVERGE};
use integration::screen::Screen;
use serde_json::{Value, json};

const PER_NODE: usize = 3;

pub(crate) fn show(lab: &Lab, steps: &mut Screen) -> Result<()> {
    steps.heading("The mesh: n1 and n2 in one subnet, n3 behind a router, etcd behind it too");
    let mut mesh = steps.step("namespaces, router, etcd", || {
        let mesh = Mesh::build(lab, &MeshSpec::routed(&[2, 1]))?;
        let at = mesh.etcd.url();
        Ok((mesh, at))
    })?;
    steps.step("a routerd on every node, ready and in sync", || {
        mesh.start()?;
        mesh.node(0)?.apply(&scenario::pools("CrossSubnet", true))?;
        for node in &mesh.nodes {
            scenario::pools_known(node)?;
        }
        Ok((
            (),
            format!("pools {} and {}", scenario::POOL_V4, scenario::POOL_V6),
        ))
    })?;

    steps.heading("Workloads: containers started by containerd through the CNI plugin");
    let containerd = steps.step("containerd", || {
        Ok((Containerd::start(lab)?, String::new()))
    })?;
    let mut containers = Vec::new();
    for node in &mesh.nodes {
        let what = format!("{PER_NODE} containers on {}", node.name);
        containers.extend(steps.step(&what, || {
            let made = run_containers(&containerd, node)?;
            let first = made.first().context("no container")?;
            let said = addresses(&first.workload);
            Ok((made, said))
        })?);
    }
    let workloads: Vec<Workload> = containers.iter().map(|c| c.workload.clone()).collect();
    table(&mesh, &workloads)?;

    steps.heading("Who reaches whom");
    for (mode, how) in [
        ("CrossSubnet", "native in a subnet, VXLAN across"),
        ("Always", "VXLAN between all nodes"),
    ] {
        steps.step(&format!("{mode}: {how}; IPv4 and IPv6"), || {
            mesh.node(0)?.apply(&scenario::pools(mode, true))?;
            let pairs = scenario::everyone_reaches_everyone(&workloads)?;
            Ok(((), format!("{pairs} of {pairs} pairs")))
        })?;
        routes(mesh.node(0)?)?;
    }
    steps.step("the world outside, by masquerade", || {
        let one = workloads.first().context("no workload")?;
        one.ns.output("ping", "-c1 -W2 172.31.0.10")?;
        one.ns.output("ping", "-c1 -W2 fd31::10")?;
        Ok(((), "172.31.0.10 and fd31::10 answered".to_owned()))
    })?;

    steps.heading("Encryption: every frame between the nodes is looked at");
    steps.step("Off: the wire shows who talks to whom", || {
        let capture = capture(&mesh)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let seen = capture.stop()?;
        ensure!(seen.clear > 0, "the capture sees nothing: {seen}");
        let example = seen.examples.first().cloned().unwrap_or_default();
        Ok((
            (),
            format!("{} frames in clear, such as {example}", seen.clear),
        ))
    })?;
    let wire = steps.step(
        "encryption: Required, from node to node by WireGuard",
        || {
            scenario::require_encryption(&mesh)?;
            mesh.nodes.iter().try_for_each(all_encrypted)?;
            let capture = capture(&mesh)?;
            // The largest packets of workloads that stood before do not fit: their senders are told so.
            let all: Vec<&Workload> = workloads.iter().collect();
            let pairs = probe::all_pairs(&all, Size::Small, CONVERGE)?;
            Ok((capture, format!("{pairs} of {pairs} pairs")))
        },
    )?;

    steps.heading("What may go wrong, under 1,000 packets a second in each family");
    let (Some(a), Some(b)) = (workloads.first(), workloads.last()) else {
        anyhow::bail!("no workloads");
    };
    let streams = [
        Stream::start(a, b, false, 1000)?,
        Stream::start(b, a, true, 1000)?,
    ];
    let counters = [streams[0].counter(), streams[1].counter()];
    steps.live(Some(Box::new(move || {
        let [v4, v6] = [counters[0](), counters[1]()];
        format!(
            "answered {} of {} IPv4, {} of {} IPv6",
            v4.1, v4.0, v6.1, v6.0
        )
    })));
    steps.step("n1's daemon killed and started again, ten times", || {
        for _ in 0..10 {
            let node = mesh.node_mut(0)?;
            node.kill()?;
            node.start_ready()?;
        }
        Ok(((), String::new()))
    })?;
    steps.step("n1 gets a new key", || {
        let rotate = ["tunnels", "rotate"];
        let said = mesh.node(0)?.ctl(&rotate)?.must_succeed(&rotate)?;
        Ok((
            (),
            said.stdout.lines().next().unwrap_or_default().to_owned(),
        ))
    })?;
    steps.step("etcd stopped: a new workload is refused, clearly", || {
        mesh.etcd.stop()?;
        let refused = Cni::of(mesh.node(0)?)?.add(lab, "too-early");
        let Err(e) = refused else {
            anyhow::bail!("a workload got an address without a store");
        };
        Ok(((), refusal(&e.root_cause().to_string())))
    })?;
    steps.step("etcd back: a new workload reaches all others", || {
        mesh.etcd.up()?;
        let cni = Cni::of(mesh.node(0)?)?;
        let late = integration::lab::wait("ADD to work again", CONVERGE, || cni.add(lab, "late"))?;
        let mut all: Vec<&Workload> = workloads.iter().collect();
        all.push(&late);
        let pairs = probe::all_pairs(&all, Size::Small, CONVERGE)?;
        cni.del(&late)?;
        Ok(((), format!("{pairs} pairs")))
    })?;
    steps.live(None);
    steps.step("packets lost by workloads that stood all along", || {
        let reports = streams.map(Stream::stop).into_iter();
        let reports = reports.collect::<Result<Vec<_>>>()?;
        let lost = reports.iter().any(|r| r.lost() > 0);
        let lines: Vec<String> = reports.iter().map(ToString::to_string).collect();
        ensure!(!lost, "{}", lines.join("; "));
        let sent: u64 = reports.iter().map(|r| r.sent).sum();
        Ok(((), format!("0 of {sent}")))
    })?;

    steps.step("frames in clear since encryption is required", || {
        let seen = wire.stop()?;
        seen.must_be_encrypted()?;
        Ok(((), format!("0; {} encrypted", seen.encrypted)))
    })?;

    steps.heading("The end");
    steps.step("every container stopped, every address free", || {
        for container in containers {
            containerd.stop(container)?;
        }
        let left = integration::lab::wait("the workloads to be gone", CONVERGE, || {
            let left = workload_count(mesh.node(0)?)?;
            ensure!(left == 0, "{left} are left");
            Ok(left)
        })?;
        scenario::ipam_is_clean(mesh.node(0)?)?;
        Ok(((), format!("{left} workloads left, ipam check is clean")))
    })?;
    Ok(())
}

fn run_containers(containerd: &Containerd, node: &Node) -> Result<Vec<Container>> {
    let plugin = binaries::find("routerd-cni")?;
    let bin = plugin.parent().context("the plugin has no directory")?;
    // 1.0.0 is the newest version that containerd 1.6 knows.
    let conflist = json!({ "cniVersion": "1.0.0", "name": "mesh",
        "plugins": [{ "type": "routerd-cni", "socket": node.socket() }] });
    (1..=PER_NODE)
        .map(|i| containerd.run(&node.ns, &format!("{}-c{i}", node.name), &[bin], &conflist))
        .collect()
}

/// Looks at all that passes between the nodes.
fn capture(mesh: &Mesh) -> Result<Capture> {
    Capture::start(&mesh.router, &[scenario::POOL_V4, scenario::POOL_V6])
}

/// Waits until a node reaches all others by the encrypted tunnel.
fn all_encrypted(node: &Node) -> Result<()> {
    let what = format!("{} to encrypt to all", node.name);
    integration::lab::wait(&what, CONVERGE, || {
        let shown = node.json(&["tunnels"])?;
        let mut tunnels = scenario::list(&shown, "tunnels")?.iter();
        let all = tunnels.all(|t| t.get("path") == Some(&json!("WireGuard")));
        ensure!(all, "{shown}");
        Ok(())
    })
}

/// Workloads that the mesh knows.
fn workload_count(node: &Node) -> Result<usize> {
    Ok(scenario::list(&node.json(&["get", "workloadendpoints"])?, "items")?.len())
}

fn table(mesh: &Mesh, workloads: &[Workload]) -> Result<()> {
    println!(
        "\n  {:<10} {:<16} {:<30} {:>5}",
        "WORKLOAD", "IPV4", "IPV6", "MTU"
    );
    for w in workloads {
        println!(
            "  {:<10} {:<16} {:<30} {:>5}",
            w.name,
            w.ip(false)?,
            w.ip(true)?,
            w.mtu()?
        );
    }
    println!(
        "\n  {:<33} {:<6} {:>5} {:>5}",
        "BLOCK", "NODE", "USED", "FREE"
    );
    let show = mesh.node(0)?.json(&["ipam", "show", "--blocks"])?;
    for block in scenario::list(&show, "blocks")? {
        let number = |f: &str| block.get(f).and_then(Value::as_u64).unwrap_or_default();
        let (cidr, node) = (
            scenario::text(block, "cidr")?,
            scenario::text(block, "node")?,
        );
        println!(
            "  {cidr:<33} {node:<6} {:>5} {:>5}",
            number("used"),
            number("free")
        );
    }
    Ok(())
}

/// The routes of a node to the blocks of others, one line each.
fn routes(node: &Node) -> Result<()> {
    for route in scenario::our_routes(node)? {
        let field = |f: &str| {
            route
                .get(f)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if !field("gateway").is_empty() {
            println!(
                "      {}: {:<35} via {:<26} dev {}",
                node.name,
                field("dst"),
                field("gateway"),
                field("dev")
            );
        }
    }
    Ok(())
}

fn addresses(w: &Workload) -> String {
    w.ips
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Code and message of a CNI error.
fn refusal(text: &str) -> String {
    let json = text.find('{').and_then(|at| text.get(at..));
    let error: Option<Value> = json.and_then(|j| serde_json::from_str(j).ok());
    match error {
        Some(e) => {
            let said = |field: &str| {
                e.get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            format!(
                "code {}: {}",
                e.get("code").unwrap_or(&Value::Null),
                said("details")
            )
        }
        None => text.chars().take(80).collect(),
    }
}
