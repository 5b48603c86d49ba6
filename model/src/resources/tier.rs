//! `Tier`: policies that are asked together, before or after those of other tiers.

use serde::{Deserialize, Serialize};

use super::order::Order;

/// The tier of policies that name none; it is there without an object.
pub const DEFAULT_TIER: &str = "default";
/// Place of the default tier.
pub const DEFAULT_TIER_ORDER: i32 = 1_000_000;

/// What becomes of a packet that a tier's policies apply to and none of its rules matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TierAction {
    /// It is dropped.
    #[default]
    Deny,
    /// The next tier is asked.
    Pass,
}

/// Specification of a `Tier`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TierSpec {
    /// Its place, lower first; last by default, and by name among equals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What becomes of what no rule matches, `Deny` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<TierAction>,
}
