//! What becomes of a deleted node's addresses and endpoints.

use std::collections::BTreeMap;

use ::ipam::{Cleanup, Extra, Released};
use model::kv::Op;
use model::object::ObjectId;
use model::snapshot::Snapshot;
use model::{Kind, keys};

use crate::cni::endpoint_of_handle;
use crate::ipam::IpamError;
use crate::services::Services;

/// Frees the addresses and blocks of a node that is deleted, each together with the endpoint it was
/// for. The proof is the operator's: the node is gone from the store and no daemon claims it.
pub async fn reclaim(s: &Services, node: String) -> Result<Released, IpamError> {
    let endpoints = {
        let node = node.clone();
        s.control
            .query(move |snapshot, _| endpoints_of(snapshot, &node))
            .await
            .unwrap_or_default()
    };
    let cleanup = {
        let node = node.clone();
        Cleanup::new(move |handle| {
            let name = endpoint_of_handle(&node, handle);
            let key = name.and_then(|name| endpoints.get(&name).cloned());
            Extra {
                compares: Vec::new(),
                ops: key.map(Op::Delete).into_iter().collect(),
            }
        })
    };
    let released = s.ipam.reclaim_node(node.clone(), cleanup).await?;
    tracing::info!(%node, addresses = released.addresses.len(), blocks = released.blocks.len(), "a deleted node's addresses are free");
    Ok(released)
}

/// Names and keys of a node's endpoints.
fn endpoints_of(snapshot: &Snapshot, node: &str) -> BTreeMap<String, String> {
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
