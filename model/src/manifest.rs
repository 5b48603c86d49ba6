//! Manifests: what operators write (YAML or JSON) and what the store keeps (JSON).
//!
//! ```text
//!  text ─documents─► JSON values ─envelope─► apiVersion, kind ─strict─► metadata, spec ─► Object
//!                                                │ foreign: Calico's fields that are not built
//!                                                │ kubernetes: its NetworkPolicy, converted
//! ```
//!
//! Invariants:
//! * nothing is ignored silently but what a server writes (`status`, `managedFields`, …);
//! * all faults of all documents are reported, each with object, field, value and mend;
//! * values of a secret are in what is stored and sent to be stored, never in what is shown or in a fault;
//! * no input makes it panic, and the work is bounded by the size of the input.

mod documents;
mod envelope;
mod foreign;
mod kubernetes;
mod stored;
mod strict;

use std::fmt;

use serde::Serialize;

use crate::object::{API_VERSION, Object};
use crate::resources::secret::HIDDEN;
use crate::validate::ValidationError;

/// Largest manifest that is read, bytes. etcd's own limit for one value is far below.
pub const MAX_BYTES: usize = 8 << 20;

/// Why a manifest was refused. Never retryable: the text has to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_BYTES`].
    #[error(
        "the manifest is {bytes} bytes long, more than the {MAX_BYTES} that are read at once; split it"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Has faults; never empty.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Fault>),
}

impl ManifestError {
    /// Whether the same text may be accepted later: never.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// A fault and the document that it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct Fault {
    /// Line of the text, from 1: of the fault where the syntax is wrong, else of the document's start.
    pub line: usize,
    /// What is wrong.
    pub error: ValidationError,
}

struct Lines<'a>(&'a [Fault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
        }
        Ok(())
    }
}

/// Reads all resources of a text, in its order. The text may hold any number of documents and lists.
///
/// The objects have the right fields and types; [`crate::validate::validate`] checks their values.
///
/// # Errors
/// All faults of all documents.
pub fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { bytes: text.len() });
    }
    let (mut objects, mut faults) = (Vec::new(), Vec::new());
    for document in documents::read(text, &mut faults) {
        let mut errors = Vec::new();
        envelope::objects(document.value, &document.name, &mut objects, &mut errors);
        let line = document.line;
        faults.extend(errors.into_iter().map(|error| Fault { line, error }));
    }
    faults.sort_by_key(|f| f.line);
    if faults.is_empty() {
        Ok(objects)
    } else {
        Err(ManifestError::Invalid(faults))
    }
}

/// The stored form: JSON with `apiVersion` and without `resourceVersion`, which the store knows.
pub fn encode_stored(object: &Object) -> Vec<u8> {
    let mut object = object.clone();
    object.metadata_mut().resource_version = None;
    // Only a map with keys that are no strings fails to encode, and there is none.
    match &object {
        Object::Secret(_) => serde_json::to_vec(&to_wire(&object)).unwrap_or_default(),
        _ => serde_json::to_vec(&Versioned::of(&object)).unwrap_or_default(),
    }
}

/// Reads the stored form. Metadata of a newer version is dropped; everything else is strict.
///
/// # Errors
/// All faults; any bytes are safe.
pub fn decode_stored(bytes: &[u8]) -> Result<Object, ManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { bytes: bytes.len() });
    }
    // Nearly every value is as we wrote it. What is not is read again, slower, for its faults.
    match stored::read(bytes) {
        Some(object) => Ok(object),
        None => envelope::stored_object(bytes).map_err(|errors| {
            let fault = |error| Fault { line: 1, error };
            ManifestError::Invalid(errors.into_iter().map(fault).collect())
        }),
    }
}

/// The object as JSON for a daemon that is to store it: what [`to_value`] hides of a secret is there.
pub fn to_wire(object: &Object) -> serde_json::Value {
    let mut value = to_value(object);
    if let (Object::Secret(secret), Some(spec)) = (object, value.get_mut("spec")) {
        *spec = serde_json::json!({ "data": secret.spec.exposed() });
    }
    value
}

/// The object as JSON, `apiVersion` included, to be shown: of a secret its keys only.
pub fn to_value(object: &Object) -> serde_json::Value {
    serde_json::to_value(Versioned::of(object)).unwrap_or_default()
}

/// As [`to_value`], beside what it replaces: a value of a secret that becomes another is said to.
pub fn to_value_beside(object: &Object, before: Option<&Object>) -> serde_json::Value {
    let mut value = to_value(object);
    if let (Object::Secret(new), Some(Object::Secret(old))) = (object, before) {
        for (key, secret) in &new.spec.data {
            let shown = value.pointer_mut("/spec/data").and_then(|d| d.get_mut(key));
            if let Some(shown) =
                shown.filter(|_| old.spec.data.get(key).is_some_and(|o| o != secret))
            {
                *shown = format!("{HIDDEN} (changed)").into();
            }
        }
    }
    value
}

/// The object as a YAML document to be shown, `apiVersion` first, without a `---` line.
pub fn to_yaml(object: &Object) -> String {
    serde_saphyr::to_string(&Versioned::of(object)).unwrap_or_default()
}

#[derive(Serialize)]
struct Versioned<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    #[serde(flatten)]
    object: &'a Object,
}

impl Versioned<'_> {
    fn of(object: &Object) -> Versioned<'_> {
        Versioned {
            api_version: API_VERSION,
            object,
        }
    }
}
