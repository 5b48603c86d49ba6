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
    /// There is no room for its rules beside those of all the other policies.
    #[error(
        "{policy}: with the rules of tier {tier} at {endpoint} those of all policies on this node take more than {limit} \
         rows; name fewer prefixes, selectors and ports in it, or let it select fewer sorts of endpoints"
    )]
    NoRoom {
        /// Of the policies of that tier, the one that takes the most.
        policy: Box<ObjectId>,
        /// Its tier.
        tier: String,
        /// An endpoint that it applies to.
        endpoint: Box<ObjectId>,
        /// How many rows of a table policies may take.
        limit: usize,
    },
    /// It is in force, and whoever came since has taken it beyond a limit.
    #[error(
        "{policy}: the rules of tier {tier} at {endpoint} are in force, and with the endpoints and network sets that came \
         since they take {rows} rows where {limit} are allowed; name fewer prefixes, selectors and ports in it"
    )]
    Outgrown {
        /// The policy that takes the most.
        policy: Box<ObjectId>,
        /// Its tier.
        tier: String,
        /// An endpoint that it applies to.
        endpoint: Box<ObjectId>,
        /// How many there are.
        rows: usize,
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
            | PolicyError::NoRoom { policy, .. }
            | PolicyError::Outgrown { policy, .. }
            | PolicyError::TooManyTiers { policy, .. }
            | PolicyError::NeedsProtocol { policy, .. } => policy,
        }
    }

    /// Whether the same policies may be put in force later: not before one of them changes.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}
