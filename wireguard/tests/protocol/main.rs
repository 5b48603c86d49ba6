//! Devices in one simulated network with a virtual clock, and beside another implementation.
#![allow(clippy::unwrap_used, clippy::panic)] // a test ends by panicking
#![allow(clippy::cast_possible_truncation)] // random numbers are cut on purpose

mod keys;
mod mutation;
mod net;
mod oracle;
mod simulation;
