//! `GlobalNetworkPolicy`, `NetworkPolicy` and their staged kinds: who may talk to whom.

use serde::{Deserialize, Serialize};

use super::order::Order;
use super::policy_rule::Rule;
use super::tier::DEFAULT_TIER;

/// A direction, seen from the endpoint that a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// Towards it.
    Ingress,
    /// From it.
    Egress,
}

/// What a staged policy would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StagedAction {
    /// Be there, in place of the enforced policy of the same name if there is one.
    #[default]
    Set,
    /// Take away the enforced policy of the same name.
    Delete,
    /// Nothing.
    Ignore,
}

/// Specification of a policy of any of the four kinds; validation knows which fields each has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// What it would do; of staged kinds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged_action: Option<StagedAction>,
    /// The tier it stands in, `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Its place in the tier, lower first; last by default, and by name among equals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The endpoints it applies to, by their labels; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The namespaces whose workloads it applies to; of global kinds only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// The directions it applies to, see [`PolicySpec::applies_to`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Rules for what goes to the endpoint, the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for what comes from the endpoint, the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
}

impl PolicySpec {
    /// The tier.
    pub fn tier(&self) -> &str {
        self.tier.as_deref().unwrap_or(DEFAULT_TIER)
    }

    /// Whether it applies to a direction. Where no types are written they are those that it has rules
    /// for, and ingress when it has none.
    pub fn applies_to(&self, direction: PolicyType) -> bool {
        if !self.types.is_empty() {
            return self.types.contains(&direction);
        }
        match direction {
            PolicyType::Ingress => !self.ingress.is_empty() || self.egress.is_empty(),
            PolicyType::Egress => !self.egress.is_empty(),
        }
    }

    /// The rules of a direction.
    pub fn rules(&self, direction: PolicyType) -> &[Rule] {
        match direction {
            PolicyType::Ingress => &self.ingress,
            PolicyType::Egress => &self.egress,
        }
    }
}
