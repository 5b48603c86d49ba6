//! Which way packets go, from the routes that a node should have.

use std::borrow::Cow;
use std::net::IpAddr;

use model::api::{ExplainAt, ExplainDecision, ExplainPath, ExplainStep};
use model::kernel::{FdbEntry, Neighbour, NextHop, Route, RouteKey, RouteTarget};
use model::resources::{Encryption, Mtu, VxlanMode};
use model::snapshot::Snapshot;
use model::state::{NodeState, Underlay, UnderlayLink};
use model::tunnel::{PublicKey, TunnelPeer};
use model::{Cidr, Family};

use super::ends::{End, Who, pool, underlay};
use super::step;
use crate::blocks::MAIN;
use crate::{Inputs, desired_state};

/// The way of a packet, and what the kernel of its node should have for it.
#[derive(Clone, Debug)]
pub struct Way {
    /// Node that decides.
    pub node: String,
    /// That is this node.
    pub is_here: bool,
    /// By which path.
    pub path: ExplainPath,
    /// Node that they go to; none: no other of the mesh.
    pub next: Option<String>,
    /// The mesh's route that they go by; none: the host's own decide.
    pub key: Option<RouteKey>,
    /// The same, what it says.
    pub route: Option<Route>,
    /// The next hop beyond a VXLAN device.
    pub neighbour: Option<Neighbour>,
    /// Where that is to be found.
    pub fdb: Option<FdbEntry>,
    /// The peer of the encrypted tunnel.
    pub peer: Option<PublicKey>,
    /// Underlay address that a tunnel's packets go to.
    pub carried_to: Option<IpAddr>,
    /// Address that they leave with, in place of the source's.
    pub masquerade: Option<IpAddr>,
    /// Largest packet that goes whole, bytes; 0 when none does.
    pub mtu: u32,
    /// Why so.
    pub mtu_reason: String,
    /// Why this way.
    pub reason: String,
}

impl Way {
    /// The next hop of the route.
    pub fn hop(&self) -> Option<NextHop> {
        match &self.route.as_ref()?.target {
            RouteTarget::Hop(hop) => Some(*hop),
            RouteTarget::Multipath(hops) => hops.first().copied(),
            RouteTarget::Blackhole | RouteTarget::Unreachable => None,
        }
    }

    /// What is decided on the way.
    pub(super) fn steps(&self, encryption: Encryption) -> Vec<ExplainStep> {
        let mut steps = Vec::new();
        let decision = match self.path {
            ExplainPath::None => ExplainDecision::Deny,
            _ => ExplainDecision::Forward,
        };
        steps.push(step(ExplainAt::Route, decision, self.reason.clone()));
        let encrypted = match (self.path, encryption, &self.next) {
            (ExplainPath::WireGuard, ..) => Some(format!(
                "encrypted: spec.encryption of the mesh is {encryption:?}, and both nodes have a key"
            )),
            (_, Encryption::Off, Some(_)) => {
                Some("in clear: spec.encryption of the mesh is Off".to_owned())
            }
            (ExplainPath::Host, _, Some(_)) => {
                Some("in clear: packets to a host itself are not encrypted".to_owned())
            }
            (ExplainPath::Direct | ExplainPath::Vxlan, Encryption::Preferred, Some(node)) => {
                Some(format!(
                    "in clear, though encryption is preferred: {} or {node} has no WireGuard key",
                    self.node
                ))
            }
            _ => None,
        };
        let forward = |at, why| step(at, ExplainDecision::Forward, why);
        let is_to_other = !matches!(self.path, ExplainPath::None | ExplainPath::Local);
        let encrypted = encrypted.filter(|_| is_to_other);
        steps.extend(encrypted.map(|why| forward(ExplainAt::Encryption, why)));
        steps.extend(self.masquerade.map(|ip| {
            let why = format!(
                "natOutgoing: it leaves the pools, with the address {ip} of node {}",
                self.node
            );
            step(ExplainAt::Nat, ExplainDecision::Masquerade, why)
        }));
        steps
    }
}

/// The way between two ends. `state` is that of this node.
pub(super) fn find(
    inputs: &Inputs<'_>,
    state: &NodeState,
    source: &End<'_>,
    destination: &End<'_>,
) -> Way {
    // What comes from elsewhere is decided about where it arrives.
    let node = (source.node())
        .or(destination.node())
        .or(destination.home())
        .unwrap_or(inputs.node);
    let is_here = node == inputs.node;
    let far = (!is_here).then(|| (published(inputs, node), routing(inputs.snapshot)));
    let seen = match &far {
        None => *inputs,
        Some((underlay, snapshot)) => Inputs {
            node,
            underlay,
            snapshot,
            ..*inputs
        },
    };
    let state = match is_here {
        true => Cow::Borrowed(state),
        false => Cow::Owned(desired_state(&seen)),
    };
    Finder {
        inputs: &seen,
        state: &state,
        node,
        is_here,
        source,
        destination,
    }
    .find()
}

/// What ways between nodes hang on. Endpoints of this node are none of another's.
fn routing(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        revision: snapshot.revision,
        nodes: snapshot.nodes.clone(),
        pools: snapshot.pools.clone(),
        blocks: snapshot.blocks.clone(),
        mesh: snapshot.mesh.clone(),
        bgp_configurations: snapshot.bgp_configurations.clone(),
        bgp_peers: snapshot.bgp_peers.clone(),
        rejected: snapshot.rejected.clone(),
        ..Snapshot::default()
    }
}

/// The underlay of another node, as far as it has told: its links are taken to be as those here.
fn published(inputs: &Inputs<'_>, node: &str) -> Underlay {
    let spec = inputs.snapshot.nodes.get(node).map(|r| &r.spec);
    let link = |family| {
        let own = inputs.underlay.of(family);
        let any = || Family::ALL.into_iter().find_map(|f| inputs.underlay.of(f));
        let own = own.or_else(any)?;
        Some(UnderlayLink {
            interface: own.interface,
            address: spec?.underlay(family)?,
            mtu: own.mtu,
        })
    };
    let [v4, v6] = Family::ALL.map(link);
    Underlay { v4, v6 }
}

struct Finder<'f, 'a> {
    inputs: &'f Inputs<'a>,
    state: &'f NodeState,
    node: &'f str,
    is_here: bool,
    source: &'f End<'a>,
    destination: &'f End<'a>,
}

impl Finder<'_, '_> {
    fn find(&self) -> Way {
        let ip = self.destination.ip;
        let is_on_node = self.destination.node() == Some(self.node);
        if is_on_node && self.destination.is_host() {
            let reason = format!("{ip} is node {} itself", self.node);
            return self.local(None, reason);
        }
        let is_workload = matches!(self.destination.who, Who::Workload { .. });
        if is_on_node && is_workload && !self.is_here {
            let reason = format!("delivered on node {}", self.node);
            return self.local(None, reason);
        }
        let Some((key, route)) = self.route() else {
            return self.by_host();
        };
        let found = Some((key, route.clone()));
        match &route.target {
            RouteTarget::Blackhole => self.nowhere(found, self.blackhole(key.dst)),
            RouteTarget::Unreachable => self.nowhere(found, self.barred()),
            RouteTarget::Hop(hop) => self.by(*hop, key, route),
            RouteTarget::Multipath(hops) => match hops.first() {
                Some(hop) => self.by(*hop, key, route),
                None => self.by_host(),
            },
        }
    }

    /// The longest prefix that has the destination, of the routes that the node should have.
    fn route(&self) -> Option<(RouteKey, &Route)> {
        let ip = self.destination.ip;
        let routes = self.state.kernel.routes.iter();
        let matching = routes.filter(|(key, _)| key.table == MAIN && key.dst.contains(ip));
        let best = matching.min_by_key(|(key, _)| {
            let shortness = u8::MAX - key.dst.prefix_len();
            (shortness, key.metric)
        });
        best.map(|(key, route)| (*key, route))
    }

    fn by(&self, hop: NextHop, key: RouteKey, route: &Route) -> Way {
        let kernel = &self.state.kernel;
        let found = Some((key, route.clone()));
        let home = self.destination.home();
        let to = home.or(self.destination.node()).unwrap_or("another");
        if let Some(device) = kernel.vxlan.get(&hop.dev) {
            let neighbours = kernel.neighbours.iter();
            let mut neighbours = neighbours.filter(|n| n.dev == hop.dev && Some(n.ip) == hop.via);
            let neighbour = neighbours.next().copied();
            let fdb = neighbour.and_then(|n| {
                let mut fdb = kernel.fdb.iter();
                fdb.find(|e| e.dev == n.dev && e.mac == n.mac).copied()
            });
            let over = Family::of(device.settings.local);
            let reason = format!(
                "VXLAN to node {to}, over {over}: {}",
                self.mode(VxlanMode::Always)
            );
            let taken = crate::mtu::vxlan_overhead(over);
            let reason_of_mtu = format!("VXLAN over {over} adds {taken} bytes");
            return Way {
                neighbour,
                fdb,
                carried_to: fdb.map(|e| e.dst),
                ..self.way(
                    ExplainPath::Vxlan,
                    Some(to),
                    found,
                    reason,
                    (device.mtu, reason_of_mtu),
                )
            };
        }
        if kernel.tunnel.is_some_and(|t| t.name == hop.dev) {
            let peers = self.state.tunnel.iter().flat_map(|t| &t.peers);
            let ip = self.destination.ip;
            // A lent address is its borrower's, whoever has the block.
            let length = |p: &TunnelPeer| {
                let owned = p.allowed_ips.iter().filter(|c| c.contains(ip));
                owned.map(Cidr::prefix_len).max()
            };
            let owners = peers.filter_map(|(key, p)| Some((length(p)?, key, p)));
            let peer = owners.max_by_key(|(length, ..)| *length);
            let peer = peer.map(|(_, key, p)| (key, p));
            let to = peer.map_or(to, |(_, p)| &*p.node);
            let endpoint = peer.map(|(_, p)| p.endpoint.ip());
            let over = endpoint.map_or(Family::V4, Family::of);
            let reason = format!("the encrypted tunnel to node {to}, over {over}");
            let mtu = route.mtu.or(kernel.tunnel.map(|t| t.mtu)).unwrap_or(0);
            let taken = crate::mtu::wireguard_overhead(over);
            let reason_of_mtu = format!("WireGuard over {over} adds {taken} bytes");
            return Way {
                peer: peer.map(|(key, _)| *key),
                carried_to: endpoint,
                ..self.way(
                    ExplainPath::WireGuard,
                    Some(to),
                    found,
                    reason,
                    (mtu, reason_of_mtu),
                )
            };
        }
        let is_local = key.dst.is_host()
            && hop.via.is_none()
            && matches!(self.destination.who, Who::Workload { .. });
        if is_local {
            let reason = format!("delivered on node {}, by interface {}", self.node, hop.dev);
            return self.local(found, reason);
        }
        let mut links = Family::ALL.into_iter();
        let mtu = links.find_map(|f| {
            let link = self.inputs.underlay.of(f)?;
            (link.interface == hop.dev).then_some(link.mtu)
        });
        let reason = format!(
            "by the network to node {to}: {}",
            self.mode(VxlanMode::Never)
        );
        let reason_of_mtu = "that of the interface to the other nodes".to_owned();
        self.way(
            ExplainPath::Direct,
            Some(to),
            found,
            reason,
            (mtu.unwrap_or(0), reason_of_mtu),
        )
    }

    /// Why a pool's addresses go in VXLAN, or natively.
    fn mode(&self, chosen: VxlanMode) -> String {
        let name = pool(self.inputs.snapshot, self.destination.ip);
        let found = name.and_then(|n| Some((n, self.inputs.snapshot.pools.get(n)?)));
        let Some((name, pool)) = found else {
            return "its pool is deleted, and it is reached by the way that reaches most"
                .to_owned();
        };
        let mode = pool.spec.vxlan_mode;
        let why = match (mode, chosen) {
            (VxlanMode::CrossSubnet, VxlanMode::Always) => ", and the nodes share no subnet",
            (VxlanMode::CrossSubnet, _) => ", and the nodes share a subnet",
            _ => "",
        };
        format!("vxlanMode of pool {name} is {mode:?}{why}")
    }

    fn local(&self, found: Option<(RouteKey, Route)>, reason: String) -> Way {
        let to_host = self.destination.is_host();
        let underlay = Family::ALL
            .into_iter()
            .filter_map(|f| self.inputs.underlay.of(f));
        let own = match to_host && self.source.node() != Some(self.node) {
            true => underlay.map(|l| l.mtu).min().unwrap_or(0),
            false => self.state.workload_mtu,
        };
        let why = "nothing is added on a node".to_owned();
        self.way(ExplainPath::Local, None, found, reason, (own, why))
    }

    fn nowhere(&self, found: Option<(RouteKey, Route)>, reason: String) -> Way {
        let why = "nothing goes that way".to_owned();
        self.way(ExplainPath::None, None, found, reason, (0, why))
    }

    fn blackhole(&self, block: Cidr) -> String {
        let node = self.node;
        match self.destination.who {
            Who::Workload { node: other, .. } if other != node => format!(
                "block {block} is of node {node}, and {} is on node {other}: the address records do not say that it is lent; see `routerctl ipam check`",
                self.destination.text()
            ),
            Who::Workload { .. } => format!(
                "{} has no route on its node: see the problems in `routerctl status`",
                self.destination.text()
            ),
            _ => format!(
                "node {node} drops what goes to addresses of its block {block} that no workload has"
            ),
        }
    }

    fn barred(&self) -> String {
        match self.destination.home() {
            Some(to) => format!(
                "dropped: encryption is required, and there is no tunnel from {} to {to}; see the problems in `routerctl status`",
                self.node
            ),
            None => format!(
                "dropped: encryption is required, and no node has a block with {}",
                self.destination.ip
            ),
        }
    }

    /// By what is no route of the mesh.
    fn by_host(&self) -> Way {
        let ip = self.destination.ip;
        let links = Family::ALL
            .into_iter()
            .filter_map(|f| self.inputs.underlay.of(f));
        let mtu = links.map(|l| l.mtu).min().unwrap_or(0);
        let why = "that of the interface to the other nodes; beyond, nobody here knows".to_owned();
        let (next, reason) = match self.destination.who {
            Who::Node { name, .. } => (
                Some(name),
                format!("{ip} is node {name} itself: by the host's own routes"),
            ),
            Who::Host { .. } | Who::Outside => (
                None,
                format!(
                    "{ip} is outside of the mesh: by the host's own routes, or what BGP has learnt"
                ),
            ),
            Who::Workload { .. } | Who::Nobody => (
                self.destination.home().or(self.destination.node()),
                format!(
                    "no route of the mesh leads to {ip}: by what BGP has learnt, or the host's own routes"
                ),
            ),
        };
        self.way(ExplainPath::Host, next, None, reason, (mtu, why))
    }

    fn way(
        &self,
        path: ExplainPath,
        next: Option<&str>,
        found: Option<(RouteKey, Route)>,
        reason: String,
        (own, why): (u32, String),
    ) -> Way {
        let (key, route) = found.unzip();
        let leaves = !matches!(path, ExplainPath::Local | ExplainPath::None);
        let (mtu, mtu_reason) = self.mtu(own, &why);
        Way {
            node: self.node.to_owned(),
            is_here: self.is_here,
            path,
            next: next.map(str::to_owned),
            key,
            route,
            neighbour: None,
            fdb: None,
            peer: None,
            carried_to: None,
            masquerade: leaves.then(|| self.masquerade()).flatten(),
            mtu,
            mtu_reason,
            reason,
        }
    }

    /// The least of the way and of the interfaces of workloads at its ends.
    fn mtu(&self, own: u32, why: &str) -> (u32, String) {
        let is_workload = |end: &End<'_>| matches!(end.who, Who::Workload { .. });
        let workload = self.state.workload_mtu;
        let ends = is_workload(self.source) || is_workload(self.destination);
        let far = match self.is_here {
            true => String::new(),
            false => format!("; taking links of node {} to be as those here", self.node),
        };
        if own == 0 || !ends || workload >= own {
            return (own, format!("{why}{far}"));
        }
        let configured = match self.inputs.snapshot.mesh.mtu {
            Mtu::Bytes(_) => "as spec.mtu of the mesh says",
            Mtu::Auto => "which fits every way in use",
        };
        let reason = format!("interfaces of workloads have {workload}, {configured}{far}");
        (workload, reason)
    }

    fn masquerade(&self) -> Option<IpAddr> {
        let nat = self.state.kernel.nat.as_ref()?;
        let within =
            |cidrs: &std::collections::BTreeSet<Cidr>, ip| cidrs.iter().any(|c| c.contains(ip));
        let applies =
            within(&nat.sources, self.source.ip) && !within(&nat.exempt, self.destination.ip);
        let family = Family::of(self.source.ip);
        applies
            .then(|| underlay(self.inputs, self.node, family))
            .flatten()
    }
}
