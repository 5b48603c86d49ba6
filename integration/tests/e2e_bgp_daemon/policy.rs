//! Passwords, filters and the guard of the pools.

use anyhow::{Result, ensure};
use integration::lab;
use integration::scenario;

use crate::rig::{
    FAR, TOR, bird_tor, complains, established, learns, learnt, no_mesh, peer, rack, shows,
};

#[test]
fn a_password_from_a_file() -> Result<()> {
    lab::run("bgp-password", |lab| {
        let mesh = rack(lab, 1)?;
        let _bird = bird_tor(lab, &mesh.router, "", "password \"rack seven\";")?;
        let n1 = mesh.node(0)?;
        let file = n1.dir().join("password");
        let spec = format!(
            "peerIP: {TOR}, asNumber: 65001, password: {{ file: \"{}\" }}",
            file.display()
        );
        n1.apply(&peer("tor", &spec))?;
        // Without its password the peer is not spoken to at all.
        complains(n1, &["password file"])?;
        std::fs::write(&file, "wrong\n")?;
        shows(
            "doctor to name the password",
            || Ok(n1.ctl(&["doctor"])?.stdout),
            &["BGPPeer/tor", "password"],
        )?;
        std::fs::write(&file, "rack seven\n")?;
        established(n1, TOR)?;
        let log = std::fs::read_to_string(n1.dir().join("routerd.log"))?;
        ensure!(!log.contains("rack seven"), "the password is in the log");
        Ok(())
    })
}

#[test]
fn filters_in_both_directions() -> Result<()> {
    lab::run("bgp-filter", |lab| {
        let mesh = rack(lab, 1)?;
        let more = "route 203.0.113.0/24 blackhole;";
        let bird = bird_tor(lab, &mesh.router, more, "")?;
        let n1 = mesh.node(0)?;
        let _workloads = scenario::populate(lab, &mesh, 1)?;
        let filter = "apiVersion: routerd/v1\nkind: BGPFilter\nmetadata: { name: f }\nspec:\n\
                      \x20 importV4: [ { action: Reject, matchOperator: In, cidr: 203.0.113.0/24 } ]\n\
                      \x20 exportV4: [ { action: Accept, matchOperator: In, cidr: 10.65.0.0/16, \
                      operations: [ { addCommunity: { value: \"64512:7\" } } ] }, { action: Reject } ]\n---\n";
        n1.apply(&format!(
            "{filter}{}",
            peer(
                "tor",
                &format!("peerIP: {TOR}, asNumber: 65001, filters: [f]")
            )
        ))?;
        learns(n1, FAR, &[TOR])?;
        ensure!(learnt(n1, "203.0.113.0/24")?.is_empty());
        let shown = n1.json(&["bgp", "routes", "203.0.113.0/24"])?;
        ensure!(shown["routes"][0]["filtered"] == true, "{shown}");
        shows(
            "the community at BIRD",
            || bird.ask("show route all where source = RTS_BGP"),
            &["(64512,7)"],
        )?;
        Ok(())
    })
}

#[test]
fn a_prefix_of_our_pools_from_a_stranger_is_refused() -> Result<()> {
    lab::run("bgp-guard", |lab| {
        let mesh = rack(lab, 1)?;
        let more = "route 10.65.200.0/26 blackhole;";
        let _bird = bird_tor(lab, &mesh.router, more, "")?;
        let n1 = mesh.node(0)?;
        n1.apply(&format!(
            "{}{}",
            no_mesh(),
            peer("tor", &format!("peerIP: {TOR}, asNumber: 65001"))
        ))?;
        learns(n1, FAR, &[TOR])?;
        ensure!(learnt(n1, "10.65.200.0/26")?.is_empty());
        complains(n1, &["inside our pools"])?;
        let session = established(n1, TOR)?;
        ensure!(session["guarded"] == 1, "{session}");
        shows(
            "doctor to say so",
            || Ok(n1.ctl(&["doctor"])?.stdout),
            &["inside our pools"],
        )?;
        Ok(())
    })
}
