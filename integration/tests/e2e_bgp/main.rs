//! Our BGP speaker and the daemons that racks run: BIRD, FRR, GoBGP, OpenBGPD and ExaBGP, each in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bfd;
mod bird;
mod decisions;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;
mod protection;
mod rig;
// As the tests of the crate have it.
#[path = "../../../bgp/tests/speaker/table.rs"]
mod table;
