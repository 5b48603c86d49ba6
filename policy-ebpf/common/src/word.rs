//! A number that several CPUs read and write, and a key as numbers.
//!
//! An atomic one everywhere but in the kernel, for which the compiler has no atomic loads: there an aligned access
//! is one instruction, and adding is one of its own.

#![allow(unsafe_code)] // instructions that the compiler has no name for on BPF

use core::mem::{size_of, transmute};
use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

use crate::connection::Key;

const WORDS: usize = size_of::<Key>() / 4;

impl Key {
    /// As it is in memory. Put together from fields it is written byte by byte, as they have addresses.
    #[inline(always)]
    pub const fn of_words(words: [u32; WORDS]) -> Key {
        // SAFETY: numbers only, and no byte between them.
        unsafe { transmute(words) }
    }
}

/// The number.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// With a number in it.
    #[inline(always)]
    pub const fn new(number: u64) -> Word {
        Word(AtomicU64::new(number))
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Word {
    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Writes it.
    pub fn set(&self, number: u64) {
        self.0.store(number, Relaxed);
    }

    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }
}

#[cfg(target_arch = "bpf")]
impl Word {
    /// Reads it.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: a word that is there, aligned; volatile, so that it is one access.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    /// Writes it.
    #[inline(always)]
    pub fn set(&self, number: u64) {
        // SAFETY: as above.
        unsafe { self.0.as_ptr().write_volatile(number) };
    }

    /// Adds to it.
    #[inline(always)]
    pub fn add(&self, number: u64) {
        // SAFETY: as above. Since it gives nothing back, it is an instruction of every kernel.
        unsafe {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) self.0.as_ptr(), in(reg) number);
        }
    }
}
