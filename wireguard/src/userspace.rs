//! The data path in userspace: a tunnel interface, UDP sockets and the threads between them.
//!
//! ```text
//!           ┌─ tx thread ─ segment ─ Lane::seal ─ UDP_SEGMENT ─┐
//!   TUN ────┤   one pair for each queue                        ├──── UDP sockets
//!           └─ rx thread ─ coalesce ─ Lane::open ─ UDP_GRO ────┘
//!                  │ notices, handshakes        ▲ snapshots
//!                  ▼                            │
//!           inbox (bounded) ─► control thread: Device ─► handshakes, events
//!                  ▲
//!           Tunnel: orders of its owner
//! ```
//!
//! Units of up to 64 KB travel whole from one end to the other: the kernel hands over what TCP wrote
//! before it is cut into packets, and takes what was joined again.
//!
//! | module | is |
//! |---|---|
//! | [`Tunnel`] | the handle |
//! | `segment`, `coalesce`, `checksum`, `offload` | pure: units and packets |
//! | `tun`, `udp` | the two devices |
//! | `tx`, `rx`, `control` | the threads |
//! | `served` | the tunnel as the socket of `wg` sees it |
//! | `sys`, `mmsg` | system calls |

mod checksum;
mod coalesce;
mod control;
mod inbox;
mod mmsg;
mod offload;
mod rx;
mod segment;
mod served;
mod sys;
#[cfg(test)]
mod tests;
mod tun;
mod tx;
mod udp;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use model::Cidr;

use crate::device::{Device, DeviceConfig, Event, PeerStatus};
use crate::keys::{PrivateKey, PublicKey};
use crate::peer::PeerConfig;
use crate::peer_id::PeerId;

use control::{Control, Order};
use inbox::Inbox;

pub use control::{KernelEntropy, random_key};
pub use tun::{Tun, TunOptions};
pub use udp::Sockets;
pub use worker::Drops;

/// What one pair of data-path threads works with.
#[derive(Debug)]
pub struct Queue {
    /// A queue of the tunnel interface.
    pub tun: Tun,
    /// Its sockets; several queues share a port.
    pub sockets: Sockets,
}

/// Something that the owner of a tunnel may want to know.
#[derive(Debug)]
pub enum TunnelEvent {
    /// Of a peer.
    Device(Event),
    /// A data-path thread has ended: somebody removed the interface.
    InterfaceLost(io::Error),
}

/// Why a tunnel did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Threads or descriptors ran out, or the kernel lacks something.
    #[error("cannot start a tunnel: {0}")]
    Start(#[source] io::Error),
    /// Other sockets cannot be used.
    #[error("cannot move the tunnel to other sockets: {0}")]
    Rebind(#[source] io::Error),
    /// The kernel refuses the mark.
    #[error("cannot set fwmark {mark:#x}: {source}")]
    Mark {
        /// Which.
        mark: u32,
        /// Why.
        source: io::Error,
    },
    /// Two peers have the keys of this one, or there are 2^32 of them.
    #[error("peer {0}: its two keys belong to two different peers: remove one of them first")]
    Peer(PublicKey),
    /// It was stopped.
    #[error("the tunnel has been stopped")]
    Stopped,
}

impl TunnelError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            TunnelError::Start(_) | TunnelError::Rebind(_) | TunnelError::Mark { .. } => true,
            TunnelError::Peer(_) | TunnelError::Stopped => false,
        }
    }
}

/// How a tunnel is doing.
#[derive(Clone, Debug)]
pub struct TunnelStatus {
    /// The key that peers know it by.
    pub public_key: PublicKey,
    /// The port that peers reach it at.
    pub port: Option<u16>,
    /// The mark of what it sends.
    pub mark: u32,
    /// The peers.
    pub peers: Vec<(PeerId, PeerStatus)>,
    /// What went no further.
    pub drops: Drops,
}

/// A running tunnel. Calls are carried out in order by its control thread; dropping it stops it.
pub struct Tunnel {
    inbox: Arc<Inbox<Order>>,
    thread: Option<JoinHandle<Vec<Queue>>>,
}

impl Tunnel {
    /// Starts the threads. `on_event` is called on the control thread and must not wait.
    ///
    /// # Errors
    /// When threads or descriptors run out.
    pub fn start(
        config: DeviceConfig,
        queues: Vec<Queue>,
        on_event: impl FnMut(TunnelEvent) + Send + 'static,
    ) -> Result<Tunnel, TunnelError> {
        let entropy = KernelEntropy::new().map_err(TunnelError::Start)?;
        let inbox = Arc::new(Inbox::new());
        let device = Device::new(config, Box::new(entropy));
        let mut control = Control::new(device, queues, Arc::clone(&inbox), Box::new(on_event));
        control.start_workers().map_err(TunnelError::Start)?;
        let thread = std::thread::Builder::new().name("wg-control".to_owned());
        let thread = thread.spawn(move || {
            control.run();
            std::mem::take(&mut control.queues)
        });
        Ok(Tunnel {
            inbox,
            thread: Some(thread.map_err(TunnelError::Start)?),
        })
    }

    /// Adds or changes a peer; see [`Device::set_peer`].
    ///
    /// # Errors
    /// When its keys belong to two peers.
    pub fn set_peer(&self, config: PeerConfig) -> Result<PeerId, TunnelError> {
        let key = config.public_key;
        let id = self.call(move |c| c.device.set_peer(worker::now(), config))?;
        id.ok_or(TunnelError::Peer(key))
    }

    /// Forgets a peer; see [`Device::remove_peer`].
    ///
    /// # Errors
    /// When the tunnel has been stopped.
    pub fn remove_peer(&self, id: PeerId) -> Result<(), TunnelError> {
        self.call(move |c| c.device.remove_peer(id))
    }

    /// Changes who owns which prefixes; see [`Device::set_allowed_ips`].
    ///
    /// # Errors
    /// When the tunnel has been stopped.
    pub fn set_allowed_ips(&self, changes: Vec<(Cidr, Option<PeerId>)>) -> Result<(), TunnelError> {
        self.call(move |c| c.device.set_allowed_ips(&changes))
    }

    /// Changes this node's keys; see [`Device::set_keys`].
    ///
    /// # Errors
    /// When the tunnel has been stopped.
    pub fn set_keys(&self, key: PrivateKey, other: Option<PrivateKey>) -> Result<(), TunnelError> {
        self.call(move |c| c.device.set_keys(worker::now(), key, other))
    }

    /// Marks everything that is sent; zero: no mark.
    ///
    /// # Errors
    /// Without the right to.
    pub fn set_mark(&self, mark: u32) -> Result<(), TunnelError> {
        let result = self.call(move |c| c.set_mark(mark))?;
        result.map_err(|source| TunnelError::Mark { mark, source })
    }

    /// Moves to other sockets, as many sets as there are queues; they get the mark. Sessions go on.
    ///
    /// # Errors
    /// When there are too few or too many, or threads run out.
    pub fn rebind(&self, sockets: Vec<Sockets>) -> Result<(), TunnelError> {
        let result = self.call(move |c| c.rebind(sockets))?;
        result.map_err(TunnelError::Rebind)
    }

    /// How it is doing.
    ///
    /// # Errors
    /// When it has been stopped.
    pub fn status(&self) -> Result<TunnelStatus, TunnelError> {
        self.call(|c| TunnelStatus {
            public_key: c.device.public_key(),
            port: c.port(),
            mark: c.mark(),
            peers: c.device.statuses(worker::mono()),
            drops: c.counters.read(),
        })
    }

    /// Ends all threads. The queues can start another tunnel.
    pub fn stop(mut self) -> Vec<Queue> {
        self.end()
    }

    fn end(&mut self) -> Vec<Queue> {
        self.inbox.order(Box::new(|c| c.is_ending = true));
        let queues = self.thread.take().map(JoinHandle::join);
        // A panic has been printed; its queues are lost.
        queues.and_then(Result::ok).unwrap_or_default()
    }

    /// Lets the control thread do something and waits for it.
    fn call<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Control) -> T + Send + 'static,
    ) -> Result<T, TunnelError> {
        let (answer, answered) = sync_channel(1);
        self.inbox.order(Box::new(move |control| {
            // Fails only when nobody waits any more.
            let _ = answer.send(order(control));
        }));
        answered.recv().map_err(|_| TunnelError::Stopped)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}
