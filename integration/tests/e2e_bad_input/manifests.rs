//! Manifests out of range, with unknown fields, path tricks and of ten megabytes.

use anyhow::{Result, ensure};
use integration::lab;
use serde_json::json;

use crate::fields::{BAD_METADATA, OUT_OF_RANGE};
use crate::{STORE, one_node};

#[test]
fn no_field_out_of_range_gets_into_the_store() -> Result<()> {
    lab::run("out of range", |lab| {
        let mesh = one_node(lab)?;
        let node = mesh.node(0)?;
        let before = mesh.etcd.list(STORE)?;
        let mut wrong = Vec::new();
        let mut refuse = |manifest: &str, word: &str| -> Result<()> {
            for verb in ["validate", "apply", "diff"] {
                let out = node.ctl_stdin(&[verb, "-f", "-"], manifest)?;
                let named = out.stderr.contains(word) && !out.stderr.contains("panicked");
                if out.code != Some(1) || !named {
                    wrong.push(format!("{verb} of {manifest:?}, {word}: {out:?}"));
                }
            }
            Ok(())
        };
        for (kind, spec, word) in OUT_OF_RANGE {
            let name = match *kind {
                "IPAMConfiguration" | "MeshConfiguration" => "default",
                _ => "bad",
            };
            refuse(
                &format!(
                    "apiVersion: routerd/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
                ),
                word,
            )?;
        }
        for (metadata, word) in BAD_METADATA {
            refuse(
                &format!(
                    "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ {metadata} }}\nspec: {{ cidr: 10.80.0.0/16 }}\n"
                ),
                word,
            )?;
        }
        // One bad object among good ones: none is written.
        let good = "apiVersion: routerd/v1\nkind: Namespace\nmetadata: { name: fine }\n";
        let mixed = format!(
            "{good}---\napiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ name: p }}\nspec: {{ cidr: 1 }}\n"
        );
        refuse(&mixed, "cidr")?;
        // Ten megabytes of objects that are good one by one.
        let line = format!("{good}---\n");
        let huge = line.repeat((10 << 20) / line.len());
        let out = node.ctl_stdin(&["apply", "-f", "-"], &huge)?;
        ensure!(out.code == Some(1) && !out.stderr.is_empty(), "{out:?}");

        ensure!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(
            mesh.etcd.list(STORE)? == before,
            "something refused was written"
        );
        ensure!(node.status()?.get("ready") == Some(&json!(true)));
        Ok(())
    })
}
