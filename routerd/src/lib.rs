//! The routerd daemon.

pub mod reconcile;
