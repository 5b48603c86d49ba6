//! routerd's store: keys with revisions, transactions, leases and watches, over etcd or one file.
//!
//! ```text
//!   ipam, publish ──txn──►┐                      ┌─► Etcd      (mesh: fail-over, deadlines, TLS)
//!                         │  dyn Datastore ──────┤
//!   ownership ────lease──►┘         │            └─► Embedded  (one node: redb, group commit)
//!                              list + watch
//!                                   ▼
//!                           syncer ─► bounded channel of Update ─► calc
//! ```
//!
//! Invariants:
//! * a write that was answered is durable and is seen by every later read;
//! * every operation ends within its deadline, whatever the store does;
//! * an error says whether the request may have been carried out ([`Error::is_ambiguous`]);
//! * the syncer tells every change exactly once, and holds back what would remove too much;
//! * nothing read from the store can make this crate panic.

mod backoff;
pub mod config;
pub mod embedded;
pub mod error;
pub mod etcd;
pub mod ownership;
pub mod store;
pub mod syncer;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{Config, EtcdConfig, StoreKind, open};
pub use embedded::Embedded;
pub use error::{Error, Operation};
pub use etcd::Etcd;
pub use ownership::{Claim, ClaimError, Owner, Ownership, OwnershipState, claim};
pub use store::{DEFAULT_DEADLINE, Datastore, Health, Listing, Watch, WatchItem};
pub use syncer::{Guard, Held, SyncConfig, SyncHandle, SyncState, Update};
