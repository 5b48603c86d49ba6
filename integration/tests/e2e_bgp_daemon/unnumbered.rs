//! A link without addresses between node and switch: each finds the other by its router advertisements, and IPv4 goes
//! over link-local addresses (RFC 8950).

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Lab, Mesh, Netns, wait};
use integration::scenario;

use crate::rig::{
    Bird, FAR, Frr, LIMIT, OUR_AS, TOR_AS, block, established, learns, no_mesh, peer, rack,
};

/// The link's name at the node, and at the switch.
const LINK: &str = "swp1";
const RACK: &str = "rack";
const FAR_SIX: &str = "2001:db8:100::/48";
/// Hosts of the networks behind the switch.
const HOSTS: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];

/// A node, and a switch at the other end of one more link of it.
fn uplink(lab: &Lab) -> Result<(Mesh, Netns)> {
    let mesh = rack(lab, 1)?;
    let switch = lab.netns("switch")?;
    lab.veth((&mesh.node(0)?.ns, LINK), (&switch, RACK), 1500)?;
    switch.sysctl("net/ipv4/ip_forward", "1")?;
    switch.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let [four, six] = HOSTS;
    switch.ip(&format!(
        "addr add {four}/32 dev lo\naddr add {six}/128 dev lo"
    ))?;
    Ok((mesh, switch))
}

/// The link-local address of an interface.
fn link_local(ns: &Netns, dev: &str) -> Result<String> {
    wait("a link-local address", LIMIT, || {
        let shown = ns.ip_json(&format!("-6 addr show dev {dev} scope link"))?;
        let ip = shown[0]["addr_info"][0]["local"].as_str();
        ip.map(str::to_owned).context("none yet")
    })
}

/// Routes of both families both ways, and packets by them. `has` waits for a prefix at the switch.
fn carries(
    lab: &Lab,
    mesh: &Mesh,
    switch: &Netns,
    has: impl Fn(&str, &[&str]) -> Result<String>,
) -> Result<()> {
    let n1 = mesh.node(0)?;
    let theirs = link_local(switch, RACK)?;
    let ours = link_local(&n1.ns, LINK)?;
    let session = established(n1, "BGPPeer/tor")?;
    ensure!(session["peer"] == format!("{theirs}%{LINK}"), "{session}");
    ensure!(session["asNumber"] == TOR_AS, "{session}");
    for prefix in [FAR, FAR_SIX] {
        learns(n1, prefix, &[&theirs])?;
        let family = if prefix == FAR { "" } else { "-6 " };
        let route = n1
            .ns
            .output("ip", &format!("{family}route show {prefix} proto 83"))?;
        ensure!(route.contains(&format!("dev {LINK}")), "{route}");
    }
    let workloads = scenario::populate(lab, mesh, 1)?;
    has(&block(n1, "n1")?, &[&OUR_AS.to_string(), &ours])?;
    let workload = workloads.first().context("no workload")?;
    for host in HOSTS {
        wait(&format!("{host} to answer a workload"), LIMIT, || {
            let ping = format!("-c1 -W1 {host}");
            workload.ns.output("ping", &ping).map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn an_unnumbered_link_to_frr() -> Result<()> {
    lab::run("bgp-frr-unnumbered", |lab| {
        let (mesh, switch) = uplink(lab)?;
        let config = format!(
            "router bgp {TOR_AS}\n bgp router-id 172.31.9.1\n no bgp ebgp-requires-policy\n\
             \x20no bgp network import-check\n neighbor {RACK} interface remote-as external\n\
             \x20neighbor {RACK} timers 3 9\n neighbor {RACK} timers connect 1\n\
             \x20address-family ipv4 unicast\n  network {FAR}\n exit-address-family\n\
             \x20address-family ipv6 unicast\n  neighbor {RACK} activate\n  network {FAR_SIX}\n exit-address-family\n"
        );
        let frr = Frr::start(lab, &switch, "switch", &config)?;
        // Whatever AS is there.
        let tor = peer("tor", &format!("peerInterface: {LINK}"));
        mesh.node(0)?.apply(&format!("{}{tor}", no_mesh()))?;
        carries(lab, &mesh, &switch, |prefix, wanted| {
            frr.has(prefix, wanted)
        })
    })
}

/// BIRD finds nobody by advertisements: it sends its own, and waits for whoever comes over the link.
#[test]
fn an_unnumbered_link_to_bird() -> Result<()> {
    lab::run("bgp-bird-unnumbered", |lab| {
        let (mesh, switch) = uplink(lab)?;
        let config = format!(
            "protocol radv {{ interface \"{RACK}\" {{ min ra interval 3; max ra interval 4; }}; }}\n\
             protocol kernel k4 {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol kernel k6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol static far4 {{ ipv4; route {FAR} blackhole; }}\n\
             protocol static far6 {{ ipv6; route {FAR_SIX} blackhole; }}\n\
             protocol bgp node {{ local as {TOR_AS}; neighbor range fe80::/10 as {OUR_AS}; interface \"{RACK}\";\n\
               hold time 9; ipv4 {{ import all; export where source = RTS_STATIC; extended next hop on; }};\n\
               ipv6 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        );
        let bird = Bird::start(lab, &switch, "switch", &config)?;
        let spec = format!("peerInterface: {LINK}, asNumber: {TOR_AS}");
        let tor = peer("tor", &spec);
        mesh.node(0)?.apply(&format!("{}{tor}", no_mesh()))?;
        carries(lab, &mesh, &switch, |prefix, wanted| {
            bird.has(prefix, wanted)
        })
    })
}
