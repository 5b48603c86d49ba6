//! The one error of this crate.

use std::fmt;
use std::time::Duration;

use model::kv::LeaseId;

/// What was being done when an error happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening the store.
    Open,
    /// Reading one key.
    Get,
    /// Reading a prefix.
    List,
    /// A transaction.
    Txn,
    /// Watching a prefix.
    Watch,
    /// Granting a lease.
    Grant,
    /// Renewing a lease.
    KeepAlive,
    /// Revoking a lease.
    Revoke,
    /// Asking the store how it is.
    Health,
}

impl Operation {
    /// Whether the operation may change the store, so that a lost answer leaves its fate open.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Operation::Txn | Operation::Grant | Operation::KeepAlive | Operation::Revoke
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::Txn => "transaction",
            Operation::Watch => "watch",
            Operation::Grant => "lease grant",
            Operation::KeepAlive => "lease keep-alive",
            Operation::Revoke => "lease revoke",
            Operation::Health => "health check",
        })
    }
}

/// Why the store did not do what was asked. Never carries values or secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer before the deadline.
    #[error(
        "datastore {operation} of {object}: no answer within {after:?}; is the store running and reachable?"
    )]
    Timeout {
        /// What was asked.
        operation: Operation,
        /// Key, prefix, lease or endpoint.
        object: String,
        /// The deadline.
        after: Duration,
    },
    /// The store could not be reached, or the connection was lost.
    #[error("datastore {operation} of {object}: {message}")]
    Unavailable {
        /// What was asked.
        operation: Operation,
        /// Key, prefix, lease or endpoint.
        object: String,
        /// What the transport said.
        message: String,
        /// Whether the request may have reached the store.
        sent: bool,
    },
    /// The revision asked for is no longer kept; list again.
    #[error("datastore {operation} of {object}: the revision asked for is compacted; list again")]
    Compacted {
        /// What was asked.
        operation: Operation,
        /// Prefix.
        object: String,
    },
    /// The lease expired, was revoked or never was.
    #[error("datastore {operation}: lease {:x} does not exist; grant a new one", lease.0)]
    LeaseNotFound {
        /// What was asked.
        operation: Operation,
        /// The lease.
        lease: LeaseId,
    },
    /// The store does not let this user do that.
    #[error(
        "datastore {operation} of {object}: refused: {message}; check datastore.username, its password and its role"
    )]
    Denied {
        /// What was asked.
        operation: Operation,
        /// Key, prefix, lease or endpoint.
        object: String,
        /// What the store said.
        message: String,
    },
    /// The request itself is wrong.
    #[error("datastore {operation} of {object}: invalid request: {message}")]
    Invalid {
        /// What was asked.
        operation: Operation,
        /// Key, prefix or lease.
        object: String,
        /// What is wrong and the mend.
        message: String,
    },
    /// A configured value cannot be used.
    #[error("datastore.{field}: {message}")]
    Config {
        /// Field of the `[datastore]` section.
        field: &'static str,
        /// What is wrong and the mend.
        message: String,
    },
    /// Another process has the embedded store open.
    #[error(
        "datastore file {path} is open in another process; stop the other routerd or give this one its own state_dir"
    )]
    Locked {
        /// The file.
        path: String,
    },
    /// The disk or the database failed.
    #[error("datastore {operation} of {object}: storage failed: {message}")]
    Storage {
        /// What was asked.
        operation: Operation,
        /// Key, prefix or file.
        object: String,
        /// What the database said.
        message: String,
        /// Whether the request may have been carried out.
        ambiguous: bool,
    },
    /// The store was closed by this process.
    #[error("datastore {operation} of {object}: the store is closed")]
    Closed {
        /// What was asked.
        operation: Operation,
        /// Key, prefix or lease.
        object: String,
    },
}

impl Error {
    /// Whether the same request may succeed later, unchanged.
    ///
    /// A request that [is ambiguous](Error::is_ambiguous) must be read back before it is repeated.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::Timeout { .. } | Error::Unavailable { .. } | Error::Compacted { .. }
        )
    }

    /// Whether a write may have been carried out although it failed here.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Error::Timeout { operation, .. } => operation.is_write(),
            Error::Unavailable {
                operation, sent, ..
            } => *sent && operation.is_write(),
            Error::Storage { ambiguous, .. } => *ambiguous,
            _ => false,
        }
    }
}
