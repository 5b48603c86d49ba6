//! A unix socket with a deadline for everything done on it.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::socket::{sockopt, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

/// A connected unix socket; reads and writes past the deadline fail with `TimedOut`.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    deadline: Option<Instant>,
}

impl Connection {
    /// Connects, waiting at most `limit` when the daemon's queue is full.
    ///
    /// `std` has no time-out for this; the kernel takes that of sending.
    pub(crate) fn open(path: &Path, limit: Duration) -> io::Result<Connection> {
        let address = UnixAddr::new(path)?;
        let fd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
        let send: SendTimeout = sockopt::SendTimeout;
        setsockopt(&fd, send, &TimeVal::milliseconds(millis))?;
        connect(fd.as_raw_fd(), &address).map_err(|e| timed_out(e.into()))?;
        Ok(Connection {
            stream: UnixStream::from(fd),
            deadline: None,
        })
    }

    /// When everything has to be done; `None` for never.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// What is left of the time.
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline {
            None => Ok(None),
            Some(at) => match at.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => Ok(Some(left)),
                _ => Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

/// An expired socket time-out shows as `EAGAIN`.
fn timed_out(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        e
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buf).map_err(timed_out)
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(buf).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
