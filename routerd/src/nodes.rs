//! What becomes of a deleted node's addresses and endpoints.

use std::collections::BTreeSet;

use ::ipam::{Cleanup, Extra, Released};
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
        let (node, of_node) = (node.clone(), of_node.clone());
        move |handle: &str| {
            endpoints::key_of_handle(handle).or_else(|| {
                let name = endpoint_of_handle(&node, handle)?;
                let mut from = of_node.range((name.clone(), String::new())..);
                from.next()
                    .filter(|(n, _)| *n == name)
                    .map(|(_, key)| key.clone())
            })
        }
    };
    let cleanup = {
        let key_of = key_of.clone();
        Cleanup::new(move |handle| Extra {
            compares: Vec::new(),
            ops: key_of(handle).map(Op::Delete).into_iter().collect(),
        })
    };
    let released = s.ipam.reclaim_node(node.clone(), cleanup).await?;
    let gone: BTreeSet<String> = released.handles.iter().filter_map(|h| key_of(h)).collect();
    let still_deleted = Compare::Absent(keys::resource(&ObjectId {
        kind: Kind::Node,
        namespace: None,
        name: node.clone(),
    }));
    for (_, key) in of_node.into_iter().filter(|(_, key)| !gone.contains(key)) {
        let txn = Txn::new().when(still_deleted.clone());
        s.store.txn(txn.then(Op::Delete(key))).await?;
    }
    tracing::info!(%node, addresses = released.addresses.len(), blocks = released.blocks.len(), "a deleted node's addresses are free");
    Ok(released)
}

/// Names and keys of a node's endpoints.
fn endpoints_of(snapshot: &Snapshot, node: &str) -> BTreeSet<(String, String)> {
    let mine = snapshot
        .remote_endpoints
        .iter()
        .filter(|(_, e)| &*e.node == node);
    mine.map(|(key, _)| {
        let id = ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
        };
        (id.name.clone(), keys::resource(&id))
    })
    .collect()
}
