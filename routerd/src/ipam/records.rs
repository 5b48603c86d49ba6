//! The address records as stored, for `show` and `check`.

use datastore::Datastore;
use ipam::check::Records;
use model::{Kind, Object, keys, manifest};

/// Reads everything below `ipam/`, and of the resources what the records are checked against.
///
/// Resources are read after the records, so an endpoint or node that came meanwhile is known; one
/// that went meanwhile may show as a problem that is gone when asked again.
pub async fn read(store: &dyn Datastore) -> Result<Records, datastore::Error> {
    let mut records = Records::from_pairs(&store.list("ipam/").await?.items);
    let mut endpoints = Vec::new();
    let mut take = |object: Object| match object {
        Object::IPPool(pool) => {
            records.pools.push((pool.metadata.name, pool.spec.cidr));
        }
        Object::Node(node) => {
            records.nodes.insert(node.metadata.name);
        }
        Object::WorkloadEndpoint(e) => {
            let namespace = e.metadata.namespace.unwrap_or_default();
            let name = format!("{namespace}/{}", e.metadata.name);
            endpoints.extend(
                e.spec
                    .ip_networks
                    .iter()
                    .map(|ip| (name.clone(), ip.network())),
            );
        }
        _ => {}
    };
    for kind in [Kind::IPPool, Kind::Node, Kind::WorkloadEndpoint] {
        let mut page = |page: Vec<model::kv::KeyValue>| {
            page.iter()
                .filter_map(|kv| manifest::decode_stored(&kv.value).ok())
                .for_each(&mut take);
        };
        store
            .list_pages(&keys::resources_of(kind), &mut page)
            .await?;
    }
    records.endpoints = Some(endpoints);
    Ok(records)
}
