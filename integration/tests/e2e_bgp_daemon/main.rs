//! BGP as an operator has it: daemons with resources, racks of BIRD and FRR, kernels that learn, and packets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod cleanup;
mod fabric;
mod failover;
mod faults;
mod hostile;
mod mesh;
mod policy;
mod racks;
mod raw;
mod reflectors;
mod restart;
mod rig;
mod tunnels;
mod unnumbered;
