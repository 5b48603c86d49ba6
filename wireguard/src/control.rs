//! What a WireGuard device says of itself and what it can be told, whatever implements it.
//!
//! ```text
//!   DeviceState ◄── get ──┐                 ┌── kernel: generic netlink
//!                         ├── a device ◄────┤
//!   SetRequest  ─── set ──┘                 └── userspace: text over a unix socket
//! ```
//!
//! Both are plain data, and neither shows a secret when printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use model::Cidr;

use crate::keys::{PresharedKey, PrivateKey, PublicKey};

/// A device as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Its key, when it has one and the reader may know it.
    pub private_key: Option<PrivateKey>,
    /// Another key that it answers to. Only ours in userspace has one.
    pub other_private_key: Option<PrivateKey>,
    /// UDP port that it receives on; 0: none chosen yet.
    pub listen_port: u16,
    /// Mark on the datagrams it sends; 0: none.
    pub fwmark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, PeerState>,
}

/// A peer as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// Shared secret besides the key pairs.
    pub preshared_key: Option<PresharedKey>,
    /// Another, which is tried as well; it may be the one of zeros. Only ours in userspace has one.
    pub other_preshared_key: Option<PresharedKey>,
    /// Another key by which it is the same peer. Only ours in userspace has one.
    pub other_public_key: Option<PublicKey>,
    /// Where it was heard last, or is expected.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between persistent keepalives; 0: off.
    pub persistent_keepalive: u16,
    /// What it owns.
    pub allowed_ips: BTreeSet<Cidr>,
    /// When a handshake was completed last, since 1970.
    pub last_handshake: Option<Duration>,
    /// Bytes of authenticated datagrams received.
    pub received_bytes: u64,
    /// Bytes of datagrams sent.
    pub sent_bytes: u64,
}

/// Changes to a device, in the order in which they are made. What is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetRequest {
    /// A new key; `Some(None)` takes it away.
    pub private_key: Option<Option<PrivateKey>>,
    /// Another key to answer to besides; `Some(None)` takes it away.
    pub other_private_key: Option<Option<PrivateKey>>,
    /// Another UDP port; 0: one of the device's choice.
    pub listen_port: Option<u16>,
    /// Another mark; 0: none.
    pub fwmark: Option<u32>,
    /// Forgets all peers first.
    pub replace_peers: bool,
    /// Changes to peers.
    pub peers: Vec<PeerRequest>,
}

/// What to do with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// Add or change it.
    Set(PeerChange),
    /// Forget it and its allowed IPs.
    Remove(PublicKey),
}

/// Changes to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// Which.
    pub public_key: PublicKey,
    /// Does nothing when the device does not have it.
    pub update_only: bool,
    /// Another shared secret; `Some(None)` takes it away.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Another to try as well, also the one of zeros; `Some(None)` takes it away.
    pub other_preshared_key: Option<Option<PresharedKey>>,
    /// Another key by which it is the same peer; `Some(None)` takes it away.
    pub other_public_key: Option<Option<PublicKey>>,
    /// Another address.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between persistent keepalives; 0: off.
    pub persistent_keepalive: Option<u16>,
    /// Takes all its allowed IPs away first.
    pub replace_allowed_ips: bool,
    /// Changes to what it owns.
    pub allowed_ips: Vec<AllowedIpChange>,
}

/// A change of what a peer owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedIpChange {
    /// Gives it to the peer, whoever had it: a move is one step.
    Add(Cidr),
    /// Takes it from the peer, if it has it.
    Remove(Cidr),
}

/// Why a device will not do what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A device in userspace is never without a key.
    #[error("private key: this device needs one: set another in its place")]
    KeyNeeded,
    /// The device ran out of numbers for peers.
    #[error("peer {0}: no more peers can be added: restart the device")]
    TooManyPeers(PublicKey),
}

impl ControlError {
    /// Whether the same may succeed later: never.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl From<ControlError> for std::io::Error {
    fn from(e: ControlError) -> std::io::Error {
        let kind = match e {
            ControlError::KeyNeeded => std::io::ErrorKind::InvalidInput,
            ControlError::TooManyPeers(_) => std::io::ErrorKind::OutOfMemory,
        };
        std::io::Error::new(kind, e)
    }
}

impl PeerChange {
    /// No change yet to the peer with this key, which is added if need be.
    pub fn new(public_key: PublicKey) -> PeerChange {
        PeerChange {
            public_key,
            update_only: false,
            preshared_key: None,
            other_preshared_key: None,
            other_public_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }

    /// Whether a peer that is there already stays as it is.
    pub fn changes_nothing(&self) -> bool {
        self.preshared_key.is_none()
            && self.other_preshared_key.is_none()
            && self.other_public_key.is_none()
            && self.endpoint.is_none()
            && self.persistent_keepalive.is_none()
            && !self.replace_allowed_ips
            && self.allowed_ips.is_empty()
    }
}

impl SetRequest {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == SetRequest::default()
    }
}

/// One line for each thing that changes; empty when nothing does.
impl fmt::Display for SetRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.private_key {
            Some(Some(key)) => writeln!(f, "private key: the one of {}", key.public())?,
            Some(None) => writeln!(f, "private key: none")?,
            None => {}
        }
        match &self.other_private_key {
            Some(Some(key)) => writeln!(f, "other private key: the one of {}", key.public())?,
            Some(None) => writeln!(f, "other private key: none")?,
            None => {}
        }
        if let Some(port) = self.listen_port {
            writeln!(f, "listen port: {port}")?;
        }
        if let Some(fwmark) = self.fwmark {
            writeln!(f, "fwmark: {fwmark:#x}")?;
        }
        if self.replace_peers {
            writeln!(f, "all peers: remove")?;
        }
        self.peers.iter().try_for_each(|peer| writeln!(f, "{peer}"))
    }
}

impl fmt::Display for PeerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerRequest::Set(change) => fmt::Display::fmt(change, f),
            PeerRequest::Remove(key) => write!(f, "peer {key}: remove"),
        }
    }
}

impl fmt::Display for PeerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.update_only { "change" } else { "set" };
        write!(f, "peer {}: {what}", self.public_key)?;
        match self.preshared_key {
            Some(Some(_)) => f.write_str(" preshared-key")?,
            Some(None) => f.write_str(" preshared-key none")?,
            None => {}
        }
        match self.other_preshared_key {
            Some(Some(_)) => f.write_str(" other-preshared-key")?,
            Some(None) => f.write_str(" other-preshared-key none")?,
            None => {}
        }
        match self.other_public_key {
            Some(Some(key)) => write!(f, " other-key {key}")?,
            Some(None) => f.write_str(" other-key none")?,
            None => {}
        }
        if let Some(endpoint) = self.endpoint {
            write!(f, " endpoint {endpoint}")?;
        }
        if let Some(seconds) = self.persistent_keepalive {
            write!(f, " keepalive {seconds}s")?;
        }
        if self.replace_allowed_ips {
            f.write_str(" allowed-ips none")?;
        }
        for change in &self.allowed_ips {
            match change {
                AllowedIpChange::Add(prefix) => write!(f, " +{prefix}")?,
                AllowedIpChange::Remove(prefix) => write!(f, " -{prefix}")?,
            }
        }
        Ok(())
    }
}
