//! Policy on every way between nodes.

use anyhow::{Context, Result, ensure};
use integration::lab::probe::dial::{self, Outcome};
use integration::lab::switches::Bird;
use integration::lab::{self, Lab, Mesh, MeshSpec, wait};
use integration::scenario::{self, CONVERGE};

use crate::rig::{DB, PATIENCE, WEB, calico, default_deny, enforces, expect, mesh, pod};

fn judged(lab: &Lab, mesh: &Mesh) -> Result<()> {
    let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
    let web = pod(lab, n1, "web", &[("app", "web")])?;
    let friend = pod(lab, n2, "friend", &[("app", "friend")])?;
    let stranger = pod(lab, n2, "stranger", &[])?;
    expect(&[(&friend, &web, WEB, true), (&stranger, &web, WEB, true)])?;
    n1.apply(
        &(default_deny()
            + &calico(
                "GlobalNetworkPolicy",
                "in",
                "{ order: 10, selector: app == 'web', types: [Ingress], ingress: [\
                 { action: Allow, source: { selector: app == 'friend' } } ] }",
            )
            + &calico(
                "GlobalNetworkPolicy",
                "out",
                "{ order: 10, selector: app != 'web', types: [Egress], egress: [\
                 { action: Allow, destination: { selector: app == 'web' } } ] }",
            )),
    )?;
    expect(&[
        (&friend, &web, WEB, true),
        (&stranger, &web, WEB, false),
        (&friend, &stranger, WEB, false),
        (&web, &friend, WEB, false),
    ])
}

#[test]
fn through_vxlan() -> Result<()> {
    lab::run("policy-vxlan", |lab| {
        let mesh = mesh(lab, &MeshSpec::routed(&[1, 1]), "Always")?;
        judged(lab, &mesh)
    })
}

#[test]
fn through_the_encrypted_tunnel() -> Result<()> {
    lab::run("policy-encrypted", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start_encrypted(&mut mesh)?;
        mesh.nodes.iter().try_for_each(enforces)?;
        judged(lab, &mesh)
    })
}

const TOR: &str = "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n\
    protocol bgp rack { local 172.31.1.1 as 65001; neighbor range 172.31.1.0/24 as 64512;\n\
      hold time 9; ipv4 { import all; export none; }; }\n";

#[test]
fn through_a_rack_whose_switch_speaks_bgp() -> Result<()> {
    lab::run("policy-rack", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        let _tor = Bird::start(lab, &mesh.router, "tor", TOR)?;
        n1.apply(
            "apiVersion: routerd/v1\nkind: BGPPeer\nmetadata: { name: tor }\n\
             spec: { peerIP: 172.31.1.1, asNumber: 65001 }\n",
        )?;
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        let reached = |port: u16, wanted: Outcome| {
            wait("the world outside to be judged", CONVERGE, || {
                let got = dial::tcp(&mesh.outside, web.at(false, port)?, PATIENCE)?;
                ensure!(got == wanted, "port {port}: {got:?}, wanted {wanted:?}");
                Ok(())
            })
        };
        // By what the switch learnt.
        reached(WEB, Outcome::Answered)?;
        reached(DB, Outcome::Answered)?;
        // The host is closed as well, but for what it needs to be a node.
        n1.apply(
            &(calico("HostEndpoint", "n1-eth0", "{ node: n1, interfaceName: eth0 }")
                + &calico(
                    "GlobalNetworkPolicy",
                    "office",
                    "{ selector: app == 'web', types: [Ingress], ingress: [{ action: Allow, protocol: TCP, \
                     source: { nets: [172.31.0.0/24] }, destination: { ports: [8080] } }] }",
                )),
        )?;
        reached(DB, Outcome::Silent)?;
        reached(WEB, Outcome::Answered)?;
        let shown = n1.json(&["bgp", "peers"])?;
        let peers = scenario::list(&shown, "peers")?;
        ensure!(
            peers
                .iter()
                .any(|p| p["name"] == "BGPPeer/tor" && p["state"] == "Established"),
            "{shown}"
        );
        // Longer than the hold time: the session was not cut.
        let uptime = || -> Result<u64> {
            let shown = n1.json(&["bgp", "peers"])?;
            let peers = scenario::list(&shown, "peers")?;
            let tor = peers.iter().find(|p| p["name"] == "BGPPeer/tor");
            tor.and_then(|p| p["uptimeSeconds"].as_u64())
                .with_context(|| shown.to_string())
        };
        wait("the session to outlive its hold time", CONVERGE, || {
            let seconds = uptime()?;
            ensure!(seconds > 10, "up for {seconds} s");
            Ok(())
        })?;
        reached(WEB, Outcome::Answered)
    })
}
