//! Why a request did not succeed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use model::api::ErrorBody;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or nobody accepts.
    #[error(
        "cannot connect to {}: {source}: is routerd running? Another socket is named with --socket or ROUTERD_SOCKET",
        socket.display()
    )]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The daemon understood and said no.
    #[error("{}", body.error)]
    Refused {
        /// Method and target.
        operation: String,
        /// HTTP status, 400 and above.
        status: u16,
        /// Its words.
        body: ErrorBody,
    },
    /// The answer did not come in time.
    #[error("{operation}: routerd gave no answer within {} s", after.as_secs_f32())]
    Timeout {
        /// Method and target.
        operation: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("{operation}: the connection to routerd broke: {source}")]
    Io {
        /// Method and target.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What came is no answer.
    #[error(
        "{operation}: broken answer: {reason}; is this the socket of routerd, and of this version?"
    )]
    Broken {
        /// Method and target.
        operation: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether the same request may succeed later, with nothing changed on this side.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Error::Refused { body, .. } => body.retryable,
            Error::Timeout { .. } | Error::Io { .. } => true,
            Error::Broken { .. } => false,
        }
    }

    /// HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
