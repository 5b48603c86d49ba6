//! Addresses: which node has which block, which workload has which address.
//!
//! The daemon of each node owns the blocks affine to that node and hands out their addresses. All
//! agreement between nodes is by compare in the store's transactions; nothing here talks to it.
//!
//! ```text
//!  IpamView ─────┐                                             ┌──► Txn ──► store ──► TxnOutcome ─┐
//!  block events ─┼─► allocator::Allocator: plan, group, commit ┤                                  │
//!  Request ──────┘        ▲                                    └──► Reply or AllocError           │
//!                         └───────────────────────────────────────────────────────────────────────┘
//!  every record ──► check::check ──► problems          blocks ──► show::{pools, blocks, address}
//! ```
//!
//! Invariants, over any interleaving of nodes, crashes and lost answers:
//! 1. no address has two owners at any revision;
//! 2. what an assignment answered survives any crash after it;
//! 3. what a release acknowledged is free, and what it did not is still owned;
//! 4. no block has two affine nodes, and no two blocks overlap;
//! 5. [`check::check`] finds nothing, at every revision;
//! 6. a request repeated with the same handle gets the same addresses.
//!
//! How: the block is the one record of who has an address, so there is nothing that could disagree with
//! it; it changes together with its affinity, with the identity that keeps the address and with the
//! caller's writes in one transaction that compares all of them ([`allocator`]). A block is new only
//! while the pools are as the claimant knows them. No address is handed out to a node that does not
//! exist.

pub mod allocator;
pub mod blocks;
pub mod check;
pub mod error;
pub mod request;
pub mod show;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod view;

pub use allocator::{Allocator, Failure, Options, Seen, Stale, TxnId};
pub use error::{AllocError, PoolVerdict};
pub use request::{
    Assign, Assigned, Attach, Cleanup, Extra, Families, Holder, Release, Released, Reply, Request,
    RequestId,
};
pub use view::{IpamView, NamespaceMatch, PoolView};
