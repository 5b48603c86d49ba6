//! `IPReservation`: addresses that are never handed out on their own.

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// Specification of an `IPReservation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpReservationSpec {
    /// Prefixes and single addresses; a workload that asks for one by number still gets it.
    #[serde(default, rename = "reservedCIDRs")]
    pub reserved_cidrs: Vec<Cidr>,
}
