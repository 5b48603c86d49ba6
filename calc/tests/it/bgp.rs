//! Who peers with whom, what is announced, and what is taken.

mod mesh;
mod peers;
mod routes;
mod unselected;

use model::bgp::{Bgp, Neighbour};
use model::resources::VxlanMode;
use model::state::NodeState;

use crate::world::*;

/// Two racks of two nodes with a block each, routed natively inside a rack only.
fn racks() -> Store {
    let mut store = Store::default().pool("p", pool("10.0.0.0/16", VxlanMode::Never));
    for (n, name, rack) in [
        (1, "a1", "a"),
        (2, "a2", "a"),
        (3, "b1", "b"),
        (4, "b2", "b"),
    ] {
        let subnet = if rack == "a" { 1 } else { 2 };
        let spec = node(
            n,
            &format!("192.0.{subnet}.{n}/24"),
            &format!("2001:db8:{subnet}::{n}/64"),
        );
        store = store
            .node(name, spec)
            .label(name, &[("rack", rack)])
            .block(&format!("10.0.{n}.0/26"), block(name, 1, &[]));
    }
    store
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn configured(spec: &str) -> Store {
    racks().manifest(&object("BGPConfiguration", "default", spec))
}

fn peered(spec: &str) -> Store {
    racks().manifest(&object("BGPPeer", "p", spec))
}

fn plan(store: &Store, node: &str) -> Option<Bgp> {
    store.desired(node).bgp
}

/// Names of peers; none without a plan.
fn names(store: &Store, node: &str) -> Vec<String> {
    let plan = plan(store, node);
    let peers = plan.iter().flat_map(|p| p.peers.keys());
    peers.map(ToString::to_string).collect()
}

fn peer(store: &Store, node: &str, name: &str) -> Neighbour {
    let plan = plan(store, node).unwrap_or_else(|| panic!("{node} has no plan"));
    let found = plan.peers.get(name);
    found
        .unwrap_or_else(|| panic!("{name} among {:?}", plan.peers.keys()))
        .clone()
}

fn bgp_problems(state: &NodeState) -> Vec<String> {
    let all = problems(state);
    all.into_iter().filter(|p| p.starts_with("BGP")).collect()
}
