//! The encrypted tunnel's device: told its peers before routes lead to them, and rid of them after.
//!
//! ```text
//!  NodeState.tunnel ─┐                       ┌─► kernel: generic netlink
//!  private key ──────┴─► plan ─► TunnelBackend
//!                          ▲                 └─► routerd-tunnel, started and adopted: its socket
//!                          └── observe ◄─────┘
//! ```
//!
//! Only the device is made here. Its MTU, addresses and routes, and its end when nobody wants it, are the
//! link's own affair, as of any other link.

pub mod backend;
pub mod holder;
pub mod key;
pub mod metrics;
#[cfg(test)]
mod tests;
pub mod view;

use std::time::Duration;

use model::tunnel::Tunnel;
use wireguard::control::{AllowedIpChange, DeviceState, PeerRequest, SetRequest};
use wireguard::keys::{PrivateKey, PublicKey};
use wireguard::plan::{DeviceSpec, PeerSpec, PlanError, plan};

/// Why the tunnel is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The kernel's device.
    #[error(transparent)]
    Kernel(#[from] wireguard::kernel::KernelError),
    /// The process in userspace.
    #[error(transparent)]
    Userspace(#[from] wireguard::uapi::UapiError),
    /// There is no such process.
    #[error(transparent)]
    Holder(#[from] holder::HolderError),
    /// What is wanted cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nothing here speaks WireGuard.
    #[error(
        "device {0}: this host has no WireGuard: load the kernel's module, or give it /dev/net/tun and routerd-tunnel beside routerd, and start routerd again"
    )]
    NoBackend(&'static str),
}

impl TunnelError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            TunnelError::Kernel(e) => e.is_retryable(),
            TunnelError::Userspace(e) => e.is_retryable(),
            TunnelError::Holder(e) => e.is_retryable(),
            TunnelError::Plan(e) => e.is_retryable(),
            TunnelError::NoBackend(_) => false,
        }
    }
}

/// What implements the device.
pub trait TunnelBackend: Send {
    /// The device as it is, for somebody who is about to configure it. `None`: there is none, and
    /// [`TunnelBackend::apply`] makes it. One that can never have this port and mark makes way.
    ///
    /// # Errors
    /// When there is none and cannot be.
    fn prepare(&mut self, port: u16, fwmark: u32) -> Result<Option<DeviceState>, TunnelError>;

    /// The device as it is; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError>;

    /// Carries out a request, and makes the device first if need be.
    ///
    /// # Errors
    /// When something of it is not done.
    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError>;
}

/// The owner of the device.
pub struct Tunnels {
    backend: Option<Box<dyn TunnelBackend>>,
    key: PrivateKey,
}

impl Tunnels {
    /// One with this node's key; without a backend every wish fails.
    pub fn new(backend: Option<Box<dyn TunnelBackend>>, key: PrivateKey) -> Tunnels {
        Tunnels { backend, key }
    }

    /// Before any route leads there: makes the device, adds and moves. Returns whether something is left
    /// to [`Tunnels::retire`].
    ///
    /// # Errors
    /// When the device is not as it should be.
    pub fn raise(&mut self, wanted: &Tunnel, now: Duration) -> Result<bool, TunnelError> {
        let found = self.backend()?.prepare(wanted.port, wanted.fwmark)?;
        let (found, mut request) = self.plan(wanted, found, now)?;
        let before = request.peers.len();
        request.peers.retain(|p| !takes_away(p));
        let left = request.peers.len() < before;
        self.apply(&request, found)?;
        Ok(left)
    }

    /// After every route left: takes away what nobody is to have.
    ///
    /// # Errors
    /// When the device is not as it should be.
    pub fn retire(&mut self, wanted: &Tunnel, now: Duration) -> Result<(), TunnelError> {
        let found = self.backend()?.observe()?;
        let (found, request) = self.plan(wanted, found, now)?;
        self.apply(&request, found)
    }

    /// The device as it is; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn observe(&mut self) -> Result<Option<DeviceState>, TunnelError> {
        match &mut self.backend {
            Some(backend) => backend.observe(),
            None => Ok(None),
        }
    }

    /// The changes, and whether there is a device to change.
    fn plan(
        &self,
        wanted: &Tunnel,
        state: Option<DeviceState>,
        now: Duration,
    ) -> Result<(bool, SetRequest), TunnelError> {
        let found = state.is_some();
        let request = plan(&spec(wanted, &self.key), &state.unwrap_or_default(), now)?;
        Ok((found, request))
    }

    fn apply(&mut self, request: &SetRequest, found: bool) -> Result<(), TunnelError> {
        if found && *request == SetRequest::default() {
            return Ok(());
        }
        self.backend()?.apply(request)?;
        tracing::info!(
            device = model::marks::WIREGUARD,
            peers = request.peers.len(),
            "tunnel changed"
        );
        Ok(())
    }

    fn backend(&mut self) -> Result<&mut dyn TunnelBackend, TunnelError> {
        match &mut self.backend {
            Some(backend) => Ok(backend.as_mut()),
            None => Err(TunnelError::NoBackend(model::marks::WIREGUARD)),
        }
    }
}

/// Whether packets that went there before would no longer. A prefix that moves is given, not taken.
fn takes_away(request: &PeerRequest) -> bool {
    match request {
        PeerRequest::Remove(_) => true,
        PeerRequest::Set(change) => {
            (change.allowed_ips.iter()).any(|change| matches!(change, AllowedIpChange::Remove(_)))
        }
    }
}

fn spec(wanted: &Tunnel, key: &PrivateKey) -> DeviceSpec {
    let peers = wanted.peers.iter().map(|(key, peer)| {
        let spec = PeerSpec {
            endpoint: Some(peer.endpoint),
            pinned: peer.pinned,
            allowed_ips: peer.allowed_ips.clone(),
            ..PeerSpec::default()
        };
        (PublicKey::new(*key.as_bytes()), spec)
    });
    DeviceSpec {
        private_key: key.clone(),
        listen_port: wanted.port,
        fwmark: wanted.fwmark,
        peers: peers.collect(),
    }
}

/// A key as the store and calculation have it.
pub fn public(key: &PrivateKey) -> model::tunnel::PublicKey {
    model::tunnel::PublicKey::new(*key.public().as_bytes())
}
