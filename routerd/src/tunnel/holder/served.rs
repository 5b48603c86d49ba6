//! A process that serves the device: who it is, and its end.

use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use wireguard::uapi;

use super::{HolderError, PATIENCE, socket};

/// A process that serves the device, if one does, and is about to lose its interface.
#[derive(Debug)]
pub struct Served {
    socket: PathBuf,
    connection: Option<UnixStream>,
    /// It has no room for another client, and so does not take any.
    is_full: bool,
}

impl Served {
    /// Call it before the interface is removed.
    pub fn here() -> Served {
        Served::look(&socket(), PATIENCE)
    }

    pub(super) fn look(socket: &Path, patience: Duration) -> Served {
        let connection = uapi::client::connect(socket, patience);
        Served {
            socket: socket.to_owned(),
            is_full: connection.as_ref().is_err_and(is_timeout),
            connection: connection.ok(),
        }
    }

    /// Whether it takes no client, as there is no room for one more that waits.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Its number; that of one which has ended meanwhile may be another's.
    pub(super) fn pid(&self) -> Option<i32> {
        let credentials = getsockopt(self.connection.as_ref()?, sockopt::PeerCredentials);
        Some(credentials.ok()?.pid())
    }

    /// The program that it runs; `None` where that cannot be told. One that was replaced on the disk
    /// since has another path.
    pub(super) fn program(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid()?)).ok()
    }

    /// Ends it by force: it does not do what it is for, nor what it is told. Not by its number, but over a
    /// descriptor that is checked to be of whoever holds the other end of the connection.
    ///
    /// # Errors
    /// Without the right to.
    pub(super) fn kill(&self) -> Result<(), HolderError> {
        let Some(process) = self.process() else {
            return Ok(()); // it has ended by itself
        };
        pidfd_send_signal(&process, Signal::KILL).map_err(|e| HolderError::Kill {
            pid: self.pid().unwrap_or_default(),
            source: e.into(),
        })
    }

    fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.pid()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The kernel hangs up when the process is gone. As it has not, the number was its own all the time.
        let mut connection = self.connection.as_ref()?;
        connection.set_nonblocking(true).ok()?;
        let lives = connection.read(&mut [0]).is_err_and(|e| is_timeout(&e));
        connection.set_nonblocking(false).ok()?;
        lives.then_some(process)
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
            self = Served::look(&self.socket, left);
        }
        if self.is_full {
            return Err(HolderError::Remains(self.socket));
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

/// Nothing came in time.
pub(super) fn is_timeout(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
