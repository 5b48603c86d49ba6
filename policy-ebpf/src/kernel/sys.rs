//! The `bpf` system call, for what the library has no function for: whole batches, links, test runs.

#![allow(unsafe_code)] // a system call that takes addresses

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Types that are nothing but their bytes.
///
/// # Safety
/// No padding, no addresses, and any bytes are a value.
pub unsafe trait Plain: Sized {
    /// From its bytes, if there are enough.
    fn read(bytes: &[u8]) -> Option<Self> {
        let enough = bytes.len() >= size_of::<Self>();
        // SAFETY: that many bytes are there, and any bytes are a value.
        enough.then(|| unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// All zeros.
    fn zeroed() -> Self {
        // SAFETY: any bytes are a value.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! plain {
    ($($name:ty),+ $(,)?) => {
        // SAFETY: `repr(C)` of whole numbers, with what would be padding spelt out; the test below adds them up.
        $(unsafe impl Plain for $name {})+
    };
}

use policy_common::classify::Trail;
use policy_common::connection::{Connection, Fragment, FragmentKey, Key};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use policy_common::event::{Counter, CounterKey, Event};
use policy_common::tables::{Cell, CellKey, Chain, ClassKey, Classes, PortKey};

/// Key of IDENTITY4, a longest-prefix table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix4 {
    /// Bits that count.
    pub prefix_len: u32,
    /// The address.
    pub address: [u8; 4],
}

/// Key of IDENTITY6, a longest-prefix table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix6 {
    /// Bits that count.
    pub prefix_len: u32,
    /// The address.
    pub address: [u8; 16],
}

plain!(
    u32,
    u64,
    Prefix4,
    Prefix6,
    Cell,
    CellKey,
    Chain,
    ClassKey,
    Classes,
    Connection,
    Counter,
    CounterKey,
    Endpoint,
    Event,
    FailsafeKey,
    Fragment,
    FragmentKey,
    Key,
    OwnKey,
    PortKey,
    Settings,
    Trail,
);

/// Commands (`enum bpf_cmd`).
mod command {
    pub(super) const MAP_LOOKUP_ELEM: i32 = 1;
    pub(super) const MAP_UPDATE_ELEM: i32 = 2;
    pub(super) const MAP_DELETE_ELEM: i32 = 3;
    pub(super) const MAP_GET_NEXT_KEY: i32 = 4;
    pub(super) const OBJ_GET: i32 = 7;
    pub(super) const PROG_TEST_RUN: i32 = 10;
    pub(super) const OBJ_GET_INFO_BY_FD: i32 = 15;
    pub(super) const MAP_LOOKUP_BATCH: i32 = 24;
    pub(super) const MAP_UPDATE_BATCH: i32 = 26;
}

/// Calls with the arguments that a command has in `union bpf_attr`.
fn bpf<T>(command: i32, arguments: &mut T) -> io::Result<RawFd> {
    let size = size_of::<T>();
    // SAFETY: the kernel reads and writes `size` bytes there, and what they point to, which the callers keep.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *arguments, size) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(RawFd::try_from(answer).unwrap_or_default()),
    }
}

fn address<T>(of: &T) -> u64 {
    (&raw const *of).expose_provenance() as u64
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn number(fd: RawFd) -> u32 {
    fd.unsigned_abs()
}

fn element<K: Plain>(map: BorrowedFd<'_>, key: &K, value: u64) -> Element {
    Element {
        map: number(map.as_raw_fd()),
        pad: 0,
        key: address(key),
        value,
        flags: 0,
    }
}

/// Writes an entry.
pub(super) fn update<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    bpf(
        command::MAP_UPDATE_ELEM,
        &mut element(map, key, address(value)),
    )
    .map(drop)
}

/// Removes an entry; `false` when there is none.
pub(super) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    found(bpf(command::MAP_DELETE_ELEM, &mut element(map, key, 0)))
}

/// Reads an entry: as many values as there are in the slice, one for each CPU where the map has that many. `false`
/// when there is none.
pub(super) fn look_up<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    values: &mut [V],
) -> io::Result<bool> {
    let place = values.as_mut_ptr().expose_provenance() as u64;
    found(bpf(command::MAP_LOOKUP_ELEM, &mut element(map, key, place)))
}

/// The key behind one, or the first. `None` at the end.
pub(super) fn next_key<K: Plain>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::zeroed();
    let mut arguments = Element {
        map: number(map.as_raw_fd()),
        pad: 0,
        key: key.map_or(0, address),
        value: (&raw mut next).expose_provenance() as u64,
        flags: 0,
    };
    let found = found(bpf(command::MAP_GET_NEXT_KEY, &mut arguments))?;
    Ok(found.then_some(next))
}

fn found(result: io::Result<RawFd>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Writes many entries in one call, in order; gives back how many were written before an error.
pub(super) fn update_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> (usize, io::Result<()>) {
    let count = u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX);
    let mut arguments = Batch {
        from: 0,
        to: 0,
        keys: keys.as_ptr().expose_provenance() as u64,
        values: values.as_ptr().expose_provenance() as u64,
        count,
        map: number(map.as_raw_fd()),
        element_flags: 0,
        flags: 0,
    };
    let result = bpf(command::MAP_UPDATE_BATCH, &mut arguments);
    // Where the call was not understood the count stands as it was.
    let written = match &result {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) => 0,
        _ => arguments.count,
    };
    (written as usize, result.map(drop))
}

/// Reads a part of a hash map: from a place on, of which the kernel says where the next part begins. `None` at the end.
pub(super) fn look_up_batch<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<u32>)> {
    let mut next = 0u32;
    let begin = from.unwrap_or_default();
    let mut arguments = Batch {
        from: from.map_or(0, |_| address(&begin)),
        to: (&raw mut next).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map: number(map.as_raw_fd()),
        element_flags: 0,
        flags: 0,
    };
    let more = found(bpf(command::MAP_LOOKUP_BATCH, &mut arguments))?;
    Ok((arguments.count as usize, more.then_some(next)))
}

#[repr(C)]
struct Named {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens what has a name below a BPF file system.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut arguments = Named {
        path: path.as_ptr().expose_provenance() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(command::OBJ_GET, &mut arguments)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// What a link of TCX says about itself (`struct bpf_link_info`).
#[repr(C)]
#[derive(Default)]
pub(super) struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    /// The interface; 0 when that is gone.
    pub(super) ifindex: u32,
    attach_type: u32,
}

/// Asks a link about itself.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    info_of(link, &mut info)?;
    Ok(info)
}

/// What a map says about itself (`struct bpf_map_info`).
#[repr(C)]
#[derive(Default)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    id: u32,
    pub(super) key: u32,
    pub(super) value: u32,
}

/// Asks a map about itself.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    info_of(map, &mut info)?;
    Ok(info)
}

fn info_of<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut arguments = Info {
        fd: number(fd.as_raw_fd()),
        length: u32::try_from(size_of::<T>()).unwrap_or_default(),
        info: (&raw mut *info).expose_provenance() as u64,
    };
    bpf(command::OBJ_GET_INFO_BY_FD, &mut arguments).map(drop)
}

#[repr(C)]
struct TestRun {
    program: u32,
    result: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    nanoseconds: u32,
    context_size: u32,
    context_output_size: u32,
    context: u64,
    context_output: u64,
}

/// Bytes of `struct __sk_buff` as of Linux 5.10.
const SK_BUFF: usize = 184;
/// Where its control buffer is, in words.
const CONTROL_BUFFER: usize = 12;

/// Runs a classifier on a frame, which it may change, with the control buffer given; its answer and nanoseconds for
/// each run.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    frame: &mut [u8],
    control: [u32; 4],
    repeat: u32,
) -> io::Result<(i32, u32)> {
    let mut context = [0u32; SK_BUFF / 4];
    for (place, word) in context.iter_mut().skip(CONTROL_BUFFER).zip(control) {
        *place = word;
    }
    let size = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let mut arguments = TestRun {
        program: number(program.as_raw_fd()),
        result: 0,
        input_size: size,
        output_size: size,
        input: frame.as_ptr().expose_provenance() as u64,
        output: frame.as_mut_ptr().expose_provenance() as u64,
        repeat,
        nanoseconds: 0,
        context_size: 184,
        context_output_size: 0,
        context: address(&context),
        context_output: 0,
    };
    bpf(command::PROG_TEST_RUN, &mut arguments)?;
    Ok((arguments.result.cast_signed(), arguments.nanoseconds))
}

/// Waits until every program has ended that runs now.
///
/// # Errors
/// On kernels that cannot (`nohz_full`).
pub(super) fn wait_for_programs() -> io::Result<()> {
    /// `MEMBARRIER_CMD_GLOBAL`: all threads have been through a grace period of RCU, and programs run inside of one.
    const GLOBAL: i32 = 1;
    // SAFETY: reads numbers only.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as the sums of their fields: padding would be bytes that nobody wrote.
    #[test]
    fn nothing_has_padding() {
        assert_eq!(size_of::<Key>(), 4 + 2 * 16 + 2 * 2 + 1 + 3);
        assert_eq!(
            size_of::<Connection>(),
            6 * 8 + 2 + 2 + 4 + 2 * 3 * 8 + 2 * 8
        );
        assert_eq!(size_of::<FragmentKey>(), 2 * 4 + 2 * 16 + 1 + 1 + 2);
        assert_eq!(size_of::<Fragment>(), 8 + 4 * 2 + 1 + 7);
        assert_eq!(size_of::<Endpoint>(), 6 * 4 + 6 + 2);
        assert_eq!(size_of::<Settings>(), 8 + 4 * 4);
        assert_eq!(size_of::<OwnKey>(), 4 + 4 + 16);
        assert_eq!(size_of::<FailsafeKey>(), 1 + 1 + 2);
        assert_eq!(size_of::<Event>(), 8 + 4 * 4 + 4 + 2 * 16 + 2 * 2 + 2 + 6);
        assert_eq!(size_of::<CounterKey>(), 4 + 4 + 8);
        assert_eq!(size_of::<Trail>(), 8 + 4 + 4 + 32 * 8);
        assert_eq!(size_of::<Counter>(), 3 * 8);
        assert_eq!(size_of::<ClassKey>(), 4 + 4);
        assert_eq!(size_of::<Classes>(), 4 + 4);
        assert_eq!(size_of::<PortKey>(), 4 + 4 + 1 + 1 + 2);
        assert_eq!(size_of::<CellKey>(), 6 * 4);
        assert_eq!(size_of::<Cell>(), 4 + 4);
        assert_eq!(size_of::<Chain>(), 4 + 4 + 16 * 16);
    }
}
