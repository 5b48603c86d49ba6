//! A frame as the kernel has it.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_redirect_peer, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use core::arch::asm;
use core::mem::MaybeUninit;
use policy_common::endpoint::Endpoint;
use policy_common::packet::{Bytes, HEAD, forward};
use policy_common::verdict::GATEWAY_MAC;
use policy_common::world::Frame;

/// Set by tests, which cannot make the kernel say such things: the interface, the one that it came from, whether
/// it is for the host, and seconds that the clock is ahead are then the first four words of the control buffer.
#[unsafe(no_mangle)]
static FROM_CONTROL_BUFFER: u32 = 0;

/// Reads a field of the context: an access of its own, which the compiler merges with no other.
macro_rules! field {
    ($self:ident, $($field:tt)+) => {
        // SAFETY: the context of this run, of which the verifier checks each field.
        unsafe { (&raw const (*$self.skb).$($field)+).read_volatile() }
    };
}

/// The frame of this run.
#[derive(Clone, Copy)]
pub struct Skb {
    skb: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub fn new(context: &TcContext) -> Skb {
        let skb = context.skb.skb;
        Skb { skb }
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        field!(self, ifindex)
    }

    #[inline(always)]
    pub fn pointer(&self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    pub fn frame(&self, received: bool) -> Frame {
        let ifindex = self.ifindex();
        let came_from = field!(self, ingress_ifindex);
        let (ifindex, came_from) = match self.test() {
            Some([ifindex, came_from, ..]) => (ifindex, came_from),
            None => (ifindex, came_from),
        };
        Frame {
            ifindex,
            length: field!(self, len),
            packets: field!(self, gso_segs).max(1),
            received,
            came_from,
            tagged: field!(self, vlan_present) != 0,
        }
    }

    /// Puts the frame, one hop further, straight to the workload behind an interface: what the program then answers.
    #[inline(always)]
    pub fn redirect(&self, to: u32, endpoint: &Endpoint) -> i32 {
        let head = self.load::<HEAD>(0);
        let head = head.and_then(|head| forward(head, GATEWAY_MAC, endpoint.mac));
        // What it cannot change it leaves to routing.
        let Some(head) = head else {
            return TC_ACT_UNSPEC;
        };
        // SAFETY: the kernel copies the bytes.
        unsafe {
            let from = head.as_ptr().cast_mut().cast();
            match bpf_skb_store_bytes(self.skb.cast(), 0, from, HEAD as u32, 0) {
                0 => bpf_redirect_peer(to, 0) as i32,
                _ => TC_ACT_SHOT,
            }
        }
    }

    /// What a test says in the kernel's place.
    #[inline(always)]
    pub fn test(&self) -> Option<[u32; 4]> {
        // All of them, whether they count or not: the verifier takes no address in a context that depends.
        let said = [
            field!(self, cb[0]),
            field!(self, cb[1]),
            field!(self, cb[2]),
            field!(self, cb[3]),
        ];
        // SAFETY: a word that the loader wrote before there was a program.
        let is_test = unsafe { (&raw const FROM_CONTROL_BUFFER).read_volatile() != 0 };
        is_test.then_some(said)
    }
}

impl Bytes for Skb {
    /// Only where they are in one piece, without a call.
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let begin = field!(self, data) as usize + at as usize;
        if begin + N * 4 > field!(self, data_end) as usize {
            return None;
        }
        let mut words = [0; N];
        let mut at = begin;
        for word in &mut words {
            // SAFETY: between the ends, as the verifier checks. The machine reads words from any place, of which
            // the compiler knows nothing.
            unsafe {
                asm!("{0} = *(u32 *)({1} + 0)", out(reg) *word, in(reg) at, options(pure, readonly, nostack));
            }
            at += 4;
        }
        Some(words)
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: writes N bytes, or zeros and an error.
        unsafe {
            let to = bytes.as_mut_ptr().cast();
            match bpf_skb_load_bytes(self.skb.cast(), at, to, N as u32) {
                0 => Some(bytes.assume_init()),
                _ => None,
            }
        }
    }
}
