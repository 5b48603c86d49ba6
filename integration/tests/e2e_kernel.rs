//! What is ours in the kernel is kept as it should be; what is not is never touched.

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE};
use model::marks;
use serde_json::Value;

/// Two nodes in two subnets with VXLAN and masquerade: something of every sort of object.
fn full_mesh(lab: &Lab) -> Result<(Mesh, Vec<Workload>)> {
    let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
    mesh.start()?;
    mesh.node(0)?.apply(&scenario::pools("Always", true))?;
    for node in &mesh.nodes {
        scenario::pools_known(node)?;
    }
    let workloads = scenario::populate(lab, &mesh, 2)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    Ok((mesh, workloads))
}

/// Everything of ours on a node, as text that can be compared.
fn picture(node: &Node) -> Result<String> {
    let mut lines: Vec<String> = scenario::our_routes(node)?
        .iter()
        .map(ToString::to_string)
        .collect();
    for link in scenario::our_links(node)? {
        lines.push(format!("link {link}"));
        for args in [
            format!("neigh show dev {link} nud permanent"),
            format!("-6 neigh show dev {link} nud permanent"),
        ] {
            lines.extend(
                node.ns
                    .output("ip", &args)?
                    .lines()
                    .map(|l| format!("{link} {}", l.trim())),
            );
        }
        if link.starts_with("rtd.") {
            let fdb = node.ns.output("bridge", &format!("fdb show dev {link}"))?;
            lines.extend(fdb.lines().map(|l| format!("{link} {}", l.trim())));
            let addresses = node
                .ns
                .output("ip", &format!("-o addr show dev {link} scope global"))?;
            let addresses = addresses.split_whitespace().filter(|w| w.contains('/'));
            lines.extend(addresses.map(|a| format!("{link} address {a}")));
        }
    }
    lines.extend(nft_rules(node)?.lines().map(str::to_owned));
    lines.sort();
    Ok(lines.join("\n"))
}

/// Our table without its handles and what it has counted.
fn nft_rules(node: &Node) -> Result<String> {
    let table = format!("--stateless list table inet {}", marks::NFT_TABLE);
    node.ns.output("nft", &table)
}

fn comes_back(node: &Node, before: &str, what: &str) -> Result<()> {
    wait(
        &format!("{what} to come back on {}", node.name),
        CONVERGE,
        || {
            let now = picture(node)?;
            let missing: Vec<&str> = before.lines().filter(|l| !now.contains(l)).collect();
            ensure!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
            Ok(())
        },
    )
}

#[test]
fn objects_deleted_by_hand_come_back_and_are_named() -> Result<()> {
    lab::run("drift", |lab| {
        let (mesh, workloads) = full_mesh(lab)?;
        let node = mesh.node(0)?;
        let before = picture(node)?;
        let tunnel = scenario::our_links(node)?
            .into_iter()
            .find(|l| l.starts_with("rtd.vxlan"))
            .context("no VXLAN device")?;
        let peer = mesh.node(1)?;
        let mac = peer.ns.ip_json(&format!("link show dev {tunnel}"))?;
        let mac = mac
            .pointer("/0/address")
            .and_then(Value::as_str)
            .context("no MAC address")?
            .to_owned();
        let routes = scenario::our_routes(node)?;
        let remote = routes
            .iter()
            .find(|r| r.get("dev").and_then(Value::as_str) == Some(tunnel.as_str()))
            .and_then(|r| r.get("dst")?.as_str())
            .context("no route by the tunnel")?
            .to_owned();
        let local = workloads.first().context("no workload")?;
        let host_link = local.host_interface()?.to_owned();
        let own = local.ip(false)?;

        // What is done by hand, and what the report must name.
        let by_hand = [
            ("ip", format!("route del {remote}"), remote.clone()),
            ("ip", format!("route del {own}"), own.to_string()),
            ("ip", format!("link del {tunnel}"), tunnel.clone()),
            ("bridge", format!("fdb del {mac} dev {tunnel}"), mac.clone()),
            (
                "ip",
                format!("link set {host_link} down"),
                host_link.clone(),
            ),
            (
                "nft",
                format!("delete table inet {}", marks::NFT_TABLE),
                marks::NFT_TABLE.to_owned(),
            ),
        ];
        for (program, args, named) in by_hand {
            node.ns.output(program, &args)?;
            comes_back(node, &before, &args)?;
            wait(&format!("{named} to be named as drifted"), CONVERGE, || {
                let status = node.status()?;
                let drift = Value::from(scenario::list(&status, "drift")?.clone()).to_string();
                ensure!(drift.contains(&named), "{drift}");
                Ok(())
            })?;
        }
        scenario::everyone_reaches_everyone(&workloads).map(drop)
    })
}

#[test]
fn what_is_not_ours_is_never_touched() -> Result<()> {
    lab::run("aliens", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        let ns = mesh.node(0)?.ns.clone();
        ns.ip("link add admin0 type bridge\nlink set admin0 up\naddr add 10.9.9.1/24 dev admin0")?;
        // One inside the pool, where only the protocol number tells whose it is.
        ns.ip("route add 10.65.200.0/24 dev admin0 proto static\nroute add 192.0.2.0/24 via 10.9.9.2 proto bird")?;
        ns.ip("route add blackhole 2001:db8::/32 proto static\nneigh add 10.9.9.7 lladdr 02:00:00:00:00:07 dev admin0")?;
        for rule in [
            "add table inet admin",
            "add chain inet admin input { type filter hook input priority 0 ; policy accept ; }",
            "add rule inet admin input tcp dport 2222 drop",
            "add table ip nat",
            "add chain ip nat postrouting { type nat hook postrouting priority 100 ; }",
            "add rule ip nat postrouting ip saddr 10.9.9.0/24 masquerade",
        ] {
            ns.output("nft", rule)?;
        }
        let aliens = || -> Result<String> {
            let ours = model::marks::ROUTE_PROTOCOL.to_string();
            let mut text = String::new();
            for args in ["-4 route show", "-6 route show"] {
                for line in ns.output("ip", args)?.lines() {
                    if !line.contains(&format!("proto {ours}")) && !line.contains("dev rtd") {
                        text.push_str(line.trim());
                        text.push('\n');
                    }
                }
            }
            text += &ns.output("ip", "neigh show dev admin0")?;
            text += &ns.output("nft", "list table inet admin")?;
            text += &ns.output("nft", "list table ip nat")?;
            Ok(text)
        };
        let before = aliens()?;
        let unchanged = |when: &str| -> Result<()> {
            let now = aliens()?;
            ensure!(now == before, "{when}:\n{now}\nbefore:\n{before}");
            Ok(())
        };

        mesh.start()?;
        mesh.node(0)?.apply(&scenario::pools("Always", true))?;
        for node in &mesh.nodes {
            scenario::pools_known(node)?;
        }
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        unchanged("with the mesh up")?;
        mesh.node_mut(0)?.stop()?;
        mesh.node_mut(0)?.start_ready()?;
        unchanged("after a restart")?;
        mesh.node_mut(0)?.stop()?;
        let out = mesh.node(0)?.routerd(&["cleanup"])?;
        ensure!(out.code == Some(0), "cleanup: {}{}", out.stdout, out.stderr);
        unchanged("after cleanup")
    })
}

#[test]
fn stopping_changes_nothing_and_a_restart_adopts() -> Result<()> {
    lab::run("adopt", |lab| {
        let (mut mesh, workloads) = full_mesh(lab)?;
        let (Some(a), Some(b)) = (workloads.first(), workloads.last()) else {
            anyhow::bail!("no workloads");
        };
        let before = picture(mesh.node(0)?)?;
        let streams = [
            Stream::start(a, b, false, 1000)?,
            Stream::start(a, b, true, 1000)?,
        ];
        let status = mesh.node_mut(0)?.stop()?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        let stopped = picture(mesh.node(0)?)?;
        ensure!(
            stopped == before,
            "stopping changed:\n{stopped}\nbefore:\n{before}"
        );
        mesh.node_mut(0)?.start_ready()?;
        let adopted = picture(mesh.node(0)?)?;
        ensure!(
            adopted == before,
            "the restart changed:\n{adopted}\nbefore:\n{before}"
        );
        let log = mesh
            .node_mut(0)?
            .daemon()
            .context("no daemon")?
            .last_lines(usize::MAX);
        let (_, restarted) = log.rsplit_once("starting").context("no start in the log")?;
        ensure!(
            restarted.contains("kernel in sync") && !restarted.contains("kernel changed"),
            "a restart writes nothing: {restarted}"
        );
        for stream in streams {
            let report = stream.stop()?;
            println!("{report}");
            ensure!(
                report.sent > 0 && report.lost() == 0,
                "packets were lost: {report}"
            );
        }
        let status = mesh.node(0)?.status()?;
        ensure!(
            scenario::list(&status, "drift")?.is_empty(),
            "adoption is no drift: {status}"
        );
        Ok(())
    })
}

#[test]
fn workloads_that_come_and_go_are_no_drift() -> Result<()> {
    lab::run("no drift", |lab| {
        let (mesh, workloads) = full_mesh(lab)?;
        let cni = integration::lab::Cni::of(mesh.node(0)?)?;
        for workload in workloads.iter().take(2) {
            cni.del(workload)?;
        }
        scenario::populate_node(lab, mesh.node(0)?, 20)?;
        for node in &mesh.nodes {
            let status = node.status()?;
            ensure!(
                scenario::list(&status, "drift")?.is_empty(),
                "{}: {status}",
                node.name
            );
        }
        Ok(())
    })
}

#[test]
fn what_became_stale_while_the_daemon_was_down_is_removed() -> Result<()> {
    lab::run("sweep", |lab| {
        let (mut mesh, _workloads) = full_mesh(lab)?;
        mesh.node_mut(0)?.stop()?;
        let stale = format!("10.65.250.0/26 proto {}", marks::ROUTE_PROTOCOL);
        mesh.node(0)?
            .ns
            .ip(&format!("route add blackhole {stale}"))?;
        mesh.node_mut(0)?.start_ready()?;
        let node = mesh.node(0)?;
        wait("the stale route to go", CONVERGE, || {
            let routes = Value::from(scenario::our_routes(node)?).to_string();
            ensure!(!routes.contains("10.65.250.0/26"), "{routes}");
            Ok(())
        })
    })
}

#[test]
fn cleanup_leaves_nothing_of_ours() -> Result<()> {
    lab::run("cleanup", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        let switches = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
        let ns = mesh.node(0)?.ns.clone();
        let read = || switches.map(|s| ns.read_sysctl(s).unwrap_or_default());
        let before = read();
        mesh.start()?;
        mesh.node(0)?.apply(&scenario::pools("Always", true))?;
        for node in &mesh.nodes {
            scenario::pools_known(node)?;
        }
        let workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        ensure!(
            read() == ["1", "1"],
            "the daemon does not forward: {:?}",
            read()
        );

        mesh.node_mut(0)?.stop()?;
        let node = mesh.node(0)?;
        for round in ["first", "second"] {
            let out = node.routerd(&["cleanup"])?;
            ensure!(
                out.code == Some(0),
                "{round} cleanup: {}{}",
                out.stdout,
                out.stderr
            );
        }
        ensure!(
            scenario::our_routes(node)?.is_empty(),
            "{:?}",
            scenario::our_routes(node)?
        );
        ensure!(
            scenario::our_links(node)?.is_empty(),
            "{:?}",
            scenario::our_links(node)?
        );
        ensure!(
            !node
                .ns
                .output("nft", "list tables")?
                .contains(marks::NFT_TABLE),
            "a table of ours is still there"
        );
        ensure!(
            read() == before,
            "switches are {:?}, were {before:?}",
            read()
        );
        Ok(())
    })
}
