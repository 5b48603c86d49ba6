//! Why a request for addresses failed, in words that an operator can act on.

use std::fmt;
use std::net::IpAddr;

use model::Cidr;

/// Why a pool did not serve a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolVerdict {
    /// Name of the pool.
    pub pool: String,
    /// What stands in the way.
    pub why: String,
}

impl PoolVerdict {
    pub(crate) fn new(pool: &str, why: impl Into<String>) -> PoolVerdict {
        PoolVerdict {
            pool: pool.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for PoolVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPPool/{}: {}", self.pool, self.why)
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// No pool can serve the request.
    #[error("{handle}: no {family} address: {}; add or enlarge a pool, or change what stands in the way", list(.pools))]
    NoAddress {
        /// Who asked.
        handle: String,
        /// `IPv4`, `IPv6` or `IP`.
        family: String,
        /// Each pool looked at.
        pools: Vec<PoolVerdict>,
    },
    /// The node takes no new workloads.
    #[error("{handle}: Node/{node} is cordoned: unset spec.unschedulable, or use another node")]
    Cordoned {
        /// Who asked.
        handle: String,
        /// The node.
        node: String,
    },
    /// An address asked for by number is another's.
    #[error(
        "{handle}: {ip} is held by {holder}: ask for another, or free it with `routerctl ipam release --ip {ip}`"
    )]
    InUse {
        /// Who asked.
        handle: String,
        /// The address.
        ip: IpAddr,
        /// The handle that holds it.
        holder: String,
    },
    /// An address asked for by number lies in no pool that may serve it.
    #[error("{handle}: {ip} cannot be handed out: {}", list(.pools))]
    NotInPool {
        /// Who asked.
        handle: String,
        /// The address.
        ip: IpAddr,
        /// What was looked at.
        pools: Vec<PoolVerdict>,
    },
    /// An address would have to be borrowed, which strict affinity forbids.
    #[error(
        "{handle}: {ip} lies in block {block} of {owner} and IPAMConfiguration/default has strictAffinity: true: use that node, or ask for another address"
    )]
    Strict {
        /// Who asked.
        handle: String,
        /// The address.
        ip: IpAddr,
        /// Its block.
        block: Cidr,
        /// Whose the block is.
        owner: String,
    },
    /// Another live workload has this identity.
    #[error(
        "{handle}: identity {identity} is in use by {holder} on Node/{node}: stop that workload first"
    )]
    IdentityInUse {
        /// Who asked.
        handle: String,
        /// The identity.
        identity: String,
        /// Who has it.
        holder: String,
        /// Where.
        node: String,
    },
    /// The identity holds other addresses than those asked for.
    #[error(
        "{handle}: identity {identity} holds {held:?}, not the address asked for: `routerctl ipam release --handle {identity}` first"
    )]
    IdentityDiffers {
        /// Who asked.
        handle: String,
        /// The identity.
        identity: String,
        /// What it holds.
        held: Vec<IpAddr>,
    },
    /// A condition that came with the request does not hold.
    #[error("{handle}: {key} is not as expected")]
    Condition {
        /// Who asked.
        handle: String,
        /// The key compared.
        key: String,
    },
    /// A block cannot go back.
    #[error("block {block} cannot be released: {why}")]
    BlockInUse {
        /// The block.
        block: Cidr,
        /// Why.
        why: String,
    },
    /// A node to be reclaimed still exists.
    #[error("Node/{node} exists: `routerctl delete node {node}` first, then release its addresses")]
    NodeExists {
        /// The node.
        node: String,
    },
    /// This node has no Node resource, so it gets no addresses.
    #[error(
        "{handle}: Node/{node} is not in the store: the daemon writes it at start; see `routerctl status`"
    )]
    NodeUnknown {
        /// Who asked.
        handle: String,
        /// The node.
        node: String,
    },
    /// A stored value cannot be read.
    #[error(
        "{handle}: {key} in the store is not readable: {message}; `routerctl ipam check` shows all such"
    )]
    Unreadable {
        /// Who asked.
        handle: String,
        /// The key.
        key: String,
        /// Why.
        message: String,
    },
    /// The request itself is not well formed: a bug of the caller.
    #[error("{handle}: {message}")]
    Invalid {
        /// Who asked.
        handle: String,
        /// What is wrong.
        message: String,
    },
    /// Others were faster too often.
    #[error(
        "{handle}: given up after {attempts} attempts that lost against other nodes: try again"
    )]
    Contended {
        /// Who asked.
        handle: String,
        /// How often.
        attempts: u32,
    },
    /// Not served in time.
    #[error(
        "{handle}: not served within {after_ms} ms: {waiting_for}; the same request may be repeated"
    )]
    Timeout {
        /// Who asked.
        handle: String,
        /// How long it waited, milliseconds.
        after_ms: u64,
        /// What for.
        waiting_for: String,
    },
    /// The store did not do it.
    #[error("{handle}: datastore: {message}")]
    Store {
        /// Who asked.
        handle: String,
        /// What it said.
        message: String,
        /// Whether it may work later.
        retryable: bool,
    },
}

impl AllocError {
    /// Whether the same request may succeed later with nothing mended.
    pub fn is_retryable(&self) -> bool {
        match self {
            AllocError::NodeUnknown { .. }
            | AllocError::Contended { .. }
            | AllocError::Timeout { .. }
            | AllocError::NoAddress { .. } => true,
            AllocError::Store { retryable, .. } => *retryable,
            _ => false,
        }
    }
}

fn list(pools: &[PoolVerdict]) -> String {
    if pools.is_empty() {
        return "there is no IPPool".to_owned();
    }
    let each: Vec<String> = pools.iter().map(ToString::to_string).collect();
    each.join("; ")
}
