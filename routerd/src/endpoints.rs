//! Endpoints that an operator writes, for virtual machines and other interfaces that CNI did not make.
//!
//! Other nodes reach a pool's addresses by their blocks, and IPAM must not hand one out twice: so an
//! address that lies in a pool is taken from IPAM in the transaction that writes the endpoint, and
//! given back in the one that deletes it. An address outside every pool is the operator's own affair.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::ipam::{AllocError, Assign, Attach, Extra, Release};
use model::api::{Action, Applied};
use model::kv::{Compare, Op, Revision, Txn};
use model::object::ObjectId;
use model::resources::WorkloadEndpointSpec;
use model::{Cidr, Kind, Object, Resource, keys, manifest};

use crate::ipam::IpamError;
use crate::resources::{self, Commit, ResourceError};
use crate::services::Services;

/// Handles of operators' endpoints start with this.
const HANDLES: &str = "endpoint:";

type Endpoint = Resource<WorkloadEndpointSpec>;
type Result<T, E = ResourceError> = std::result::Result<T, E>;

/// The handle that holds an endpoint's addresses.
fn handle(id: &ObjectId) -> String {
    let namespace = id.namespace.as_deref().unwrap_or("default");
    format!("{HANDLES}{namespace}:{}", id.name)
}

/// The key of the endpoint that a handle is for, if it is an operator's.
pub fn key_of_handle(handle: &str) -> Option<String> {
    let (namespace, name) = handle.strip_prefix(HANDLES)?.split_once(':')?;
    Some(keys::resource(&ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }))
}

/// Creates or updates an endpoint, with its addresses.
pub async fn apply(s: &Services, endpoint: Endpoint, dry_run: bool) -> Result<Applied> {
    let object = Object::WorkloadEndpoint(endpoint.clone());
    let id = object.id();
    let before = stored(s, &id).await?;
    if let Some((before, _)) = &before {
        keeps_its_addresses(&id, before, &endpoint)?;
    }
    let ips = pooled(s, &endpoint).await?;
    // CNI took the addresses of its endpoints itself.
    if !endpoint.spec.container_id.is_empty() || ips.is_empty() || dry_run {
        return resources::apply(&*s.store, object, dry_run).await;
    }
    if endpoint.spec.node != *s.views.node {
        return Err(ResourceError::Invalid(format!(
            "{id}: spec.node: {} takes the addresses of its endpoints itself: apply this there",
            endpoint.spec.node
        )));
    }
    let commit = WithAddresses { s, ips };
    let applied = resources::apply_with(&*s.store, &commit, object.clone(), false).await?;
    if applied.action == Action::Unchanged {
        // A pool may have come since it was written.
        commit.commit(&object, Txn::new()).await?;
    }
    Ok(applied)
}

/// Deletes an endpoint and gives its addresses back. One that CNI wrote goes with its workload.
pub async fn delete(s: &Services, id: ObjectId) -> Result<Applied> {
    loop {
        let Some((endpoint, revision)) = stored(s, &id).await? else {
            return resources::delete(&*s.store, id).await;
        };
        let holder = match endpoint.spec.container_id.is_empty() {
            true => Some(handle(&id)),
            false => left_over(s, &id, &endpoint.spec).await?,
        };
        let Some(holder) = holder else {
            return resources::delete(&*s.store, id).await;
        };
        let records = crate::ipam::read(&*s.store).await?;
        let key = keys::resource(&id);
        let extra = Extra {
            // It is written together with its addresses: what was looked at is what goes.
            compares: vec![Compare::ModRevision(key.clone(), revision)],
            ops: vec![Op::Delete(key)],
        };
        let release = Release {
            blocks: records.blocks_of(&holder),
            handle: holder,
            node: Some(endpoint.spec.node.clone()),
            cleanup: extra.into(),
        };
        let released = match s.ipam.release(release).await {
            Err(IpamError::Alloc(AllocError::Condition { .. })) => continue,
            other => other.map_err(|e| address(&id, e))?,
        };
        tracing::info!(object = %id, addresses = ?released.addresses, "resource deleted");
        return Ok(Applied {
            object: id.to_string(),
            action: Action::Deleted,
            revision: released.revision,
            before: None,
            after: None,
        });
    }
}

/// The handle, if any, of an endpoint whose workload is gone without a DEL.
///
/// Refused while the workload may run: its interface would be swept, and nobody would tell it.
async fn left_over(
    s: &Services,
    id: &ObjectId,
    spec: &WorkloadEndpointSpec,
) -> Result<Option<String>> {
    let refuse = |why: String| Err(ResourceError::Invalid(format!("{id}: {why}")));
    let (node, container, link) = (&spec.node, &spec.container_id, &spec.interface_name);
    if **node != *s.views.node {
        let key = keys::resource(&ObjectId {
            kind: Kind::Node,
            namespace: None,
            name: node.clone(),
        });
        return match s.store.get(&key).await? {
            Some(_) => refuse(format!(
                "container {container} is on node {node}: delete the workload there with its runtime; \
                 when the node is gone for good, `routerctl delete node {node}`"
            )),
            None => Ok(None),
        };
    }
    if nix::net::if_::if_nametoindex(link.as_str()).is_ok() {
        return refuse(format!(
            "container {container} uses interface {link}: delete the workload with its runtime, \
             which lets go of the endpoint too"
        ));
    }
    let records = crate::ipam::read(&*s.store).await?;
    let mut handles = records.allocations().filter_map(|(_, a)| a.live());
    let its = handles.find(|h| crate::cni::endpoint_of_handle(node, h).as_ref() == Some(&id.name));
    Ok(its.map(str::to_owned))
}

/// Takes the addresses in the transaction that writes the endpoint.
struct WithAddresses<'a> {
    s: &'a Services,
    ips: Vec<IpAddr>,
}

impl Commit for WithAddresses<'_> {
    async fn commit(&self, object: &Object, txn: Txn) -> Result<Option<Revision>> {
        let id = object.id();
        let namespace = id.namespace.as_deref().unwrap_or("default");
        let extra = Extra {
            compares: txn.compares,
            ops: txn.success,
        };
        let wanted = Assign {
            addresses: self.ips.clone(),
            extra: Attach::new(move |_| extra.clone()),
            ..Assign::workload(handle(&id), namespace, &id.name)
        };
        match self.s.ipam.assign(wanted).await {
            Ok(assigned) => {
                let (got, asked) = (set(&assigned.addresses), set(&self.ips));
                match got == asked {
                    true => Ok(Some(assigned.revision)),
                    false => Err(ResourceError::Invalid(format!(
                        "{id}: it holds {got:?} already: delete it and apply it again"
                    ))),
                }
            }
            Err(IpamError::Alloc(AllocError::Condition { .. })) => Ok(None),
            Err(e) => Err(address(&id, e)),
        }
    }
}

fn set(ips: &[IpAddr]) -> BTreeSet<IpAddr> {
    ips.iter().copied().collect()
}

fn address(id: &ObjectId, source: IpamError) -> ResourceError {
    let (object, source) = (id.clone(), Box::new(source));
    ResourceError::Address { object, source }
}

/// An endpoint that moved or got another address in place would leave the old one held for ever.
fn keeps_its_addresses(id: &ObjectId, before: &Endpoint, now: &Endpoint) -> Result<()> {
    let (before, now) = (&before.spec, &now.spec);
    let field = if before.node != now.node {
        "spec.node"
    } else if set_of(before) != set_of(now) {
        "spec.ipNetworks"
    } else if before.container_id != now.container_id {
        "spec.containerID"
    } else if !now.container_id.is_empty() && before.interface_name != now.interface_name {
        "spec.interfaceName"
    } else if !now.container_id.is_empty() && before.mac != now.mac {
        "spec.mac"
    } else {
        return Ok(());
    };
    Err(ResourceError::Invalid(format!(
        "{id}: {field}: cannot change: delete the endpoint, then apply it anew"
    )))
}

fn set_of(spec: &WorkloadEndpointSpec) -> BTreeSet<IpAddr> {
    spec.ip_networks.iter().map(Cidr::network).collect()
}

/// The addresses of an endpoint that lie in a pool.
async fn pooled(s: &Services, endpoint: &Endpoint) -> Result<Vec<IpAddr>> {
    let stored = s.store.list(&keys::resources_of(Kind::IPPool)).await?;
    let mut pools = Vec::new();
    for kv in &stored.items {
        if let Ok(Object::IPPool(pool)) = manifest::decode_stored(&kv.value) {
            pools.push(pool.spec.cidr);
        }
    }
    let ips = set_of(&endpoint.spec).into_iter();
    Ok(ips
        .filter(|ip| pools.iter().any(|pool| pool.contains(*ip)))
        .collect())
}

/// An endpoint as it stands, and the revision that wrote it.
async fn stored(s: &Services, id: &ObjectId) -> Result<Option<(Endpoint, Revision)>> {
    let kv = s.store.get(&keys::resource(id)).await?;
    Ok(kv.and_then(|kv| match manifest::decode_stored(&kv.value) {
        Ok(Object::WorkloadEndpoint(endpoint)) => Some((endpoint, kv.mod_revision)),
        _ => None,
    }))
}
