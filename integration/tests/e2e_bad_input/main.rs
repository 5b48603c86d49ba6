//! Bad input from every side: a clear error, nothing changed, nothing lost.

mod fields;
mod manifests;
mod plugin;
mod records;
mod socket;

use anyhow::Result;
use integration::lab::{Lab, Mesh, MeshSpec};
use integration::scenario;

const STORE: &str = "/routerd/v1/";

fn one_node(lab: &Lab) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    Ok(mesh)
}
