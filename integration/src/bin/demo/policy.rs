//! Policy: a default deny, an allow, why a packet passes or not, and a live connection that a new deny cuts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::lab::probe::dial::{self, Doors, Line, Outcome};
use integration::lab::{Cni, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE};
use integration::screen::Screen;
use serde_json::{Value, json};

const WEB: u16 = 8080;
/// A round trip takes well under a millisecond: who has not answered by now does not.
const PATIENCE: Duration = Duration::from_millis(250);

const DENY: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: default-deny }\n\
    spec: { order: 1000, types: [Ingress, Egress] }\n";
const ALLOW: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: web }\n\
    spec:\n  order: 10\n  selector: app == 'web'\n  ingress:\n  \
    - { action: Allow, protocol: TCP, source: { selector: app == 'client' }, destination: { ports: [8080] } }\n---\n\
    apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: clients }\n\
    spec:\n  order: 10\n  selector: app in { 'client', 'other' }\n  types: [Egress]\n  egress:\n  \
    - { action: Allow, destination: { selector: app == 'web' } }\n";
const MAINTENANCE: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: maintenance }\n\
    spec: { order: 1, selector: app == 'web', ingress: [{ action: Deny }] }\n";

pub(crate) fn show(lab: &Lab, steps: &mut Screen) -> Result<()> {
    steps.heading("Policy: web on n1, client and other on n2, eBPF at each of them");
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
    let (web, client, other, _doors) = steps.step("three workloads with labels", || {
        scenario::start(&mut mesh, "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let web = labelled(lab, n1, "web")?;
        let (client, other) = (labelled(lab, n2, "client")?, labelled(lab, n2, "other")?);
        let doors = Doors::open(&web.ns, &[WEB])?;
        let said = format!("web is {}", web.ip(false)?);
        Ok(((web, client, other, doors), said))
    })?;
    let at = SocketAddr::new(web.ip(false)?, WEB);
    let n1 = mesh.node(0)?;
    steps.step("without policy both reach web", || {
        all(
            &[(&client, Outcome::Answered), (&other, Outcome::Answered)],
            at,
        )
    })?;
    steps.step("default deny: nobody does", || {
        n1.apply(DENY)?;
        all(&[(&client, Outcome::Silent), (&other, Outcome::Silent)], at)
    })?;
    steps.step("web allows client, and nobody else", || {
        n1.apply(ALLOW)?;
        all(
            &[(&client, Outcome::Answered), (&other, Outcome::Silent)],
            at,
        )
    })?;

    steps.heading("Why");
    for (from, verdict) in [("client", "Allow"), ("other", "Deny")] {
        let args = [
            "explain",
            &format!("default/{from}"),
            "default/web",
            "--proto",
            "tcp",
            "--port",
            "8080",
        ];
        steps.step(&format!("routerctl {}", args.join(" ")), || {
            let said = n1.json(&args)?;
            ensure!(
                said["verdict"] == verdict && said["kernelAgrees"] == true,
                "{said}"
            );
            Ok(((), format!("{verdict}, and the kernel agrees")))
        })?;
        print!("{}", n1.ctl(&args)?.must_succeed(&args)?.stdout);
    }
    steps.step("routerctl flows --denied names the rule", || {
        wait("a denied flow", CONVERGE, || {
            let args = ["flows", "--denied", "-o", "json"];
            let said = n1.ctl(&args)?.must_succeed(&args)?.stdout;
            let lines = said.lines().map(serde_json::from_str::<Value>);
            let flows = lines.collect::<Result<Vec<_>, _>>()?;
            let of_other = |f: &&Value| f["source"]["name"] == "other" && f["tier"] == "default";
            let flow = flows.iter().find(of_other);
            let flow = flow.with_context(|| format!("none of other in {said}"))?;
            let (port, by) = (&flow["port"], &flow["by"]);
            Ok((
                (),
                format!("other to web, port {port}: {by} of the tier default"),
            ))
        })
    })?;

    steps.heading("A live connection");
    let mut line = Line::open(&client.ns, at, PATIENCE)?;
    steps.step("client talks to web; a new deny cuts it", || {
        ensure!(line.carries(PATIENCE)?, "it does not begin");
        let start = Instant::now();
        n1.apply(MAINTENANCE)?;
        let applied = start.elapsed();
        let patience = Duration::from_millis(20);
        wait("the connection to be cut", CONVERGE, || {
            ensure!(!line.carries(patience)?, "it goes on");
            Ok(())
        })?;
        let said = format!(
            "{:.0} ms after `apply` began, nothing passes",
            applied.as_secs_f64() * 1e3
        );
        Ok(((), said))
    })?;
    steps.step("the daemons restart: what is in force stays", || {
        for node in &mut mesh.nodes {
            node.kill()?;
        }
        all(&[(&client, Outcome::Silent), (&other, Outcome::Silent)], at)?;
        mesh.nodes.iter_mut().try_for_each(Node::start_ready)?;
        Ok(((), String::new()))
    })?;
    steps.step("the deny goes, and the same connection goes on", || {
        let n1 = mesh.node(0)?;
        let args = ["delete", "globalnetworkpolicy", "maintenance"];
        n1.ctl(&args)?.must_succeed(&args)?;
        wait("the connection to go on", CONVERGE, || {
            ensure!(line.carries(PATIENCE)?, "it is cut still");
            Ok(())
        })?;
        Ok(((), String::new()))
    })
}

/// A workload with its name as its label `app`.
fn labelled(lab: &Lab, node: &Node, name: &str) -> Result<Workload> {
    let extra = json!({ "args": { "cni": { "labels": { "app": name } } } });
    Cni::of(node)?.add_with(lab, name, &extra)
}

/// Waits until knocking at web gives this for each.
fn all(wanted: &[(&Workload, Outcome)], at: SocketAddr) -> Result<((), String)> {
    wait("policy to be in force", CONVERGE, || {
        let mut said = Vec::new();
        for (from, wanted) in wanted {
            let got = dial::tcp(&from.ns, at, PATIENCE)?;
            ensure!(got == *wanted, "{}: {got:?}, wanted {wanted:?}", from.name);
            said.push(format!("{}: {got:?}", from.name));
        }
        Ok(((), said.join(", ")))
    })
}
