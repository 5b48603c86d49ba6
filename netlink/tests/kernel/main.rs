//! The real kernel, in fresh network namespaces. Needs root.

mod nft;
mod objects;
#[path = "../plan/universe.rs"]
mod universe;
