//! The handles that requests are served with.

use std::sync::Arc;

use datastore::Datastore;
use tokio_util::sync::CancellationToken;

use crate::cni::Cni;
use crate::config::Config;
use crate::control::Control;
use crate::ipam::Ipam;
use crate::reconcile;
use crate::tunnel::{exchange, rotation};
use crate::views::Views;

/// Cheap to clone: every part is a handle of an actor.
#[derive(Clone)]
pub struct Services {
    /// As read at the start.
    pub config: Arc<Config>,
    /// The store.
    pub store: Arc<dyn Datastore>,
    /// The newest word of every actor.
    pub views: Views,
    /// The snapshot.
    pub control: Control,
    /// Addresses.
    pub ipam: Ipam,
    /// The kernel.
    pub reconcile: reconcile::Handle,
    /// Changes of this node's key.
    pub rotation: rotation::Handle,
    /// Exchanges of preshared keys.
    pub exchange: exchange::Handle,
    /// BGP.
    pub bgp: crate::bgp::Handle,
    /// Policy.
    pub policy: crate::policy::Handle,
    /// Connections.
    pub flows: crate::flows::Handle,
    /// CNI verbs.
    pub cni: Cni,
    /// Cancelled when the daemon stops: answers without an end then end.
    pub stop: CancellationToken,
}
