//! Every decision of routerd: what this node should look like, as a pure function.
//!
//! ```text
//!  Snapshot ──┬─► pools ──┐
//!             ├─► peers ──┼─► tunnels, wireguard ─► blocks ──┐
//!  Underlay ──┘           │   (path: how each node is        ├─► NodeState
//!                         │    reached in clear, and why)    │
//!                         ├─► endpoints, host, mtu ──────────┤
//!                         └─► bgp: sessions, announced ──────┘
//!
//!  links of the host ─► underlay::choose ─► Underlay
//!  Snapshot ─► policy::World ─evaluate(packet)─► Verdict
//!  all of these, two ends ─► explain ─► every decision on a packet's way
//! ```
//!
//! Invariants:
//! * memoryless: equal inputs give equal outputs, whatever came before;
//! * no clock, no I/O, no randomness;
//! * a prefix has one route, save for those that catch what else would leave in clear; every VXLAN next hop has its neighbour and its FDB entry;
//! * what cannot be decided becomes a [`Problem`](model::state::Problem) and never a guess;
//! * no work is done per endpoint of another node: blocks stand for them.

mod bgp;
mod blocks;
mod endpoints;
pub mod explain;
mod host;
mod mtu;
pub mod path;
mod peers;
pub mod policy;
mod pools;
mod problems;
mod tunnels;
pub mod underlay;
pub mod ways;
mod wireguard;

pub use bgp::Witnesses;

use model::kernel::KernelState;
use model::snapshot::Snapshot;
use model::state::{NodeState, Underlay};

use crate::peers::Peers;
use crate::pools::Pools;
use crate::problems::Problems;
use crate::tunnels::Tunnels;
use crate::wireguard::Wireguard;

/// All that the desired state depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Name of this node.
    pub node: &'a str,
    /// The store.
    pub snapshot: &'a Snapshot,
    /// How this host reaches the others, from [`underlay::choose`].
    pub underlay: &'a Underlay,
    /// The IPv6 underlay interface took router advertisements (`accept_ra` not 0) before we turned
    /// forwarding on; forwarding would silently end that, and with it the default route.
    pub accepts_ra: bool,
}

/// What this node should look like.
pub fn desired_state(inputs: &Inputs<'_>) -> NodeState {
    let snapshot = inputs.snapshot;
    let mut problems = Problems::default();
    let unknown = snapshot.unknown().next();
    if let Some(first) = unknown {
        let object = format!("{}/{}", first.kind, first.name);
        let message = "it could not be read since this daemon started, so nothing is taken out of the kernel: \
                       apply it anew, or delete it";
        problems.add(object, message.to_owned());
    }
    if snapshot.lacks_mesh() {
        let message = "it may require encryption, so no way to other nodes is opened until it can be read: \
                       apply it anew, or delete it";
        problems.add("MeshConfiguration/default".to_owned(), message.to_owned());
    }

    let pools = Pools::new(snapshot);
    let peers = Peers::new(inputs, &mut problems);
    let mtu = mtu::decide(inputs, &pools, &peers, &mut problems);
    let tunnels = Tunnels::decide(inputs, &pools, &peers, &mtu, &mut problems);

    let wireguard = Wireguard::decide(inputs, &pools, &peers, &mtu, &mut problems);

    let sessions = bgp::Sessions::decide(inputs, &pools, &peers, &mut problems);
    let learns = sessions.learns();
    let mut mesh = blocks::decide(
        inputs,
        &pools,
        &peers,
        &tunnels,
        &wireguard,
        learns,
        &mut problems,
    );
    let local = endpoints::decide(inputs, &peers, &mesh, &mut problems);
    mesh.routes.extend(local.routes);
    mesh.routes.extend(wireguard.catch_all(inputs, &pools));
    let (mut neighbours, fdb) = tunnels.entries(&peers, &mesh.used);
    neighbours.extend(local.neighbours);

    let advice = sessions.advice.clone();
    let bgp = sessions.plan(inputs, &pools, &mesh, &mut problems);
    let mut addresses = tunnels.addresses();
    addresses.extend(wireguard.addresses());
    let inside = local.gateways.iter().map(|(link, _)| *link);
    let guard = host::guard(inputs, &pools, inside);
    addresses.extend(local.gateways);
    let sysctls = host::sysctls(inputs, &tunnels, wireguard.link(), &local.links);
    NodeState {
        generation: 0,
        guarded_from: 0,
        revision: snapshot.revision,
        partial: unknown.is_some(),
        barred: snapshot.lacks_mesh(),
        tunnel: wireguard.device(&peers, &mesh.owners),
        bgp,
        advice,
        encryption: snapshot.encryption(),
        workload_mtu: mtu.workload,
        problems: problems.finish(inputs.node),
        kernel: KernelState {
            addresses,
            vxlan: tunnels.devices(),
            tunnel: wireguard.link(),
            workload_links: local.links.into_iter().map(|l| l.name).collect(),
            routes: mesh.routes,
            neighbours: neighbours.into_iter().collect(),
            fdb: fdb.into_iter().collect(),
            nat: host::nat(&pools),
            guard,
            sysctls,
        },
    }
}
