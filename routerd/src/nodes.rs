//! What becomes of a deleted node's addresses and endpoints.

use std::collections::BTreeSet;

use ::ipam::{Cleanup, Extra, Holder, Released};
use model::kv::{Compare, Op, Txn};
use model::object::ObjectId;
use model::snapshot::Snapshot;
use model::{Kind, keys};

use crate::cni::endpoint_of_handle;
use crate::endpoints;
use crate::ipam::IpamError;
use crate::services::Services;

/// Why a node's addresses are not all free.
#[derive(Debug, thiserror::Error)]
pub enum ReclaimError {
    /// IPAM did not free them.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// An endpoint could not be deleted.
    #[error(transparent)]
    Store(#[from] datastore::Error),
}

/// Frees the addresses and blocks of a node that is deleted, each together with the endpoint it was
/// for, and deletes the endpoints that have none of a pool. The proof is the operator's: the node is
/// gone from the store and no daemon claims it.
pub async fn reclaim(s: &Services, node: String) -> Result<Released, ReclaimError> {
    let of_node = {
        let node = node.clone();
        s.control
            .query(move |snapshot, _| endpoints_of(snapshot, &node))
            .await
            .unwrap_or_default()
    };
    let key_of = {
        let node = node.clone();
        move |holder: &Holder| {
            endpoints::key_of_handle(&holder.handle).or_else(|| {
                Some(keys::resource(&ObjectId {
                    kind: Kind::WorkloadEndpoint,
                    namespace: Some(holder.namespace()?.to_owned()),
                    name: endpoint_of_handle(&node, &holder.handle)?,
                }))
            })
        }
    };
    let cleanup = {
        let key_of = key_of.clone();
        Cleanup::new(move |holder| Extra {
            compares: Vec::new(),
            ops: key_of(holder).map(Op::Delete).into_iter().collect(),
        })
    };
    let released = s.ipam.reclaim_node(node.clone(), cleanup).await?;
    let gone: BTreeSet<String> = released.holders.iter().filter_map(key_of).collect();
    let still_deleted = Compare::Absent(keys::resource(&ObjectId {
        kind: Kind::Node,
        namespace: None,
        name: node.clone(),
    }));
    for key in of_node.into_iter().filter(|key| !gone.contains(key)) {
        let txn = Txn::new().when(still_deleted.clone());
        s.store.txn(txn.then(Op::Delete(key))).await?;
    }
    tracing::info!(%node, addresses = released.addresses.len(), blocks = released.blocks.len(), "a deleted node's addresses are free");
    Ok(released)
}

/// Keys of a node's endpoints.
fn endpoints_of(snapshot: &Snapshot, node: &str) -> Vec<String> {
    let mine = snapshot
        .remote_endpoints
        .iter()
        .filter(|(_, e)| &*e.node == node);
    mine.map(|(key, _)| {
        keys::resource(&ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
        })
    })
    .collect()
}
