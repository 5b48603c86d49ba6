//! The real kernel, in fresh network namespaces. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed test panics

mod cutoff;
mod guard;
mod learnt;
mod lookup;
mod monitor;
mod nft;
mod objects;
mod overlay;
#[path = "../plan/universe.rs"]
mod universe;
mod workload;
