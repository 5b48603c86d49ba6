//! The system calls of a tunnel at work, and no others.
//!
//! What is not listed does not exist for this process (`ENOSYS`): the C library then takes the older call
//! that does the same, as `clone` for `clone3`, whose flags no filter can see. Descriptors can be used,
//! doubled and closed, never opened, but for those that threads sleep on and for clients of a socket that is there.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// With any arguments.
const PLAIN: &[libc::c_long] = &[
    // interface, datagrams, clients, log
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_shutdown,
    libc::SYS_close,
    // waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // time and chance
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    // memory; what maps is below
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // threads; what starts them is below
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // older forms that this architecture still uses
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// An argument, by its place, and what it must be.
type Condition = (u8, SeccompCmpOp, libc::c_int);

/// With these arguments only; a call is let through when it fits one line.
fn conditional() -> Vec<(libc::c_long, Vec<Condition>)> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let has = |place, flag: libc::c_int| (place, MaskedEq(bits(flag)), flag);
    let lacks = |place, flag: libc::c_int| (place, MaskedEq(bits(flag)), 0);
    let is = |place, value| (place, Eq, value);
    let option = |option| vec![is(1, libc::SOL_SOCKET), is(2, option)];
    vec![
        // No code comes to be.
        (libc::SYS_mmap, vec![lacks(2, libc::PROT_EXEC)]),
        (libc::SYS_mprotect, vec![lacks(2, libc::PROT_EXEC)]),
        // Threads, not processes.
        (libc::SYS_clone, vec![has(0, libc::CLONE_THREAD)]),
        (libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)]),
        (libc::SYS_fcntl, vec![is(1, libc::F_DUPFD_CLOEXEC)]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GETFD)]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GETFL)]),
        // Standard output is closed by doubling over it.
        (libc::SYS_dup3, vec![is(1, libc::STDOUT_FILENO)]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_dup2, vec![is(1, libc::STDOUT_FILENO)]),
        // How long a client may be silent.
        (libc::SYS_setsockopt, option(libc::SO_RCVTIMEO)),
        (libc::SYS_setsockopt, option(libc::SO_SNDTIMEO)),
        (libc::SYS_getsockopt, option(libc::SO_MARK)),
    ]
}

fn bits(flags: libc::c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

fn program() -> Result<BpfProgram> {
    let plain = PLAIN.iter().map(|call| (*call, Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = plain.collect();
    for (call, conditions) in conditional() {
        let conditions = conditions.into_iter().map(|(place, operator, value)| {
            SeccompCondition::new(place, SeccompCmpArgLen::Dword, operator, bits(value))
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(call).or_default().push(rule);
    }
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let here = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, no_such_call, SeccompAction::Allow, here)?;
    Ok(filter.try_into()?)
}

/// Restricts this thread, for good, and those that it starts.
///
/// # Errors
/// When the kernel has no such filters.
pub(crate) fn apply() -> Result<()> {
    let program = program().context("build the filter of system calls")?;
    seccompiler::apply_filter(&program).context("restrict system calls")
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)] // calls that must not succeed

    use std::io::{self, Read, Write};
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::*;

    /// On a thread of its own, as nothing takes the filter away again.
    fn filtered<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            apply().unwrap();
            body()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap()
    }

    #[test]
    fn what_opens_starts_or_reaches_anything_is_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let refusals = filtered(|| {
            // SAFETY: the mapping would be anonymous, and is refused.
            let code = unsafe {
                let (nowhere, flags) = (std::ptr::null_mut(), libc::MAP_PRIVATE | libc::MAP_ANON);
                libc::mmap(
                    nowhere,
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    flags,
                    -1,
                    0,
                )
            };
            let code = (code == libc::MAP_FAILED).then(io::Error::last_os_error);
            // SAFETY: a child there should not be would end at once.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: it ends this child, which has run nothing else.
                unsafe { libc::_exit(1) };
            }
            let child = (child < 0).then(io::Error::last_os_error);
            let bell = nix::sys::signal::kill(nix::unistd::getpid(), None);
            [
                ("open", std::fs::File::open("/dev/null").err()),
                ("socket", UdpSocket::bind("127.0.0.1:0").err()),
                ("connect", TcpStream::connect("127.0.0.1:9").err()),
                ("option", socket.set_broadcast(true).err()),
                ("process", child),
                ("code", code),
                ("signal", bell.err().map(io::Error::from)),
            ]
        });
        for (what, refusal) in refusals {
            let errno = refusal.and_then(|e| e.raw_os_error());
            assert_eq!(errno, Some(libc::ENOSYS), "{what}");
        }
        // Only that thread.
        assert!(socket.set_broadcast(true).is_ok());
    }

    #[test]
    fn what_is_open_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let [near, far] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        client.write_all(b"get").unwrap();
        let heard = filtered(|| {
            near.send_to(b"packet", far.local_addr().unwrap()).unwrap();
            let served = std::thread::scope(|scope| {
                let serve = scope.spawn(|| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let doubled = stream.try_clone().unwrap();
                    doubled
                        .set_read_timeout(Some(Duration::from_secs(5)))
                        .unwrap();
                    let mut word = [0; 3];
                    stream.read_exact(&mut word).unwrap();
                    stream.write_all(&word).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                    // More than one arena gives.
                    vec![1u8; 64 << 20].len()
                });
                serve.join().unwrap()
            });
            assert_eq!(served, 64 << 20);
            let mut packet = [0; 10];
            far.recv(&mut packet).unwrap()
        });
        let mut word = [0; 3];
        client.read_exact(&mut word).unwrap();
        assert_eq!((heard, &word), (6, b"get"));
    }
}
