//! Paths: the table in `model::api`, the document and the client's own agree.

use std::collections::{BTreeMap, BTreeSet};

use client::{Target, paths};
use model::Kind;
use model::object::ObjectId;
use serde_json::Value;

use crate::{document, resolve};

/// Names of the query's parameters, by method and path.
type Operations = BTreeMap<(String, String), BTreeSet<String>>;

/// The operations that the rustdoc of `model::api` lists.
fn of_the_table() -> Operations {
    let source = include_str!("../../../model/src/api.rs");
    let mut operations = Operations::new();
    for row in source.lines().filter_map(|l| l.strip_prefix("//! | `")) {
        let (request, rest) = row.split_once('`').unwrap();
        let (method, target) = request.split_once(' ').unwrap();
        let query: BTreeSet<String> = [target, rest]
            .iter()
            .flat_map(|t| t.split(['?', '&']).skip(1))
            .map(|t| t.split('=').next().unwrap().to_owned())
            .collect();
        let path = target.split("[?").next().unwrap();
        for path in expand(path) {
            let before = operations.insert((method.to_lowercase(), path), query.clone());
            assert_eq!(before, None, "twice: {row}");
        }
    }
    operations
}

/// `a/[b/]c` is `a/c` and `a/b/c`; `a/{x,y}` is `a/x` and `a/y`.
fn expand(path: &str) -> Vec<String> {
    if let Some((before, rest)) = path.split_once('[') {
        let (optional, after) = rest.split_once(']').unwrap();
        return vec![
            format!("{before}{after}"),
            format!("{before}{optional}{after}"),
        ];
    }
    match path.split_once('{') {
        Some((before, choice)) if choice.contains(',') => choice
            .trim_end_matches('}')
            .split(',')
            .map(|c| format!("{before}{c}"))
            .collect(),
        _ => vec![path.to_owned()],
    }
}

/// The operations of the document.
fn of_the_document() -> Operations {
    let document = document();
    let mut operations = Operations::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete"] {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let parameters = [item, operation]
                .into_iter()
                .filter_map(|v| v.get("parameters").and_then(Value::as_array))
                .flatten()
                .map(|p| resolve(&document, p));
            let (mut query, mut in_path) = (BTreeSet::new(), BTreeSet::new());
            for parameter in parameters {
                let name = parameter["name"].as_str().unwrap().to_owned();
                match parameter["in"].as_str().unwrap() {
                    "query" => query.insert(name),
                    _ => in_path.insert(name),
                };
            }
            let templates: BTreeSet<String> = path
                .split('/')
                .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
                .map(str::to_owned)
                .collect();
            assert_eq!(in_path, templates, "{method} {path}");
            operations.insert((method.to_owned(), path.clone()), query);
        }
    }
    operations
}

#[test]
fn the_document_lists_what_the_table_does() {
    let table = of_the_table();
    assert!(table.len() >= 20, "{table:?}");
    assert_eq!(of_the_document(), table);
}

#[test]
fn every_path_of_the_client_is_in_the_document_and_the_other_way_round() {
    let id = |kind: Kind| ObjectId {
        kind,
        namespace: kind.is_namespaced().then(|| "ns".to_owned()),
        name: "x".to_owned(),
    };
    let mut ours: Vec<Target> = vec![
        paths::status(),
        paths::doctor(),
        paths::diff(),
        paths::tunnels(),
        paths::rotate(),
        paths::explain(),
        paths::bgp_peers(),
        paths::bgp_routes(),
        paths::flows(),
        paths::policy(),
        paths::policy_impact(),
        paths::resources(Kind::Node),
        paths::resource(&id(Kind::Node)),
        paths::resource(&id(Kind::WorkloadEndpoint)),
        paths::ipam(),
        paths::ipam_address([10, 0, 0, 1].into()),
        paths::ipam_check(),
        paths::ipam_release(),
        paths::datastore_accept(),
    ];
    ours.extend(["add", "del", "check", "status", "gc"].map(paths::cni));
    let mut left: BTreeSet<String> = of_the_document()
        .into_keys()
        .map(|(_, path)| path)
        .collect();
    for target in ours.iter().map(ToString::to_string) {
        // What is written out goes before what is a template.
        let hit = left
            .iter()
            .filter(|template| matches(template, &target))
            .min_by_key(|template| template.matches('{').count())
            .unwrap_or_else(|| panic!("{target} is not in the document, or twice here"))
            .clone();
        left.remove(&hit);
    }
    assert!(left.is_empty(), "the client has no {left:?}");
}

fn matches(template: &str, target: &str) -> bool {
    let (template, target): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), target.split('/').collect());
    template.len() == target.len()
        && template
            .iter()
            .zip(&target)
            .all(|(a, b)| a.starts_with('{') || a == b)
}
