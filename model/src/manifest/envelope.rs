//! From a JSON value to objects: lists, `apiVersion`, `kind`, metadata.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::strict::{self, Fault};
use super::{foreign, kubernetes};
use crate::object::{API_VERSION, Object, Resource};
use crate::validate::{ValidationError, nearest};
use crate::{Kind, Metadata};

const CALICO: &str = "projectcalico.org/v3";
const CALICO_CRD: &str = "crd.projectcalico.org/v1";
const CORE: &str = "v1";

/// Metadata that a server writes and that means nothing here.
const SERVER_SET: &[&str] = &[
    "generation",
    "generateName",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "clusterName",
    "initializers",
];
/// Metadata that only means something in the store that wrote it.
const STORE_SET: &[&str] = &["uid", "resourceVersion", "creationTimestamp"];
/// Where `kubectl apply` keeps the text that was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads the objects of a document, or of a list in it.
pub(super) fn objects(
    value: Value,
    name: &str,
    out: &mut Vec<Object>,
    errors: &mut Vec<ValidationError>,
) {
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(of) = kind.strip_suffix("List").filter(|of| is_list_of(of)) else {
        match object(value, name, Source::Manifest) {
            Ok(object) => out.push(object),
            Err(mut found) => errors.append(&mut found),
        }
        return;
    };
    let (of, mut value) = (of.to_owned(), value);
    let version = value.get("apiVersion").cloned();
    for field in value.as_object().into_iter().flat_map(Map::keys) {
        if !["apiVersion", "kind", "metadata", "items"].contains(&field.as_str()) {
            errors.push(ValidationError::at(
                name,
                field,
                "",
                "unknown field of a list",
                "known here: items",
            ));
        }
    }
    let items = match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(Value::Null) => Vec::new(),
        other => {
            let shown = other.map(|v| v.to_string()).unwrap_or_default();
            errors.push(ValidationError::at(
                name,
                "items",
                shown,
                "a list needs its items",
                "write items: []",
            ));
            return;
        }
    };
    for (i, mut item) in items.into_iter().enumerate() {
        // The items of a typed list may leave out what the list says.
        if let Some(map) = item.as_object_mut().filter(|_| !of.is_empty()) {
            map.entry("kind").or_insert_with(|| of.clone().into());
            if let Some(version) = &version {
                map.entry("apiVersion").or_insert_with(|| version.clone());
            }
        }
        objects(item, &format!("{name}, item {}", i + 1), out, errors);
    }
}

/// Whether a list of this kind is worth looking into: of any kind, of ours, or of Calico's, whose
/// items are then refused one by one.
fn is_list_of(kind: &str) -> bool {
    kind.is_empty()
        || Kind::ALL.iter().any(|k| k.as_str() == kind)
        || foreign::kind_mend(kind).is_some()
}

/// Reads the stored form with all its faults.
pub(super) fn stored_object(bytes: &[u8]) -> Result<Object, Vec<ValidationError>> {
    let name = "stored value";
    let value = serde_json::from_slice(bytes).map_err(|e| {
        let problem = format!("is no readable JSON: {e}");
        vec![ValidationError::at(
            name,
            "",
            "",
            problem,
            "write the object again",
        )]
    })?;
    object(value, name, Source::Store)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Manifest,
    Store,
}

fn object(mut value: Value, name: &str, source: Source) -> Result<Object, Vec<ValidationError>> {
    let Some(map) = value.as_object_mut() else {
        let problem = "is no object";
        let mend = "write a mapping with apiVersion, kind, metadata and spec";
        return Err(vec![ValidationError::at(
            name,
            "",
            value.to_string(),
            problem,
            mend,
        )]);
    };
    let name = describe(map, name);
    let kind = kind(map, source).map_err(|f| vec![of_object(&name, f)])?;
    let version = map.remove("apiVersion");
    let ours = version.as_ref().is_some_and(|v| v == API_VERSION);
    let from_kubernetes = version.is_some_and(|v| v == kubernetes::VERSION);
    map.remove("kind");
    let status = map.remove("status");

    if kind == Kind::Secret {
        spec_of_secret(map);
    }
    let mut faults = match from_kubernetes {
        true => Vec::new(),
        false => foreign::take_fields(kind, &mut value),
    };
    let mut top = match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let metadata = top.remove("metadata").unwrap_or_default();
    let spec = top.remove("spec").unwrap_or_default();
    for (field, value) in top {
        let mend = match nearest(&field, ["apiVersion", "kind", "metadata", "spec"]) {
            Some(near) => format!("did you mean {near}?"),
            None => "known here: apiVersion, kind, metadata, spec".to_owned(),
        };
        faults.push(fault(&field, value.to_string(), "unknown field", mend));
    }
    let metadata = read_metadata(metadata, kind, ours, source, &mut faults);
    let spec = match from_kubernetes {
        true => kubernetes_policy(spec, &mut faults),
        false => read_spec(kind, spec, &mut faults),
    };
    let object = metadata.zip(spec);
    match object {
        Some((metadata, spec)) if faults.is_empty() => {
            let mut object = spec(metadata);
            // Of a manifest nothing is taken: only a node's daemon speaks for it.
            if let (Object::Node(node), Source::Store, Some(status)) = (&mut object, source, status)
            {
                node.spec.status = serde_json::from_value(status).unwrap_or_default();
            }
            Ok(object)
        }
        _ => {
            let faults = faults.into_iter().map(|f| match kind {
                // Whatever stands there may be the secret, written at the wrong place.
                Kind::Secret => fault(&f.field, "", f.problem, f.mend),
                _ => f,
            });
            Err(faults.map(|f| of_object(&name, f)).collect())
        }
    }
}

/// Kubernetes has the values beside the metadata; here all that is wanted stands in the spec.
fn spec_of_secret(map: &mut Map<String, Value>) {
    let parts: Vec<_> = ["data", "stringData"]
        .into_iter()
        .filter_map(|field| Some((field, map.remove(field)?)))
        .collect();
    let spec = map.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = Map::new().into();
    }
    if let Some(spec) = spec.as_object_mut() {
        for (field, value) in parts {
            spec.entry(field).or_insert(value);
        }
    }
}

/// `Kind/namespace/name` as far as they can be read, for errors.
fn describe(map: &Map<String, Value>, otherwise: &str) -> String {
    let part = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str).filter(|s| !s.is_empty());
        text.map(|t| {
            t.chars()
                .filter(|c| !c.is_control())
                .take(253)
                .collect::<String>()
        })
    };
    let meta = map.get("metadata");
    let kind = part(map.get("kind"));
    let name = part(meta.and_then(|m| m.get("name")));
    let namespace = part(meta.and_then(|m| m.get("namespace")));
    match (kind, namespace, name) {
        (Some(kind), Some(ns), Some(name)) => format!("{kind}/{ns}/{name}"),
        (Some(kind), None, Some(name)) => format!("{kind}/{name}"),
        (Some(kind), _, None) => format!("{otherwise} ({kind})"),
        _ => otherwise.to_owned(),
    }
}

fn fault(
    field: &str,
    value: impl Into<String>,
    problem: impl Into<String>,
    mend: impl Into<String>,
) -> Fault {
    Fault {
        field: field.to_owned(),
        value: value.into(),
        problem: problem.into(),
        mend: mend.into(),
    }
}

fn of_object(object: &str, f: Fault) -> ValidationError {
    ValidationError::at(object, f.field, f.value, f.problem, f.mend)
}

/// The kind, checked to be one of ours in an API version that has it.
fn kind(map: &Map<String, Value>, source: Source) -> Result<Kind, Fault> {
    let text = |field: &str| match map.get(field) {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.as_str()),
        None => Err(fault(field, "", "is required", "")),
        Some(other) => Err(fault(
            field,
            other.to_string(),
            "is no name",
            "write a string",
        )),
    };
    let (given, version) = (text("kind")?, text("apiVersion")?);
    let quoted = format!("{given:?}");
    // Calico's own name for it in the Kubernetes store.
    let name = match (version, given) {
        (CALICO_CRD, "IPAMConfig") => "IPAMConfiguration",
        _ => given,
    };
    let Some(kind) = Kind::ALL.into_iter().find(|k| k.as_str() == name) else {
        let known = Kind::ALL.map(Kind::as_str);
        return Err(match (foreign::kind_mend(given), nearest(given, known)) {
            (Some(why), _) => fault(
                "kind",
                quoted,
                "this kind of Calico's is not built here",
                why,
            ),
            (None, Some(near)) => fault(
                "kind",
                quoted,
                "is no kind",
                format!("did you mean {near}?"),
            ),
            (None, None) => fault(
                "kind",
                quoted,
                "is no kind",
                format!("write one of {}", known.join(", ")),
            ),
        });
    };
    let accepted: &[&str] = match (source, kind) {
        (Source::Store, _) | (_, Kind::MeshConfiguration) => &[API_VERSION],
        (_, Kind::Namespace | Kind::Secret) => &[API_VERSION, CORE],
        (_, Kind::NetworkPolicy) => &[API_VERSION, CALICO, CALICO_CRD, kubernetes::VERSION],
        _ => &[API_VERSION, CALICO, CALICO_CRD],
    };
    if accepted.contains(&version) {
        return Ok(kind);
    }
    let problem = format!("is no API version of {kind}");
    let mend = format!("write one of {}", accepted.join(", "));
    Err(fault("apiVersion", format!("{version:?}"), problem, mend))
}

fn read_metadata(
    mut value: Value,
    kind: Kind,
    ours: bool,
    source: Source,
    faults: &mut Vec<Fault>,
) -> Option<Metadata> {
    if value.is_null() {
        faults.push(fault(
            "metadata",
            "",
            "is required",
            "write metadata with a name",
        ));
        return None;
    }
    if let Some(map) = value.as_object_mut() {
        let dropped =
            |field: &str| SERVER_SET.contains(&field) || !ours && STORE_SET.contains(&field);
        map.retain(|field, _| !dropped(field));
        if let Some(Value::Object(annotations)) = map.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        if kind.is_namespaced() && source == Source::Manifest {
            let namespace = map.entry("namespace").or_insert(Value::Null);
            if namespace.is_null() || namespace == "" {
                *namespace = "default".into();
            }
        }
    }
    let read = match source {
        Source::Manifest => strict::read(value, "metadata"),
        // A newer version may have written more.
        Source::Store => strict::read_known(value, "metadata"),
    };
    read.map_err(|mut found| faults.append(&mut found)).ok()
}

type Finish = Box<dyn FnOnce(Metadata) -> Object>;

/// Reads the spec of a Kubernetes policy, which gets a name that no policy of the kind itself has.
fn kubernetes_policy(spec: Value, faults: &mut Vec<Fault>) -> Option<Finish> {
    let spec = match spec {
        Value::Null => Map::new().into(),
        spec => spec,
    };
    match kubernetes::policy(spec) {
        Ok(spec) => Some(Box::new(move |mut metadata: Metadata| {
            metadata.name.insert_str(0, kubernetes::PREFIX);
            Object::NetworkPolicy(Resource { metadata, spec })
        })),
        Err(mut found) => {
            faults.append(&mut found);
            None
        }
    }
}

/// Reads the spec of a kind; the metadata is put in when it is known to be good.
fn read_spec(kind: Kind, spec: Value, faults: &mut Vec<Fault>) -> Option<Finish> {
    fn as_kind<S: DeserializeOwned + 'static>(
        spec: Value,
        wrap: fn(Resource<S>) -> Object,
        faults: &mut Vec<Fault>,
    ) -> Option<Finish> {
        // A missing spec is one that says nothing.
        let spec = if spec.is_null() {
            Map::new().into()
        } else {
            spec
        };
        match strict::read::<S>(spec, "spec") {
            Ok(spec) => Some(Box::new(move |metadata| wrap(Resource { metadata, spec }))),
            Err(mut found) => {
                faults.append(&mut found);
                None
            }
        }
    }
    match kind {
        Kind::Node => as_kind(spec, Object::Node, faults),
        Kind::IPPool => as_kind(spec, Object::IPPool, faults),
        Kind::IPReservation => as_kind(spec, Object::IPReservation, faults),
        Kind::IPAMConfiguration => as_kind(spec, Object::IPAMConfiguration, faults),
        Kind::MeshConfiguration => as_kind(spec, Object::MeshConfiguration, faults),
        Kind::WorkloadEndpoint => as_kind(spec, Object::WorkloadEndpoint, faults),
        Kind::Namespace => as_kind(spec, Object::Namespace, faults),
        Kind::BGPConfiguration => as_kind(spec, Object::BGPConfiguration, faults),
        Kind::BGPPeer => as_kind(spec, Object::BGPPeer, faults),
        Kind::BGPFilter => as_kind(spec, Object::BGPFilter, faults),
        Kind::Secret => as_kind(spec, Object::Secret, faults),
        Kind::Tier => as_kind(spec, Object::Tier, faults),
        Kind::GlobalNetworkPolicy => as_kind(spec, Object::GlobalNetworkPolicy, faults),
        Kind::NetworkPolicy => as_kind(spec, Object::NetworkPolicy, faults),
        Kind::StagedGlobalNetworkPolicy => as_kind(spec, Object::StagedGlobalNetworkPolicy, faults),
        Kind::StagedNetworkPolicy => as_kind(spec, Object::StagedNetworkPolicy, faults),
        Kind::GlobalNetworkSet => as_kind(spec, Object::GlobalNetworkSet, faults),
        Kind::NetworkSet => as_kind(spec, Object::NetworkSet, faults),
        Kind::HostEndpoint => as_kind(spec, Object::HostEndpoint, faults),
    }
}
