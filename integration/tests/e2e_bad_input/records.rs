//! Values in the store that nobody can read.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Mesh, MeshSpec, Workload, wait};
use integration::scenario::{self, CONVERGE};

use crate::STORE;

/// Bytes that are no value of the store.
fn junk(good: &str) -> Vec<Vec<u8>> {
    let half = good.len() / 2;
    vec![
        Vec::new(),
        good.as_bytes().get(..half).unwrap_or_default().to_vec(),
        b"{\"hello\": \"world\"}".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"[]".to_vec(),
        b"null".to_vec(),
        vec![b'['; 100_000],
    ]
}

#[test]
fn broken_address_records_are_named_and_nothing_is_lost() -> Result<()> {
    lab::run("broken records", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let cni = Cni::of(mesh.node(0)?)?;
        let mut standing = scenario::populate(lab, &mesh, 1)?;
        let sticky = serde_json::json!({ "args": { "cni": { "sticky": true } } });
        standing.push(cni.add_with(lab, "pet", &sticky)?);
        let records = mesh.etcd.list(&format!("{STORE}ipam/"))?;
        let find = |what: &str, holder: &str| {
            let wanted = format!("{STORE}ipam/{what}/");
            let found = records.iter().find(|(k, v)| {
                k.starts_with(&wanted) && (k.contains(holder) || v.contains(holder))
            });
            found
                .cloned()
                .with_context(|| format!("no {what} of {holder}"))
        };
        let block = find("blocks", "\"n1\"")?;
        let identity = find("identities", "sticky:default:pet")?;
        // What is to be kept has to be there: routes come a moment after the workload.
        wait("every node to have the route", CONVERGE, || {
            everyone_has(&mesh, block_of(&block.0))
        })?;
        for (key, good) in [block, identity] {
            for (i, bad) in junk(&good).into_iter().enumerate() {
                mesh.etcd.put(&key, &bad)?;
                let node = mesh.node(0)?;
                let out = node.ctl(&["ipam", "check", "-o", "json"])?;
                let report = out.json().with_context(|| out.stderr.clone())?;
                let short = key.strip_prefix(STORE).unwrap_or(&key);
                ensure!(
                    out.code == Some(1) && report.to_string().contains(short),
                    "{short} = {bad:?}: {report}"
                );
                if short.contains("blocks/") {
                    everyone_keeps(&mesh, short)?;
                }
                // Others go on; nothing that stands is disturbed.
                if i % 3 == 1 {
                    let name = format!("during-{i}-{}", key.len());
                    Cni::of(mesh.node(1)?)?.add(lab, &format!("other-{name}"))?;
                    let more = wait("ADD to work beside it", CONVERGE, || cni.add(lab, &name))?;
                    let old = standing.first().context("no workload")?.clone();
                    scenario::everyone_reaches_everyone(&[old, more])?;
                }
            }
            over_it_and_back(&mut mesh, &standing, &key, &good)?;
        }
        // What cannot be read could be the endpoint of any link.
        let endpoints = mesh
            .etcd
            .list(&format!("{STORE}resources/workloadendpoints/"))?;
        let (key, good) = endpoints.first().context("no endpoints")?;
        mesh.etcd
            .put(key, good.as_bytes().get(..20).unwrap_or_default())?;
        over_it_and_back(&mut mesh, &standing, key, good)?;
        // Junk where no record is.
        let keys = [
            "ipam/blocks/10.65.77.0/26",
            "ipam/blocks/../../x",
            "ipam/identities/stray",
            "ipam/affinity/n1/nonsense",
            "resources/unknownkind/x",
            "resources/ippools/a/b/c",
        ];
        for key in keys {
            mesh.etcd.put(&format!("{STORE}{key}"), b"{")?;
        }
        standing.push(cni.add(lab, "beside-junk")?);
        scenario::everyone_reaches_everyone(&standing)?;
        let first = mesh.node(0)?;
        let out = first.ctl(&["ipam", "check", "-o", "json"])?;
        ensure!(out.code == Some(1), "{}", out.stdout);
        for key in &keys[..3] {
            ensure!(
                out.stdout.contains(key),
                "{key} is not named: {}",
                out.stdout
            );
        }
        for key in keys {
            mesh.etcd.delete(&format!("{STORE}{key}"))?;
        }
        wait("the records to be clean", CONVERGE, || {
            scenario::ipam_is_clean(mesh.node(0)?)
        })
    })
}

/// Daemons that start over a value take nothing away, and go on when it is mended.
fn over_it_and_back(mesh: &mut Mesh, standing: &[Workload], key: &str, good: &str) -> Result<()> {
    for node in 0..2 {
        mesh.node_mut(node)?.kill()?;
        mesh.node_mut(node)?.start_ready()?;
    }
    scenario::everyone_reaches_everyone(standing)?;
    mesh.etcd.put(key, good.as_bytes())?;
    scenario::everyone_reaches_everyone(standing).map(drop)
}

/// Every node says that it cannot read the record, and its route to the block stays.
fn everyone_keeps(mesh: &Mesh, key: &str) -> Result<()> {
    let block = block_of(key);
    for node in &mesh.nodes {
        wait("the record to be rejected", CONVERGE, || {
            let status = node.status()?;
            let rejected = scenario::list(&status, "rejected")?;
            let named = rejected
                .iter()
                .any(|r| r.get("name").is_some_and(|n| n == block));
            ensure!(named, "{block} is not in {status}");
            let kept = rejected.iter().any(|r| {
                let message = r.get("message").and_then(serde_json::Value::as_str);
                message.is_some_and(|m| m.contains("stays in force"))
            });
            ensure!(kept, "{block} is not kept: {status}");
            Ok(())
        })?;
    }
    everyone_has(mesh, block)
}

/// The block of a key, with or without the store's prefix.
fn block_of(key: &str) -> &str {
    let key = key.strip_prefix(STORE).unwrap_or(key);
    key.trim_start_matches("ipam/blocks/")
}

fn everyone_has(mesh: &Mesh, block: &str) -> Result<()> {
    for node in &mesh.nodes {
        let routes = scenario::our_routes(node)?;
        let there = routes
            .iter()
            .any(|r| r.get("dst").is_some_and(|dst| dst == block));
        ensure!(there, "{} has no route to {block}: {routes:?}", node.name);
    }
    Ok(())
}
