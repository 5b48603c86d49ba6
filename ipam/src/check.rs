//! `routerctl ipam check`: whether the stored records agree with each other and with the rest.

mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::api::IpamProblem;
use model::block::Block;
use model::{Cidr, keys};

pub use records::Records;

use crate::blocks;

/// Everything that is wrong with the records, in a stable order.
pub fn check(records: &Records) -> Vec<IpamProblem> {
    let mut found = Found::default();
    for (key, why) in &records.unreadable {
        let mend = "repair it, or delete the key once nothing uses its addresses";
        found.add("Unreadable", key, format!("{why}: {mend}"));
    }
    found.blocks(records);
    found.affinities(records);
    let owners = found.allocations(records);
    found.identities(records, &owners);
    found.endpoints(records, &owners);
    found
        .0
        .sort_by(|a, b| (&a.kind, &a.object).cmp(&(&b.kind, &b.object)));
    found.0
}

#[derive(Default)]
struct Found(Vec<IpamProblem>);

impl Found {
    fn add(&mut self, kind: &str, object: impl std::fmt::Display, message: String) {
        self.0.push(IpamProblem {
            kind: kind.to_owned(),
            object: object.to_string(),
            message,
        });
    }

    /// Blocks against each other, the pools and the nodes.
    fn blocks(&mut self, records: &Records) {
        // Sorted with covering prefixes first: the widest so far is the only one that can overlap.
        let mut widest: Option<&Cidr> = None;
        for (cidr, block) in &records.blocks {
            if let Some(why) = blocks::fault(block, cidr) {
                self.add("Unreadable", keys::block(cidr), why);
            }
            match widest.filter(|w| w.covers(cidr)) {
                Some(other) => self.add(
                    "OverlappingBlocks",
                    cidr,
                    format!("overlaps block {other}: move the workloads of one and release it"),
                ),
                None => widest = Some(cidr),
            }
            if !records.pools.iter().any(|(_, pool)| pool.covers(cidr)) {
                let mend = "recreate its IPPool, or move its workloads: it goes when empty";
                self.add(
                    "BlockOutsidePools",
                    cidr,
                    format!("lies in no IPPool: {mend}"),
                );
            }
            if let Some(node) = block.node.as_ref().filter(|n| !records.nodes.contains(*n)) {
                self.add("UnknownNode", cidr, gone("is affine to", node));
            }
        }
    }

    /// Every owned block has its one affinity, and every affinity its block.
    fn affinities(&mut self, records: &Records) {
        let mut of_block: BTreeMap<&Cidr, Vec<&str>> = BTreeMap::new();
        for (node, cidr) in &records.affinities {
            of_block.entry(cidr).or_default().push(node);
        }
        for (cidr, nodes) in &of_block {
            let owner = records.blocks.get(cidr).and_then(|b| b.node.as_deref());
            if nodes.len() > 1 {
                let message = format!("is claimed by {}", nodes.join(" and "));
                self.add("TwoAffineNodes", cidr, message);
            }
            for node in nodes.iter().filter(|n| Some(**n) != owner) {
                let message = match records.blocks.get(cidr) {
                    None => "has no block: delete the key".to_owned(),
                    Some(_) => "does not agree with the block: delete the key".to_owned(),
                };
                self.add("AffinityWithoutBlock", keys::affinity(node, cidr), message);
            }
        }
        for (cidr, block) in &records.blocks {
            if let Some(node) = &block.node
                && !records.affinities.contains(&(node.clone(), *cidr))
            {
                let message = format!("has no affinity of Node/{node}");
                self.add("BlockWithoutAffinity", cidr, message);
            }
        }
    }

    /// Every address that is kept has its identity. Gives back who has which address.
    fn allocations<'a>(&mut self, records: &'a Records) -> BTreeMap<IpAddr, (&'a Block, u32)> {
        let mut owners: BTreeMap<IpAddr, (&Block, u32)> = BTreeMap::new();
        for block in records.blocks.values() {
            for (place, allocation) in &block.used {
                let Some(ip) = block.cidr.nth(u128::from(*place)) else {
                    continue;
                };
                if let Some((other, _)) = owners.insert(ip, (block, *place)) {
                    let message = format!("is handed out by {} and {}", other.cidr, block.cidr);
                    self.add("TwoOwners", ip, message);
                }
                let kept = allocation
                    .identity()
                    .map(|id| (id, records.identities.get(id)));
                if let Some((id, identity)) = kept
                    && !identity.is_some_and(|i| i.addresses.contains(&ip))
                {
                    let message = format!(
                        "its identity {id} does not hold it: `routerctl ipam release --ip {ip}` once nothing uses it"
                    );
                    self.add("LeakedAddress", ip, message);
                }
                if let Some(node) = allocation
                    .node
                    .as_ref()
                    .filter(|n| !records.nodes.contains(*n))
                {
                    self.add("UnknownNode", ip, gone("is used on", node));
                }
            }
        }
        owners
    }

    /// Every address of an identity is kept for it, and for it alone.
    fn identities(&mut self, records: &Records, owners: &BTreeMap<IpAddr, (&Block, u32)>) {
        let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for (id, identity) in &records.identities {
            let key = keys::identity(id);
            let mend = format!("`routerctl ipam release --handle {id}`");
            if identity.addresses.is_empty() {
                self.add("EmptyIdentity", &key, format!("holds nothing: {mend}"));
            }
            for (i, ip) in identity.addresses.iter().enumerate() {
                let held = owners.get(ip);
                let allocation = held.and_then(|(block, place)| block.used.get(place));
                if allocation.is_none_or(|a| a.identity() != Some(id)) {
                    let message = format!("{ip} is not kept for it: {mend}");
                    self.add("IdentityWithoutAddress", &key, message);
                } else if held.map(|(block, _)| &block.cidr) != identity.blocks.get(i) {
                    let message = format!("{ip} lies in another block than it says: {mend}");
                    self.add("WrongBlock", &key, message);
                }
                if let Some(other) = seen.insert(*ip, id) {
                    let message = format!("is held by {other} and {id}");
                    self.add("TwoOwners", ip, message);
                }
            }
        }
    }

    /// Every endpoint's address in a pool is handed out, and every workload's address has its endpoint.
    fn endpoints(&mut self, records: &Records, owners: &BTreeMap<IpAddr, (&Block, u32)>) {
        let Some(endpoints) = &records.endpoints else {
            return;
        };
        let mut with_endpoint: BTreeSet<IpAddr> = BTreeSet::new();
        for (name, ip) in endpoints {
            let ours = records.pools.iter().any(|(_, pool)| pool.contains(*ip));
            if !with_endpoint.insert(*ip) {
                let message = format!("another endpoint has {ip} too");
                self.add("TwoOwners", format!("WorkloadEndpoint/{name}"), message);
            }
            if ours && !owners.contains_key(ip) {
                let message = format!("{ip} lies in an IPPool but is not handed out");
                self.add(
                    "EndpointWithoutAddress",
                    format!("WorkloadEndpoint/{name}"),
                    message,
                );
            }
        }
        for (ip, (block, place)) in owners {
            let allocation = block.used.get(place).filter(|a| a.workload.is_some());
            let Some(live) = allocation.and_then(|a| a.live()) else {
                continue;
            };
            if !with_endpoint.contains(ip) {
                let message = format!(
                    "handle {live} has no WorkloadEndpoint: `routerctl ipam release --handle {live}` once nothing uses it"
                );
                self.add("AddressWithoutEndpoint", ip, message);
            }
        }
    }
}

fn gone(what: &str, node: &str) -> String {
    format!(
        "{what} Node/{node}, which does not exist: `routerctl ipam release --node {node}` if it will not return"
    )
}
