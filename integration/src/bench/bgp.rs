//! BGP: a full table through the speaker, and a smaller one into the kernel, beside others.

pub mod kernel;
mod session;
pub mod speaker;
mod subject;
pub mod table;
// The table that `cargo bench -p bgp` takes through the core.
#[path = "../../../bgp/benches/full_table/feed.rs"]
mod tables;
