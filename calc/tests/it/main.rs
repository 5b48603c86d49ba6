//! The rules of `calc` through its public face.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bgp;
mod endpoints;
mod explain;
mod policy;
mod rules;
mod simulation;
mod state_lists;
mod wireguard;
mod world;
