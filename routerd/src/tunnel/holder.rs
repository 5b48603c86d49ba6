//! The device in userspace: a process of ours that serves it, which outlives this one.
//!
//! ```text
//!   prepare ─ somebody serves it, with this port and mark ─► adopted
//!           ├ with others ─► its interface is removed, which ends it ─┐
//!           └ nobody ─────────────────────────────────────────────────┴─► started
//! ```
//!
//! The process has given up the rights to another port or mark, so these are for its life. It ends with
//! its interface: no process is ever looked for, or told to end, by name or number.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use model::kernel::Op;
use model::marks;
use netlink::{Kernel as _, Netlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use wireguard::control::{DeviceState, SetRequest};
use wireguard::uapi::{self, UapiError};

use super::{TunnelBackend, TunnelError};

/// Beside the daemon's own program.
const PROGRAM: &str = "routerd-tunnel";
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(5);
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
    /// The log names who serves the device now.
    told: bool,
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

    /// Names the one that was found, and says so when its program has been replaced since.
    fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let Some(pid) = UnixStream::connect(&self.socket)
            .ok()
            .and_then(|s| peer(&s))
        else {
            return;
        };
        tracing::info!(pid, "found the process that holds the tunnel");
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        if program.is_ok_and(|program| program != self.program) {
            tracing::warn!(
                pid,
                "the tunnel is held by another {PROGRAM} than is installed: `ip link delete {}` renews it at the cost of a handshake",
                marks::WIREGUARD
            );
        }
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
        if let Some(state) = self.observe()? {
            if (state.listen_port, state.fwmark) == (port, fwmark) {
                self.tell();
                return Ok(Some(state));
            }
            tracing::info!(
                port,
                fwmark,
                "the tunnel starts anew with this port and mark"
            );
        }
        let served = Served::look(&self.socket);
        // Also one of the kernel, or of a process that cannot be reached any more.
        remove_interface()?;
        self.removed = true;
        served.end()?;
        self.reap();
        self.start(port, fwmark)?;
        self.observe()
    }

    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        match uapi::client::get(&self.socket) {
            Ok(state) => Ok(Some(state)),
            Err(UapiError::Io { source, .. }) if is_nobody(&source) => Ok(None),
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

/// Who listens at the other end.
fn peer(stream: &UnixStream) -> Option<i32> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    Some(credentials.pid())
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

/// A process that serves the device, if one does, and is about to lose its interface.
#[derive(Debug)]
pub struct Served {
    socket: PathBuf,
    connection: Option<UnixStream>,
}

impl Served {
    /// Call it before the interface is removed.
    pub fn here() -> Served {
        Served::look(&socket())
    }

    fn look(socket: &Path) -> Served {
        Served {
            socket: socket.to_owned(),
            connection: UnixStream::connect(socket).ok(),
        }
    }

    /// Waits until it has ended, as it does without its interface, and removes the socket, which it
    /// may not do itself.
    ///
    /// # Errors
    /// When it still serves, or the socket cannot be removed.
    pub fn end(mut self) -> Result<(), HolderError> {
        let until = Instant::now() + PATIENCE;
        while let Some(mut connection) = self.connection.take() {
            // The kernel closes the connection when the process is gone.
            let left = until.saturating_duration_since(Instant::now());
            let is_over = left.is_zero() || connection.set_read_timeout(Some(left)).is_err();
            if is_over || connection.read(&mut [0]).is_err_and(|e| is_timeout(&e)) {
                return Err(HolderError::Remains(self.socket));
            }
            // Or one that has too many clients has hung up.
            self.connection = UnixStream::connect(&self.socket).ok();
        }
        match std::fs::remove_file(&self.socket) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(HolderError::Failed(format!(
                "remove {}: {e}",
                self.socket.display()
            ))),
            _ => Ok(()),
        }
    }
}

fn is_timeout(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
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
