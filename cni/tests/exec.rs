//! The plugin run as a container runtime runs it, against a stand-in for the daemon.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests stand outside `#[test]`

#[path = "exec/harness.rs"]
mod harness;

#[path = "exec/failures.rs"]
mod failures;
#[path = "exec/parallel.rs"]
mod parallel;
#[path = "exec/verbs.rs"]
mod verbs;
