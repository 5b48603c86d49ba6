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
mod drift;
pub mod exchange;
pub mod holder;
pub mod key;
pub mod metrics;
mod preshared;
pub mod rotation;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::tunnel::{EncapsulationKey, Tunnel};
use wireguard::control::{AllowedIpChange, DeviceState, PeerRequest, SetRequest};
use wireguard::keys::{PrivateKey, PublicKey};
use wireguard::plan::{DeviceSpec, PeerSpec, PlanError, plan, with_single_keys};
use wireguard::postquantum::Install;

use crate::reconcile::Drift;
use preshared::Preshared;

pub use drift::Findings;

/// Why the tunnel is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The kernel's device.
    #[error("{0}; see `routerctl doctor`")]
    Kernel(#[from] wireguard::kernel::KernelError),
    /// The process in userspace.
    #[error("{0}: see that the process that serves this device runs; it is tried again")]
    Userspace(#[from] wireguard::uapi::UapiError),
    /// There is no such process.
    #[error("{0}; it is tried again")]
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

    /// Whether the interface was taken away since this was asked last, for another that is as it should be.
    fn has_removed(&mut self) -> bool {
        false
    }

    /// Whether the device and each of its peers can have but one key.
    fn has_single_keys(&self) -> bool;

    /// Carries out a request, and makes the device first if need be.
    ///
    /// # Errors
    /// When something of it is not done.
    fn apply(&mut self, request: &SetRequest) -> Result<(), TunnelError>;
}

/// The private keys of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Its key.
    pub current: PrivateKey,
    /// The one before or after it, which is answered to besides while the key changes.
    pub other: Option<PrivateKey>,
}

impl From<PrivateKey> for Keys {
    fn from(current: PrivateKey) -> Keys {
        let other = None;
        Keys { current, other }
    }
}

/// The public halves of this node's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys {
    /// The key of its tunnel; none when it cannot have one.
    pub current: Option<model::tunnel::PublicKey>,
    /// The one that will be in its place soon.
    pub next: Option<model::tunnel::PublicKey>,
    /// What others encapsulate to, where preshared keys are agreed on.
    pub encapsulation: Option<EncapsulationKey>,
}

/// The owner of the device.
pub struct Tunnels {
    backend: Option<Box<dyn TunnelBackend>>,
    keys: Keys,
    /// Seconds between packets to every peer; 0: none.
    keepalive: u16,
    /// What the device was left as; none when it was not left right.
    achieved: Option<Tunnel>,
    /// Where peers were said to be last.
    endpoints: BTreeMap<PublicKey, SocketAddr>,
    preshared: Preshared,
    drift: Vec<Drift>,
}

impl Tunnels {
    /// One with this node's key; without a backend every wish fails.
    pub fn new(backend: Option<Box<dyn TunnelBackend>>, keys: impl Into<Keys>) -> Tunnels {
        Tunnels {
            backend,
            keys: keys.into(),
            keepalive: 0,
            achieved: None,
            endpoints: BTreeMap::new(),
            preshared: Preshared::default(),
            drift: Vec::new(),
        }
    }

    /// Takes other keys; the device gets them with the next [`Tunnels::raise`].
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
        // That the device has the old ones is nobody's doing.
        self.achieved = None;
    }

    /// Sends something to every peer this often, in seconds; 0: only what there is to send.
    #[must_use]
    pub fn with_keepalive(mut self, seconds: u16) -> Tunnels {
        self.keepalive = seconds;
        self
    }

    /// Before any route leads there: makes the device, adds and moves. Returns whether something is left
    /// to [`Tunnels::retire`].
    ///
    /// # Errors
    /// When the device is not as it should be.
    pub fn raise(&mut self, wanted: &Tunnel, now: Duration) -> Result<bool, TunnelError> {
        if let Some(achieved) = self.achieved.take() {
            let found = self.compare(&achieved, wanted, now)?;
            self.drift.extend(found);
        }
        let state = self.backend()?.prepare(wanted.port, wanted.fwmark)?;
        let mut request = self.plan(wanted, state.as_ref(), now)?;
        let before = request.peers.len();
        request.peers.retain(|p| !takes_away(p));
        let left = request.peers.len() < before;
        self.apply(&request, state.is_some())?;
        self.done(wanted, left);
        Ok(left)
    }

    /// After every route left: takes away what nobody is to have.
    ///
    /// # Errors
    /// When the device is not as it should be.
    pub fn retire(&mut self, wanted: &Tunnel, now: Duration) -> Result<(), TunnelError> {
        self.achieved = None;
        let state = self.backend()?.observe()?;
        let request = self.plan(wanted, state.as_ref(), now)?;
        self.apply(&request, state.is_some())?;
        self.done(wanted, false);
        Ok(())
    }

    /// Whether the device is not as it is wanted, for whatever reason. Nobody tells when a peer changes.
    pub fn differs(&mut self, wanted: &Tunnel, now: Duration) -> bool {
        let Ok(Some(state)) = self.observe() else {
            return true;
        };
        let request = self.plan(wanted, Some(&state), now);
        !request.is_ok_and(|r| r.is_empty())
    }

    /// What others did since the device was as `achieved`.
    fn compare(
        &mut self,
        achieved: &Tunnel,
        wanted: &Tunnel,
        now: Duration,
    ) -> Result<Vec<Drift>, TunnelError> {
        let Some(state) = self.backend()?.observe()? else {
            return Ok(vec![drift::device()]);
        };
        let (back, to) = (
            self.plan(achieved, Some(&state), now)?,
            self.plan(wanted, Some(&state), now)?,
        );
        let single_keys = self.has_single_keys();
        Ok(drift::find(&back, &to, &state, (achieved, single_keys)))
    }

    /// Whether the device and each of its peers can have but one key.
    pub fn has_single_keys(&self) -> bool {
        let backend = self.backend.as_ref();
        backend.is_some_and(|b| b.has_single_keys())
    }

    /// What was found and done since the last call.
    pub fn take_findings(&mut self) -> Findings {
        Findings {
            drift: std::mem::take(&mut self.drift),
            removed: self.backend.as_mut().is_some_and(|b| b.has_removed()),
        }
    }

    fn done(&mut self, wanted: &Tunnel, left: bool) {
        let endpoints = wanted.peers.iter();
        let endpoints = endpoints.map(|(key, p)| (PublicKey::new(*key.as_bytes()), p.endpoint));
        self.endpoints = endpoints.collect();
        self.preshared.know(wanted);
        self.achieved = (!left).then(|| wanted.clone());
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

    /// Has the device try other preshared keys, at once.
    ///
    /// # Errors
    /// When it does not; it will with the next [`Tunnels::raise`].
    pub fn press(&mut self, installs: Vec<Install>) -> Result<(), TunnelError> {
        let single = self.has_single_keys();
        let request = self.preshared.take(installs, single);
        if request.is_empty() {
            return Ok(());
        }
        let done = self.backend()?.apply(&request);
        if done.is_err() {
            // That the device has others is nobody's doing.
            self.achieved = None;
        }
        done
    }

    /// The changes to what is wanted.
    fn plan(
        &mut self,
        wanted: &Tunnel,
        state: Option<&DeviceState>,
        now: Duration,
    ) -> Result<SetRequest, TunnelError> {
        let none = DeviceState::default();
        let state = state.unwrap_or(&none);
        self.preshared.keep(wanted, state);
        let mut spec = self.spec(wanted);
        if self.has_single_keys() {
            spec = with_single_keys(spec, state);
        }
        Ok(plan(&spec, state, now)?)
    }

    fn spec(&self, wanted: &Tunnel) -> DeviceSpec {
        let peers = wanted.peers.iter().map(|(key, peer)| {
            let key = PublicKey::new(*key.as_bytes());
            // Who says that it moved has; where it was heard from last is nearer to the truth otherwise.
            let (preshared_key, other_preshared_key) = self.preshared.of(peer);
            let moved = (self.endpoints.get(&key)).is_some_and(|told| *told != peer.endpoint);
            let spec = PeerSpec {
                endpoint: Some(peer.endpoint),
                pinned: moved,
                allowed_ips: peer.allowed_ips.clone(),
                persistent_keepalive: self.keepalive,
                other_public_key: peer.next_key.map(|k| PublicKey::new(*k.as_bytes())),
                preshared_key,
                other_preshared_key,
            };
            (key, spec)
        });
        DeviceSpec {
            private_key: self.keys.current.clone(),
            other_private_key: self.keys.other.clone(),
            listen_port: wanted.port,
            fwmark: wanted.fwmark,
            peers: peers.collect(),
        }
    }

    fn apply(&mut self, request: &SetRequest, found: bool) -> Result<(), TunnelError> {
        if found && request.is_empty() {
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

/// A key as the store and calculation have it.
pub fn public(key: &PrivateKey) -> model::tunnel::PublicKey {
    of(key.public())
}

fn of(key: PublicKey) -> model::tunnel::PublicKey {
    model::tunnel::PublicKey::new(*key.as_bytes())
}
