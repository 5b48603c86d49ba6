//! Policy at every interface: the compiler of rules into tables, and the programs in the kernel that read them.
//!
//! ```text
//!  Snapshot ─feed─► Change ─► Engine::apply ─► Update (ordered writes) ─► maps of the kernel ◄── programs
//!                             parties, policies,         └──────────────► Mirror: the same in memory
//!                             programs, chains
//! ```
//!
//! The compiler is pure: equal changes give equal writes, and after any history the tables say what they
//! would say after a start with the world as it is, under other numbers perhaps.

mod engine;
mod error;
pub mod feed;
pub mod flows;
pub mod kernel;
pub mod memory;
pub mod mirror;
mod op;
mod party;

pub use engine::{Change, Engine, Rule, Settings, Size};
pub use error::PolicyError;
pub use policy_common as common;

pub use op::{Chains, Op, Update};
pub use party::{Labels, NamedPort, Party, Role};
