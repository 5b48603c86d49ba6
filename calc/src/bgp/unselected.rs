//! `BGPPeer`s that are for no node: of a rack that is not there, or with a typing error in the selector.

use std::collections::HashMap;
use std::sync::Arc;

use model::snapshot::Snapshot;
use model::state::Problem;

use super::selected::For;

/// For each `BGPPeer` a node that it was seen to be for. That saves work and changes no result: with thousands of nodes
/// and hundreds of racks, to try all pairs takes longer than all the rest of a calculation.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(HashMap<Arc<str>, Arc<str>>);

impl Witnesses {
    /// What is wrong: a `BGPPeer` whose `nodeSelector` selects nobody.
    pub fn unselected(&mut self, snapshot: &Snapshot) -> Vec<Problem> {
        let peers = &snapshot.bgp_peers;
        self.0.retain(|name, _| peers.contains_key(name));
        let mut problems = Vec::new();
        for (name, peer) in peers {
            let Some(selector) = &peer.spec.node_selector else {
                continue;
            };
            // One that cannot be read is reported as such.
            let Ok(who) = For::of(&peer.spec) else {
                continue;
            };
            let known = self.0.get(name);
            if known.is_some_and(|node| who.has(snapshot, node)) {
                continue;
            }
            if let Some(node) = snapshot.nodes.keys().find(|node| who.has(snapshot, node)) {
                self.0.insert(name.clone(), node.clone());
                continue;
            }
            self.0.remove(name);
            problems.push(Problem {
                object: format!("BGPPeer/{name}"),
                message: format!(
                    "nobody peers by it, since spec.nodeSelector {selector} selects no node: label the nodes that it is \
                     for, or delete it"
                ),
            });
        }
        problems
    }
}
