//! Random histories of several nodes' allocators over one store, and an oracle that watches every
//! revision. Generic over the store, so the same histories run over memory, etcd and the embedded one.
//!
//! ```text
//!  Action list ─► Simulation { nodes, in-flight and late transactions, delayed watches } ─► TestStore
//!                     │ every applied transaction, every reply
//!                     ▼
//!                 Oracle: invariants 1 to 6
//! ```

mod action;
mod memory;
mod oracle;
mod simulation;

pub use action::{Action, Op, random_actions};
pub use memory::MemoryStore;
pub use simulation::{Setup, Simulation, Stats};

use model::kv::{KeyValue, Txn, TxnOutcome};

use crate::Failure;

/// What a history needs of a store. It must be empty, and nobody else's.
pub trait TestStore {
    /// Carries a transaction out.
    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Failure>;

    /// All pairs whose keys begin with `prefix`, at one revision, by key.
    fn list(&mut self, prefix: &str) -> Vec<KeyValue>;
}
