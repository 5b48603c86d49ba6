//! `docs/openapi.yaml` says what `model::api` does.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests stand outside `#[test]`

#[path = "openapi/bgp.rs"]
mod bgp;
#[path = "openapi/explain.rs"]
mod explain;
#[path = "openapi/flows.rs"]
mod flows;
#[path = "openapi/paths.rs"]
mod paths;
#[path = "openapi/schemas.rs"]
mod schemas;

use serde_json::Value;

/// The document.
fn document() -> Value {
    serde_saphyr::from_str(include_str!("../../docs/openapi.yaml")).unwrap()
}

/// What a `$ref` names, or the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        None => value,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').unwrap();
            let target = document.pointer(pointer);
            target.unwrap_or_else(|| panic!("{reference} names nothing"))
        }
    }
}

#[test]
fn every_reference_names_something() {
    fn walk(document: &Value, value: &Value, seen: &mut usize) {
        if value.get("$ref").is_some() {
            resolve(document, value);
            *seen += 1;
        }
        match value {
            Value::Array(items) => items.iter().for_each(|v| walk(document, v, seen)),
            Value::Object(map) => map.values().for_each(|v| walk(document, v, seen)),
            _ => {}
        }
    }
    let document = document();
    let mut seen = 0;
    walk(&document, &document, &mut seen);
    assert!(seen > 50);
}
