//! Maps, clock and routing of the kernel as what a verdict reads and writes.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, TC_ACT_UNSPEC, bpf_fib_lookup,
};
use aya_ebpf::helpers::bpf_fib_lookup as fib_lookup;
use core::arch::asm;
use core::cell;
use core::mem::{size_of, zeroed};
use policy_common::classify::{Trail, Work, classify};
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::packet::{Packet, Version};
use policy_common::reason::Reason;
use policy_common::tables::{
    Address, Cell, CellKey, Chain, ClassKey, Classes, NO_CLASS, NO_IDENTITY, PortKey, Tables,
};
use policy_common::world::World;

use crate::frame::Skb;
use crate::maps::{
    CELL, CHAIN, CLASS, CONNECTIONS, COUNTERS, Clock, DROPS, ENDPOINTS, EVENTS, FAILSAFE,
    FRAGMENTS, GLOBAL, IDENTITY4, IDENTITY6, OWN, PORT, TRAILS, look_up, memory, put,
};

/// Families, as sockets number them.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The kernel, for one frame.
pub struct Kernel<'a> {
    skb: &'a Skb,
    now: u64,
    /// What the program answers if the frame passes.
    pub answer: cell::Cell<i32>,
    /// The interface where the frame has to pass as well, or 0.
    pub ask: cell::Cell<u32>,
}

impl Kernel<'_> {
    #[inline(always)]
    pub fn new<'a>(skb: &'a Skb, clock: &mut Clock) -> Kernel<'a> {
        let ahead = match skb.test() {
            Some([_, _, _, seconds]) => u64::from(seconds) * 1_000_000_000,
            None => 0,
        };
        let now = ahead + clock.now();
        // Of clsact and of TCX alike: nothing was said, the next program may.
        let answer = cell::Cell::new(TC_ACT_UNSPEC);
        let ask = cell::Cell::new(0);
        Kernel {
            skb,
            now,
            answer,
            ask,
        }
    }
}

/// The rules' tables need no frame.
struct Maps;

/// Asks a chain about the packet in this CPU's memory: a global function, with a number and nothing else between
/// it and its callers, so that the verifier looks at it once by itself. 1 if there is such a chain.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ask_chain(number: u32) -> u32 {
    let chain = unsafe { look_up(&CHAIN, &number) };
    match (chain, memory()) {
        (Some(chain), Some(memory)) => {
            classify(&Maps, chain, &mut memory.scratch.work);
            1
        }
        _ => 0,
    }
}

// SAFETY, of all look-ups below: the maps are declared with keys and values of these types.

impl Tables for Maps {
    #[inline(always)]
    fn identity(&self, address: &Address) -> u32 {
        identity(address)
    }

    #[inline(always)]
    fn classes(&self, key: &ClassKey) -> Classes {
        unsafe { look_up::<_, _, Classes>(&CLASS, key) }
            .copied()
            .unwrap_or_default()
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> u32 {
        unsafe { look_up::<_, _, u32>(&PORT, key) }
            .copied()
            .unwrap_or(NO_CLASS)
    }

    #[inline(always)]
    fn cell(&self, key: &CellKey) -> Option<Cell> {
        unsafe { look_up::<_, _, Cell>(&CELL, key) }.copied()
    }
}

#[repr(C)]
struct Prefix<const N: usize> {
    prefix_len: u32,
    address: [u8; N],
}

#[inline(always)]
fn identity(address: &Address) -> u32 {
    let found = match policy_common::packet::is_mapped(address) {
        true => {
            let key = Prefix {
                prefix_len: 32,
                address: [address[12], address[13], address[14], address[15]],
            };
            unsafe { look_up::<_, _, u32>(&IDENTITY4, &key) }
        }
        false => {
            let key = Prefix {
                prefix_len: 128,
                address: *address,
            };
            unsafe { look_up::<_, _, u32>(&IDENTITY6, &key) }
        }
    };
    found.copied().unwrap_or(NO_IDENTITY)
}

impl Tables for Kernel<'_> {
    #[inline(always)]
    fn identity(&self, address: &Address) -> u32 {
        Maps.identity(address)
    }

    #[inline(always)]
    fn classes(&self, key: &ClassKey) -> Classes {
        Maps.classes(key)
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> u32 {
        Maps.port(key)
    }

    #[inline(always)]
    fn cell(&self, key: &CellKey) -> Option<Cell> {
        Maps.cell(key)
    }
}

impl World for Kernel<'_> {
    type Held = &'static Connection;

    #[inline(always)]
    fn now(&self) -> u64 {
        self.now
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        GLOBAL.get(0)
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        unsafe { look_up(&ENDPOINTS, &ifindex) }
    }

    #[inline(always)]
    fn chain(&self, number: u32) -> Option<&Chain> {
        unsafe { look_up(&CHAIN, &number) }
    }

    #[inline(always)]
    fn is_own(&self, key: &OwnKey) -> bool {
        unsafe { look_up::<_, _, u32>(&OWN, key) }.is_some()
    }

    #[inline(always)]
    fn is_failsafe(&self, key: &FailsafeKey) -> bool {
        unsafe { look_up::<_, _, u32>(&FAILSAFE, key) }.is_some()
    }

    #[inline(always)]
    fn is_for_host(&self, packet: &Packet) -> bool {
        if let Some([_, _, for_host, _]) = self.skb.test() {
            return for_host != 0;
        }
        // SAFETY: numbers only, for which zeros are fine.
        let mut question: bpf_fib_lookup = unsafe { zeroed() };
        let skb = self.skb.pointer();
        question.ifindex = self.skb.ifindex();
        match packet.version() {
            Version::V4 => {
                question.family = AF_INET;
                question.__bindgen_anon_3.ipv4_src = v4(&packet.source);
                question.__bindgen_anon_4.ipv4_dst = v4(&packet.destination);
            }
            Version::V6 => {
                question.family = AF_INET6;
                question.__bindgen_anon_3.ipv6_src = words(&packet.source);
                question.__bindgen_anon_4.ipv6_dst = words(&packet.destination);
            }
        }
        // SAFETY: the kernel reads and writes the question only.
        let answer = unsafe {
            let size = size_of::<bpf_fib_lookup>() as i32;
            fib_lookup(skb.cast(), &raw mut question, size, 0)
        };
        // An error, and an interface that does not forward, leave only the host itself.
        answer < 0
            || matches!(
                answer as u32,
                BPF_FIB_LKUP_RET_NOT_FWDED | BPF_FIB_LKUP_RET_FWD_DISABLED
            )
    }

    #[inline(always)]
    fn connection(&self, key: &Key) -> Option<&'static Connection> {
        unsafe { look_up(&CONNECTIONS, key) }
    }

    #[inline(always)]
    fn admit(&self, key: &Key, connection: &Connection) -> bool {
        unsafe { put(&CONNECTIONS, key, connection) }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        unsafe { look_up::<_, _, Fragment>(&FRAGMENTS, key) }.copied()
    }

    #[inline(always)]
    fn remember(&self, key: &FragmentKey, fragment: &Fragment) {
        unsafe { put(&FRAGMENTS, key, fragment) };
    }

    #[inline(always)]
    fn count(&self, key: &CounterKey, more: &Counter) -> bool {
        let Some(counter) = COUNTERS.get_ptr_mut(key) else {
            return false;
        };
        // SAFETY: of this CPU only; a rule that is forgotten meanwhile loses a count.
        unsafe { (*counter).add(more) };
        true
    }

    #[inline(always)]
    fn begin_count(&self, key: &CounterKey, more: &Counter) {
        unsafe { put(&COUNTERS, key, more) };
    }

    #[inline(always)]
    fn describe(&self, key: &CounterKey, trail: &Trail) -> bool {
        unsafe { put(&TRAILS, key, trail) }
    }

    #[inline(always)]
    fn count_drop(&self, reason: Reason) {
        count_one(reason as u32);
    }

    #[inline(always)]
    fn count_admitted(&self) {
        count_one(Reason::ADMITTED);
    }

    #[inline(always)]
    fn tell(&self, event: &Event) {
        let _ = EVENTS.output::<Event>(event, 0);
    }

    #[inline(always)]
    fn go_straight(&self, to: u32, endpoint: &Endpoint) {
        self.answer.set(self.skb.redirect(to, endpoint));
    }

    #[inline(always)]
    fn ask_there(&self, to: u32) {
        self.ask.set(to);
    }

    #[inline(always)]
    fn ask(&self, number: u32, work: &mut Work) -> bool {
        // The function reaches `work` by a way of its own, which the compiler has to be told: before the call and
        // after it somebody might look.
        let mut work: *mut Work = work;
        // SAFETY: an instruction that does nothing.
        unsafe { asm!("{0} = {0}", inout(reg) work) };
        let asked = ask_chain(number);
        // SAFETY: as above.
        unsafe { asm!("{0} = {0}", in(reg) work) };
        asked != 0
    }
}

#[inline(always)]
fn count_one(place: u32) {
    if let Some(count) = DROPS.get_ptr_mut(place) {
        // SAFETY: of this CPU only.
        unsafe { *count += 1 };
    }
}

/// The last four bytes, in network byte order as they are.
#[inline(always)]
fn v4(address: &Address) -> u32 {
    u32::from_ne_bytes([address[12], address[13], address[14], address[15]])
}

#[inline(always)]
fn words(a: &Address) -> [u32; 4] {
    [
        u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
    ]
}
