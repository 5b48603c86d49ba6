//! Every sort of wire between the nodes: families, sizes, a router that translates, an address that changes.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Families, Mesh, MeshSpec};
use integration::scenario;

use super::*;

fn all_reach(spec: &MeshSpec) -> Result<()> {
    lab::run("families", |lab| {
        let (mesh, workloads, capture) = encrypted(lab, spec)?;
        for workload in &workloads {
            let overhead = if spec.families == Families::V6 {
                80
            } else {
                60
            };
            let mtu = usize::try_from(spec.mtu)? - overhead;
            ensure!(workload.mtu()? == mtu, "{} bytes", workload.mtu()?);
        }
        none_counts_clear_text(&mesh)?;
        capture.stop()?.must_be_encrypted()
    })
}

#[test]
fn both_families_over_ipv4() -> Result<()> {
    all_reach(&MeshSpec::routed(&[1, 1]).over(Families::V4))
}

#[test]
fn both_families_over_ipv6() -> Result<()> {
    all_reach(&MeshSpec::routed(&[1, 1]).over(Families::V6))
}

#[test]
fn jumbo_frames() -> Result<()> {
    all_reach(&MeshSpec::routed(&[1, 1]).mtu(9000))
}

/// The least that IPv6 allows leaves too little for IPv6 inside.
#[test]
fn small_frames() -> Result<()> {
    lab::run("small", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]).mtu(1280))?;
        let capture = capture(&mesh)?;
        for node in &mesh.nodes {
            node.configure("[wireguard]\nbackend = \"userspace\"")?;
        }
        mesh.start()?;
        set_encryption(&mesh, "Required")?;
        let both = scenario::pools("Never", false);
        let (v4, _) = both.split_once("---").context("one pool")?;
        mesh.node(0)?.apply(v4)?;
        for node in &mesh.nodes {
            wait("the pool to be known", CONVERGE, || {
                ensure!(scenario::names(&node.json(&["get", "ippools"])?) == ["v4"]);
                Ok(())
            })?;
        }
        let workloads = scenario::populate(lab, &mesh, 1)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        for workload in &workloads {
            ensure!(workload.mtu()? == 1220, "{} bytes", workload.mtu()?);
        }
        capture.stop()?.must_be_encrypted()
    })
}

/// The second subnet is behind a router that translates, and lets nobody in who was not asked.
#[test]
fn a_host_behind_nat_keeps_its_tunnel() -> Result<()> {
    lab::run("nat", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]).over(Families::V4))?;
        let router = mesh.router.clone();
        let nft = |line: &str| router.output("nft", line).map(drop);
        nft("add table ip nat")?;
        nft("add chain ip nat post { type nat hook postrouting priority 100 ; }")?;
        nft(
            "add rule ip nat post ip saddr 172.31.2.0/24 oifname br1 meta l4proto udp masquerade to :20000-20099",
        )?;
        nft("add chain ip nat forward { type filter hook forward priority 0 ; }")?;
        nft("add rule ip nat forward ct state established,related accept")?;
        nft("add rule ip nat forward iifname br1 ip daddr 172.31.2.0/24 drop")?;
        mesh.node(1)?
            .configure("[wireguard]\nbackend = \"userspace\"\npersistent_keepalive = 1")?;
        let capture = capture(&mesh)?;
        mesh.node(0)?
            .configure("[wireguard]\nbackend = \"userspace\"")?;
        scenario::start(&mut mesh, "Never")?;
        set_encryption(&mesh, "Required")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let (near, far) = ends(&workloads)?;
        let endpoint = || -> Result<String> {
            let shown = mesh.node(0)?.json(&["tunnels"])?;
            let endpoint = shown.pointer("/tunnels/0/endpoint").and_then(Value::as_str);
            Ok(endpoint.with_context(|| shown.to_string())?.to_owned())
        };
        let before = endpoint()?;
        ensure!(
            before.starts_with("172.31.1.1:200"),
            "it is not translated: {before}"
        );
        let streams = streams(near, far)?;
        flow(&streams)?;
        // Longer than the daemon takes to look at its peers, and to be told that one is elsewhere.
        std::thread::sleep(std::time::Duration::from_secs(7));
        ensure!(
            endpoint()? == before,
            "the daemon moved the peer to {}",
            endpoint()?
        );
        flow(&streams)?;
        // The router forgets, as it does when an interface goes down, and translates to another port.
        nft("flush chain ip nat post")?;
        nft(
            "add rule ip nat post ip saddr 172.31.2.0/24 oifname br1 meta l4proto udp masquerade to :30000-30099",
        )?;
        mesh.router.ip("link set br1 down\nlink set br1 up")?;
        wait("the peer to be elsewhere", CONVERGE, || {
            let now = endpoint()?;
            ensure!(now.starts_with("172.31.1.1:300"), "{now}");
            Ok(())
        })?;
        flow(&streams)?;
        drop(streams);
        capture.stop()?.must_be_encrypted()
    })
}

#[test]
fn a_host_that_changes_its_address_keeps_its_tunnels() -> Result<()> {
    lab::run("renumbered", |lab| {
        let spec = MeshSpec::routed(&[1, 1]).over(Families::V4);
        let (mut mesh, workloads, capture) = encrypted(lab, &spec)?;
        let (from, to) = ends(&workloads)?;
        let all = streams(from, to)?;
        flow(&all)?;
        mesh.node(1)?.ns.ip(
            "addr del 172.31.2.11/24 dev eth0\naddr add 172.31.2.77/24 dev eth0\n\
             route replace default via 172.31.2.1 dev eth0",
        )?;
        wait("the other to know", CONVERGE * 2, || {
            let shown = mesh.node(0)?.json(&["tunnels"])?;
            let endpoint = shown.pointer("/tunnels/0/endpoint");
            ensure!(endpoint == Some(&"172.31.2.77:51820".into()), "{shown}");
            Ok(())
        })?;
        flow(&all)?;
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        drop(all);
        scenario::everyone_reaches_everyone(&workloads)?;
        none_counts_clear_text(&mesh)?;
        capture.stop()?.must_be_encrypted()
    })
}
