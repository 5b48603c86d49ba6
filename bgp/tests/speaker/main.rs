//! Speakers on the loopback interface talk with each other, and with strangers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod rig;
mod sessions;
mod strangers;
mod table;
