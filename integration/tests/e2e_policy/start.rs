//! The moments of ADD: a workload is never open before its policy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use integration::lab::probe::dial::{Doors, Spray};
use integration::lab::{self, MeshSpec, wait};
use integration::scenario::CONVERGE;
use serde_json::json;

use crate::rig::{Ask, WEB, attach, calico, expect, mesh, pod};

/// ADDs watched in a test.
const ADDS: u8 = 20;
/// Datagrams that must have been sent after ADD's answer before the count is taken.
const AFTER: u64 = 2000;

fn goes_on(spray: &Spray) -> Result<()> {
    let now = spray.sent();
    wait("datagrams to be sent", CONVERGE, || {
        let sent = spray.sent();
        ensure!(sent > now + AFTER, "{sent}");
        Ok(())
    })
}

#[test]
fn nothing_reaches_a_workload_before_its_policy() -> Result<()> {
    lab::run("policy-window-in", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let near = pod(lab, n1, "near", &[])?;
        let far = pod(lab, n2, "far", &[])?;
        let deny = "{ selector: app == 'shut', types: [Ingress], ingress: [{ action: Deny }] }";
        n1.apply(&calico("GlobalNetworkPolicy", "shut", deny))?;
        // The first of each kind says that the other's silence means something.
        for (i, app) in (0..ADDS).map(|i| (i, if i == 0 { "open" } else { "shut" })) {
            let ip: IpAddr = Ipv4Addr::new(10, 65, 200, 10 + i).into();
            let name = format!("new{i}");
            let ns = lab.workload_netns(&name)?;
            let doors = Doors::open(&ns, &[WEB])?;
            let sprays = [
                Spray::start(near.ns(), SocketAddr::new(ip, WEB))?,
                Spray::start(far.ns(), SocketAddr::new(ip, WEB))?,
            ];
            let ask = Ask {
                namespace: "default",
                name: &name,
                labels: &[("app", app)],
                more: json!({ "ips": [ip] }),
            };
            attach(lab, n1, &ns, &ask)?;
            sprays.iter().try_for_each(goes_on)?;
            let heard = doors.heard();
            sprays.into_iter().try_for_each(Spray::end)?;
            match app {
                "open" => ensure!(heard > 0, "nothing reached the open workload"),
                _ => ensure!(
                    heard == 0,
                    "{heard} datagrams reached {name} before its policy"
                ),
            }
        }
        expect(&[(&near, &far, WEB, true)])
    })
}

#[test]
fn a_workload_sends_nothing_before_its_policy() -> Result<()> {
    lab::run("policy-window-out", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        // What the open one sent is heard for a while after.
        let [near, other] = ["near", "other"].map(|name| pod(lab, n1, name, &[]));
        let (near, other) = (near?, other?);
        let deny = "{ selector: app == 'shut', types: [Egress], egress: [{ action: Deny }] }";
        n1.apply(&calico("GlobalNetworkPolicy", "shut", deny))?;
        for (i, app) in (0..ADDS).map(|i| (i, if i == 0 { "open" } else { "shut" })) {
            let name = format!("new{i}");
            let ns = lab.workload_netns(&name)?;
            let to = if app == "open" { &other } else { &near };
            let spray = Spray::start(&ns, to.at(false, WEB)?)?;
            let ask = Ask {
                namespace: "default",
                name: &name,
                labels: &[("app", app)],
                ..Ask::default()
            };
            attach(lab, n1, &ns, &ask)?;
            goes_on(&spray)?;
            let heard = to.doors.heard();
            spray.end()?;
            match app {
                "open" => ensure!(heard > 0, "nothing came from the open workload"),
                _ => ensure!(
                    heard == 0,
                    "{heard} datagrams came from {name} before its policy"
                ),
            }
        }
        Ok(())
    })
}
