//! Every node with every other, where they are few or somebody says so.

use model::Family;
use model::bgp::{ANY_HOPS, Neighbour, Ttl};
use model::resources::VxlanMode;

use super::Chosen;
use super::selected::Selection;
use super::settings::{Settings, seconds};
use crate::Inputs;
use crate::peers::{Peer, Peers};
use crate::pools::Pools;
use crate::problems::Problems;

/// Most nodes that mesh by themselves.
const FEW: usize = 100;

pub(super) fn decide<'a>(
    inputs: &Inputs<'a>,
    settings: &Settings<'a>,
    (pools, peers): (&Pools<'_>, &Peers<'a>),
    chosen: &mut Chosen,
    advice: &mut Vec<String>,
    problems: &mut Problems<'_>,
) {
    let nodes = inputs.snapshot.nodes.len();
    let wanted = settings.default().and_then(|c| c.node_to_node_mesh_enabled);
    let selection = match wanted {
        Some(false) => return,
        Some(true) => None,
        None if nodes > FEW || !want_routes(pools) => return,
        None => Some(Selection::of_nodes(inputs)),
    };
    let is_member = |node: &str| {
        let reflects = settings.cluster_of(node).is_some();
        !reflects
            && !selection
                .as_ref()
                .is_some_and(|s| s.has(inputs.snapshot, node))
    };
    if !is_member(inputs.node) {
        return;
    }
    if nodes > FEW {
        advice.push(format!(
            "BGPConfiguration/default: spec.nodeToNodeMeshEnabled is true with {nodes} nodes, so each has {} sessions: \
             make some of them route reflectors (spec.bgp.routeReflectorClusterID of a Node) and peer with those",
            nodes - 1
        ));
    }
    let default = settings.default();
    let password = match settings.password(default.and_then(|c| c.node_mesh_password.as_ref())) {
        Ok(password) => password,
        Err(why) => {
            let message = format!("spec.nodeMeshPassword: the nodes do not peer: {why}");
            return problems.add("BGPConfiguration/default".to_owned(), message);
        }
    };
    let restart = default.and_then(|c| c.node_mesh_max_restart_time);
    for peer in peers.iter().filter(|p| is_member(p.name)) {
        for family in Family::ALL {
            let Some(mut neighbour) = between_nodes(inputs, settings, peer, family) else {
                continue;
            };
            neighbour.password.clone_from(&password);
            if let Some(time) = restart {
                neighbour.restart_time = seconds(time);
            }
            chosen.add_mesh(format!("mesh/{}/{}", peer.name, word(family)), neighbour);
        }
    }
}

/// Whether some pool has routes that VXLAN does not carry.
fn want_routes(pools: &Pools<'_>) -> bool {
    let mut enabled = pools.iter().filter(|p| !p.spec.disabled);
    enabled.any(|p| p.spec.vxlan_mode != VxlanMode::Always)
}

/// A session with another node over a family; none unless both have an address of it.
pub(super) fn between_nodes(
    inputs: &Inputs<'_>,
    settings: &Settings<'_>,
    peer: &Peer<'_>,
    family: Family,
) -> Option<Neighbour> {
    let own = inputs.underlay.of(family)?.address.ip;
    let address = peer.underlay(family)?.ip;
    let asn = settings.as_of(peer.name);
    Some(Neighbour {
        node: Some(peer.name.into()),
        address: Some(address),
        port: settings.port_of(peer.name),
        source: Some(own),
        families: [family].into(),
        ttl: match peer.on_link(family) {
            Some(_) => Ttl::Direct,
            None => Ttl::Multihop(ANY_HOPS),
        },
        ..settings.neighbour(Some(asn))
    })
}

/// A family in a peer's name.
pub(super) fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
