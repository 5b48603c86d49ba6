//! Asks for memory before it is needed.
//!
//! Unsafe, as the instruction for it is only to be had by an intrinsic function. A plain read does not do: the processor goes on for
//! some two hundred instructions behind a read that waits, which is too few to have several of them wait together.

#![allow(unsafe_code)]

/// Has the line that `value` is in fetched into the cache. On processors other than x86-64 it does nothing.
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is a hint about an address, which cannot fault and changes nothing that a program can see; SSE,
        // of which it is, is on every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
