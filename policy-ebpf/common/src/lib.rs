//! What the policy programs in the kernel and their compiler agree on.
//!
//! ```text
//!  compiler (user space) ──writes──► Tables ◄──reads── classify ◄── programs (kernel), explain (user space)
//! ```
//!
//! Built for both sides, so there is no allocation and nothing of an operating system in it. Every type that
//! goes into a map is `repr(C)` without padding, in the byte order of the machine unless it says otherwise.

#![no_std]

pub mod classify;
pub mod tables;
