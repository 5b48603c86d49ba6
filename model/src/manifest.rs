//! Manifests: what operators write (YAML or JSON) and what the store keeps (JSON).
//!
//! ```text
//!  text ─documents─► JSON values ─envelope─► apiVersion, kind ─strict─► metadata, spec ─► Object
//!                                                │ foreign: Calico's fields that are not built
//! ```
//!
//! Invariants:
//! * nothing is ignored silently but what a server writes (`status`, `managedFields`, …);
//! * all faults of all documents are reported, each with object, field, value and mend;
//! * no input makes it panic, and the work is bounded by the size of the input.

mod documents;
mod envelope;
mod foreign;
mod stored;
mod strict;

use std::fmt;

use serde::Serialize;

use crate::object::{API_VERSION, Object};
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
    serde_json::to_vec(&Versioned::of(&object)).unwrap_or_default()
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

/// The object as JSON, `apiVersion` included.
pub fn to_value(object: &Object) -> serde_json::Value {
    serde_json::to_value(Versioned::of(object)).unwrap_or_default()
}

/// The object as a YAML document, `apiVersion` first, without a `---` line.
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
