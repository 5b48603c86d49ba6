//! Why a policy is not in force.

use model::object::ObjectId;

/// Why the policies of an endpoint cannot be put in force. What stood before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Its rules and those beside it fall into too many combinations.
    #[error(
        "{policy}: with it the rules of tier {tier} at {endpoint} fall into more than {limit} combinations of \
         addresses and ports; split it, or name fewer overlapping prefixes, selectors and port ranges in it"
    )]
    TooManyCells {
        /// The policy that takes the most of them.
        policy: Box<ObjectId>,
        /// Its tier.
        tier: String,
        /// An endpoint that it applies to.
        endpoint: Box<ObjectId>,
        /// How many there may be.
        limit: usize,
    },
    /// More tiers have a say about an endpoint than there is room for.
    #[error(
        "{policy}: its tier {tier} is one more than the {limit} that can have a say about {endpoint}; move it to another tier"
    )]
    TooManyTiers {
        /// The first policy of the first tier too many.
        policy: Box<ObjectId>,
        /// That tier.
        tier: String,
        /// An endpoint that it applies to.
        endpoint: Box<ObjectId>,
        /// How many there may be.
        limit: usize,
    },
    /// A rule has ports, or type and code, and no protocol that has such.
    #[error(
        "{policy}: spec.{field} has ports or ICMP types for a protocol without; write the protocol beside them"
    )]
    NeedsProtocol {
        /// The policy.
        policy: Box<ObjectId>,
        /// The rule.
        field: String,
    },
}

impl PolicyError {
    /// The policy at fault.
    pub fn policy(&self) -> &ObjectId {
        match self {
            PolicyError::TooManyCells { policy, .. }
            | PolicyError::TooManyTiers { policy, .. }
            | PolicyError::NeedsProtocol { policy, .. } => policy,
        }
    }

    /// Whether the same policies may be put in force later: not before one of them changes.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}
