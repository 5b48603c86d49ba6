//! Switches of other makes.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, wait};
use integration::scenario;

use crate::rig::{
    Bird, FAR, Frr, LIMIT, OUR_AS, TOR, TOR_AS, bird_tor, block, complains, established, learns,
    peer, rack, shows, subsystem,
};

const PEER: &str = "peerIP: 172.31.1.1, asNumber: 65001";

#[test]
fn a_rack_with_bird() -> Result<()> {
    lab::run("bgp-bird-rack", |lab| {
        let mesh = rack(lab, 2)?;
        let bird = bird_tor(lab, &mesh.router, "", "")?;
        let n1 = mesh.node(0)?;
        let six = "peerIP: fd31:0:0:1::1, asNumber: 65001";
        n1.apply(&format!("{}{}", peer("tor", PEER), peer("tor-six", six)))?;
        for node in &mesh.nodes {
            let session = established(node, TOR)?;
            ensure!(session["asNumber"] == TOR_AS, "{session}");
            learns(node, FAR, &[TOR])?;
            learns(node, "2001:db8:100::/48", &["fd31:0:0:1::1"])?;
        }
        // Blocks are announced, not addresses, and the world outside reaches a workload by them.
        let workloads = scenario::populate(lab, &mesh, 2)?;
        let own = block(n1, "n1")?;
        bird.has(&own, &["unicast", "64512"])?;
        let workload = workloads.first().context("no workload")?;
        let ip = workload.ip(false)?;
        // It fails where there is none.
        let host = bird.ask(&format!("show route {ip}/32")).unwrap_or_default();
        ensure!(!host.contains("unicast"), "{host}");
        wait("a workload to answer the world outside", LIMIT, || {
            mesh.outside
                .output("ping", &format!("-c1 -W1 {ip}"))
                .map(drop)
        })?;
        let ip = workload.ip(true)?;
        wait("by IPv6 too", LIMIT, || {
            mesh.outside
                .output("ping", &format!("-c1 -W1 {ip}"))
                .map(drop)
        })?;
        ensure!(subsystem(n1)?.0 == "Ok", "{:?}", subsystem(n1)?);
        told_by_routerctl(&mesh, &own)?;
        silent_switch(&mesh, &bird)
    })
}

fn told_by_routerctl(mesh: &lab::Mesh, own: &str) -> Result<()> {
    let n1 = mesh.node(0)?;
    let args = ["bgp", "routes", own, "--peer", TOR, "--advertised"];
    let shown = n1.json(&args)?;
    let route = &shown["routes"][0];
    ensure!(
        route["nextHop"] == "172.31.1.11" && route["asPath"][0] == OUR_AS,
        "{shown}"
    );
    let shown = n1.json(&["bgp", "routes", FAR])?;
    let route = &shown["routes"][0];
    ensure!(route["nextHop"] == TOR && route["peer"] == TOR, "{shown}");
    ensure!(
        route["best"] == true && route["installed"] == true,
        "{shown}"
    );
    ensure!(route["asPath"] == serde_json::json!([TOR_AS]), "{shown}");
    let metrics = n1.ns.output("curl", "-s http://127.0.0.1:9091/metrics")?;
    let up = format!("routerd_bgp_session_up{{peer=\"{TOR}\",name=\"BGPPeer/tor");
    ensure!(metrics.contains(&up), "{metrics}");
    Ok(())
}

/// A switch that is shut down is told by status and by doctor, with the fix.
fn silent_switch(mesh: &lab::Mesh, bird: &Bird) -> Result<()> {
    bird.ask("down")?;
    let n1 = mesh.node(0)?;
    complains(n1, &[TOR])?;
    shows(
        "doctor to say so",
        || Ok(n1.ctl(&["doctor"])?.stdout),
        &["BGPPeer/tor", "start BGP there"],
    )?;
    Ok(())
}

#[test]
fn a_rack_with_frr() -> Result<()> {
    lab::run("bgp-frr-rack", |lab| {
        let mesh = rack(lab, 2)?;
        let config = format!(
            "router bgp {TOR_AS}\n bgp router-id 172.31.1.1\n no bgp ebgp-requires-policy\n\
             \x20no bgp network import-check\n neighbor rack peer-group\n neighbor rack remote-as {OUR_AS}\n\
             \x20neighbor rack timers 3 9\n bgp listen range 172.31.1.0/24 peer-group rack\n\
             \x20address-family ipv4 unicast\n  network {FAR}\n exit-address-family\n"
        );
        let frr = Frr::start(lab, &mesh.router, "tor", &config)?;
        let n1 = mesh.node(0)?;
        n1.apply(&peer("tor", PEER))?;
        for node in &mesh.nodes {
            established(node, TOR)?;
            learns(node, FAR, &[TOR])?;
        }
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let own = block(n1, "n2")?;
        frr.has(&own, &["64512", "172.31.1.12"])?;
        let ip = workloads.last().context("no workload")?.ip(false)?;
        wait("a workload to answer the world outside", LIMIT, || {
            mesh.outside
                .output("ping", &format!("-c1 -W1 {ip}"))
                .map(drop)
        })
    })
}
