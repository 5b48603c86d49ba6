//! The snapshot as the allocator wants it: every selector evaluated for this node.

use std::collections::BTreeMap;

use ipam::{IpamView, NamespaceMatch, PoolView};
use model::Selector;
use model::kv::Revision;
use model::snapshot::Snapshot;

/// What address requests are served by.
pub fn view(node: &str, snapshot: &Snapshot, pools_guard: Option<Revision>) -> IpamView {
    let own = snapshot.nodes.get(node);
    let labels = own.map(|n| n.metadata.labels.clone()).unwrap_or_default();
    let namespaces: BTreeMap<String, BTreeMap<String, String>> = snapshot
        .namespaces
        .iter()
        .map(|(name, namespace)| (name.clone(), namespace.metadata.labels.clone()))
        .collect();
    let namespaces = std::sync::Arc::new(namespaces);
    let pools = snapshot.pools.values().map(|pool| PoolView {
        name: pool.name().to_owned(),
        spec: pool.spec.clone(),
        selects_node: selector(pool.spec.node_selector.as_deref())
            .is_none_or(|s| s.matches(&labels)),
        namespaces: match selector(pool.spec.namespace_selector.as_deref()) {
            None => NamespaceMatch::all(),
            Some(selector) => {
                let namespaces = std::sync::Arc::clone(&namespaces);
                NamespaceMatch::new(move |name| match namespaces.get(name) {
                    Some(labels) => selector.matches(labels),
                    None => selector.matches(&BTreeMap::new()),
                })
            }
        },
    });
    IpamView {
        pools: pools.collect(),
        reservations: (snapshot.reservations.values())
            .flat_map(|r| r.spec.reserved_cidrs.iter().copied())
            .collect(),
        config: snapshot.ipam.clone(),
        cordoned: own.is_some_and(|n| n.spec.unschedulable),
        pools_guard,
    }
}

/// Stored pools were validated, so a selector that is there parses.
fn selector(text: Option<&str>) -> Option<Selector> {
    text.and_then(|text| text.parse().ok())
}
