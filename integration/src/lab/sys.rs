//! The things that need `unsafe`: code between fork and exec, and socket options that nix lacks.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A directory shown at another path, in the child's own mount namespace only.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    /// What is shown.
    pub(super) source: CString,
    /// Where.
    pub(super) target: CString,
}

/// Makes the command start inside a network namespace, with its own mounts if any are given, and
/// die with the thread that started it.
pub(super) fn enter(command: &mut Command, net: Option<Arc<File>>, binds: Vec<Bind>) {
    let parent = nix::unistd::getpid();
    let child = move || {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            // The parent died before the line above.
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(net) = &net {
            setns(net, CloneFlags::CLONE_NEWNET)?;
        }
        if !binds.is_empty() {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            // Slave, as a service manager makes it: namespaces mounted later are seen in here.
            mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
            for bind in &binds {
                mount(
                    Some(bind.source.as_c_str()),
                    bind.target.as_c_str(),
                    none,
                    MsFlags::MS_BIND,
                    none,
                )?;
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child after fork. It makes system calls on values prepared
    // before the fork and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(child);
    }
}

/// Frames that a packet socket had no room for, since this was asked last (packet(7)).
pub(super) fn packets_missed(socket: &impl AsRawFd) -> std::io::Result<u32> {
    // struct tpacket_stats: frames, and those missed.
    let mut stats = [0u32; 2];
    #[allow(clippy::cast_possible_truncation)] // eight bytes
    let mut len = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: both pointers are to values that live through the call, and `len` is the size of the first.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    match rc {
        0 => Ok(stats[1]),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Sets "don't fragment" on a UDP socket, so that a packet too large for the path is an error and
/// never split.
pub(super) fn never_fragment(socket: &std::net::UdpSocket, v6: bool) -> std::io::Result<()> {
    let (level, name, value) = if v6 {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        )
    } else {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DO,
        )
    };
    #[allow(clippy::cast_possible_truncation)] // the size of an int
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a c_int that lives through the call, and the length is its size.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            len,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
