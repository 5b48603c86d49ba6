//! Programs and maps in the kernel.
//!
//! ```text
//!  object ─Programs::load─► programs ─attach─► from_wire and to_wire of each interface ── links/IFINDEX-HOOK
//!                              └─► Maps ◄─Enforcer─ Update, interfaces                 ── v1/NAME
//! ```
//!
//! Names below a BPF file system keep all of it while nobody runs. A new process loads programs with maps of its own,
//! fills these, and then puts its programs in the place of the old ones, one atomic exchange for each hook: there is no
//! moment without enforcement and no table with rows of two processes. Only connections and fragments
//! are shared by both. They are judged again, since the generation of the world goes on from the old one.

mod attached;
mod counters;
mod enforcer;
mod error;
mod filters;
mod hooks;
mod links;
mod loaded;
mod maps;
mod pins;
mod programs;
mod reader;
mod rtnetlink;
#[cfg(test)]
mod stack;
mod sys;
mod table;

pub use attached::Attached;
pub use counters::Counted;
pub use enforcer::{Enforcer, Interface};
pub use error::KernelError;
pub use hooks::Hook;
pub use loaded::{Behind, First, Loaded};
pub use maps::{Maps, Sizes};
pub use programs::{
    Answer, LAYOUT, Options, Programs, Ran, Test, has_programs, is_built, is_present,
    route_everything,
};
pub use reader::Reader;
pub use rtnetlink::mtu;
pub use sys::{Plain, Prefix4, Prefix6};
pub use table::Table;
