//! routerd's hands in the kernel: links, addresses, neighbours, forwarding entries, routes,
//! masquerade, the watch over what leaves in clear, and the kernel switches, over netlink and `/proc/sys`.
//!
//! ```text
//!                    Monitor (thread, multicast groups) ──► Event
//!                                                             │ something changed
//!   desired KernelState ─┐                                    ▼
//!                        ├─► plan() ──► Plan { ops, conflicts }       pure
//!   Kernel::observe ─────┘               │
//!        ▲                               ▼
//!        └────────── kernel ◄── Kernel::apply(&ops)            batches, one answer an op
//!
//!   CNI ADD/DEL/CHECK ──► workload::{attach, detach, check}    own sockets, any thread
//!   explain ──► Lookup: one packet's way                       own socket, any thread
//!   BGP's best routes ──► LearntRoutes::{adopt, apply, check}  own socket, one thread
//!   whom policy cuts off ──► Cutoff::{observe, set}           own socket, one thread
//! ```
//!
//! Invariants:
//! * only what carries one of [`model::marks`] is ever changed or deleted: everything else is
//!   reported as alien and left alone;
//! * everything here blocks and belongs on threads of its own, in the network namespace that it
//!   is to work on;
//! * `plan` reads nothing but its arguments; applying its operations and planning again yields none.

mod attr;
pub mod describe;
mod encode;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod kernel;
pub mod learnt;
pub mod lookup;
pub mod monitor;
pub mod nat;
mod netns;
mod nft;
mod observe;
pub mod plan;
pub mod probe;
mod socket;
mod sysctl;
#[cfg(feature = "testing")]
#[allow(clippy::panic)] // in tests, of tests
pub mod testing;
pub mod workload;

pub use error::{Error, Refusal};
#[cfg(any(test, feature = "testing"))]
pub use fake::FakeKernel;
pub use kernel::Netlink;
pub use learnt::LearntRoutes;
pub use lookup::Lookup;
use model::kernel::{ClearText, Observed, Op};
pub use monitor::{Event, Monitor};
pub use nft::cutoff::Cutoff;
pub use plan::{Conflict, Plan, plan};

/// A kernel that can be looked at and changed.
pub trait Kernel: Send {
    /// Everything of ours, every link, and the keys of routes that are not ours.
    ///
    /// # Errors
    /// When a dump fails or stays inconsistent however often it is repeated.
    fn observe(&mut self) -> Result<Observed, Error>;

    /// What the guard has counted; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel does not tell, or has no nftables.
    fn clear_text(&mut self) -> Result<Option<ClearText>, Error>;

    /// Carries out `ops` in order; one result each. A failure does not stop what comes after it.
    ///
    /// Deleting what is already gone succeeds.
    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), Error>>;
}
