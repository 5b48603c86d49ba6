//! A small blocking client of the daemon's unix socket: HTTP/1.1 with JSON bodies.
//!
//! It owns the wire between `routerctl`, `routerd-cni` and the daemon, and nothing of what is said.
//!
//! ```text
//!  Target (path + query) ─┐
//!  body: Serialize ───────┴► Client ─► Connection (unix socket, deadline) ─► routerd
//!                              ▲                                                │
//!        T: DeserializeOwned ◄─┴── answer::read_head ─► Body (length/chunked) ◄─┘
//!                                                        └► Lines (watch)
//! ```
//!
//! Invariants:
//! * no call outlives the time-outs given: connecting has one, the whole exchange another; only
//!   the lines of a watch may be waited for without end;
//! * no answer takes more memory than the limit given;
//! * one connection carries one request.

mod answer;
mod connection;
mod error;
#[cfg(feature = "fake-daemon")]
pub mod fake;
mod lines;
pub mod paths;
mod target;

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::api::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;

use answer::{Body, Head};
use connection::Connection;
pub use error::Error;
pub use lines::Lines;
pub use target::Target;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/routerd/routerd.sock";

/// How long to wait and how much to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the daemon to accept the connection.
    pub connect: Duration,
    /// For the whole exchange, connecting included.
    pub overall: Duration,
    /// Largest body of an answer, and longest line of a watch, in bytes.
    pub max_answer: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            overall: Duration::from_secs(60),
            max_answer: 256 << 20,
        }
    }
}

/// Talks to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    limits: Limits,
}

/// An answer below 400, not yet decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    operation: String,
    bytes: Vec<u8>,
}

impl Client {
    /// A client of the daemon that listens at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>, limits: Limits) -> Client {
        Client {
            socket: socket.into(),
            limits,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads.
    ///
    /// # Errors
    /// As [`Error`] lists; so for every other request.
    pub fn get<T: DeserializeOwned>(&self, target: &Target) -> Result<T, Error> {
        self.exchange("GET", target, None)?.decode()
    }

    /// Writes `body` there.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &B,
    ) -> Result<T, Error> {
        self.with_body("PUT", target, body)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        target: &Target,
        body: &B,
    ) -> Result<T, Error> {
        self.with_body("POST", target, body)
    }

    /// Deletes.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub fn delete<T: DeserializeOwned>(&self, target: &Target) -> Result<T, Error> {
        self.exchange("DELETE", target, None)?.decode()
    }

    /// Reads JSON lines as they come; the time-outs cover the head of the answer only.
    ///
    /// # Errors
    /// As [`Error`] lists.
    pub fn watch(&self, target: &Target) -> Result<Lines, Error> {
        let operation = format!("GET {target}");
        let (head, mut reader) = self.send(&operation, "GET", target, None)?;
        if head.status >= 400 {
            let body = Body::new(reader, head.framing);
            let bytes = self.read_all(&operation, body)?;
            return Err(refused(operation, head.status, &bytes));
        }
        reader.get_mut().set_deadline(None);
        let body = Body::new(reader, head.framing);
        Ok(Lines::new(operation, body, self.limits.max_answer))
    }

    fn with_body<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        target: &Target,
        body: &B,
    ) -> Result<T, Error> {
        let bytes = serde_json::to_vec(body).map_err(|e| Error::Broken {
            operation: format!("{method} {target}"),
            reason: format!("the request does not encode as JSON: {e}"),
        })?;
        self.exchange(method, target, Some(&bytes))?.decode()
    }

    fn exchange(
        &self,
        method: &str,
        target: &Target,
        body: Option<&[u8]>,
    ) -> Result<Answer, Error> {
        let operation = format!("{method} {target}");
        let (head, reader) = self.send(&operation, method, target, body)?;
        let bytes = self.read_all(&operation, Body::new(reader, head.framing))?;
        if head.status >= 400 {
            return Err(refused(operation, head.status, &bytes));
        }
        Ok(Answer { operation, bytes })
    }

    /// Sends the request and reads the head of the answer.
    fn send(
        &self,
        operation: &str,
        method: &str,
        target: &Target,
        body: Option<&[u8]>,
    ) -> Result<(Head, BufReader<Connection>), Error> {
        let deadline = Instant::now() + self.limits.overall;
        let connect = self.limits.connect.min(self.limits.overall);
        let mut connection =
            Connection::open(&self.socket, connect).map_err(|source| Error::Connect {
                socket: self.socket.clone(),
                source,
            })?;
        connection.set_deadline(Some(deadline));

        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: routerd\r\nAccept: application/json\r\nConnection: close\r\n"
        )
        .into_bytes();
        if let Some(body) = body {
            let head = format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(body);
        } else {
            request.extend_from_slice(b"\r\n");
        }
        // A daemon that refuses a large body answers and closes before it read all of it: its
        // answer says more than the broken pipe.
        let sent = connection.write_all(&request);

        let mut reader = BufReader::new(connection);
        let head = match (answer::read_head(&mut reader), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(e)) | (Err(e), Ok(())) => return Err(self.broken(operation, e)),
        };
        if (300..400).contains(&head.status) {
            return Err(Error::Broken {
                operation: operation.to_owned(),
                reason: format!("unexpected status {}", head.status),
            });
        }
        Ok((head, reader))
    }

    fn read_all(&self, operation: &str, body: impl Read) -> Result<Vec<u8>, Error> {
        let max = self.limits.max_answer;
        let mut bytes = Vec::new();
        body.take(u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| self.broken(operation, e))?;
        if bytes.len() > max {
            return Err(Error::Broken {
                operation: operation.to_owned(),
                reason: format!("the answer is larger than {max} bytes"),
            });
        }
        Ok(bytes)
    }

    fn broken(&self, operation: &str, source: std::io::Error) -> Error {
        let operation = operation.to_owned();
        match source.kind() {
            std::io::ErrorKind::TimedOut => Error::Timeout {
                operation,
                after: self.limits.overall,
            },
            std::io::ErrorKind::InvalidData => Error::Broken {
                operation,
                reason: source.to_string(),
            },
            _ => Error::Io { operation, source },
        }
    }
}

impl Answer {
    /// An empty body reads as `null`.
    fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        let bytes: &[u8] = if self.bytes.trim_ascii().is_empty() {
            b"null"
        } else {
            &self.bytes
        };
        serde_json::from_slice(bytes).map_err(|e| Error::Broken {
            operation: self.operation,
            reason: format!("the answer does not decode: {e}"),
        })
    }
}

fn refused(operation: String, status: u16, bytes: &[u8]) -> Error {
    let body = serde_json::from_slice(bytes).unwrap_or_else(|_| {
        // Not our own wording, so another server or a fault below the handlers.
        let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
        ErrorBody {
            error: format!("{operation}: status {status}: {}", text.trim()),
            retryable: matches!(status, 429 | 503 | 504),
        }
    });
    Error::Refused {
        operation,
        status,
        body,
    }
}
