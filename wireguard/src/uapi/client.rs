//! Asking and telling a device over its socket.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::lines::Lines;
use super::{Request, Response, ResponseParser, UapiError, render_request};
use crate::control::{DeviceState, SetRequest};

/// How long the device may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of the device whose socket is at `path`.
///
/// # Errors
/// When nobody answers, the device says no, or the answer makes no sense.
pub fn get(path: &Path) -> Result<DeviceState, UapiError> {
    exchange("get", path, &Request::Get)
}

/// Has the device at `path` carry out `request`.
///
/// # Errors
/// When nobody answers, the device says no, or the answer makes no sense.
pub fn set(path: &Path, request: SetRequest) -> Result<(), UapiError> {
    exchange("set", path, &Request::Set(request)).map(drop)
}

fn exchange(
    operation: &'static str,
    path: &Path,
    request: &Request,
) -> Result<DeviceState, UapiError> {
    let failed = |operation| UapiError::io(operation, path.display());
    let stream = connect(path).map_err(failed("connect to"))?;
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

fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
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
