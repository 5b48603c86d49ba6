//! The core driven against the fake kernel, in simulated time.

mod cleanup;
mod drift;
mod random;
pub(crate) mod rig;
mod rules;
mod thread;
