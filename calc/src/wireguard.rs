//! The encrypted tunnel: who is in it, and what becomes of who is not.
//!
//! | this node and the other | `Preferred` | `Required` |
//! |---|---|---|
//! | both have a key of their own | tunnel | tunnel |
//! | one has none | as if encryption were off, and a problem | barred |
//! | one shares its key with a third | barred | barred |
//! | one has nothing to encapsulate to, with `postQuantum: Required` | barred | barred |
//!
//! Barred: its prefixes are `unreachable`, so that no other route takes what is meant for it. Both ends
//! decide alike, since each rule reads the same of both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use model::kernel::{Address, LinkName, NextHop, Route, RouteKey, RouteTarget, TunnelLink};
use model::resources::{Encryption, PostQuantum};
use model::tunnel::{PublicKey, Tunnel, TunnelPeer};
use model::{Cidr, Family, marks};

use crate::Inputs;
use crate::blocks::{MAIN, route};
use crate::mtu::Mtus;
use crate::path;
use crate::peers::{Peer, Peers};
use crate::pools::Pools;
use crate::problems::{Problems, some_of};

/// How packets to a peer have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In clear.
    Plain,
    /// By the tunnel.
    Encrypted {
        key: PublicKey,
        /// Underlay that carries it.
        over: Family,
        endpoint: SocketAddr,
    },
    /// Not at all.
    Barred,
}

/// Why two nodes have no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// This node has no key.
    OwnKey,
    /// The other has none.
    Key,
    /// One of them shares its key.
    Shared,
    /// This node has nothing to encapsulate to.
    OwnQuantum,
    /// The other has nothing.
    Quantum,
    /// They have no underlay family in common.
    Family,
    /// The other's underlay address is one of a workload: its datagrams would enter the tunnel again.
    Inside,
}

/// The tunnel of this node.
pub(crate) struct Wireguard<'a> {
    encryption: Encryption,
    post_quantum: PostQuantum,
    link: Option<TunnelLink>,
    port: u16,
    post_quantum_port: u16,
    own: Option<&'a model::resources::NodeSpec>,
    /// By family: MTU of the tunnel over it.
    mtus: [u32; 2],
    /// By place among the peers; empty when encryption is off.
    standings: Vec<Standing>,
}

/// Which underlay families tunnels go over, ahead of any key, so that the MTU of workloads does not change
/// with the first.
pub(crate) fn families(inputs: &Inputs<'_>, peers: &Peers<'_>) -> Vec<Family> {
    if inputs.snapshot.encryption() == Encryption::Off {
        return Vec::new();
    }
    let has = |f: Family| inputs.underlay.of(f).is_some();
    let only_v6 = |p: &Peer<'_>| common(inputs, p) == Some(Family::V6);
    let v6 = has(Family::V6) && (!has(Family::V4) || peers.iter().any(only_v6));
    let wanted = [(Family::V4, has(Family::V4)), (Family::V6, v6)];
    let wanted = wanted.into_iter();
    wanted.filter_map(|(f, is)| is.then_some(f)).collect()
}

/// The first underlay family that both ends have.
fn common(inputs: &Inputs<'_>, peer: &Peer<'_>) -> Option<Family> {
    let both = |f: &Family| inputs.underlay.of(*f).is_some() && peer.underlay(*f).is_some();
    Family::ALL.into_iter().find(both)
}

impl<'a> Wireguard<'a> {
    pub(crate) fn decide(
        inputs: &Inputs<'a>,
        pools: &Pools<'_>,
        peers: &Peers<'a>,
        mtus: &Mtus,
        problems: &mut Problems<'_>,
    ) -> Wireguard<'a> {
        let encryption = inputs.snapshot.encryption();
        let mtu = |f: Family| {
            let link = inputs.underlay.of(f);
            link.map_or(0, |l| mtus.wireguard(f, l.mtu))
        };
        let mut this = Wireguard {
            encryption,
            post_quantum: inputs.snapshot.mesh.post_quantum,
            link: None,
            port: inputs.snapshot.mesh.wireguard_port,
            post_quantum_port: inputs.snapshot.mesh.post_quantum_port,
            own: peers.own.spec,
            mtus: Family::ALL.map(mtu),
            standings: Vec::new(),
        };
        if encryption == Encryption::Off {
            return this;
        }
        if inputs.snapshot.lacks_mesh() {
            // Not even a device: its port is not known.
            this.standings = vec![Standing::Barred; peers.iter().len()];
            return this;
        }
        let shared = shared_keys(inputs, problems);
        let own = peers.own.spec.and_then(|s| s.status.wireguard_public_key);
        let own_shared = own.is_some_and(|k| shared.contains(&k));
        if own.is_some() && !own_shared {
            let mtu = this.mtus.into_iter().max().unwrap_or(0);
            let link = marks::WIREGUARD.parse().ok();
            this.link = link.map(|name| TunnelLink { name, mtu });
        }
        let mut lacking: BTreeMap<Lack, Vec<&str>> = BTreeMap::new();
        for peer in peers.iter() {
            let tunnel = tunnel(inputs, pools, peer, own, &shared);
            let quantum = this.lacks_quantum(peer).filter(|_| tunnel.is_ok());
            if let Some(lack) = quantum {
                lacking.entry(lack).or_default().push(peer.name);
            }
            let is_required = this.post_quantum == PostQuantum::Required;
            let standing = match tunnel {
                Ok(_) if quantum.is_some() && is_required => Standing::Barred,
                Ok(standing) => standing,
                Err(lack) => {
                    lacking.entry(lack).or_default().push(peer.name);
                    match (lack, encryption) {
                        (Lack::OwnKey | Lack::Key, Encryption::Preferred) => Standing::Plain,
                        _ => Standing::Barred,
                    }
                }
            };
            this.standings.push(standing);
        }
        report(inputs.node, &this, &lacking, problems);
        for family in Family::ALL.into_iter().filter(|f| pools.have(*f)) {
            if this.link.is_some() && this.source(family).is_none() {
                let mend = path::TUNNEL_ADDRESS_MEND;
                problems.add(
                    format!("Node/{}", inputs.node),
                    format!("it has no {family} tunnel address: {mend}"),
                );
            }
        }
        this
    }

    /// Which of the two ends takes no part in what both should.
    fn lacks_quantum(&self, peer: &Peer<'_>) -> Option<Lack> {
        let has =
            |spec: &model::resources::NodeSpec| spec.status.wireguard_encapsulation_key.is_some();
        match self.post_quantum {
            PostQuantum::Off => None,
            _ if !self.own.is_some_and(has) => Some(Lack::OwnQuantum),
            _ => (!has(peer.spec)).then_some(Lack::Quantum),
        }
    }

    /// How packets to the peer at this place have to go.
    pub(crate) fn standing(&self, index: usize) -> Standing {
        let standing = self.standings.get(index).copied();
        standing.unwrap_or(Standing::Plain)
    }

    /// The MTU of the tunnel over an underlay family.
    pub(crate) fn mtu(&self, over: Family) -> u32 {
        let [v4, v6] = self.mtus;
        match over {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The route into the tunnel for packets of `family` to a peer that is reached over `over`.
    pub(crate) fn route(&self, family: Family, over: Family) -> Route {
        let hop = self.link.map(|l| NextHop {
            via: None,
            dev: l.name,
            onlink: false,
        });
        Route {
            src: self.source(family),
            mtu: hop.map(|_| self.mtu(over)),
            ..route(hop.map_or(RouteTarget::Unreachable, RouteTarget::Hop))
        }
    }

    /// The device, as far as links go.
    pub(crate) fn link(&self) -> Option<TunnelLink> {
        self.link
    }

    /// This node's tunnel address of a family, if the device carries it.
    fn source(&self, family: Family) -> Option<IpAddr> {
        self.link?;
        self.own?.tunnel_addr(family)
    }

    /// The tunnel addresses, on the device.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (LinkName, Address)> {
        Family::ALL.into_iter().filter_map(|f| {
            let (link, ip) = self.link.zip(self.source(f))?;
            let prefix = f.bits();
            Some((link.name, Address { ip, prefix }))
        })
    }

    /// With encryption required, what catches everything that has no better route: all pools, and the
    /// blocks that none covers.
    pub(crate) fn catch_all(
        &self,
        inputs: &Inputs<'_>,
        pools: &Pools<'_>,
    ) -> Vec<(RouteKey, Route)> {
        if self.encryption != Encryption::Required {
            return Vec::new();
        }
        let orphans = inputs.snapshot.blocks.keys().copied();
        let orphans = orphans.filter(|block| pools.of(block).is_none());
        let key = |dst| RouteKey {
            table: MAIN,
            dst,
            metric: marks::LAST_METRIC,
        };
        (pools.iter().map(|p| p.spec.cidr).chain(orphans))
            .map(|dst| (key(dst), route(RouteTarget::Unreachable)))
            .collect()
    }

    /// The device as wanted, from what each peer owns.
    pub(crate) fn device(
        &self,
        peers: &Peers<'_>,
        owners: &BTreeMap<Cidr, usize>,
    ) -> Option<Tunnel> {
        self.link?;
        let takes_part = |peer: &Peer<'_>| {
            self.post_quantum != PostQuantum::Off && self.lacks_quantum(peer).is_none()
        };
        let mut owned: HashMap<usize, BTreeSet<Cidr>> = HashMap::new();
        for (prefix, index) in owners {
            owned.entry(*index).or_default().insert(*prefix);
        }
        let peer = |(index, peer): (usize, &Peer<'_>)| match self.standing(index) {
            Standing::Encrypted { key, endpoint, .. } => Some((
                key,
                TunnelPeer {
                    node: peer.name.into(),
                    encapsulation_key: (peer.spec.status.wireguard_encapsulation_key.clone())
                        .filter(|_| takes_part(peer)),
                    next_key: (peer.spec.status.wireguard_next_public_key).filter(|n| *n != key),
                    endpoint,
                    allowed_ips: owned.remove(&index).unwrap_or_default(),
                },
            )),
            Standing::Plain | Standing::Barred => None,
        };
        Some(Tunnel {
            port: self.port,
            fwmark: marks::WIREGUARD_FWMARK,
            post_quantum: self.post_quantum,
            post_quantum_port: self.post_quantum_port,
            peers: peers.iter().enumerate().filter_map(peer).collect(),
        })
    }
}

/// The tunnel to a peer, or why there can be none.
fn tunnel(
    inputs: &Inputs<'_>,
    pools: &Pools<'_>,
    peer: &Peer<'_>,
    own: Option<PublicKey>,
    shared: &BTreeSet<PublicKey>,
) -> Result<Standing, Lack> {
    let status = &peer.spec.status;
    let (key, next) = (
        status.wireguard_public_key,
        status.wireguard_next_public_key,
    );
    // First, so that it is never taken for a mere lack of a key.
    if own
        .iter()
        .chain(&key)
        .chain(&next)
        .any(|k| shared.contains(k))
    {
        return Err(Lack::Shared);
    }
    own.ok_or(Lack::OwnKey)?;
    let key = key.ok_or(Lack::Key)?;
    let over = common(inputs, peer).ok_or(Lack::Family)?;
    let ip = peer.underlay(over).ok_or(Lack::Family)?.ip;
    let before = inputs.snapshot.blocks.range(..=Cidr::host(ip)).next_back();
    let in_block = before.is_some_and(|(block, _)| block.contains(ip));
    // Beyond a router its way would be the route that catches all of the pool.
    let in_pool = peer.on_link(over).is_none() && pools.of(&Cidr::host(ip)).is_some();
    if in_block || in_pool {
        return Err(Lack::Inside);
    }
    let endpoint = SocketAddr::new(ip, inputs.snapshot.mesh.wireguard_port);
    Ok(Standing::Encrypted {
        key,
        over,
        endpoint,
    })
}

/// The keys that several nodes have published. Whose such a key is nobody can tell: a copied disk, or an
/// impostor.
fn shared_keys(inputs: &Inputs<'_>, problems: &mut Problems<'_>) -> BTreeSet<PublicKey> {
    let mut holders: BTreeMap<PublicKey, Vec<&str>> = BTreeMap::new();
    for (name, node) in &inputs.snapshot.nodes {
        let status = &node.spec.status;
        let keys = [
            status.wireguard_public_key,
            status.wireguard_next_public_key,
        ];
        for key in keys.into_iter().flatten().collect::<BTreeSet<_>>() {
            holders.entry(key).or_default().push(name);
        }
    }
    holders.retain(|_, names| names.len() > 1);
    for (key, names) in &holders {
        let (first, others) = (names.first().copied(), names.get(1..).unwrap_or_default());
        problems.add(
            format!("Node/{}", first.unwrap_or_default()),
            format!(
                "ALARM: its WireGuard public key {key} is also that of Node/{}: one of them is a copy, so none is used and none is reached; stop routerd there, delete wireguard.key in its state_dir, and start it again",
                some_of(others.iter())
            ),
        );
    }
    holders.into_keys().collect()
}

fn report(
    own: &str,
    this: &Wireguard<'_>,
    lacking: &BTreeMap<Lack, Vec<&str>>,
    problems: &mut Problems<'_>,
) {
    let (encryption, post_quantum) = (this.encryption, this.post_quantum);
    let quantum_effect = match post_quantum {
        PostQuantum::Required => "is dropped",
        PostQuantum::Off | PostQuantum::Preferred => {
            "is encrypted without a post-quantum preshared key"
        }
    };
    let effect = match encryption {
        Encryption::Preferred => "is NOT encrypted",
        Encryption::Off | Encryption::Required => "is dropped",
    };
    for (lack, names) in lacking {
        let nodes = some_of(names.iter());
        let mesh = || "MeshConfiguration/default".to_owned();
        let (object, message) = match lack {
            Lack::Shared => continue, // reported by key
            Lack::OwnKey => (
                format!("Node/{own}"),
                format!(
                    "traffic to all other nodes {effect}: this node has published no WireGuard key; it should within seconds, else see the subsystem `tunnels` of routerctl status"
                ),
            ),
            Lack::Key => (
                mesh(),
                format!(
                    "spec.encryption is {encryption:?}, and traffic to {nodes} {effect}: no WireGuard key is published there; see that routerd runs there and has WireGuard"
                ),
            ),
            Lack::OwnQuantum => (
                format!("Node/{own}"),
                format!(
                    "traffic to all other nodes {quantum_effect}: this node has published no encapsulation key; it should within seconds, else see its log"
                ),
            ),
            Lack::Quantum => (
                mesh(),
                format!(
                    "spec.postQuantum is {post_quantum:?}, and traffic to {nodes} {quantum_effect}: no encapsulation key is published there; see that routerd runs there and is of a version that has them"
                ),
            ),
            Lack::Family => (
                mesh(),
                format!(
                    "traffic to {nodes} is dropped: no tunnel without an underlay family in common; give both ends an IPv4, or both an IPv6 underlay address"
                ),
            ),
            Lack::Inside => (
                mesh(),
                format!(
                    "traffic to {nodes} is dropped: their underlay addresses lie in an IPPool, so that the tunnel would carry itself; give the hosts addresses outside of all pools"
                ),
            ),
        };
        problems.add(object, message);
    }
}
