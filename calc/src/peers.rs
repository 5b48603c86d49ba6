//! The other nodes, and who may not be one: two nodes with one address or MAC cannot both be reached.

use std::collections::HashMap;
use std::net::IpAddr;

use model::Family;
use model::kernel::Mac;
use model::resources::NodeSpec;
use model::resources::node::InterfaceAddress;
use model::state::UnderlayLink;

use crate::Inputs;
use crate::problems::Problems;

/// This node, as far as reaching others goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    /// What it has published; `None` before its first publication.
    pub(crate) spec: Option<&'a NodeSpec>,
    underlay: &'a model::state::Underlay,
}

impl<'a> Own<'a> {
    /// The link that reaches the others over a family.
    pub(crate) fn underlay(&self, family: Family) -> Option<&'a UnderlayLink> {
        self.underlay.of(family)
    }

    /// Link and MAC of the VXLAN device over a family.
    pub(crate) fn vtep(&self, over: Family) -> Option<(&'a UnderlayLink, Mac)> {
        self.underlay(over).zip(self.spec?.vtep_mac(over))
    }
}

/// Another node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a NodeSpec,
    on_link: [bool; 2],
}

impl<'a> Peer<'a> {
    fn new(name: &'a str, spec: &'a NodeSpec, own: &Own<'_>) -> Peer<'a> {
        let mut this = Peer {
            name,
            spec,
            on_link: [false; 2],
        };
        this.on_link = Family::ALL.map(|f| this.is_on_link(own, f).unwrap_or(false));
        this
    }

    /// Both ends must say so: a prefix length set wrong on one would make a one-way path.
    fn is_on_link(&self, own: &Own<'_>, family: Family) -> Option<bool> {
        let mine = own.underlay(family)?.address;
        let theirs = self.underlay(family)?;
        Some(mine.subnet().contains(theirs.ip) && theirs.subnet().contains(mine.ip))
    }

    /// Its underlay address of a family, if it is in a subnet of ours.
    pub(crate) fn on_link(&self, family: Family) -> Option<IpAddr> {
        let [v4, v6] = self.on_link;
        let is = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        is.then(|| self.underlay(family).map(|a| a.ip))?
    }

    /// Its underlay address of a family.
    pub(crate) fn underlay(&self, family: Family) -> Option<InterfaceAddress> {
        self.spec
            .underlay(family)
            .filter(|a| Family::of(a.ip) == family)
    }
}

/// This node and all others, free of collisions.
pub(crate) struct Peers<'a> {
    pub(crate) own: Own<'a>,
    peers: Vec<Peer<'a>>,
    by_name: HashMap<&'a str, Who>,
    ids: Ids<'a>,
}

/// What a node name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// This node.
    Own,
    /// A peer, by its place among the peers.
    Peer(usize),
    /// A node left out for a collision; that is reported already.
    LeftOut,
    /// No node.
    Unknown,
}

impl<'a> Peers<'a> {
    pub(crate) fn new(inputs: &Inputs<'a>, problems: &mut Problems<'a>) -> Peers<'a> {
        let nodes = &inputs.snapshot.nodes;
        let own = Own {
            name: inputs.node,
            spec: nodes.get(inputs.node).map(|r| &r.spec),
            underlay: inputs.underlay,
        };
        let mut this = Peers {
            own,
            peers: Vec::with_capacity(nodes.len()),
            by_name: HashMap::with_capacity(nodes.len() + 1),
            ids: Ids::with_capacity(nodes.len()),
        };
        this.by_name.insert(own.name, Who::Own);
        // Whoever else has an address of ours, it is still ours.
        this.ids.claim(own.name, own_addresses(own), macs(own.spec));
        for (name, node) in nodes.iter().filter(|(name, _)| ***name != *own.name) {
            let peer = Peer::new(name, &node.spec, &own);
            let who = match this.ids.taken(addresses(peer), macs(Some(peer.spec))) {
                None => {
                    this.ids.claim(name, addresses(peer), macs(Some(peer.spec)));
                    this.peers.push(peer);
                    Who::Peer(this.peers.len() - 1)
                }
                Some((what, by)) => {
                    problems.add(
                        format!("Node/{name}"),
                        format!(
                            "{what} is also that of Node/{by}; Node/{name} is left out: give each node its own"
                        ),
                    );
                    Who::LeftOut
                }
            };
            this.by_name.insert(name, who);
        }
        this
    }

    pub(crate) fn who(&self, name: &str) -> Who {
        self.by_name.get(name).copied().unwrap_or(Who::Unknown)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Peer<'a>> {
        self.peers.get(index)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Peer<'a>> {
        self.peers.iter()
    }

    /// The node that has this underlay or tunnel address.
    pub(crate) fn node_at(&self, ip: IpAddr) -> Option<&'a str> {
        self.ids.addresses.get(&bits(ip)).copied()
    }
}

/// Whose addresses and MACs are whose. Keyed by bits, which hash in one step.
struct Ids<'a> {
    addresses: HashMap<u128, &'a str>,
    /// By device: a MAC on the other device is no collision.
    macs: HashMap<(Family, u64), &'a str>,
}

/// An address as a number, IPv4 as its IPv4-mapped form.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn mac_bits((over, mac): (Family, Mac)) -> (Family, u64) {
    let [a, b, c, d, e, f] = mac.0;
    (over, u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

impl<'a> Ids<'a> {
    fn with_capacity(nodes: usize) -> Ids<'a> {
        Ids {
            addresses: HashMap::with_capacity(4 * nodes),
            macs: HashMap::with_capacity(2 * nodes),
        }
    }

    fn claim(
        &mut self,
        name: &'a str,
        addresses: impl Iterator<Item = IpAddr>,
        macs: impl Iterator<Item = (Family, Mac)>,
    ) {
        self.addresses.extend(addresses.map(|a| (bits(a), name)));
        self.macs.extend(macs.map(|m| (mac_bits(m), name)));
    }

    /// What is taken already, and by whom.
    fn taken(
        &self,
        mut addresses: impl Iterator<Item = IpAddr>,
        mut macs: impl Iterator<Item = (Family, Mac)>,
    ) -> Option<(String, &'a str)> {
        let address = addresses.find_map(|a| {
            let by = self.addresses.get(&bits(a))?;
            Some((format!("address {a}"), *by))
        });
        address.or_else(|| {
            macs.find_map(|m| {
                let by = self.macs.get(&mac_bits(m))?;
                Some((format!("VXLAN MAC address {}", m.1), *by))
            })
        })
    }
}

fn own_addresses(own: Own<'_>) -> impl Iterator<Item = IpAddr> {
    let underlay = move |f| own.underlay(f).map(|l| l.address.ip);
    let tunnel = move |f| own.spec.and_then(|s| s.tunnel_addr(f));
    Family::ALL
        .into_iter()
        .flat_map(move |f| [underlay(f), tunnel(f)])
        .flatten()
}

fn addresses(peer: Peer<'_>) -> impl Iterator<Item = IpAddr> {
    Family::ALL
        .into_iter()
        .flat_map(move |f| [peer.underlay(f).map(|a| a.ip), peer.spec.tunnel_addr(f)])
        .flatten()
}

fn macs(spec: Option<&NodeSpec>) -> impl Iterator<Item = (Family, Mac)> {
    Family::ALL
        .into_iter()
        .filter_map(move |f| Some((f, spec?.vtep_mac(f)?)))
}
