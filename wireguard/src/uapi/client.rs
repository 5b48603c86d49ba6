//! Asking and telling a device over its socket.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};

use super::lines::Lines;
use super::{Request, Response, ResponseParser, UapiError, render_request};
use crate::control::{DeviceState, SetRequest};

/// How long the device may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of the device whose socket is at `path`, which may take this long at each step.
///
/// # Errors
/// When nobody answers, the device says no, or the answer makes no sense.
pub fn get(path: &Path, patience: Duration) -> Result<DeviceState, UapiError> {
    exchange("get", path, &Request::Get, patience)
}

/// Has the device at `path` carry out `request`.
///
/// # Errors
/// When nobody answers, the device says no, or the answer makes no sense.
pub fn set(path: &Path, request: SetRequest) -> Result<(), UapiError> {
    exchange("set", path, &Request::Set(request), PATIENCE).map(drop)
}

fn exchange(
    operation: &'static str,
    path: &Path,
    request: &Request,
    patience: Duration,
) -> Result<DeviceState, UapiError> {
    let failed = |operation| UapiError::io(operation, path.display());
    let stream = connect(path, patience).map_err(failed("connect to"))?;
    let text = render_request(request);
    let written = (&stream).write_all(text.as_bytes());
    // A server that hangs up in the middle has said why.
    let Response { state, errno } = match (read(&stream, path), written) {
        (Ok(response), _) => response,
        (Err(_), Err(e)) => return Err(failed("write to")(e)),
        (Err(e), Ok(())) => return Err(e),
    };
    match errno.saturating_abs() {
        0 => Ok(state),
        errno => Err(UapiError::Refused {
            operation,
            object: path.display().to_string(),
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}

/// A connection that waits this long at each step, also for room among those that wait to be accepted.
///
/// # Errors
/// When nobody listens there, or has room in time (`WouldBlock`).
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let (unix, stream) = (AddressFamily::Unix, SockType::Stream);
    let socket = socket(unix, stream, SockFlag::SOCK_CLOEXEC, None)?;
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

fn read(stream: &UnixStream, path: &Path) -> Result<Response, UapiError> {
    let failed = || UapiError::io("read from", path.display());
    let (mut lines, mut parser) = (Lines::new(stream), ResponseParser::default());
    while let Some(line) = lines.next().map_err(failed())? {
        if let Some(response) = parser.line(line)? {
            return Ok(response);
        }
    }
    Err(failed()(io::ErrorKind::UnexpectedEof.into()))
}
