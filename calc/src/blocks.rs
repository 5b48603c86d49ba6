//! One route for each block of another node, a blackhole under each of our own, and host routes for what is
//! borrowed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use model::kernel::{NextHop, Route, RouteKey, RouteTarget};
use model::marks::ROUTE_PROTOCOL;
use model::{Cidr, Family};

use crate::Inputs;
use crate::path::{self, Blame, Path};
use crate::peers::{Peers, Who};
use crate::pools::{ORPHAN_MODE, Pools};
use crate::problems::Problems;
use crate::tunnels::{Tunnels, Used};
use crate::wireguard::{Standing, Wireguard};

/// Routes to the rest of the mesh.
pub(crate) struct Mesh<'a> {
    pub(crate) routes: BTreeMap<RouteKey, Route>,
    /// By place among the peers: what the routes need of each.
    pub(crate) used: Vec<Used>,
    /// By prefix: the place of the peer that owns it, of those reached by the encrypted tunnel.
    pub(crate) owners: BTreeMap<Cidr, usize>,
    /// Prefixes of other nodes that have a way of ours, or must not have one.
    pub(crate) led: Vec<Cidr>,
    /// Prefixes of other nodes that a learnt route may lead to: this node has no way of its own.
    pub(crate) pathless: Vec<Cidr>,
    /// Addresses that IPAM says another node uses though the block is not that node's.
    pub(crate) lent: HashMap<IpAddr, &'a str>,
}

/// From whom this node learns routes by BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learns {
    /// From nobody.
    Nothing,
    /// From other nodes, which the network between need not know ways to.
    OfNodes,
    /// From routers of the network too.
    OfNetwork,
}

/// Routing table that all our routes are in.
pub(crate) const MAIN: u32 = 254;

/// The key of our route to `dst`.
pub(crate) fn key(dst: Cidr) -> RouteKey {
    // An IPv6 route asked for with 0 gets 1024 from the kernel.
    let metric = match dst.family() {
        Family::V4 => 0,
        Family::V6 => 1024,
    };
    RouteKey {
        table: MAIN,
        dst,
        metric,
    }
}

/// A route of ours without extras.
pub(crate) fn route(target: RouteTarget) -> Route {
    Route {
        protocol: ROUTE_PROTOCOL,
        target,
        src: None,
        mtu: None,
    }
}

struct Builder<'a, 'b> {
    peers: &'b Peers<'a>,
    tunnels: &'b Tunnels<'a>,
    wireguard: &'b Wireguard<'a>,
    problems: &'b mut Problems<'a>,
    /// In the order of blocks; a later route to the same prefix is more exact knowledge and wins.
    routes: Vec<(RouteKey, Route)>,
    used: Vec<Used>,
    owners: BTreeMap<Cidr, usize>,
    led: Vec<Cidr>,
    pathless: Vec<Cidr>,
    learns: Learns,
}

pub(crate) fn decide<'a>(
    inputs: &Inputs<'a>,
    pools: &Pools<'a>,
    peers: &Peers<'a>,
    tunnels: &Tunnels<'a>,
    wireguard: &Wireguard<'a>,
    learns: Learns,
    problems: &mut Problems<'a>,
) -> Mesh<'a> {
    let blocks = &inputs.snapshot.blocks;
    let mut lent = HashMap::new();
    let mut builder = Builder {
        peers,
        tunnels,
        wireguard,
        problems,
        routes: Vec::with_capacity(blocks.len()),
        used: vec![Used::default(); peers.iter().len()],
        owners: BTreeMap::new(),
        led: Vec::new(),
        pathless: Vec::new(),
        learns,
    };
    for (cidr, block) in blocks {
        let pool = pools.of(cidr);
        if pool.is_none() {
            if !block.in_use {
                continue; // about to be released
            }
            builder.problems.orphan(*cidr);
        }
        let rule = Rule {
            pool: pool.map(|p| p.name),
            mode: pool.map_or(ORPHAN_MODE, |p| p.spec.vxlan_mode),
        };
        if let Some(node) = &block.node {
            builder.lead(*cidr, node, rule);
        }
        for (ip, node) in &block.borrowed {
            if **node != *inputs.node {
                lent.insert(*ip, &**node);
                builder.lead(Cidr::host(*ip), node, rule);
            }
        }
    }
    Mesh {
        used: builder.used,
        owners: builder.owners,
        led: builder.led,
        pathless: builder.pathless,
        // Sorted input makes this one pass; of equal keys the last is kept.
        routes: builder.routes.into_iter().collect(),
        lent,
    }
}

/// What a pool says about its blocks.
#[derive(Clone, Copy)]
struct Rule<'a> {
    pool: Option<&'a str>,
    mode: model::resources::VxlanMode,
}

impl<'a> Builder<'a, '_> {
    /// Adds the route to `dst`, which is on `node`.
    fn lead(&mut self, dst: Cidr, node: &'a str, rule: Rule<'a>) {
        let index = match self.peers.who(node) {
            Who::Peer(index) => index,
            Who::Own => {
                // Without it a packet to an address not in use goes out by the default route and comes back.
                self.push(dst, route(RouteTarget::Blackhole));
                return;
            }
            Who::LeftOut => return,
            Who::Unknown => return self.problems.unknown_node(node, dst),
        };
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        let standing = self.wireguard.standing(index);
        if self.learns != Learns::Nothing && standing != Standing::Plain {
            self.led.push(dst);
        }
        match standing {
            Standing::Plain => {}
            Standing::Encrypted { over, .. } => {
                self.owners.insert(dst, index);
                let route = self.wireguard.route(dst.family(), over);
                return self.push(dst, route);
            }
            // Not merely no route: one of somebody else's to more than this must not take it.
            Standing::Barred => {
                self.owners.remove(&dst);
                return self.push(dst, route(RouteTarget::Unreachable));
            }
        }
        let path = path::decide(&self.peers.own, peer, self.tunnels, dst.family(), rule.mode);
        if self.learns != Learns::Nothing {
            match path {
                Ok(_) => self.led.push(dst),
                Err(_) => self.pathless.push(dst),
            }
        }
        match path {
            Ok(Path::Native(hop)) => self.push(dst, via(hop)),
            Ok(Path::Vxlan { over, hop }) => {
                if let Some(used) = self.used.get_mut(index) {
                    used.over = Some(over);
                    match dst.family() {
                        Family::V4 => used.v4 = true,
                        Family::V6 => used.v6 = true,
                    }
                }
                let src = self.tunnels.source(dst.family());
                self.push(dst, Route { src, ..via(hop) });
            }
            // What the network routes is what BGP with the network is for.
            Err(why) if self.learns == Learns::OfNetwork && why.blame() == Blame::Pool => {}
            Err(why) => self.problems.unreachable(rule.pool, peer.name, why),
        }
    }

    fn push(&mut self, dst: Cidr, route: Route) {
        self.routes.push((key(dst), route));
    }
}

fn via(hop: NextHop) -> Route {
    route(RouteTarget::Hop(hop))
}
