//! What is said and heard by BGP: whom this node peers with, what it announces, what it takes.
//!
//! ```text
//!  BGPConfiguration, Node ─► settings (AS, ports, times) ──┐
//!  BGPPeer ─► selected: nodes × peers ─────────────────────┼─► peers, one an address ─► Bgp
//!  nodes and pools ─► mesh: all with all, where few ───────┘      ▲
//!  BGPFilter ─► filters ──────────────────────────────────────────┘
//!  own blocks ─► announce      others' blocks ─► guard
//! ```
//!
//! Both ends of a session between nodes work out the same of it, since each rule reads the same of both.

mod announce;
mod filters;
mod mesh;
mod selected;
mod settings;
mod unselected;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::Family;
use model::bgp::{Bgp, Neighbour};
use model::kernel::LinkName;

use crate::Inputs;
use crate::blocks::{Learns, Mesh};
use crate::peers::Peers;
use crate::pools::Pools;
use crate::problems::Problems;
use settings::Settings;
pub use unselected::Witnesses;

/// Most paths of a prefix that are used at once, as by Calico's speaker.
const MULTIPATH: u16 = 16;

/// Whom this node peers with, before it is known what it announces.
pub(crate) struct Sessions<'a> {
    settings: Settings<'a>,
    peers: BTreeMap<Arc<str>, Neighbour>,
    /// What an operator may want to know though nothing is wrong.
    pub(crate) advice: Vec<String>,
}

impl<'a> Sessions<'a> {
    pub(crate) fn decide(
        inputs: &Inputs<'a>,
        pools: &Pools<'_>,
        peers: &Peers<'a>,
        problems: &mut Problems<'_>,
    ) -> Sessions<'a> {
        let settings = Settings::new(inputs, pools, problems);
        let mut chosen = Chosen::default();
        let mut advice = Vec::new();
        if inputs.snapshot.lacks_bgp() {
            let message = "it may forbid what its defaults ask for, so nobody is peered with until it can be read: \
                           apply it anew, or delete it";
            problems.add("BGPConfiguration".to_owned(), message.to_owned());
        } else if peers.own.spec.is_some() {
            selected::decide(inputs, &settings, peers, &mut chosen, problems);
            mesh::decide(
                inputs,
                &settings,
                (pools, peers),
                &mut chosen,
                &mut advice,
                problems,
            );
        }
        Sessions {
            settings,
            peers: chosen.peers,
            advice,
        }
    }

    /// From whom routes are learnt.
    pub(crate) fn learns(&self) -> Learns {
        let mut peers = self.peers.values();
        match self.peers.is_empty() {
            true => Learns::Nothing,
            false if peers.any(|p| p.node.is_none()) => Learns::OfNetwork,
            false => Learns::OfNodes,
        }
    }

    /// The whole plan; none without a session.
    pub(crate) fn plan(
        self,
        inputs: &Inputs<'_>,
        pools: &Pools<'_>,
        mesh: &Mesh<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<Bgp> {
        if self.peers.is_empty() {
            return None;
        }
        let settings = &self.settings;
        Some(Bgp {
            asn: settings.own_as,
            router_id: router_id(inputs),
            cluster_id: settings.own_cluster.map(Ipv4Addr::to_bits),
            listen: Some(settings.port_of(inputs.node)),
            listen_addresses: settings.listen_addresses(inputs),
            multipath: MULTIPATH,
            announce: announce::decide(inputs, pools, settings, problems),
            guard: Arc::new(announce::guard(inputs, pools, mesh)),
            peers: self.peers,
        })
    }
}

/// The IPv4 underlay address, else a number from the node's name: all that matters is that no two are equal.
fn router_id(inputs: &Inputs<'_>) -> Ipv4Addr {
    let address = inputs.underlay.of(Family::V4).map(|l| l.address.ip);
    if let Some(IpAddr::V4(ip)) = address {
        return ip;
    }
    // FNV-1a.
    let hash = inputs.node.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // Neither 0.0.0.0 nor multicast, which some speakers refuse.
    Ipv4Addr::from_bits(hash & 0x7fff_ffff | 0x0100_0000)
}

/// The peers so far: of two with one address the first stays.
#[derive(Default)]
struct Chosen {
    peers: BTreeMap<Arc<str>, Neighbour>,
    taken: HashMap<(Option<IpAddr>, Option<LinkName>), Arc<str>>,
}

impl Chosen {
    /// Adds a peer of a `BGPPeer`.
    fn add(&mut self, name: String, peer: Neighbour, problems: &mut Problems<'_>) {
        let at = (peer.address, peer.interface);
        let Some(first) = self.taken.get(&at) else {
            let name: Arc<str> = name.into();
            self.taken.insert(at, name.clone());
            self.peers.insert(name, peer);
            return;
        };
        let standing = self.peers.get(first);
        let like = |other: &Neighbour| Neighbour {
            resource: None,
            ..other.clone()
        };
        if let Some(standing) = standing.filter(|s| like(s) != like(&peer)) {
            let who = match (peer.address, peer.interface) {
                (Some(ip), _) => ip.to_string(),
                (None, link) => link.map(|l| l.to_string()).unwrap_or_default(),
            };
            let (other, this) = (&standing.resource, &peer.resource);
            let message = format!(
                "{who} is also the peer of BGPPeer/{}, in another way, and that one is used: make them the same, or \
                 select other nodes",
                other.as_deref().unwrap_or_default()
            );
            let object = format!("BGPPeer/{}", this.as_deref().unwrap_or_default());
            problems.add(object, message);
        }
    }

    /// Adds a peer of the mesh, unless a `BGPPeer` has it already.
    fn add_mesh(&mut self, name: String, peer: Neighbour) {
        if let Entry::Vacant(free) = self.taken.entry((peer.address, peer.interface)) {
            let name: Arc<str> = name.into();
            free.insert(name.clone());
            self.peers.insert(name, peer);
        }
    }
}
