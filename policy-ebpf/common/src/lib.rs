//! What the policy programs in the kernel and their compiler agree on.
//!
//! ```text
//!  compiler (user space) ──writes──► Tables ◄──reads── classify ◄── programs (kernel), explain (user space)
//! ```
//!
//! Built for both sides, so there is no allocation and nothing of an operating system in it. Every type that
//! goes into a map is `repr(C)` without padding, in the byte order of the machine unless it says otherwise.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod classify;
pub mod connection;
pub mod endpoint;
pub mod event;
pub mod packet;
pub mod reason;
pub mod tables;
pub mod verdict;
pub mod word;
pub mod world;
