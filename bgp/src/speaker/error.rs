//! Why the speaker cannot do something.

use std::io;
use std::net::SocketAddr;

use super::config::ConfigError;
use crate::attributes::AttributesError;

/// Why the speaker cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing can connect to us.
    #[error("cannot listen for BGP at {address}: {source}; is another speaker running?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses a peer's password.
    #[error("peer {peer}: the kernel refuses its TCP MD5 password: {source}")]
    Password {
        /// Its name.
        peer: String,
        /// Why.
        source: io::Error,
    },
    /// No thread or no sockets to talk with it.
    #[error("cannot start the BGP speaker: {0}")]
    Start(#[source] io::Error),
    /// A route of ours cannot be written.
    #[error("route {prefix}: {source}")]
    Route {
        /// Its prefix.
        prefix: model::Cidr,
        /// Why.
        source: AttributesError,
    },
    /// No such peer.
    #[error("no peer is called {0}")]
    NoPeer(String),
    /// It has ended.
    #[error("the BGP speaker has ended")]
    Ended,
}

impl SpeakerError {
    /// Whether the same may go well later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            SpeakerError::Listen { .. } | SpeakerError::Password { .. } | SpeakerError::Start(_)
        )
    }
}
