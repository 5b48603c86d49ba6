//! The maps. The loader sets how large those are that depend on the node.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_jiffies64, bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_map_update_elem,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Prefix;
use aya_ebpf::maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf,
};
use aya_ebpf::programs::TcContext;
use policy_common::classify::Trail;
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey};
use policy_common::reason::Reason;
use policy_common::tables::{Address, Cell, CellKey, Chain, ClassKey, Classes, PortKey};
use policy_common::world::{Frame, Scratch};

/// Rows are allocated when they come: tables are as large as their policies.
const BPF_F_NO_PREALLOC: u32 = 1;

// Bytes of the keys of longest-prefix tables behind the length.
type OwnBytes = [u8; size_of::<OwnKey>() - 4];
type PortBytes = [u8; size_of::<PortKey>() - 4];

#[map]
pub static GLOBAL: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static ENDPOINTS: HashMap<u32, Endpoint> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static OWN: LpmTrie<OwnBytes, u32> = LpmTrie::with_max_entries(4096, 0);
#[map]
pub static FAILSAFE: HashMap<FailsafeKey, u32> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);
#[map]
pub static IDENTITY4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(1024, 0);
#[map]
pub static IDENTITY6: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1024, 0);
#[map]
pub static CLASS: HashMap<ClassKey, Classes> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static PORT: LpmTrie<PortBytes, u32> = LpmTrie::with_max_entries(1024, 0);
#[map]
pub static CELL: HashMap<CellKey, Cell> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static CHAIN: HashMap<u32, Chain> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static CONNECTIONS: LruHashMap<Key, Connection> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static COUNTERS: PerCpuHashMap<CounterKey, Counter> =
    PerCpuHashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static TRAILS: HashMap<CounterKey, Trail> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT + 1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 18, 0);
/// `to_wire`, for what goes past the interface where it would run.
#[map]
static TO_WIRE: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static SCRATCH: PerCpuArray<Memory> = PerCpuArray::with_max_entries(1, 0);

/// What a CPU keeps.
#[repr(C)]
pub struct Memory {
    pub scratch: Scratch,
    pub clock: Clock,
    /// The frame at hand, but for its bytes.
    pub frame: Frame,
    /// The interface whose workload `to_wire` is asked about by `from_wire`; 0 for where it runs.
    pub asked: u32,
}

/// Nanoseconds of the monotonic clock, read once in a tick: half as dear as all else that a packet needs.
#[repr(C)]
pub struct Clock {
    tick: u64,
    nanoseconds: u64,
}

impl Clock {
    #[inline(always)]
    pub fn now(&mut self) -> u64 {
        // SAFETY: reads a counter.
        let tick = unsafe { bpf_jiffies64() };
        if tick != self.tick {
            self.tick = tick;
            // SAFETY: reads a clock.
            self.nanoseconds = unsafe { bpf_ktime_get_ns() };
        }
        self.nanoseconds
    }
}

/// 0 where the kernel takes no program that has both functions and a way to go on with another, as those before 6.0 on
/// arm64: then what would need that is routed.
#[unsafe(no_mangle)]
static GOES_ON: u32 = 1;

/// Leaves the frame to `to_wire`; comes back only where nobody has put it there.
#[inline(always)]
pub fn go_on_with_to_wire(context: &TcContext) {
    // SAFETY: a word that the loader wrote before there was a program; and of this map there are programs of this
    // object only.
    unsafe {
        if (&raw const GOES_ON).read_volatile() != 0 {
            let _ = TO_WIRE.tail_call(context, 0);
        }
    }
}

/// This CPU's memory. One program at a time runs on it: both of them run with softirqs off.
#[inline(always)]
pub fn memory() -> Option<&'static mut Memory> {
    let memory = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: of a map that is as long as the program; only this run uses it, and any bytes are a `Memory`.
    Some(unsafe { &mut *memory })
}

/// Looks up the key in a map of such keys and values.
///
/// # Safety
/// `map` is one whose keys are as large as `K`, and whose values are read as `V` however they are written.
#[inline(always)]
pub unsafe fn look_up<M, K, V>(map: &'static M, key: &K) -> Option<&'static V> {
    // SAFETY: the kernel gives a place that stays readable until the program ends, or none.
    unsafe {
        let value = bpf_map_lookup_elem(pointer(map), (key as *const K).cast_mut().cast());
        value.cast::<V>().as_ref()
    }
}

/// Puts an entry into a map of such keys and values, or writes over one.
///
/// # Safety
/// `map` is one whose keys and values are as large as `K` and `V`.
#[inline(always)]
pub unsafe fn put<M, K, V>(map: &'static M, key: &K, value: &V) -> bool {
    // SAFETY: the kernel copies both.
    unsafe {
        let (key, value) = ((key as *const K).cast_mut(), (value as *const V).cast_mut());
        bpf_map_update_elem(pointer(map), key.cast(), value.cast(), 0) == 0
    }
}

#[inline(always)]
fn pointer<M>(map: &'static M) -> *mut c_void {
    (map as *const M).cast_mut().cast()
}

/// How keys of longest-prefix tables are declared and how they are looked up are the same bytes.
const _: () = {
    assert!(size_of::<Prefix<OwnBytes>>() == size_of::<OwnKey>());
    assert!(size_of::<Prefix<PortBytes>>() == size_of::<PortKey>());
};
