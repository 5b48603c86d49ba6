//! System calls without a safe form: TUN's ioctls, the boot clock, random bytes.
#![allow(unsafe_code)]
// The kernel takes pointers here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// An `ifreq` as far as TUN reads it: the name and the flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    /// The kernel copies a whole `ifreq`, forty bytes.
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

/// `TUNSETIFF`: makes or joins the interface `name`; the name that it got.
pub(super) fn tun_attach(
    fd: BorrowedFd<'_>,
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
) -> io::Result<[u8; libc::IFNAMSIZ]> {
    let mut request = InterfaceRequest {
        name,
        flags,
        rest: [0; 22],
    };
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` has the size and layout of.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(request.name)
}

/// `TUNGETIFF`: the name and flags of an attached descriptor.
pub(super) fn tun_attached(
    fd: BorrowedFd<'_>,
) -> io::Result<([u8; libc::IFNAMSIZ], libc::c_short)> {
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    // SAFETY: TUNGETIFF writes one ifreq, which `request` has the size and layout of.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok((request.name, request.flags))
}

/// `TUNSETOFFLOAD`: what the kernel may leave to us.
pub(super) fn tun_offload(fd: BorrowedFd<'_>, features: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number and no pointer.
    check(unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(features),
        )
    })
}

/// `TUNSETVNETHDRSZ`: bytes of the header before every unit.
pub(super) fn tun_header_len(fd: BorrowedFd<'_>, len: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int through the pointer, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })
}

/// `SIOCSIFTXQLEN`: units that wait to be read from the interface `name`; more are dropped.
pub(super) fn set_queue_len(
    socket: BorrowedFd<'_>,
    name: [u8; libc::IFNAMSIZ],
    units: libc::c_int,
) -> io::Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        units: libc::c_int,
        /// The kernel copies a whole `ifreq`, forty bytes.
        rest: [u8; 20],
    }
    const _: () = assert!(size_of::<Request>() == 40);
    let request = Request {
        name,
        units,
        rest: [0; 20],
    };
    // SAFETY: SIOCSIFTXQLEN reads one ifreq, which `request` has the size and layout of.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN, &raw const request) })
}

/// `TUNSETPERSIST`: whether the interface outlives its descriptors.
pub(super) fn tun_persist(fd: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes a number and no pointer.
    check(unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETPERSIST,
            libc::c_ulong::from(persist),
        )
    })
}

/// Time since the machine started, suspends included: a session must not outlive one.
pub(super) fn boot_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec that lives through the call. The clock exists since Linux
    // 2.6.39; without it the time stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Fills `bytes` with secret ones; waits for the kernel's generator after a boot.
pub(super) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: pointer and length are those of a slice that we may write.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Sets an integer option of a socket.
pub(super) fn set_option(
    fd: BorrowedFd<'_>,
    (level, name): (libc::c_int, libc::c_int),
    value: libc::c_int,
) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation)] // four
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to an int that lives through the call, and the length is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
