//! Sessions that do not come up, and who says why.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Node, wait};

use crate::rig::{
    Bird, FAR, LIMIT, OUR_AS, TOR, TOR_AS, bird_tor, complains, established, learns, no_mesh, peer,
    rack, session, shows,
};

/// `bgp peers`, status and doctor all say `why`, and doctor has the mend.
fn is_said(node: &Node, why: &str, mend: &str) -> Result<()> {
    wait("the reason", LIMIT, || {
        let session = session(node, "BGPPeer/tor")?;
        let said = session["lastDown"].as_str().unwrap_or_default();
        ensure!(said.contains(why), "{session}");
        ensure!(session["state"] != "Established", "{session}");
        Ok(())
    })?;
    let args = ["bgp", "peers"];
    let table = node.ctl(&args)?.must_succeed(&args)?.stdout;
    ensure!(table.contains(why), "{table}");
    complains(node, &["BGPPeer/tor", why])?;
    shows(
        "doctor to say so",
        || Ok(node.ctl(&["doctor"])?.stdout),
        &["BGPPeer/tor", why, mend],
    )?;
    Ok(())
}

#[test]
fn ttl_security_counts_the_hops() -> Result<()> {
    lab::run("bgp-gtsm", |lab| {
        let mesh = rack(lab, 1)?;
        // Behind the router: two hops away.
        let far = "172.31.0.10";
        let config = format!(
            "protocol static {{ ipv4; route {FAR} blackhole; }}\n\
             protocol bgp node {{ local {far} as {TOR_AS}; neighbor 172.31.1.11 as {OUR_AS}; multihop 2; ttl security on;\n\
               connect delay time 0; connect retry time 1; error wait time 1, 1; hold time 9;\n\
               ipv4 {{ import all; export where source = RTS_STATIC; next hop address {TOR}; }}; }}\n"
        );
        let _bird = Bird::start(lab, &mesh.outside, "far", &config)?;
        let n1 = mesh.node(0)?;
        let tor = |hops: u8| {
            let spec = format!("peerIP: {far}, asNumber: {TOR_AS}, ttlSecurity: {hops}");
            peer("tor", &spec)
        };
        n1.apply(&format!("{}{}", no_mesh(), tor(1)))?;
        is_said(n1, "TTL", "ttlSecurity")?;
        n1.apply(&tor(2))?;
        let session = established(n1, far)?;
        ensure!(session["state"] == "Established", "{session}");
        learns(n1, FAR, &[TOR])
    })
}

#[test]
fn a_switch_of_another_as() -> Result<()> {
    lab::run("bgp-wrong-as", |lab| {
        let mesh = rack(lab, 1)?;
        let _bird = bird_tor(lab, &mesh.router, "", "error wait time 1, 1;")?;
        let n1 = mesh.node(0)?;
        let tor = |asn: u32| peer("tor", &format!("peerIP: {TOR}, asNumber: {asn}"));
        n1.apply(&format!("{}{}", no_mesh(), tor(65099)))?;
        is_said(n1, "AS number", "asNumber")?;
        let why = session(n1, "BGPPeer/tor")?;
        let why = why["lastDown"].as_str().context("no reason")?.to_owned();
        // Which AS is there, so that nobody has to ask.
        ensure!(why.contains("65001"), "{why}");
        n1.apply(&tor(TOR_AS))?;
        established(n1, TOR)?;
        learns(n1, FAR, &[TOR])
    })
}
