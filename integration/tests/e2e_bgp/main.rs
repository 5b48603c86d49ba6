//! Our BGP speaker and the daemons that racks run: BIRD, FRR and GoBGP, each in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bfd;
mod bird;
mod frr;
mod gobgp;
mod protection;
mod rig;
