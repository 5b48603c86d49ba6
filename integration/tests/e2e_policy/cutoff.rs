//! Workloads that run where nothing can enforce policy, when policies come to select them.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use integration::lab::probe::dial::{self, Doors, Line, Outcome, Spray};
use integration::lab::{self, Lab, Mesh, MeshSpec, Netns, Node, wait};
use integration::scenario::{self, CONVERGE};
use model::marks::NFT_CUTOFF;
use serde_json::Value;

use crate::rig::{PATIENCE, Pod, WEB, calico, delete, enforces, expect, pod, policy_status};

/// Datagrams that each spray has sent before a count is taken.
const MANY: u64 = 1000;
/// Addresses of the second node.
const HOST: [&str; 2] = ["172.31.1.12", "fd31:0:0:1::12"];
/// Nobody reaches the workload; by its own rules it reaches everybody.
const DENY: &str = "{ selector: app == 'web', types: [Ingress], ingress: [{ action: Deny }] }";

/// Who gets through.
#[derive(Clone, Copy)]
struct Ways {
    /// Other workloads to the one that policies select.
    to_web: bool,
    /// The one to others, and to its host.
    from_web: bool,
    /// Its host to the one.
    from_host: bool,
}

const OPEN: Ways = Ways {
    to_web: true,
    from_web: true,
    from_host: true,
};
const CUT_OFF: Ways = Ways {
    to_web: false,
    from_web: false,
    from_host: false,
};
/// As [`DENY`] has it.
const DENIED: Ways = Ways {
    to_web: false,
    ..OPEN
};

/// A workload of the second node, which cannot enforce, and whom it talks to.
struct Rig {
    mesh: Mesh,
    web: Pod,
    near: Pod,
    far: Pod,
    /// At the second host itself.
    doors: Doors,
}

impl Rig {
    fn new(lab: &Lab) -> Result<Rig> {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        mesh.node(1)?.lacks_bpf()?;
        scenario::start(&mut mesh, "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        enforces(n1)?;
        let web = pod(lab, n2, "web", &[("app", "web")])?;
        let near = pod(lab, n2, "near", &[])?;
        let far = pod(lab, n1, "far", &[])?;
        let doors = Doors::open(&n2.ns, &[WEB])?;
        let rig = Rig {
            mesh,
            web,
            near,
            far,
            doors,
        };
        rig.is(OPEN)?;
        Ok(rig)
    }

    fn n2(&self) -> Result<&Node> {
        self.mesh.node(1)
    }

    /// The store learns through the node that can.
    fn apply(&self, name: &str, spec: &str) -> Result<()> {
        let policy = calico("GlobalNetworkPolicy", name, spec);
        self.mesh.node(0)?.apply(&policy)
    }

    /// Waits until these get through, in both families and by TCP and UDP. Others do, whatever becomes of the one.
    fn is(&self, ways: Ways) -> Result<()> {
        let (web, near, far) = (&self.web, &self.near, &self.far);
        expect(&[
            (near, web, WEB, ways.to_web),
            (far, web, WEB, ways.to_web),
            (web, near, WEB, ways.from_web),
            (web, far, WEB, ways.from_web),
            (near, far, WEB, true),
            (far, near, WEB, true),
        ])?;
        let host = &self.n2()?.ns;
        wait("the host to be as the others", CONVERGE, || {
            for (v6, ip) in [false, true].into_iter().zip(HOST) {
                let at_host = SocketAddr::new(ip.parse()?, WEB);
                knock(host, web.at(v6, WEB)?, ways.from_host)?;
                knock(web.ns(), at_host, ways.from_web)?;
                knock(near.ns(), at_host, true)?;
            }
            Ok(())
        })
    }

    /// Waits until the node says so.
    fn says(&self, state: &str, word: &str) -> Result<()> {
        wait(&format!("n2 to say {word:?}"), CONVERGE, || {
            let (is, message) = policy_status(self.n2()?)?;
            ensure!(is == state && message.contains(word), "{is}: {message}");
            Ok(())
        })
    }

    fn table_stands(&self) -> Result<bool> {
        Ok(tables(self.n2()?)?.contains(NFT_CUTOFF))
    }

    /// Not one packet that does not get through in these ways does so while `change` is made.
    fn through(&mut self, ways: Ways, change: impl FnOnce(&mut Node) -> Result<()>) -> Result<()> {
        let (web, near, far) = (&self.web, &self.near, &self.far);
        let host = self.mesh.node(1)?.ns.clone();
        let at_host = SocketAddr::new(HOST[1].parse()?, WEB);
        let mut sprays = vec![
            Spray::start(near.ns(), web.at(true, WEB)?)?,
            Spray::start(far.ns(), web.at(false, WEB)?)?,
        ];
        let mut closed = vec![&web.doors];
        if !ways.from_web {
            sprays.push(Spray::start(web.ns(), near.at(false, WEB)?)?);
            sprays.push(Spray::start(web.ns(), far.at(true, WEB)?)?);
            sprays.push(Spray::start(web.ns(), at_host)?);
            closed.extend([&near.doors, &far.doors, &self.doors]);
        }
        // It is told at once that it may not send, so that nothing can be awaited of it.
        let of_host = match ways.from_host {
            true => None,
            false => Some(Spray::start(&host, web.at(false, WEB)?)?),
        };
        let heard = || closed.iter().map(|doors| doors.heard()).collect::<Vec<_>>();
        let before = heard();
        change(self.mesh.node_mut(1)?)?;
        let sent: Vec<u64> = sprays.iter().map(Spray::sent).collect();
        wait("datagrams to be sent", CONVERGE, || {
            let mut all = sprays.iter().zip(&sent);
            ensure!(all.all(|(spray, before)| spray.sent() > before + MANY));
            Ok(())
        })?;
        let after = heard();
        sprays.extend(of_host);
        sprays.into_iter().try_for_each(Spray::end)?;
        ensure!(after == before, "heard: {before:?}, then {after:?}");
        Ok(())
    }
}

fn tables(node: &Node) -> Result<String> {
    node.ns.output("nft", "list tables")
}

fn knock(from: &Netns, to: SocketAddr, open: bool) -> Result<()> {
    let wanted = match open {
        true => Outcome::Answered,
        false => Outcome::Silent,
    };
    let tcp = dial::tcp(from, to, PATIENCE)?;
    let udp = dial::udp(from, to, PATIENCE)?;
    ensure!(
        (tcp, udp) == (wanted, wanted),
        "{to}: TCP {tcp:?}, UDP {udp:?}, wanted {wanted:?}"
    );
    Ok(())
}

fn restart(node: &mut Node) -> Result<()> {
    node.stop()?;
    node.start_ready()
}

#[test]
fn a_workload_that_comes_to_be_selected_is_cut_off() -> Result<()> {
    lab::run("policy-cutoff", |lab| {
        let mut rig = Rig::new(lab)?;
        let mut line = Line::open(rig.far.ns(), rig.web.at(false, WEB)?, PATIENCE)?;
        ensure!(line.carries(PATIENCE)? && !rig.table_stands()?);
        rig.apply("deny", DENY)?;
        rig.says("Degraded", "cut off by table inet routerd_cutoff")?;
        ensure!(!line.carries(PATIENCE)?, "a connection that lived goes on");
        rig.is(CUT_OFF)?;
        let doctor = rig.n2()?.ctl(&["doctor", "-o", "json"])?.json()?;
        let checks = scenario::list(&doctor, "checks")?.iter();
        let of_policy = |c: &&Value| c["name"] == "policy" && c["state"] == "Degraded";
        let messages = checks.filter(of_policy).map(|c| c["message"].to_string());
        let said = messages.filter(|m| m.contains("is cut off: policies select it"));
        ensure!(said.count() == 1, "{doctor}");

        rig.through(CUT_OFF, restart)?;
        rig.through(CUT_OFF, |n2| {
            n2.kill()?;
            n2.start_ready()
        })?;
        rig.says("Degraded", "cut off by table inet routerd_cutoff")?;
        // Whoever empties nftables is put right.
        (rig.n2()?.ns).output("nft", "delete table inet routerd_cutoff")?;
        rig.is(CUT_OFF)?;

        delete(rig.mesh.node(0)?, "globalnetworkpolicy", "deny")?;
        rig.is(OPEN)?;
        ensure!(!rig.table_stands()?, "a table that cuts off nobody");

        rig.apply("deny", DENY)?;
        rig.is(CUT_OFF)?;
        rig.mesh.node_mut(1)?.stop()?;
        rig.is(CUT_OFF)?;
        let n2 = rig.n2()?;
        n2.routerd(&["cleanup"])?.must_succeed(&["cleanup"])?;
        let left = tables(n2)?;
        ensure!(!left.contains("routerd"), "{left}");
        Ok(())
    })
}

#[test]
fn what_is_cut_off_waits_for_the_programs_and_what_has_them_keeps_them() -> Result<()> {
    lab::run("policy-cutoff-able", |lab| {
        let mut rig = Rig::new(lab)?;
        rig.apply("deny", DENY)?;
        rig.is(CUT_OFF)?;
        rig.through(DENIED, |n2| {
            n2.has_bpf()?;
            restart(n2)?;
            enforces(n2)
        })?;
        rig.is(DENIED)?;
        ensure!(
            !rig.table_stands()?,
            "the table is there beside the programs"
        );

        // Of a daemon that cannot any more the programs stay, for what they know.
        rig.through(DENIED, |n2| {
            n2.lacks_bpf()?;
            restart(n2)
        })?;
        rig.says(
            "Failed",
            "1 workloads keep the policies of the daemon before",
        )?;
        rig.is(DENIED)?;
        rig.apply(
            "more",
            "{ selector: app == 'web', types: [Egress], egress: [{ action: Deny }] }",
        )?;
        rig.says("Degraded", "cut off by table inet routerd_cutoff")?;
        rig.is(CUT_OFF)?;
        rig.through(CUT_OFF, restart)?;
        rig.is(CUT_OFF)
    })
}
