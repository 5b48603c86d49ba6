//! The device in userspace: a process of ours that serves it, which outlives this one.
//!
//! ```text
//!   prepare ─ ours serves it, with this port and mark ─► adopted
//!           ├ with others, or another program does ─► its interface is removed, which ends it ─┐
//!           ├ it neither answers nor carries packets ─► it is killed ──────────────────────────┤
//!           └ nobody ──────────────────────────────────────────────────────────────────────────┴─► started
//! ```
//!
//! The process has given up the rights to another port or mark, so these are for its life. It ends with
//! its interface: no process is ever looked for by name, or told to end by number.

mod served;
mod silence;

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use model::kernel::Op;
use model::marks;
use netlink::{Kernel as _, Netlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wireguard::control::{DeviceState, SetRequest};
use wireguard::uapi::{self, UapiError};

use super::{TunnelBackend, TunnelError};

pub use served::Served;
use served::is_timeout;
use silence::{Passed, Silence, Verdict};

/// Beside the daemon's own program.
const PROGRAM: &str = "routerd-tunnel";
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to answer, and to do so once it has not.
const ANSWER: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes of what it says when it cannot start.
const WORDS: usize = 4096;

/// Why there is no process that serves the device.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// It cannot be run.
    #[error("start {}: {source}: install it beside routerd", program.display())]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It said why it does not serve, or nothing in time.
    #[error("{PROGRAM}: {0}")]
    Failed(String),
    /// The interface of its predecessor is in the way.
    #[error(transparent)]
    Remove(#[from] netlink::Error),
    /// It still serves the device, which has no interface any more.
    #[error("{PROGRAM}: still serves {} after its interface was removed: end it by hand", .0.display())]
    Remains(PathBuf),
    /// It does not answer, and may or may not carry packets.
    #[error(
        "{PROGRAM} (pid {pid}) has not answered for {seconds} s: it is replaced if it carries no packets either"
    )]
    Silent {
        /// Its number.
        pid: i32,
        /// For how long.
        seconds: u64,
    },
    /// It does not answer, and carries packets.
    #[error(
        "{PROGRAM} (pid {pid}) has not answered for {seconds} s, but carries packets: `ip link delete {}` renews it at the cost of a handshake",
        marks::WIREGUARD
    )]
    Deaf {
        /// Its number.
        pid: i32,
        /// For how long.
        seconds: u64,
    },
    /// It does nothing, and cannot be killed.
    #[error(
        "end {PROGRAM} (pid {pid}), which hangs: {source}: grant CAP_KILL to routerd, or end it by hand"
    )]
    Kill {
        /// Its number.
        pid: i32,
        /// Why not.
        source: std::io::Error,
    },
}

impl HolderError {
    /// Whether the same may succeed later: a port may become free, a program be installed.
    pub fn is_retryable(&self) -> bool {
        match self {
            HolderError::Remove(e) => e.is_retryable(),
            _ => true,
        }
    }
}

/// The device that a process of ours serves.
#[derive(Debug)]
pub struct Holder {
    program: PathBuf,
    socket: PathBuf,
    /// Its log is JSON, as ours.
    json: bool,
    /// The one that was started by this daemon.
    child: Option<Child>,
    /// Who serves the device now is known to be ours, and named in the log.
    told: bool,
    /// It has not answered, and is this one.
    silence: Option<(Silence, Served)>,
    /// The interface was removed, with all that hung on it.
    removed: bool,
}

impl Holder {
    /// One that is started by the program beside this one.
    pub fn new(json: bool) -> Holder {
        // Also while the file is replaced by a newer one.
        let me = std::env::current_exe().unwrap_or_else(|_| "/usr/sbin/routerd".into());
        Holder {
            program: me.with_file_name(PROGRAM),
            socket: socket(),
            json,
            child: None,
            told: false,
            silence: None,
            removed: false,
        }
    }

    /// Whether it could be started here.
    pub fn is_possible(&self) -> bool {
        let tun = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        tun.is_ok() && self.program.is_file()
    }

    fn start(&mut self, port: u16, fwmark: u32) -> Result<(), HolderError> {
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &port.to_string(), "--fwmark", &fwmark.to_string()])
            .args(self.json.then_some("--json"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| HolderError::Start {
            program: self.program.clone(),
            source,
        })?;
        let said = match child.stdout.take() {
            Some(stdout) => last_words(stdout, PATIENCE),
            None => String::new(),
        };
        if said.trim() == "ready" {
            (self.child, self.told) = (Some(child), true);
            return Ok(());
        }
        // It has ended, or is stuck before it serves anything.
        let _ = child.kill();
        let status = child.wait();
        let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        Err(HolderError::Failed(match said.trim() {
            "" => format!("no word of it in {PATIENCE:?}, {status}"),
            said => said.to_owned(),
        }))
    }

    /// Whether the one that was found can be kept: not another program, which knows nothing of keys that
    /// change. Says so when its program has been replaced since.
    fn adopt(&mut self) -> bool {
        if self.told {
            return true;
        }
        let served = Served::look(&self.socket, ANSWER);
        let Some(pid) = served.pid() else {
            return true; // it has ended meanwhile, which will be seen
        };
        let program = served.program();
        if let Some(program) = program.as_ref().filter(|p| !is_ours(p)) {
            let program = program.display();
            tracing::warn!(pid, %program, "another program serves {}: it makes way", marks::WIREGUARD);
            return false;
        }
        self.told = true;
        tracing::info!(pid, "found the process that holds the tunnel");
        if program.is_some_and(|program| program != self.program) {
            tracing::warn!(
                pid,
                "the tunnel is held by another {PROGRAM} than is installed: `ip link delete {}` renews it at the cost of a handshake",
                marks::WIREGUARD
            );
        }
        true
    }

    /// It did not answer in time.
    fn unanswered(&mut self) -> HolderError {
        let (now, passed) = (Instant::now(), Passed::now());
        let (silence, served) = self.silence.get_or_insert_with(|| {
            let served = Served::look(&self.socket, AGAIN);
            (Silence::begin(now, passed, silence::offer), served)
        });
        silence.judge(now, passed, silence::offer);
        let (seconds, verdict) = (silence.lasts(now).as_secs(), silence.verdict());
        let pid = served.pid().unwrap_or_default();
        match verdict {
            Verdict::Carries => HolderError::Deaf { pid, seconds },
            Verdict::Waiting | Verdict::Hangs => HolderError::Silent { pid, seconds },
        }
    }

    fn hangs(&self) -> bool {
        let silence = self.silence.as_ref();
        silence.is_some_and(|(s, _)| s.verdict() == Verdict::Hangs)
    }

    /// Ends whoever serves the device, and starts one of ours.
    fn replace(&mut self, port: u16, fwmark: u32) -> Result<(), HolderError> {
        let mut served = Served::look(&self.socket, ANSWER);
        let hanging = |(s, _): &mut (Silence, Served)| s.verdict() == Verdict::Hangs;
        if let Some((_, first)) = self.silence.take_if(hanging) {
            // One that takes clients hangs up on those that wait for long; one that does not has no room.
            served = if served.is_full() { first } else { served };
            tracing::warn!(
                pid = served.pid(),
                "{PROGRAM} hangs: it neither answers nor carries packets, and is replaced"
            );
            served.kill()?;
        }
        // Also one of the kernel, or of a process that cannot be reached any more.
        remove_interface()?;
        self.removed = true;
        served.end()?;
        self.reap();
        self.start(port, fwmark)
    }

    /// Collects one that has ended.
    fn reap(&mut self) {
        let ended = |child: &mut Child| child.try_wait().ok().flatten();
        if let Some(status) = self.child.as_mut().and_then(ended) {
            tracing::warn!(%status, "{PROGRAM} ended");
            self.child = None;
        }
    }
}

impl TunnelBackend for Holder {
    fn prepare(&mut self, port: u16, fwmark: u32) -> Result<Option<DeviceState>, TunnelError> {
        self.reap();
        match self.observe() {
            Ok(Some(state)) if (state.listen_port, state.fwmark) != (port, fwmark) => {
                tracing::info!(
                    port,
                    fwmark,
                    "the tunnel starts anew with this port and mark"
                );
            }
            Ok(Some(state)) if self.adopt() => return Ok(Some(state)),
            Err(e) if !self.hangs() => return Err(e),
            _ => {}
        }
        self.replace(port, fwmark)?;
        self.observe()
    }

    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        let patience = self.silence.as_ref().map_or(ANSWER, |_| AGAIN);
        let answer = uapi::client::get(&self.socket, patience);
        if let Err(UapiError::Io { source, .. }) = &answer
            && is_timeout(source)
        {
            return Err(self.unanswered().into());
        }
        if self.silence.take().is_some() {
            tracing::info!("the process that holds the tunnel is silent no more");
        }
        match answer {
            Ok(state) => Ok(Some(state)),
            Err(UapiError::Io { source, .. }) if is_nobody(&source) => {
                self.told = false;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn has_removed(&mut self) -> bool {
        std::mem::take(&mut self.removed)
    }

    fn has_single_keys(&self) -> bool {
        false
    }

    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError> {
        Ok(uapi::client::set(&self.socket, request.clone())?)
    }
}

/// Whether this is our program, also one that was replaced on the disk since it was started.
fn is_ours(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.strip_suffix(" (deleted)").unwrap_or(name) == PROGRAM)
}

fn socket() -> PathBuf {
    Path::new(uapi::RUN_DIR).join(format!("{}.sock", marks::WIREGUARD))
}

fn is_nobody(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn remove_interface() -> Result<(), HolderError> {
    let Ok(name) = marks::WIREGUARD.parse() else {
        return Ok(());
    };
    let results = Netlink::open([])?.apply(&[Op::DeleteLink(name)]);
    Ok(results.into_iter().collect::<Result<(), _>>()?)
}

/// All that comes before the end of the stream, or as much as does in time.
fn last_words(mut stdout: ChildStdout, limit: Duration) -> String {
    let until = Instant::now() + limit;
    let mut said = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Err(nix::Error::EINTR) => continue,
            Ok(1..) => {}
            _ => break,
        }
        let mut some = [0; 256];
        match stdout.read(&mut some) {
            Ok(1..) if said.len() > WORDS => break,
            Ok(count @ 1..) => said.extend_from_slice(some.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests;
