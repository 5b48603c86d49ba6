//! Who the two ends are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::api::{AddressShow, AddressState, ExplainEnd};
use model::block::BlockSummary;
use model::snapshot::{EndpointKey, Snapshot};
use model::{Cidr, Family};

use super::error::ExplainError;
use super::{Question, kind};
use crate::Inputs;
use crate::policy::{PartyId, World};
use crate::pools::Pools;

/// The addresses that both speak by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Of the source.
    pub source: IpAddr,
    /// Of the destination; of the same family.
    pub destination: IpAddr,
}

impl Ends {
    /// Finds out whom a question is about.
    ///
    /// # Errors
    /// Nobody, several, or who cannot exchange packets.
    pub fn find(inputs: &Inputs<'_>, question: &Question) -> Result<Ends, ExplainError> {
        let sources = addresses(inputs, &question.source)?;
        let destinations = addresses(inputs, &question.destination)?;
        let pairs = (destinations.iter()).flat_map(|d| sources.iter().map(move |s| (*s, *d)));
        let mut pairs = pairs.filter(|(s, d)| Family::of(*s) == Family::of(*d));
        let (source, destination) = pairs.next().ok_or_else(|| ExplainError::Versions {
            source_end: question.source.clone(),
            destination_end: question.destination.clone(),
        })?;
        match source == destination {
            true => Err(ExplainError::Itself(source)),
            false => Ok(Ends {
                source,
                destination,
            }),
        }
    }
}

impl Ends {
    /// The ends that nobody is known to have though they are of the mesh, with the blocks that have them: what the
    /// records of addresses say of them is worth knowing.
    pub fn unassigned(&self, inputs: &Inputs<'_>) -> Vec<(IpAddr, Option<Cidr>)> {
        let ends = [self.source, self.destination].map(|ip| End::at(inputs, ip));
        let ends = ends.into_iter().filter(|e| e.who == Who::Nobody);
        ends.map(|e| (e.ip, e.block.map(|(cidr, _)| cidr)))
            .collect()
    }
}

/// The addresses of whom a text names, IPv4 first.
fn addresses(inputs: &Inputs<'_>, text: &str) -> Result<Vec<IpAddr>, ExplainError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        return match ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast {
            true => Err(ExplainError::NotUnicast(ip)),
            false => Ok(vec![ip]),
        };
    }
    let mut found = named(inputs, text);
    match found.len() {
        0 => return Err(ExplainError::Unknown(text.to_owned())),
        1 => {}
        _ => {
            return Err(ExplainError::Ambiguous {
                name: text.to_owned(),
                candidates: found.into_keys().collect(),
            });
        }
    }
    let (who, mut ips) = found.pop_first().unwrap_or_default();
    ips.sort();
    match ips.is_empty() {
        true => Err(ExplainError::NoAddress(who)),
        false => Ok(ips),
    }
}

/// Everybody with a name, and their addresses.
fn named(inputs: &Inputs<'_>, text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let snapshot = inputs.snapshot;
    let is_meant = |key: &EndpointKey, called: &str| {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let is_there = namespace.is_none_or(|n| n == &*key.namespace);
        is_there && (name == &*key.name || name == called)
    };
    let mut found = BTreeMap::new();
    for (key, r) in &snapshot.local_endpoints {
        if is_meant(key, r.spec.called()) {
            let ips = r.spec.ip_networks.iter().map(Cidr::network).collect();
            found.insert(candidate(key, r.spec.called()), ips);
        }
    }
    for (key, remote) in &snapshot.remote_endpoints {
        if is_meant(key, &remote.workload) {
            let ips = remote.ips.to_vec();
            found.insert(candidate(key, &remote.workload), ips);
        }
    }
    if text.contains('/') {
        return found;
    }
    let is_node = snapshot.nodes.contains_key(text) || text == inputs.node;
    if is_node {
        let ips = Family::ALL.into_iter();
        let ips = ips.filter_map(|f| underlay(inputs, text, f)).collect();
        found.insert(format!("node {text}"), ips);
    }
    if let Some(host) = snapshot.host_endpoints.get(text) {
        // Of a node of the same name it is only another word.
        let is_same = is_node && host.spec.node == text;
        if !is_same {
            let ips = host.spec.expected_ips.clone();
            found.insert(format!("host endpoint {text}"), ips);
        }
    }
    found
}

/// A workload as people know it, told from others that are called the same.
fn candidate(key: &EndpointKey, called: &str) -> String {
    let EndpointKey { namespace, name } = key;
    match called {
        "" => format!("workload {namespace}/{name}"),
        called if called == &**name => format!("workload {namespace}/{name}"),
        called => format!("workload {namespace}/{called} (WorkloadEndpoint {namespace}/{name})"),
    }
}

/// The address that a node is reached by.
pub(super) fn underlay(inputs: &Inputs<'_>, node: &str, family: Family) -> Option<IpAddr> {
    if node == inputs.node
        && let Some(link) = inputs.underlay.of(family)
    {
        return Some(link.address.ip);
    }
    let spec = &inputs.snapshot.nodes.get(node)?.spec;
    Some(spec.underlay(family)?.ip)
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who<'a> {
    /// A workload.
    Workload {
        namespace: &'a str,
        /// What people call it.
        called: &'a str,
        /// Name of its endpoint.
        name: &'a str,
        node: &'a str,
    },
    /// A node, by its address in the underlay or in a tunnel.
    Node { name: &'a str, of_tunnel: bool },
    /// A host endpoint of no node.
    Host { name: &'a str },
    /// Nobody, of a pool or a block.
    Nobody,
    /// Nobody that is known.
    Outside,
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) ip: IpAddr,
    pub(super) who: Who<'a>,
    pub(super) block: Option<(Cidr, &'a BlockSummary)>,
}

impl<'a> End<'a> {
    /// Who has this address.
    pub(super) fn at(inputs: &Inputs<'a>, ip: IpAddr) -> End<'a> {
        let snapshot = inputs.snapshot;
        let before = snapshot.blocks.range(..=Cidr::host(ip)).next_back();
        let block = before.filter(|(cidr, _)| cidr.contains(ip));
        let block = block.map(|(cidr, summary)| (*cidr, summary));
        let is_ours = block.is_some() || pool(snapshot, ip).is_some();
        let who = workload(inputs, ip)
            .or_else(|| node(inputs, ip))
            .or_else(|| host(inputs, ip))
            .unwrap_or(if is_ours { Who::Nobody } else { Who::Outside });
        End { ip, who, block }
    }

    /// The node that it is on, or is.
    pub(super) fn node(&self) -> Option<&'a str> {
        match self.who {
            Who::Workload { node, .. } => Some(node),
            Who::Node { name, .. } => Some(name),
            Who::Host { .. } | Who::Nobody | Who::Outside => None,
        }
    }

    pub(super) fn is_host(&self) -> bool {
        matches!(self.who, Who::Node { .. })
    }

    /// The node that the address records lead to.
    pub(super) fn home(&self) -> Option<&'a str> {
        let (_, block) = self.block?;
        let borrowed = block.borrowed.iter().find(|(ip, _)| *ip == self.ip);
        let borrowed = borrowed.map(|(_, node)| &**node);
        borrowed.or(block.node.as_deref())
    }

    /// Its interface, of a workload of this node.
    pub(super) fn local_interface(&self, inputs: &Inputs<'a>) -> Option<&'a str> {
        let Who::Workload { .. } = self.who else {
            return None;
        };
        let mut local = inputs.snapshot.local_endpoints.values();
        let own = Cidr::host(self.ip);
        let found = local.find(|r| r.spec.ip_networks.contains(&own))?;
        Some(&found.spec.interface_name)
    }

    /// In a few words.
    pub(super) fn text(&self) -> String {
        match self.who {
            Who::Workload {
                namespace,
                called,
                node,
                ..
            } => format!("workload {namespace}/{called} on node {node}"),
            Who::Node {
                name,
                of_tunnel: false,
            } => format!("node {name}"),
            Who::Node { name, .. } => format!("node {name}, by its address in the tunnel"),
            Who::Host { name } => format!("host endpoint {name}"),
            Who::Nobody => "nobody, though of a pool".to_owned(),
            Who::Outside => "outside of the mesh".to_owned(),
        }
    }

    /// Why nobody has the address, from what the records say of it.
    pub(super) fn nobody(&self, inputs: &Inputs<'_>, records: &[AddressShow]) -> String {
        let ip = self.ip;
        let record = records.iter().find(|r| r.ip == ip);
        let state = match record {
            Some(r) if r.state == AddressState::Used && r.name.is_empty() => {
                format!(
                    "{ip} is handed out (handle {}), but no workload has it",
                    r.handle
                )
            }
            Some(r) if r.state == AddressState::Used => format!(
                "{ip} is handed out to {}/{} on node {}, which has no WorkloadEndpoint: its ADD is under way or has failed",
                r.namespace, r.name, r.node
            ),
            Some(r) if r.state == AddressState::Cooldown => {
                format!("no workload has {ip}: it was freed lately and rests")
            }
            Some(r) if r.state == AddressState::Reserved => {
                format!("no workload has {ip}: an IPReservation keeps it")
            }
            _ => format!("no workload has {ip}"),
        };
        let place = match (self.block, pool(inputs.snapshot, ip)) {
            (Some((cidr, block)), _) => match &block.node {
                Some(node) => format!("block {cidr} belongs to node {node}"),
                None => format!("block {cidr} belongs to no node any more"),
            },
            (None, Some(pool)) => format!("no block of pool {pool} has it"),
            (None, None) => return state,
        };
        format!("{state}; {place}")
    }

    /// For people and scripts.
    pub(super) fn shown(
        &self,
        inputs: &Inputs<'_>,
        world: &World<'_>,
        records: &[AddressShow],
    ) -> ExplainEnd {
        let (namespace, name) = match self.who {
            Who::Workload {
                namespace, called, ..
            } => (namespace, called),
            Who::Node { name, .. } | Who::Host { name } => ("", name),
            Who::Nobody | Who::Outside => ("", ""),
        };
        let party = match self.who {
            Who::Workload {
                namespace, name, ..
            } => world.workload(namespace, name),
            _ => world.hosts_at(self.ip).next(),
        };
        let sets = world.sets_at(self.ip).map(|set| match set.id {
            PartyId::Set(Some(namespace), name) => format!("{namespace}/{name}"),
            PartyId::Set(None, name) | PartyId::Host(name) | PartyId::Workload(_, name) => {
                name.to_owned()
            }
        });
        let text = match self.who {
            Who::Nobody => self.nobody(inputs, records),
            _ => self.text(),
        };
        ExplainEnd {
            ip: self.ip,
            kind: kind(&self.who),
            node: self.node().unwrap_or_default().to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            endpoint: match self.who {
                Who::Workload { name, .. } => name.to_owned(),
                _ => String::new(),
            },
            labels: party.map(|p| p.labels().clone()).unwrap_or_default(),
            sets: sets.collect(),
            pool: pool(inputs.snapshot, self.ip).map(str::to_owned),
            block: self.block.map(|(cidr, _)| cidr),
            block_node: (self.block).and_then(|(_, b)| Some(b.node.as_deref()?.to_owned())),
            text,
        }
    }
}

/// The pool that an address is of.
pub(super) fn pool(snapshot: &Snapshot, ip: IpAddr) -> Option<&str> {
    let pools = Pools::new(snapshot);
    pools.of(&Cidr::host(ip)).map(|p| p.name)
}

fn workload<'a>(inputs: &Inputs<'a>, ip: IpAddr) -> Option<Who<'a>> {
    let own = Cidr::host(ip);
    let mut local = inputs.snapshot.local_endpoints.iter();
    if let Some((key, r)) = local.find(|(_, r)| r.spec.ip_networks.contains(&own)) {
        return Some(Who::Workload {
            namespace: &key.namespace,
            called: or(r.spec.called(), &key.name),
            name: &key.name,
            node: inputs.node,
        });
    }
    let mut remote = inputs.snapshot.remote_endpoints.iter();
    let (key, remote) = remote.find(|(_, r)| r.ips.contains(&ip))?;
    Some(Who::Workload {
        namespace: &key.namespace,
        called: or(&remote.workload, &key.name),
        name: &key.name,
        node: &remote.node,
    })
}

fn or<'a>(called: &'a str, name: &'a str) -> &'a str {
    if called.is_empty() { name } else { called }
}

fn node<'a>(inputs: &Inputs<'a>, ip: IpAddr) -> Option<Who<'a>> {
    let is_own = |f: Family| (inputs.underlay.of(f)).is_some_and(|l| l.address.ip == ip);
    if Family::ALL.into_iter().any(is_own) {
        return Some(Who::Node {
            name: inputs.node,
            of_tunnel: false,
        });
    }
    let mut nodes = inputs.snapshot.nodes.iter();
    nodes.find_map(|(name, r)| {
        let has = |address: Option<IpAddr>| address == Some(ip);
        let family = Family::of(ip);
        let of_tunnel = has(r.spec.tunnel_addr(family));
        let is_its = of_tunnel || has(r.spec.underlay(family).map(|a| a.ip));
        is_its.then_some(Who::Node { name, of_tunnel })
    })
}

fn host<'a>(inputs: &Inputs<'a>, ip: IpAddr) -> Option<Who<'a>> {
    let mut hosts = inputs.snapshot.host_endpoints.iter();
    let (name, r) = hosts.find(|(_, r)| r.spec.expected_ips.contains(&ip))?;
    let node = inputs.snapshot.nodes.keys().find(|n| ***n == r.spec.node);
    Some(match node {
        Some(name) => Who::Node {
            name,
            of_tunnel: false,
        },
        None => Who::Host { name },
    })
}
