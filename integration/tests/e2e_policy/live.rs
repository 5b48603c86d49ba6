//! What becomes of connections that live while policy changes.

use anyhow::{Result, ensure};
use integration::lab::probe::dial::Line;
use integration::lab::{self, MeshSpec, wait};
use integration::scenario::{CONVERGE, mesh_configuration};

use crate::rig::{PATIENCE, WEB, calico, delete, expect, mesh, pod};

const DENY: &str = "{ selector: app == 'web', types: [Ingress], ingress: [{ action: Deny }] }";

#[test]
fn a_new_deny_cuts_live_connections() -> Result<()> {
    lab::run("policy-cut", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        let near = pod(lab, n1, "near", &[])?;
        let far = pod(lab, n2, "far", &[])?;
        let mut lines = Vec::new();
        for from in [&near, &far] {
            for v6 in [false, true] {
                lines.push(Line::open(from.ns(), web.at(v6, WEB)?, PATIENCE)?);
            }
        }
        for line in &mut lines {
            ensure!(line.carries(PATIENCE)?);
        }
        n1.apply(&calico("GlobalNetworkPolicy", "web", DENY))?;
        for line in &mut lines {
            wait("a live connection to be cut", CONVERGE, || {
                ensure!(!line.carries(PATIENCE)?, "it goes on");
                Ok(())
            })?;
        }
        // What is not selected goes on.
        expect(&[(&near, &far, WEB, true), (&web, &far, WEB, true)])?;
        delete(n1, "globalnetworkpolicy", "web")?;
        // TCP sends again what was lost.
        for line in &mut lines {
            wait("a connection to go on", CONVERGE, || {
                ensure!(line.carries(PATIENCE)?, "it is cut still");
                Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn live_connections_are_kept_where_that_is_asked_for() -> Result<()> {
    lab::run("policy-keep", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        n1.apply(&mesh_configuration("liveConnections: Keep"))?;
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        let near = pod(lab, n1, "near", &[])?;
        let mut line = Line::open(near.ns(), web.at(false, WEB)?, PATIENCE)?;
        ensure!(line.carries(PATIENCE)?);
        n1.apply(&calico("GlobalNetworkPolicy", "web", DENY))?;
        expect(&[(&near, &web, WEB, false)])?;
        for _ in 0..10 {
            ensure!(line.carries(CONVERGE)?, "the connection was cut");
        }
        n1.apply(&mesh_configuration("liveConnections: Cut"))?;
        wait("the connection to be cut", CONVERGE, || {
            ensure!(!line.carries(PATIENCE)?, "it goes on");
            Ok(())
        })
    })
}
