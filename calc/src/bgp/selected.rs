//! The peers that `BGPPeer`s ask for.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use model::bgp::{Bfd, Neighbour, NextHopMode, Ttl};
use model::resources::BgpPeerSpec;
use model::resources::bgp_peer::{self, PeerAddress, ReversePeering, SourceAddress};
use model::snapshot::Snapshot;
use model::{Family, Selector};

use super::Chosen;
use super::filters::{self, Both};
use super::mesh::{between_nodes, word};
use super::settings::{Settings, seconds};
use crate::Inputs;
use crate::peers::{Peer, Peers, Who};
use crate::problems::Problems;

/// Which nodes a `BGPPeer` is for.
pub(super) struct For<'a> {
    node: Option<&'a str>,
    selector: Option<Selector>,
}

impl<'a> For<'a> {
    pub(super) fn of(spec: &'a BgpPeerSpec) -> Result<For<'a>, model::selector::SelectorError> {
        let selector = spec.node_selector.as_deref().map(str::parse);
        Ok(For {
            node: spec.node.as_deref(),
            selector: selector.transpose()?,
        })
    }

    pub(super) fn has(&self, snapshot: &Snapshot, node: &str) -> bool {
        let named = self.node.is_none_or(|name| name == node);
        named
            && self
                .selector
                .as_ref()
                .is_none_or(|s| matches(snapshot, s, node))
    }
}

fn matches(snapshot: &Snapshot, selector: &Selector, node: &str) -> bool {
    let metadata = snapshot.node_metadata(node);
    metadata.is_some_and(|m| selector.matches(&m.labels))
}

/// The nodes that some `BGPPeer` is for.
pub(super) struct Selection<'a>(Vec<For<'a>>);

impl<'a> Selection<'a> {
    pub(super) fn of_nodes(inputs: &Inputs<'a>) -> Selection<'a> {
        let peers = inputs.snapshot.bgp_peers.values();
        Selection(peers.filter_map(|p| For::of(&p.spec).ok()).collect())
    }

    pub(super) fn has(&self, snapshot: &Snapshot, node: &str) -> bool {
        self.0.iter().any(|who| who.has(snapshot, node))
    }
}

pub(super) fn decide<'a>(
    inputs: &Inputs<'a>,
    settings: &Settings<'a>,
    peers: &Peers<'a>,
    chosen: &mut Chosen,
    problems: &mut Problems<'_>,
) {
    for (name, resource) in &inputs.snapshot.bgp_peers {
        let one = One {
            inputs,
            settings,
            peers,
            name,
            spec: &resource.spec,
            filters: Default::default(),
        };
        if let Err(why) = one.decide(chosen, problems) {
            problems.add(format!("BGPPeer/{name}"), why);
        }
    }
}

/// One `BGPPeer`, seen from this node.
struct One<'a, 'b> {
    inputs: &'b Inputs<'a>,
    settings: &'b Settings<'a>,
    peers: &'b Peers<'a>,
    name: &'b Arc<str>,
    spec: &'b BgpPeerSpec,
    /// Of peers in our AS, and of others: compiled once for all nodes that are peers.
    filters: [OnceCell<Result<Both, String>>; 2],
}

impl One<'_, '_> {
    /// Adds the peers. What keeps all of them from being one is an error, in words.
    fn decide(&self, chosen: &mut Chosen, problems: &mut Problems<'_>) -> Result<(), String> {
        let no_selector = |field: &str, e: &dyn std::fmt::Display| format!("{field}: {e}");
        let who = For::of(self.spec).map_err(|e| no_selector("spec.nodeSelector", &e))?;
        if let Some(node) = who
            .node
            .filter(|n| !self.inputs.snapshot.nodes.contains_key(*n))
        {
            return Err(format!(
                "it peers with nobody, since there is no Node/{node}: start routerd there, or write another spec.node"
            ));
        }
        let ours = who.has(self.inputs.snapshot, self.inputs.node);
        let Some(selector) = &self.spec.peer_selector else {
            if !ours {
                return Ok(());
            }
            let neighbour = match self.spec.peer_ip {
                Some(peer) if self.is_own(peer.ip) => return Ok(()),
                Some(peer) => self.at(peer),
                None => self.unnumbered(),
            };
            let neighbour = self.finish(neighbour)?;
            chosen.add(format!("BGPPeer/{}", self.name), neighbour, problems);
            return Ok(());
        };
        let selector: Selector = selector
            .parse()
            .map_err(|e| no_selector("spec.peerSelector", &e))?;
        let own_is_peer = matches(self.inputs.snapshot, &selector, self.inputs.node);
        let back =
            own_is_peer && self.spec.reverse_peering.unwrap_or_default() == ReversePeering::Auto;
        if !ours && !back {
            return Ok(());
        }
        let mut found = false;
        for peer in self.peers.iter() {
            let forth = ours && matches(self.inputs.snapshot, &selector, peer.name);
            found |= forth;
            let wanted = forth || back && who.has(self.inputs.snapshot, peer.name);
            let families = Family::ALL.into_iter().filter(|_| wanted);
            for family in families {
                let neighbour = between_nodes(self.inputs, self.settings, peer, family);
                if let Some(neighbour) = neighbour {
                    let name = format!("BGPPeer/{}/{}/{}", self.name, peer.name, word(family));
                    chosen.add(name, self.finish(neighbour)?, problems);
                }
            }
        }
        if ours && !found && !own_is_peer {
            return Err(format!(
                "spec.peerSelector {selector} selects no node: label the nodes that are to be peers, or delete it"
            ));
        }
        Ok(())
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        let link = self.inputs.underlay.of(Family::of(ip));
        link.is_some_and(|l| l.address.ip == ip)
    }

    /// The node whose underlay address this is.
    fn node_at(&self, ip: IpAddr) -> Option<&Peer<'_>> {
        let Who::Peer(index) = self.peers.who(self.peers.node_at(ip)?) else {
            return None;
        };
        let peer = self.peers.get(index)?;
        let address = peer.underlay(Family::of(ip))?;
        (address.ip == ip).then_some(peer)
    }

    fn at(&self, peer: PeerAddress) -> Neighbour {
        let family = Family::of(peer.ip);
        let interface = self.interface();
        let node = self.node_at(peer.ip).map(|p| p.name);
        let port = node.map(|node| self.settings.port_of(node));
        let link = self.inputs.underlay.of(family);
        let on_link = link.is_some_and(|l| l.address.subnet().contains(peer.ip));
        let plain = self.settings.neighbour(self.spec.as_number.map(|n| n.0));
        Neighbour {
            node: node.map(Arc::from),
            address: Some(peer.ip),
            interface,
            port: peer.port.or(port).unwrap_or(plain.port),
            source: link.map(|l| l.address.ip).filter(|_| interface.is_none()),
            families: match interface {
                Some(_) => Family::ALL.into(),
                None => [family].into(),
            },
            extended_next_hop: interface.is_some(),
            ttl: match interface.is_some() || on_link {
                true => Ttl::Direct,
                false => Ttl::Auto,
            },
            ..plain
        }
    }

    /// The router at the other end of a link.
    fn unnumbered(&self) -> Neighbour {
        Neighbour {
            interface: self.interface(),
            families: Family::ALL.into(),
            extended_next_hop: true,
            ttl: Ttl::Direct,
            ..self.settings.neighbour(self.spec.as_number.map(|n| n.0))
        }
    }

    fn interface(&self) -> Option<model::kernel::LinkName> {
        self.spec.peer_interface.as_deref()?.parse().ok()
    }

    /// Adds what the `BGPPeer` says of all its peers.
    fn finish(&self, mut peer: Neighbour) -> Result<Neighbour, String> {
        let spec = self.spec;
        peer.resource = Some(self.name.clone());
        if let Some(asn) = spec.local_as_number {
            peer.local_as = asn.0;
        }
        let internal = peer.asn == Some(peer.local_as);
        let theirs = peer
            .node
            .as_deref()
            .and_then(|n| self.settings.cluster_of(n));
        let ours = self.settings.own_cluster;
        // RFC 4456: reflectors of one cluster are no clients of each other.
        peer.client = internal && ours.is_some() && theirs != ours;
        peer.password = self.settings.password(spec.password.as_ref())?;
        peer.hold_time = self.settings.hold_time(spec.hold_time);
        if let Some(time) = spec.max_restart_time {
            peer.restart_time = seconds(time);
        }
        if spec.source_address == Some(SourceAddress::None) {
            peer.source = None;
        }
        if let Some(hops) = spec.ttl_security {
            peer.ttl = Ttl::Security(hops);
        }
        peer.bfd = spec.bfd.map(|bfd| Bfd {
            transmit_ms: bfd.transmit_interval_ms,
            receive_ms: bfd.receive_interval_ms,
            multiplier: bfd.multiplier,
        });
        peer.next_hop = match spec.next_hop_mode {
            Some(bgp_peer::NextHopMode::Own) => NextHopMode::Own,
            Some(bgp_peer::NextHopMode::Keep) => NextHopMode::Keep,
            None if spec.keep_original_next_hop => NextHopMode::Keep,
            Some(bgp_peer::NextHopMode::Auto) | None => NextHopMode::Auto,
        };
        peer.allowed_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
        peer.max_prefixes = spec.max_prefixes.unwrap_or(peer.max_prefixes);
        let (import, export) = self.filters(!internal)?;
        (peer.import, peer.export) = (import, Some(export));
        Ok(peer)
    }

    fn filters(&self, external: bool) -> Result<Both, String> {
        let [internal, others] = &self.filters;
        let cell = if external { others } else { internal };
        let compile = || {
            let out = &self.settings.out;
            filters::compile(self.inputs, &self.spec.filters, external, out)
        };
        cell.get_or_init(compile).clone()
    }
}
