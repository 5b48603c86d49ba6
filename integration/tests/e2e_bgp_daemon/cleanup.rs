//! What is taken away at the end.

use anyhow::{Result, ensure};
use integration::lab;
use integration::lab::wait;

use crate::rig::{FAR, LIMIT, TOR, bird_tor, established, learns, peer, rack};

#[test]
fn cleanup_leaves_nothing_that_was_learnt() -> Result<()> {
    lab::run("bgp-cleanup", |lab| {
        let mut mesh = rack(lab, 1)?;
        let bird = bird_tor(lab, &mesh.router, "", "")?;
        let n1 = mesh.node_mut(0)?;
        let before = n1.ns.output("ip", "route show proto static")?;
        n1.apply(&peer("tor", &format!("peerIP: {TOR}, asNumber: 65001")))?;
        established(n1, TOR)?;
        learns(n1, FAR, &[TOR])?;
        n1.stop()?;
        // Stopping takes nothing away.
        ensure!(n1.ns.output("ip", "route show proto 83")?.contains(FAR));
        n1.routerd(&["cleanup"])?.must_succeed(&["cleanup"])?;
        for family in ["", "-6 "] {
            let left = n1
                .ns
                .output("ip", &format!("{family}route show proto 83"))?;
            ensure!(left.is_empty(), "{left}");
        }
        ensure!(n1.ns.output("ip", "route show proto static")? == before);
        // The peer gives up on the node in its own time.
        drop(bird);
        // A start after that is a first one.
        n1.start_ready()?;
        wait("the daemon to run", LIMIT, || n1.status().map(drop))
    })
}
