//! The core driven against the fake kernel, in simulated time.

mod drift;
mod random;
pub(crate) mod rig;
mod rules;
mod thread;
