//! Writes this node's own `Node`: its underlay addresses and what its VXLAN devices are called.
//!
//! One task owns it. It writes when what it wants to say differs from what the store has, keeps
//! what operators edit (labels, annotations, `spec.bgp`, `unschedulable`), and tries again with
//! back-off until the store takes it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use datastore::{Datastore, Owner};
use model::kv::{Compare, KeyValue, Op, Txn};
use model::object::ObjectId;
use model::resources::NodeSpec;
use model::state::Underlay;
use model::tunnel::{EncapsulationKey, PublicKey};
use model::{Family, Kind, Metadata, Object, Resource, keys, manifest, names};
use tokio::sync::watch;

use crate::ipam::{Ipam, IpamError};

/// First wait after a failure; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What the mesh needs of this node, as the snapshot and the host say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How other nodes reach this host.
    pub underlay: Underlay,
    /// Families in which some pool uses VXLAN, or has its traffic encrypted, so that the device needs an address.
    pub tunnels: Vec<Family>,
    /// The key of this node's tunnel; none when it cannot have one.
    pub public_key: Option<PublicKey>,
    /// The one that will be in its place soon.
    pub next_public_key: Option<PublicKey>,
    /// What others encapsulate to; none: preshared keys are not wanted, or cannot be.
    pub encapsulation_key: Option<EncapsulationKey>,
    /// This node as the store has it, or had it last.
    pub stored: Option<Resource<NodeSpec>>,
    /// What the store has now cannot be read: it is written anew.
    pub unreadable: bool,
}

/// Why the node was not published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("Node/{node}: {source}")]
    Store {
        node: Arc<str>,
        source: datastore::Error,
    },
    #[error("Node/{node}: no address for the {family} tunnel: {source}")]
    Tunnel {
        node: Arc<str>,
        family: Family,
        source: IpamError,
    },
    #[error("Node/{0}: changed by others while it was written")]
    Contended(Arc<str>),
    #[error("Node/{0}: this daemon does not have the node's name now: another may be the node")]
    NotOurs(Arc<str>),
}

/// Publishes one node.
pub struct Publisher {
    /// Name of the node.
    pub node: Arc<str>,
    /// What this daemon claims the node's name as.
    pub instance: String,
    /// Where to.
    pub store: Arc<dyn Datastore>,
    /// Where tunnel addresses come from.
    pub ipam: Ipam,
    /// What to say; `None` until the snapshot is complete.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// The last error, for status.
    pub health: watch::Sender<Option<String>>,
}

impl Publisher {
    /// Runs until the sender of `wanted` is gone.
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let published = match &wanted {
                Some(wanted) => self.publish(wanted).await,
                None => Ok(()),
            };
            let failed = published.err().map(|e| e.to_string());
            let retry = failed.is_some();
            if let Some(e) = failed
                .as_ref()
                .filter(|e| self.health.borrow().as_ref() != Some(e))
            {
                tracing::warn!(error = %e, "this node could not be published; trying again");
            }
            self.health.send_replace(failed);
            wait = if retry {
                (wait * 2).min(LONGEST_WAIT)
            } else {
                FIRST_WAIT
            };
            let changed = if retry {
                tokio::select! {
                    changed = self.wanted.changed() => changed,
                    () = tokio::time::sleep(wait) => Ok(()),
                }
            } else {
                self.wanted.changed().await
            };
            if changed.is_err() {
                return;
            }
        }
    }

    async fn publish(&self, wanted: &Wanted) -> Result<(), PublishError> {
        // Addresses are handed out to nodes in the store only.
        if wanted.stored.is_none() {
            self.write(wanted, &[]).await?;
        }
        let mut tunnels = Vec::new();
        for family in Family::ALL {
            if wanted.tunnels.contains(&family) {
                tunnels.push(self.tunnel_address(family).await?);
            } else if wanted
                .stored
                .as_ref()
                .is_some_and(|n| n.spec.tunnel_addr(family).is_some())
            {
                self.release_tunnel(family).await?;
            }
        }
        let known = &wanted.stored;
        let desired = describe(&self.node, known.clone(), wanted, &tunnels);
        if !wanted.unreadable && known.as_ref() == Some(&desired) {
            return Ok(());
        }
        self.write(wanted, &tunnels).await
    }

    async fn write(&self, wanted: &Wanted, tunnels: &[IpAddr]) -> Result<(), PublishError> {
        let failed = |source| PublishError::Store {
            node: Arc::clone(&self.node),
            source,
        };
        let id = ObjectId {
            kind: Kind::Node,
            namespace: None,
            name: self.node.to_string(),
        };
        let key = keys::resource(&id);
        // A daemon that was away for long may have lost the name to another host.
        let owner = keys::owner(&self.node);
        let claim = self.store.get(&owner).await.map_err(failed)?;
        let ours = |kv: &KeyValue| {
            let owner = serde_json::from_slice::<Owner>(&kv.value);
            owner.is_ok_and(|o| o.instance == self.instance)
        };
        let claim = claim
            .filter(ours)
            .ok_or_else(|| PublishError::NotOurs(Arc::clone(&self.node)))?;
        let kv = self.store.get(&key).await.map_err(failed)?;
        let stored = kv
            .as_ref()
            .and_then(|kv| match manifest::decode_stored(&kv.value) {
                Ok(Object::Node(node)) => Some(node),
                _ => None,
            });
        let base = stored.or_else(|| wanted.stored.clone());
        let node = describe(&self.node, base, wanted, tunnels);
        let value = manifest::encode_stored(&Object::Node(node));
        let compare = match kv {
            Some(kv) if kv.value == value => return Ok(()),
            Some(kv) => Compare::ModRevision(key.clone(), kv.mod_revision),
            None => Compare::Absent(key.clone()),
        };
        let txn = Txn::new()
            .when(Compare::ModRevision(owner, claim.mod_revision))
            .when(compare)
            .then(Op::put(key, value));
        match self.store.txn(txn).await.map_err(failed)?.succeeded {
            true => {
                tracing::info!(node = %self.node, "node published");
                Ok(())
            }
            false => Err(PublishError::Contended(Arc::clone(&self.node))),
        }
    }

    async fn tunnel_address(&self, family: Family) -> Result<IpAddr, PublishError> {
        self.ipam
            .tunnel(&self.node, family)
            .await
            .map_err(|source| PublishError::Tunnel {
                node: Arc::clone(&self.node),
                family,
                source,
            })
    }

    async fn release_tunnel(&self, family: Family) -> Result<(), PublishError> {
        self.ipam
            .release_tunnel(&self.node, family)
            .await
            .map_err(|source| PublishError::Tunnel {
                node: Arc::clone(&self.node),
                family,
                source,
            })
    }
}

/// The node as it should be stored: what the daemon knows over what operators wrote.
fn describe(
    name: &str,
    stored: Option<Resource<NodeSpec>>,
    wanted: &Wanted,
    tunnels: &[IpAddr],
) -> Resource<NodeSpec> {
    let mut node = stored.unwrap_or_else(|| Resource {
        metadata: Metadata {
            uid: Some(crate::random::uuid()),
            creation_timestamp: Some(crate::time::rfc3339(std::time::SystemTime::now())),
            ..Metadata::named(name)
        },
        spec: NodeSpec::default(),
    });
    let underlay = &wanted.underlay;
    let spec = &mut node.spec;
    spec.status.wireguard_public_key = wanted.public_key;
    spec.status.wireguard_next_public_key = wanted.next_public_key;
    spec.status.wireguard_encapsulation_key = wanted.encapsulation_key.clone();
    let bgp = spec.bgp.get_or_insert_default();
    bgp.ipv4_address = underlay.v4.as_ref().map(|l| l.address);
    bgp.ipv6_address = underlay.v6.as_ref().map(|l| l.address);
    spec.ipv4_vxlan_tunnel_addr = tunnels.iter().find_map(|ip| match ip {
        IpAddr::V4(a) => Some(*a),
        IpAddr::V6(_) => None,
    });
    spec.ipv6_vxlan_tunnel_addr = tunnels.iter().find_map(|ip| match ip {
        IpAddr::V6(a) => Some(*a),
        IpAddr::V4(_) => None,
    });
    let mac = |family| (!tunnels.is_empty()).then(|| names::vtep_mac(name, family));
    spec.vxlan_tunnel_mac_addr = mac(Family::V4);
    spec.vxlan_tunnel_mac_addr_v6 = mac(Family::V6);
    node
}
