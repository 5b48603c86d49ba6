//! What etcd or the transport said, as our error: was it sent, and is another endpoint worth a try?

use std::error::Error as _;

use model::kv::LeaseId;
use tonic::{Code, Status};

use crate::error::{Error, Operation};

/// What was being done, for messages.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) operation: Operation,
    pub(super) object: &'a str,
    /// The lease that the request names, if it names one.
    pub(super) lease: Option<LeaseId>,
}

impl Context<'_> {
    pub(super) fn unavailable(self, message: impl Into<String>, sent: bool) -> Error {
        Error::Unavailable {
            operation: self.operation,
            object: self.object.to_owned(),
            message: message.into(),
            sent,
        }
    }

    fn denied(self, message: impl Into<String>) -> Error {
        Error::Denied {
            operation: self.operation,
            object: self.object.to_owned(),
            message: message.into(),
        }
    }

    fn invalid(self, message: impl Into<String>) -> Error {
        Error::Invalid {
            operation: self.operation,
            object: self.object.to_owned(),
            message: message.into(),
        }
    }

    /// Our error for one of the client's.
    pub(super) fn error(self, e: etcd_client::Error) -> Error {
        use etcd_client::Error as E;
        match e {
            E::GRpcStatus(status) => self.status(&status),
            E::LeaseKeepAliveError(_) => Error::LeaseNotFound {
                operation: self.operation,
                lease: self.lease.unwrap_or(LeaseId(0)),
            },
            E::InvalidArgs(m) => self.invalid(m),
            E::InvalidUri(e) => self.invalid(e.to_string()),
            E::InvalidMetadataValue(e) => self.invalid(e.to_string()),
            other => self.unavailable(other.to_string(), true),
        }
    }

    fn status(self, status: &Status) -> Error {
        let message = status.message();
        let says = |part: &str| message.contains(part);
        match status.code() {
            Code::NotFound if says("lease not found") => Error::LeaseNotFound {
                operation: self.operation,
                lease: self.lease.unwrap_or(LeaseId(0)),
            },
            Code::OutOfRange if says("compacted") => Error::Compacted {
                operation: self.operation,
                object: self.object.to_owned(),
            },
            Code::PermissionDenied | Code::Unauthenticated => self.denied(message),
            Code::InvalidArgument if says("auth") || says("user") || says("token") => {
                // The roles changed while the request was on its way.
                if says("revision") {
                    return self.unavailable(message, false);
                }
                self.denied(message)
            }
            Code::FailedPrecondition if says("authentication is not enabled") => {
                self.denied("etcd has authentication switched off, but a username is configured")
            }
            Code::ResourceExhausted if says("too many requests") => {
                self.unavailable(message, false)
            }
            Code::ResourceExhausted if says("database space exceeded") => Error::Storage {
                operation: self.operation,
                object: self.object.to_owned(),
                message: "etcd's space quota is used up; compact, defragment and disarm the alarm"
                    .into(),
                ambiguous: false,
            },
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                self.invalid(message)
            }
            // Refused before it was proposed to anybody.
            Code::Unavailable if says("no leader") => self.unavailable(message, false),
            _ if never_connected(status) => self.unavailable(innermost(status), false),
            _ => self.unavailable(format!("{message} ({:?})", status.code()), true),
        }
    }
}

/// Whether the connection was not even made, so that nothing was sent.
fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(e) = source {
        if e.downcast_ref::<tonic::ConnectError>().is_some() {
            return true;
        }
        source = e.source();
    }
    false
}

/// The cause that says most: "Connection refused" rather than "transport error".
fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(e) = source {
        text = e.to_string();
        source = e.source();
    }
    format!("cannot connect: {text}")
}

/// Whether another endpoint may do better.
pub(super) fn worth_another_endpoint(e: &Error) -> bool {
    matches!(e, Error::Timeout { .. } | Error::Unavailable { .. })
}

/// Whether etcd no longer takes our token, which a new one mends.
pub(super) fn is_stale_token(message: &str) -> bool {
    message.contains("invalid auth token") || message.contains("permission denied")
}
