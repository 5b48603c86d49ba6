//! Many datagrams with one system call, and units of many datagrams (`UDP_SEGMENT`, `UDP_GRO`).
//!
//! Both halves own the arrays that the kernel reads and fills, made once, so that a call costs no
//! allocation and touches only the entries that it uses.
#![allow(unsafe_code)]
// The kernel takes arrays of structures with pointers in them.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Messages of one call at most.
pub(super) const MESSAGES: usize = 64;
/// Room for the largest datagram, and for the largest unit.
pub(super) const UNIT: usize = 65_536;

/// Room for two control messages of an int each, aligned as the kernel wants them.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// One message's address, data and control.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    address: libc::sockaddr_in6,
    data: libc::iovec,
    control: Control,
}

impl Slot {
    const fn empty() -> Slot {
        // SAFETY: addresses, pointers and byte arrays of zeros are valid values of their types.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// The arrays of one direction.
struct Arrays {
    slots: Box<[Slot; MESSAGES]>,
    headers: Box<[libc::mmsghdr; MESSAGES]>,
}

// SAFETY: the pointers inside are written anew before every call and followed by nobody after it.
unsafe impl Send for Arrays {}

impl Arrays {
    fn new() -> Arrays {
        Arrays {
            slots: Box::new([Slot::empty(); MESSAGES]),
            // SAFETY: a header of zeros is one without address, data and control.
            headers: Box::new(unsafe { mem::zeroed() }),
        }
    }

    /// Makes header `at` point to slot `at`, with `address_len` and `control_len` bytes of them.
    fn connect(&mut self, at: usize, address_len: usize, control_len: usize) {
        let slot = &raw mut self.slots[at];
        let header = &mut self.headers[at].msg_hdr;
        // SAFETY: `slot` points to a live slot; taking the addresses of its fields reads nothing.
        unsafe {
            header.msg_name = (&raw mut (*slot).address).cast();
            header.msg_iov = &raw mut (*slot).data;
            header.msg_control = (&raw mut (*slot).control).cast();
        }
        header.msg_namelen = libc::socklen_t::try_from(address_len).unwrap_or(0);
        header.msg_iovlen = 1;
        header.msg_controllen = control_len;
        header.msg_flags = 0;
        if control_len == 0 {
            header.msg_control = ptr::null_mut();
        }
    }
}

/// What arrived in one buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// Bytes.
    pub(super) len: usize,
    /// Bytes of each datagram but the last, when there are several.
    pub(super) segment: usize,
    /// ECN bits of the outer header.
    pub(super) ecn: u8,
    /// Who sent it; `None` for an address of no IP family.
    pub(super) source: Option<SocketAddr>,
}

/// Buffers for incoming datagrams. Pages that nothing arrives in are never touched.
pub(super) struct Receiver {
    arrays: Arrays,
    buffers: Box<[u8]>,
    arrived: [Arrived; MESSAGES],
    /// Entries that the last call may have changed.
    used: usize,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver {
            arrays: Arrays::new(),
            buffers: vec![0; MESSAGES * UNIT].into_boxed_slice(),
            arrived: [Arrived {
                len: 0,
                segment: 0,
                ecn: 0,
                source: None,
            }; MESSAGES],
            used: MESSAGES,
        }
    }

    /// Takes up to `most` messages without waiting; how many came.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let most = most.min(MESSAGES);
        // Pointers stay right, as neither arrays nor buffers ever move; the kernel overwrites lengths.
        let buffers = self.buffers.chunks_exact_mut(UNIT);
        for (at, buffer) in buffers.take(std::mem::take(&mut self.used)).enumerate() {
            self.arrays.slots[at].data = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            self.arrays
                .connect(at, size_of::<libc::sockaddr_in6>(), size_of::<Control>());
        }
        // SAFETY: the first `most` headers point to slots of `self.arrays` and, through them, to
        // `most` different chunks of `self.buffers`; all live and are not used otherwise until the
        // call returns.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.arrays.headers.as_mut_ptr(),
                libc::c_uint::try_from(most).unwrap_or(0),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(got).map_err(|_| io::Error::last_os_error());
        // One that failed may have been begun.
        self.used = MESSAGES.min(count.as_ref().map_or(1, |count| count + 1));
        let count = count?;
        for (at, arrived) in self.arrived.iter_mut().take(count).enumerate() {
            let (header, slot) = (&self.arrays.headers[at], &self.arrays.slots[at]);
            let len = header.msg_len as usize;
            let control_len = header.msg_hdr.msg_controllen.min(size_of::<Control>());
            let notes = read_control(slot.control.0.get(..control_len).unwrap_or_default());
            *arrived = Arrived {
                len: len.min(UNIT),
                segment: notes.segment.unwrap_or(len).max(1),
                ecn: notes.ecn,
                source: address(&slot.address),
            };
        }
        Ok(count)
    }

    /// Bytes of the longest of the last `count` messages, and how many datagrams they are.
    pub(super) fn size(&self, count: usize) -> (usize, usize) {
        let arrived = self.arrived.iter().take(count);
        arrived.fold((0, 0), |(longest, datagrams), message| {
            let more = message.len.div_ceil(message.segment);
            (longest.max(message.len), datagrams + more)
        })
    }

    /// What came with the last call, of which `count` messages are looked at.
    pub(super) fn arrived(&mut self, count: usize) -> impl Iterator<Item = (&mut [u8], Arrived)> {
        let buffers = self.buffers.chunks_exact_mut(UNIT);
        buffers
            .zip(&self.arrived)
            .take(count)
            .filter_map(|(buffer, arrived)| Some((buffer.get_mut(..arrived.len)?, *arrived)))
    }
}

/// Datagrams of one size to one place, side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) destination: SocketAddr,
    /// ECN bits for the outer header.
    pub(super) ecn: u8,
    /// Bytes of each datagram but the last.
    pub(super) segment: usize,
    pub(super) bytes: &'a [u8],
}

/// Arrays for outgoing datagrams.
pub(super) struct Sender(Arrays);

impl Sender {
    pub(super) fn new() -> Sender {
        Sender(Arrays::new())
    }

    /// Sends runs, the first [`MESSAGES`] at most; how many went. An error is the first one's.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, runs: &[Run<'_>]) -> io::Result<usize> {
        let runs = runs.get(..MESSAGES).unwrap_or(runs);
        for (at, run) in runs.iter().enumerate() {
            let slot = &mut self.0.slots[at];
            let address_len = write_address(run.destination, &mut slot.address);
            slot.data = libc::iovec {
                // The kernel only reads what is sent.
                iov_base: run.bytes.as_ptr().cast_mut().cast(),
                iov_len: run.bytes.len(),
            };
            let control_len = write_control(run, &mut slot.control);
            self.0.connect(at, address_len, control_len);
        }
        // SAFETY: as many headers as there are runs point to slots of `self.0` and, through them, to
        // the runs' bytes, which are borrowed until the call returns and only read by it.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.0.headers.as_mut_ptr(),
                libc::c_uint::try_from(runs.len()).unwrap_or(0),
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// What control messages of a received datagram say.
#[derive(Default)]
struct Notes {
    segment: Option<usize>,
    ecn: u8,
}

/// A control message's head: length with the head, level, type.
const HEAD: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();

fn read_control(mut rest: &[u8]) -> Notes {
    let mut notes = Notes::default();
    while let Some((len, head)) = rest.split_first_chunk::<{ size_of::<usize>() }>() {
        let len = usize::from_ne_bytes(*len);
        let int = |at: usize| {
            let bytes = head.get(at..)?.first_chunk()?;
            Some(libc::c_int::from_ne_bytes(*bytes))
        };
        let (Some(level), Some(kind)) = (int(0), int(4)) else {
            break;
        };
        let Some(data) = rest.get(HEAD..len) else {
            break;
        };
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = data.first_chunk().map(|d| libc::c_int::from_ne_bytes(*d));
                notes.segment = size.and_then(|s| usize::try_from(s).ok());
            }
            // One byte for IPv4 and an int for IPv6.
            (libc::IPPROTO_IP, libc::IP_TOS) => notes.ecn = data.first().map_or(0, |tos| tos & 3),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = data.first_chunk().map(|d| libc::c_int::from_ne_bytes(*d));
                notes.ecn = class.map_or(0, |c| c.to_le_bytes()[0] & 3);
            }
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    notes
}

/// Writes what a run needs; bytes written.
fn write_control(run: &Run<'_>, control: &mut Control) -> usize {
    let mut used = 0;
    if run.bytes.len() > run.segment {
        let segment = u16::try_from(run.segment).unwrap_or(0).to_ne_bytes();
        used += put(control, used, (libc::SOL_UDP, libc::UDP_SEGMENT), &segment);
    }
    if run.ecn != 0 {
        let kind = match run.destination {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        let class = libc::c_int::from(run.ecn).to_ne_bytes();
        used += put(control, used, kind, &class);
    }
    used
}

/// Writes one control message at `at`; its room.
fn put(
    control: &mut Control,
    at: usize,
    (level, kind): (libc::c_int, libc::c_int),
    data: &[u8],
) -> usize {
    let len = HEAD + data.len();
    let room = len.next_multiple_of(ALIGN);
    // Two of at most eight bytes each fit.
    if let Some(place) = control.0.get_mut(at..at + room) {
        place[..ALIGN].copy_from_slice(&len.to_ne_bytes());
        place[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        place[ALIGN + 4..ALIGN + 8].copy_from_slice(&kind.to_ne_bytes());
        place[HEAD..len].copy_from_slice(data);
    }
    room
}

/// Both families' addresses fit the larger one's structure.
fn write_address(address: SocketAddr, out: &mut libc::sockaddr_in6) -> usize {
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: `out` is larger than a sockaddr_in and as strictly aligned, and any bytes are a
            // valid sockaddr_in6.
            unsafe { ptr::from_mut(out).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            *out = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            size_of::<libc::sockaddr_in6>()
        }
    }
}

fn address(raw: &libc::sockaddr_in6) -> Option<SocketAddr> {
    match libc::c_int::from(raw.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in, which is smaller and no stricter aligned.
            let raw = unsafe { ptr::from_ref(raw).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Families are small numbers.
fn family(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or(0)
}
