//! `GlobalNetworkSet` and `NetworkSet`: addresses outside of the mesh, with labels that rules select.

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// Specification of a set of either kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSetSpec {
    /// What belongs to it; an address alone stands for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Cidr>,
}
