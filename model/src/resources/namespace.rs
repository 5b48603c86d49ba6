//! `Namespace`: carries labels where there is no Kubernetes.

use serde::{Deserialize, Serialize};

/// Specification of a `Namespace`: nothing; its labels are in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSpec {
    /// Kubernetes writes it; accepted and kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}
