//! The write path of resources: every check that needs the store, then one transaction.
//!
//! Reads and writes retry while somebody else writes the same object; nothing is changed unless
//! every check holds in the very transaction that writes.

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use datastore::Datastore;
use model::api::{Action, Applied};
use model::block::Block;
use model::kv::{Compare, KeyValue, Op, Revision, Txn};
use model::object::ObjectId;
use model::resources::tier::DEFAULT_TIER;
use model::resources::{BgpPeerSpec, IpPoolSpec, NodeSpec, PolicySpec};
use model::{Kind, Object, Resource, keys, manifest, validate};

use crate::ipam::IpamError;

/// How often a write is tried again when somebody else wrote in between.
const ATTEMPTS: usize = 16;

/// Why a resource was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// There is no such object.
    #[error("{0}: not found")]
    NotFound(ObjectId),
    /// The object is not valid, alone or beside what is stored.
    #[error("{0}")]
    Invalid(String),
    /// The object is policy, and this node cannot enforce any.
    #[error(
        "{object}: is not stored, because this node cannot enforce it: {why}; mend that, or apply it at a node that can"
    )]
    NotEnforced {
        /// The object.
        object: ObjectId,
        /// Why not.
        why: String,
    },
    /// The object changed since it was read.
    #[error(
        "{object}: metadata.resourceVersion: {given} is not the stored {stored}: read it again, then apply"
    )]
    Conflict {
        /// The object.
        object: ObjectId,
        /// Version in the request.
        given: String,
        /// Version in the store.
        stored: Revision,
    },
    /// Others kept writing the same object.
    #[error("{0}: changed by others {ATTEMPTS} times while it was written: try again")]
    Contended(ObjectId),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] datastore::Error),
    /// An address of the object cannot be had.
    #[error("{object}: {source}")]
    Address {
        /// The object.
        object: ObjectId,
        /// Why.
        source: Box<IpamError>,
    },
}

impl ResourceError {
    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            ResourceError::Contended(_) => true,
            ResourceError::Store(e) => e.is_retryable(),
            ResourceError::Address { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}

type Result<T, E = ResourceError> = std::result::Result<T, E>;

/// What commits a write that passed every check: the plain store, or what has to commit more with it.
pub trait Commit: Sync {
    /// Runs the transaction; its revision, or `None` when a condition did not hold.
    fn commit(
        &self,
        object: &Object,
        txn: Txn,
    ) -> impl Future<Output = Result<Option<Revision>>> + Send;
}

/// The store alone.
struct Plain<'a>(&'a dyn Datastore);

impl Commit for Plain<'_> {
    async fn commit(&self, _: &Object, txn: Txn) -> Result<Option<Revision>> {
        let outcome = self.0.txn(txn).await?;
        Ok(outcome.succeeded.then_some(outcome.revision))
    }
}

/// Creates or updates an object. With `dry_run` everything is checked and nothing written.
pub async fn apply(store: &dyn Datastore, object: Object, dry_run: bool) -> Result<Applied> {
    apply_with(store, &Plain(store), object, dry_run).await
}

/// As [`apply`], with another way to commit.
pub async fn apply_with(
    store: &dyn Datastore,
    commit: &impl Commit,
    object: Object,
    dry_run: bool,
) -> Result<Applied> {
    validate::validate(&object).map_err(|e| invalid(&e))?;
    let id = object.id();
    let key = keys::resource(&id);
    for _ in 0..ATTEMPTS {
        let stored = store.get(&key).await?;
        let before = stored
            .as_ref()
            .and_then(|kv| manifest::decode_stored(&kv.value).ok());
        let mut wanted = object.clone();
        check_version(&wanted, stored.as_ref())?;
        inherit(&mut wanted, before.as_ref());
        let mut txn = Txn::new();
        match &wanted {
            Object::IPPool(pool) => txn = check_pool(store, pool, before.as_ref(), txn).await?,
            Object::BGPPeer(peer) => check_peer(store, peer).await?,
            Object::GlobalNetworkPolicy(policy)
            | Object::NetworkPolicy(policy)
            | Object::StagedGlobalNetworkPolicy(policy)
            | Object::StagedNetworkPolicy(policy) => check_tier(store, &id, policy).await?,
            _ => {}
        }
        let value = manifest::encode_stored(&wanted);
        if let Some(kv) = &stored
            && kv.value == value
        {
            return Ok(applied(
                &id,
                Action::Unchanged,
                kv.mod_revision,
                before,
                &wanted,
                dry_run,
            ));
        }
        let action = if stored.is_some() {
            Action::Configured
        } else {
            Action::Created
        };
        if dry_run {
            return Ok(applied(&id, action, 0, before, &wanted, true));
        }
        let unchanged = match &stored {
            Some(kv) => Compare::ModRevision(key.clone(), kv.mod_revision),
            None => Compare::Absent(key.clone()),
        };
        let txn = txn.when(unchanged).then(Op::put(&key, value));
        if let Some(revision) = commit.commit(&wanted, txn).await? {
            tracing::info!(object = %id, ?action, revision, "resource written");
            return Ok(applied(&id, action, revision, before, &wanted, false));
        }
    }
    Err(ResourceError::Contended(id))
}

/// Deletes an object.
pub async fn delete(store: &dyn Datastore, id: ObjectId) -> Result<Applied> {
    let key = keys::resource(&id);
    for _ in 0..ATTEMPTS {
        let Some(kv) = store.get(&key).await? else {
            return Err(ResourceError::NotFound(id));
        };
        let mut txn = Txn::new().when(Compare::ModRevision(key.clone(), kv.mod_revision));
        match id.kind {
            Kind::IPPool => txn = bump_pools(store, txn).await?,
            // Its addresses would be handed out again while its workloads still use them.
            Kind::Node if store.get(&keys::owner(&id.name)).await?.is_some() => {
                return Err(ResourceError::Invalid(format!(
                    "{id}: its routerd is running: stop it there first, then delete the node"
                )));
            }
            Kind::Node => txn = txn.when(Compare::Absent(keys::owner(&id.name))),
            Kind::Tier => check_unused(store, &id).await?,
            _ => {}
        }
        let outcome = store.txn(txn.then(Op::Delete(key.clone()))).await?;
        if outcome.succeeded {
            tracing::info!(object = %id, revision = outcome.revision, "resource deleted");
            return Ok(Applied {
                object: id.to_string(),
                action: Action::Deleted,
                revision: outcome.revision,
                before: None,
                after: None,
            });
        }
    }
    Err(ResourceError::Contended(id))
}

/// Reads one object, with its version.
pub async fn get(store: &dyn Datastore, id: &ObjectId) -> Result<Object> {
    let kv = store.get(&keys::resource(id)).await?;
    let kv = kv.ok_or_else(|| ResourceError::NotFound(id.clone()))?;
    decode(&kv).ok_or_else(|| {
        ResourceError::Invalid(format!(
            "{id}: the stored value does not decode: apply it again or delete it"
        ))
    })
}

/// Decodes a stored object and gives it the version that it was stored with.
pub fn decode(kv: &KeyValue) -> Option<Object> {
    let mut object = manifest::decode_stored(&kv.value).ok()?;
    object.metadata_mut().resource_version = Some(kv.mod_revision.to_string());
    Some(object)
}

fn invalid(errors: &[validate::ValidationError]) -> ResourceError {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    ResourceError::Invalid(lines.join("\n"))
}

fn applied(
    id: &ObjectId,
    action: Action,
    revision: Revision,
    before: Option<Object>,
    after: &Object,
    dry_run: bool,
) -> Applied {
    Applied {
        object: id.to_string(),
        action,
        revision,
        after: dry_run.then(|| manifest::to_value_beside(after, before.as_ref())),
        before: before.filter(|_| dry_run).map(|o| manifest::to_value(&o)),
    }
}

/// A `resourceVersion` in the request makes the update conditional, as in Kubernetes. One that
/// comes with a new object was exported elsewhere and says nothing here.
fn check_version(object: &Object, stored: Option<&KeyValue>) -> Result<()> {
    let (Some(given), Some(kv)) = (&object.metadata().resource_version, stored) else {
        return Ok(());
    };
    if *given == kv.mod_revision.to_string() {
        return Ok(());
    }
    Err(ResourceError::Conflict {
        object: object.id(),
        given: given.clone(),
        stored: kv.mod_revision,
    })
}

/// What the store gives an object once, and what a node's own daemon wrote, is kept.
fn inherit(object: &mut Object, before: Option<&Object>) {
    let meta = object.metadata_mut();
    meta.resource_version = None;
    match before.map(Object::metadata) {
        Some(old) => {
            meta.uid = old.uid.clone();
            meta.creation_timestamp = old.creation_timestamp.clone();
        }
        None => {
            meta.uid = Some(crate::random::uuid());
            meta.creation_timestamp = Some(crate::time::rfc3339(SystemTime::now()));
        }
    }
    if let (Object::Node(new), Some(Object::Node(old))) = (object, before) {
        keep_published(&mut new.spec, &old.spec);
    }
}

/// An operator's manifest of a node need not repeat what its daemon published.
fn keep_published(new: &mut NodeSpec, old: &NodeSpec) {
    if let Some(old_bgp) = &old.bgp {
        let bgp = new.bgp.get_or_insert_default();
        bgp.ipv4_address = bgp.ipv4_address.or(old_bgp.ipv4_address);
        bgp.ipv6_address = bgp.ipv6_address.or(old_bgp.ipv6_address);
    }
    new.status = old.status.clone();
    new.ipv4_vxlan_tunnel_addr = new.ipv4_vxlan_tunnel_addr.or(old.ipv4_vxlan_tunnel_addr);
    new.ipv6_vxlan_tunnel_addr = new.ipv6_vxlan_tunnel_addr.or(old.ipv6_vxlan_tunnel_addr);
    new.vxlan_tunnel_mac_addr = new.vxlan_tunnel_mac_addr.or(old.vxlan_tunnel_mac_addr);
    new.vxlan_tunnel_mac_addr_v6 = new
        .vxlan_tunnel_mac_addr_v6
        .or(old.vxlan_tunnel_mac_addr_v6);
}

/// No two pools overlap at any revision: every writer of a pool compares and bumps one guard key,
/// so the pools that were read are the pools that stand when the transaction commits.
async fn check_pool(
    store: &dyn Datastore,
    pool: &Resource<IpPoolSpec>,
    before: Option<&Object>,
    txn: Txn,
) -> Result<Txn> {
    let txn = bump_pools(store, txn).await?;
    let others: Vec<Resource<IpPoolSpec>> = store
        .list(&keys::resources_of(Kind::IPPool))
        .await?
        .items
        .iter()
        .filter_map(|kv| match manifest::decode_stored(&kv.value) {
            Ok(Object::IPPool(p)) if p.name() != pool.name() => Some(p),
            _ => None,
        })
        .collect();
    if let Some(e) = validate::pool_conflict(pool, &others) {
        return Err(ResourceError::Invalid(e.to_string()));
    }
    let Some(Object::IPPool(old)) = before else {
        return Ok(txn);
    };
    if old.spec.cidr == pool.spec.cidr && old.spec.block_len() == pool.spec.block_len() {
        return Ok(txn);
    }
    let has_blocks = store.list(keys::BLOCKS).await?.items.iter().any(|kv| {
        serde_json::from_slice::<Block>(&kv.value).is_ok_and(|b| old.spec.cidr.covers(&b.cidr))
    });
    validate::pool_change_allowed(old, pool, has_blocks).map_err(|e| invalid(&e))?;
    Ok(txn)
}

/// What a peer refers to may go later, so this is a help and no promise: no part of the transaction.
async fn check_peer(store: &dyn Datastore, peer: &Resource<BgpPeerSpec>) -> Result<()> {
    let list = async |kind| {
        let items = store.list(&keys::resources_of(kind)).await?.items;
        let read = |kv: &KeyValue| manifest::decode_stored(&kv.value).ok();
        Ok::<Vec<Object>, ResourceError>(items.iter().filter_map(read).collect())
    };
    let secrets = list(Kind::Secret).await?;
    let nodes = match peer.spec.peer_ip {
        Some(_) => list(Kind::Node).await?,
        None => Vec::new(),
    };
    let nodes = nodes.iter().filter_map(|o| match o {
        Object::Node(node) => Some(node),
        _ => None,
    });
    let has_secret = |name: &str, key: &str| {
        secrets.iter().any(
            |o| matches!(o, Object::Secret(s) if s.name() == name && s.spec.data.contains_key(key)),
        )
    };
    let errors = validate::peer_conflict(peer, nodes, has_secret);
    if errors.is_empty() {
        return Ok(());
    }
    Err(invalid(&errors))
}

/// As [`check_peer`]: a tier may go later.
async fn check_tier(
    store: &dyn Datastore,
    id: &ObjectId,
    policy: &Resource<PolicySpec>,
) -> Result<()> {
    let tiers = store.list(&keys::resources_of(Kind::Tier)).await?.items;
    let has_tier = |name: &str| {
        let named = |kv: &KeyValue| keys::parse_resource(&kv.key).is_some_and(|id| id.name == name);
        tiers.iter().any(named)
    };
    match validate::tier_missing(id, &policy.spec, has_tier) {
        Some(error) => Err(invalid(&[error])),
        None => Ok(()),
    }
}

/// A policy that is left behind would be asked after all tiers that are there.
async fn check_unused(store: &dyn Datastore, tier: &ObjectId) -> Result<()> {
    if tier.name == DEFAULT_TIER {
        // It goes on without an object.
        return Ok(());
    }
    for kind in Kind::ALL.into_iter().filter(|k| k.is_policy()) {
        for kv in store.list(&keys::resources_of(kind)).await?.items {
            if let Ok(
                policy @ (Object::GlobalNetworkPolicy(of)
                | Object::NetworkPolicy(of)
                | Object::StagedGlobalNetworkPolicy(of)
                | Object::StagedNetworkPolicy(of)),
            ) = &manifest::decode_stored(&kv.value)
                && of.spec.tier() == tier.name
            {
                return Err(ResourceError::Invalid(format!(
                    "{tier}: {} belongs to it: delete its policies first, or move them to another tier",
                    policy.id()
                )));
            }
        }
    }
    Ok(())
}

async fn bump_pools(store: &dyn Datastore, txn: Txn) -> Result<Txn> {
    let guard = keys::POOLS_GUARD.to_owned();
    let compare = match store.get(&guard).await? {
        Some(kv) => Compare::ModRevision(guard.clone(), kv.mod_revision),
        None => Compare::Absent(guard.clone()),
    };
    Ok(txn.when(compare).then(Op::put(guard, "{}")))
}
