//! Policy on every way between nodes.

use anyhow::Result;
use integration::lab::{self, Lab, Mesh, MeshSpec};
use integration::scenario;

use crate::rig::{WEB, calico, default_deny, enforces, expect, mesh, pod};

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
