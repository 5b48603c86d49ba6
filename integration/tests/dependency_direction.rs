//! Arrows between crates point one way only; `docs/architecture.md` has the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Every crate of the workspace, and which of ours it may depend on.
const MAY: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("calc", &["model"]),
    ("ipam", &["model"]),
    ("datastore", &["model"]),
    ("netlink", &["model"]),
    ("bgp", &["model"]),
    ("client", &["model"]),
    ("policy-common", &[]),
    ("wireguard", &["model"]),
    ("policy-ebpf", &["model", "policy-common"]),
    ("holder", &["model", "wireguard"]),
    (
        "routerd",
        &[
            "model",
            "calc",
            "ipam",
            "datastore",
            "netlink",
            "wireguard",
            "bgp",
            "policy-ebpf",
        ],
    ),
    ("routerctl", &["client", "model"]),
    ("cni", &["client", "model"]),
    (
        "integration",
        &[
            "bgp",
            "calc",
            "client",
            "datastore",
            "ipam",
            "model",
            "policy-ebpf",
            "routerd",
            "wireguard",
        ],
    ),
];

/// Crates that decide: no sockets, no runtime, no clock behind their backs.
const PURE: [&str; 3] = ["model", "calc", "ipam"];
/// What a pure crate must not link.
const IMPURE: [&str; 9] = [
    "tokio",
    "axum",
    "etcd-client",
    "redb",
    "nix",
    "netlink-sys",
    "rand",
    "chrono",
    "socket2",
];

fn metadata() -> Result<Metadata> {
    Ok(MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()?)
}

/// Names that a crate depends on outside its tests.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|d| d.kind != DependencyKind::Development)
                .map(|d| d.name.clone())
                .collect();
            (package.name.to_string(), names)
        })
        .collect()
}

/// What is wrong, in words.
fn wrong(found: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY.into_iter().collect();
    let mut wrong = Vec::new();
    for (package, names) in found {
        let Some(may) = allowed.get(package.as_str()) else {
            wrong.push(format!(
                "{package} is not in the table: add it here and in docs/architecture.md"
            ));
            continue;
        };
        for name in names {
            if found.contains_key(name) && !may.contains(&name.as_str()) {
                wrong.push(format!("{package} may not depend on {name}"));
            }
            if PURE.contains(&package.as_str()) && IMPURE.contains(&name.as_str()) {
                wrong.push(format!("{package} is pure and may not depend on {name}"));
            }
        }
    }
    wrong
}

#[test]
fn crates_depend_only_on_what_they_may() -> Result<()> {
    let found = dependencies(&metadata()?);
    ensure!(found.len() == MAY.len(), "crates: {:?}", found.keys());
    let wrong = wrong(&found);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_arrow_is_found() -> Result<()> {
    let mut found = dependencies(&metadata()?);
    found
        .get_mut("calc")
        .context("calc")?
        .extend(["netlink".to_owned(), "tokio".to_owned()]);
    found.insert("newcomer".to_owned(), BTreeSet::new());
    let wrong = wrong(&found).join("\n");
    for words in [
        "calc may not depend on netlink",
        "calc is pure",
        "newcomer is not in the table",
    ] {
        ensure!(wrong.contains(words), "{wrong}");
    }
    Ok(())
}

/// The core of `bgp` is pure, and its `speaker` is not: they are one crate, so the sources tell.
#[test]
fn only_the_speaker_of_bgp_has_sockets_and_clocks() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bgp/src");
    let mut todo = vec![source.clone()];
    let mut seen = 0;
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path == source.join("speaker") || path == source.join("speaker.rs") {
                continue;
            }
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            for word in [
                "nix::",
                "socket2::",
                "libc::",
                "tracing::",
                "std::thread",
                "std::time::Instant",
                "TcpStream",
                "UdpSocket",
                "speaker::",
            ] {
                ensure!(!text.contains(word), "{} names {word}", path.display());
            }
            seen += 1;
        }
    }
    ensure!(seen > 30, "{seen} files");
    Ok(())
}
