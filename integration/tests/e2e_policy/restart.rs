//! Restarts: what is in force stays in force, and what changed meanwhile follows.

use anyhow::{Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::probe::dial::Spray;
use integration::lab::{self, Lab, Mesh, MeshSpec, Node};

use crate::rig::{Pod, WEB, calico, check, delete, enforces, expect, mesh, pod};

const RATE: u32 = 1000;
/// `friend` may, nobody else.
const ALLOW: &str = "{ selector: app == 'web', types: [Ingress], ingress: [\
                     { action: Allow, source: { selector: app == 'friend' } } ] }";

struct Rig {
    mesh: Mesh,
    web: Pod,
    friend: Pod,
    stranger: Pod,
}

fn rig(lab: &Lab) -> Result<Rig> {
    let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
    let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
    let web = pod(lab, n1, "web", &[("app", "web")])?;
    let friend = pod(lab, n2, "friend", &[("app", "friend")])?;
    let stranger = pod(lab, n2, "stranger", &[])?;
    n1.apply(&calico("GlobalNetworkPolicy", "web", ALLOW))?;
    let rig = Rig {
        mesh,
        web,
        friend,
        stranger,
    };
    expect(&rig.cases())?;
    Ok(rig)
}

impl Rig {
    fn cases(&self) -> [(&Pod, &Pod, u16, bool); 2] {
        [
            (&self.friend, &self.web, WEB, true),
            (&self.stranger, &self.web, WEB, false),
        ]
    }

    /// Allowed streams go on without a loss, and denied ones bring nothing, while `change` is made.
    fn through(&mut self, change: impl FnOnce(&mut Node) -> Result<()>) -> Result<()> {
        let mut good = Vec::new();
        let mut bad = Vec::new();
        let before = self.web.doors.heard();
        for v6 in [false, true] {
            let (friend, web) = (&self.friend.workload, &self.web.workload);
            good.push(Stream::start(friend, web, v6, RATE)?);
            bad.push(Spray::start(self.stranger.ns(), self.web.at(v6, WEB)?)?);
        }
        change(self.mesh.node_mut(0)?)?;
        check(&self.cases())?;
        for stream in good {
            let report = stream.stop()?;
            ensure!(report.sent > 500, "{report}");
            ensure!(report.lost() == 0, "{report}");
        }
        for spray in bad {
            ensure!(spray.sent() > 500);
            spray.end()?;
        }
        // Two knocks in each family by the friend, and none by the stranger.
        ensure!(self.web.doors.heard() - before == 4);
        Ok(())
    }
}

#[test]
fn a_restart_judges_no_packet_wrongly() -> Result<()> {
    lab::run("policy-restart", |lab| {
        let mut rig = rig(lab)?;
        rig.through(|n1| {
            n1.stop()?;
            n1.start_ready()?;
            enforces(n1)
        })?;
        rig.through(|n1| {
            n1.kill()?;
            n1.start_ready()?;
            enforces(n1)
        })
    })
}

#[test]
fn an_upgrade_judges_no_packet_wrongly() -> Result<()> {
    lab::run("policy-upgrade", |lab| {
        let mut rig = rig(lab)?;
        rig.through(|n1| {
            n1.install()?;
            n1.stop()?;
            n1.start_ready()?;
            enforces(n1)
        })
    })
}

#[test]
fn policy_stands_while_no_daemon_runs_and_follows_after() -> Result<()> {
    lab::run("policy-away", |lab| {
        let mut rig = rig(lab)?;
        rig.mesh.node_mut(0)?.stop()?;
        check(&rig.cases())?;
        // The store learns through another node.
        let n2 = rig.mesh.node(1)?;
        delete(n2, "globalnetworkpolicy", "web")?;
        let other = "{ selector: app == 'web', types: [Ingress], ingress: [\
                     { action: Deny, source: { selector: app == 'friend' } }, { action: Allow } ] }";
        n2.apply(&calico("GlobalNetworkPolicy", "other", other))?;
        check(&rig.cases())?;
        rig.mesh.node_mut(0)?.start_ready()?;
        expect(&[
            (&rig.friend, &rig.web, WEB, false),
            (&rig.stranger, &rig.web, WEB, true),
        ])
    })
}
