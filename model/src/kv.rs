//! Transactions, revisions and events of the store, as plain data.
//!
//! Keys are UTF-8 paths relative to the configured prefix; see [`crate::keys`].

/// A store revision: grows with every transaction that changes something.
pub type Revision = i64;

/// Identifies a lease; keys attached to it vanish when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// One stored pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Key below the prefix.
    pub key: String,
    /// Value as stored.
    pub value: Vec<u8>,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision that last wrote the key.
    pub mod_revision: Revision,
    /// The lease the key hangs on.
    pub lease: Option<LeaseId>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Present(String),
    /// The key was last written at exactly this revision.
    ModRevision(String, Revision),
}

/// A write or read of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a value, attached to a lease or to none.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
        /// Lease that the key hangs on.
        lease: Option<LeaseId>,
    },
    /// Delete a key; deleting what does not exist succeeds.
    Delete(String),
    /// Read one key; its answer stands in [`TxnOutcome::gets`].
    Get(String),
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        }
    }
}

/// If all compares hold do `success`, else `failure`, atomically at one revision.
///
/// etcd allows [`Txn::MAX_OPS`] entries in each of the three lists, and no two puts of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, all of which must hold.
    pub compares: Vec<Compare>,
    /// Done when they hold.
    pub success: Vec<Op>,
    /// Done when one does not.
    pub failure: Vec<Op>,
}

impl Txn {
    /// etcd's `--max-txn-ops` default.
    pub const MAX_OPS: usize = 128;

    /// An empty transaction, which always succeeds.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a condition.
    pub fn when(mut self, c: Compare) -> Txn {
        self.compares.push(c);
        self
    }

    /// Adds an operation to do when the conditions hold.
    pub fn then(mut self, op: Op) -> Txn {
        self.success.push(op);
        self
    }

    /// Adds an operation to do when a condition does not hold.
    pub fn otherwise(mut self, op: Op) -> Txn {
        self.failure.push(op);
        self
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// Store revision after the transaction.
    pub revision: Revision,
    /// The answers to the `Get`s of the branch that ran, in order.
    pub gets: Vec<Option<KeyValue>>,
}

/// A change of one key as watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Key below the prefix.
    pub key: String,
    /// The new value; `None` when deleted.
    pub value: Option<Vec<u8>>,
    /// Revision of the change.
    pub revision: Revision,
}
