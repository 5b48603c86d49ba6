//! Exchanges of preshared keys in a simulated network with a virtual clock.
#![allow(clippy::unwrap_used, clippy::panic)] // a test ends by panicking

mod net;
mod simulation;
