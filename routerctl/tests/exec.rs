//! The tool run as an operator runs it, against a stand-in for the daemon.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests stand outside `#[test]`

#[path = "exec/harness.rs"]
mod harness;

#[path = "exec/bgp.rs"]
mod bgp;
#[path = "exec/explain.rs"]
mod explain;
#[path = "exec/flows.rs"]
mod flows;
#[path = "exec/get.rs"]
mod get;
#[path = "exec/node.rs"]
mod node;
#[path = "exec/shell.rs"]
mod shell;
#[path = "exec/terminal.rs"]
mod terminal;
#[path = "exec/write.rs"]
mod write;
