//! Using privileges for the last time, and giving them up. The one module with `unsafe`: system calls
//! that have no safe form.
#![allow(unsafe_code)]

use std::io;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::filter;

/// `nobody`: it owns no file. That others may run as it gives them nothing, as this process cannot be
/// traced and has nothing to be told by signals but to end.
const NOBODY: u32 = 65534;

/// Nice value: whole queues are lost while a thread waits for a processor that workloads keep busy. The
/// kernel, which carries packets elsewhere, does not wait for them either.
const NICE: libc::c_int = -10;

/// Closes whatever the program that started the daemon left open: this process outlives both, and would keep their locks
/// and files. Call it before anything is opened.
///
/// # Errors
/// When the kernel is older than 5.9.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process has a descriptor above the standard ones yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes this thread, and those that it starts, before others. Without the right to, all goes on as it is.
pub(crate) fn go_first() {
    // SAFETY: setpriority takes numbers and no pointer; 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if done != 0 {
        let error = io::Error::last_os_error();
        tracing::info!(%error, "the tunnel has no precedence: grant CAP_SYS_NICE to routerd");
    }
}

/// From here on: no capability and no way to one, nobody's files, nothing that others may read, and only
/// the system calls of [`filter`].
///
/// # Errors
/// When the kernel refuses, other than to change the user.
pub(crate) fn give_up() -> Result<()> {
    prctl::set_no_new_privs().context("set no_new_privs")?;
    if let Err(e) = become_nobody() {
        tracing::warn!(error = %e, "the tunnel keeps its user, without privileges: grant CAP_SETUID and CAP_SETGID to routerd");
    }
    drop_capabilities().context("give up capabilities")?;
    // No core file, no ptrace and no /proc/PID/mem, which would show keys.
    prctl::set_dumpable(false).context("forbid memory dumps")?;
    filter::apply()
}

fn become_nobody() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// Empties all sets, also where the user could not be changed.
fn drop_capabilities() -> io::Result<()> {
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    // Effective, permitted and inheritable, twice 32 of each.
    let none = [[0u32; 3]; 2];
    // SAFETY: capset reads a header and, for this version, two triples of words; both live through
    // the call and have that layout.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
