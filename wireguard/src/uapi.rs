//! The text protocol by which `wg` and others configure a WireGuard device in userspace
//! (<https://www.wireguard.com/xplatform/>).
//!
//! ```text
//!   wg show ──► /var/run/wireguard/NAME.sock ──► Server ──► DeviceControl::get ─┐
//!   wg set  ──►                                         ──► DeviceControl::set ─┤ a device
//!   our own daemon ──► client::{get, set} ──► the same socket                   ┘
//! ```
//!
//! [`RequestParser`] and [`ResponseParser`] take lines and are pure; each has its renderer. They are
//! strict: what is unknown, repeated or out of order is refused, so nothing is half understood. A
//! request is carried out when all of it has been read, or not at all. What they read and write holds
//! secrets: buffers are wiped, and errors name keys, never values.

pub mod client;
mod fields;
mod lines;
mod request;
mod response;
mod server;

use std::io;

pub use request::{Request, RequestParser, render_request};
pub use response::{Response, ResponseParser, render_state, render_status};
pub use server::{DeviceControl, Listener, Server};

/// Where `wg` looks for the sockets of userspace devices.
pub const RUN_DIR: &str = "/var/run/wireguard";
/// Bytes of the longest line; a key in hexadecimal takes 80.
pub const MAX_LINE: usize = 256;
/// Lines in one request or answer: a mesh of 5,000 nodes with 100 prefixes each has 550,000.
pub const MAX_LINES: usize = 1 << 20;

/// Why a request or an answer is not understood, or could not be carried.
#[derive(Debug, thiserror::Error)]
pub enum UapiError {
    /// The first line is no operation.
    #[error("the first line must be get=1 or set=1")]
    Operation,
    /// A line that is no `key=value`.
    #[error("line {0}: write key=value")]
    Syntax(usize),
    /// A key that means nothing here.
    #[error("line {line}: {key:?} is not known here")]
    UnknownKey {
        /// Counted from 1.
        line: usize,
        /// As it was written.
        key: String,
    },
    /// A value that the key cannot have. The value may be a secret and is left out.
    #[error("line {line}: the value of {key} is wrong: write {wanted}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// Of which key.
        key: &'static str,
        /// What it takes.
        wanted: &'static str,
    },
    /// A key for the second time, or after what it should precede.
    #[error("line {line}: {key} is repeated or comes too late")]
    Order {
        /// Counted from 1.
        line: usize,
        /// Which.
        key: &'static str,
    },
    /// More than [`MAX_LINES`] or, in one line, [`MAX_LINE`].
    #[error("line {0}: too long, or too many lines")]
    TooLong(usize),
    /// The device said no.
    #[error("{operation} {object}: {source}")]
    Refused {
        /// `get` or `set`.
        operation: &'static str,
        /// The socket.
        object: String,
        /// Its error number.
        source: io::Error,
    },
    /// The socket failed.
    #[error("{operation} {object}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The socket.
        object: String,
        /// Why not.
        source: io::Error,
    },
}

impl UapiError {
    /// Whether the same may succeed later: the device may be busy or not there yet, but what makes no
    /// sense, or is forbidden, stays so.
    pub fn is_retryable(&self) -> bool {
        match self {
            UapiError::Io { source, .. } | UapiError::Refused { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::PermissionDenied
            ),
            _ => false,
        }
    }

    fn io(
        operation: &'static str,
        object: impl std::fmt::Display,
    ) -> impl FnOnce(io::Error) -> UapiError {
        let object = object.to_string();
        move |source| UapiError::Io {
            operation,
            object,
            source,
        }
    }
}
