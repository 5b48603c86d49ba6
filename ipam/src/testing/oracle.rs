//! Watches a history and says when an invariant is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::block::{Block, Handle};
use model::keys;
use model::kv::KeyValue;

use crate::check::{Records, check};

/// What is certain about a container's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Certain {
    /// Nothing: a request is open, or one was lost.
    #[default]
    Nothing,
    /// It has these: an ADD was answered, nothing was asked to take them since.
    Owns(Vec<IpAddr>),
    /// It has none: a DEL was answered, no ADD was asked since.
    Free,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) containers: BTreeMap<String, Certain>,
    /// Every pair of the store, from the transactions that were carried out.
    pub(crate) pairs: BTreeMap<String, KeyValue>,
    /// Ranges of the pools in force.
    pub(crate) pools: BTreeMap<String, model::Cidr>,
    pub(crate) nodes: BTreeSet<String>,
}

impl Oracle {
    /// The invariants at the present revision.
    pub(crate) fn look(&self) -> Result<(), String> {
        let mut owner: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut by_handle: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut affine: BTreeMap<String, usize> = BTreeMap::new();
        let mut handles: BTreeMap<&str, Handle> = BTreeMap::new();
        for (key, kv) in &self.pairs {
            if key.starts_with(keys::BLOCKS) {
                let block: Block = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
                for (place, allocation) in &block.used {
                    let ip = block.cidr.nth(u128::from(*place)).ok_or("place outside")?;
                    if let Some(other) = owner.insert(ip, allocation.handle.clone()) {
                        let handle = &allocation.handle;
                        return Err(format!("1: {ip} belongs to {other} and {handle}"));
                    }
                    for id in [Some(&allocation.handle), allocation.holder.as_ref()] {
                        if let Some(id) = id {
                            by_handle.entry(id.clone()).or_default().insert(ip);
                        }
                    }
                }
            } else if let Some(id) = key.strip_prefix(keys::HANDLES) {
                let handle = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
                handles.insert(id, handle);
            } else if let Some(rest) = key.strip_prefix(keys::AFFINITY) {
                let (_, cidr) = rest.split_once('/').ok_or("affinity without prefix")?;
                *affine.entry(cidr.to_owned()).or_default() += 1;
            }
        }
        if let Some((cidr, _)) = affine.iter().find(|(_, nodes)| **nodes > 1) {
            return Err(format!("4: {cidr} is affine to two nodes"));
        }
        for (id, certain) in &self.containers {
            let stored = handles.get(id.as_str());
            match (certain, stored) {
                (Certain::Nothing, _) | (Certain::Free, None) => {}
                (Certain::Free, Some(_)) => return Err(format!("3: {id} was freed and stands")),
                (Certain::Owns(ips), Some(h)) if h.addresses == *ips => {
                    let held = by_handle.get(id);
                    if !ips
                        .iter()
                        .all(|ip| held.is_some_and(|held| held.contains(ip)))
                    {
                        return Err(format!("2: {id} owns {ips:?}, the blocks say {held:?}"));
                    }
                }
                (Certain::Owns(ips), other) => {
                    return Err(format!("2: {id} owns {ips:?}, the store says {other:?}"));
                }
            }
        }
        let free = self.containers.iter().filter(|(_, c)| **c == Certain::Free);
        for (id, _) in free {
            if let Some(ips) = by_handle.get(id) {
                return Err(format!("3: {id} was freed and still has {ips:?}"));
            }
        }
        // What an operator did to pools and nodes is no fault of the records.
        let excused = |kind: &str| matches!(kind, "BlockOutsidePools" | "UnknownNode");
        let problems = self.problems();
        match problems.iter().find(|p| !excused(&p.kind)) {
            Some(p) => Err(format!("5: {} {}: {}", p.kind, p.object, p.message)),
            None => Ok(()),
        }
    }

    /// Addresses in use on another node than their block's.
    pub(crate) fn borrowed(&self) -> u64 {
        let blocks = self
            .pairs
            .iter()
            .filter(|(k, _)| k.starts_with(keys::BLOCKS));
        let blocks = blocks.filter_map(|(_, kv)| serde_json::from_slice::<Block>(&kv.value).ok());
        blocks.map(|b| b.summary().borrowed.len() as u64).sum()
    }

    /// What `ipam check` says of the present revision.
    pub(crate) fn problems(&self) -> Vec<model::api::IpamProblem> {
        let mut records = Records::from_pairs(self.pairs.values());
        records.pools = self.pools.iter().map(|(n, c)| (n.clone(), *c)).collect();
        records.nodes.clone_from(&self.nodes);
        let prefix = keys::resources_of(model::Kind::WorkloadEndpoint);
        let endpoints = self.pairs.values().filter_map(|kv| {
            let name = kv.key.strip_prefix(&prefix)?;
            let ips: Vec<IpAddr> = serde_json::from_slice(&kv.value).ok()?;
            Some(ips.into_iter().map(move |ip| (name.to_owned(), ip)))
        });
        records.endpoints = Some(endpoints.flatten().collect());
        check(&records)
    }
}
