//! What the model of `rib_model` leaves out: filters, roles, limits, restarts, IPv6, next hops.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod families;
mod guard;
mod lab;
mod policy;
mod restart;
