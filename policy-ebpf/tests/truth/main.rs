//! Policy against what others say it means: the API of Kubernetes, and the examples of Calico's documentation.
//!
//! ```text
//!  documents ─┬─ manifest ─► Snapshot ─► Engine ─► Mirror ─► classify ─┐
//!             │                              └───► maps ─► programs ───┼─ the same? (tests/kernel/truth.rs)
//!             └─ evaluator, which shares no code with them ────────────┘
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod documented;
mod evaluator;
mod examples;
mod generated;
mod line;
mod node;
mod recipes;
mod table;
