//! Why there is nothing to explain.

use std::net::IpAddr;

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nobody has such a name.
    #[error(
        "{0:?}: there is no workload, node or host endpoint of this name; write an address, NAMESPACE/NAME of a \
         workload, or the name of a node (`routerctl get workloadendpoints`, `routerctl get nodes`)"
    )]
    Unknown(String),
    /// Several have it.
    #[error("{name:?} may be {}: write which, or its address", candidates.join(" or "))]
    Ambiguous {
        /// As it was written.
        name: String,
        /// Who has it.
        candidates: Vec<String>,
    },
    /// Who has it has no address.
    #[error("{0} has no address yet: packets can neither come from it nor go to it")]
    NoAddress(String),
    /// They have no IP version in common.
    #[error(
        "{source_end} and {destination_end} have no IP version in common: no packet goes between them"
    )]
    Versions {
        /// The source as it was written.
        source_end: String,
        /// The destination as it was written.
        destination_end: String,
    },
    /// Not an address that one host has.
    #[error("{0} is no address of one host: write one that packets come from and go to")]
    NotUnicast(IpAddr),
    /// Both ends are the same.
    #[error("both ends are {0}: what it sends to itself goes by no route and no policy")]
    Itself(IpAddr),
    /// Neither end is of the mesh.
    #[error(
        "neither {from} nor {to} is a workload, a node, or an address of a pool: nothing here decides about them"
    )]
    NothingOfOurs {
        /// The source.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
}

impl ExplainError {
    /// Whether the same question may have an answer later, without another one being asked.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, ExplainError::NoAddress(_))
    }
}
