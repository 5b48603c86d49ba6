//! Watches a history and says when an invariant is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::block::Block;
use model::kv::KeyValue;
use model::{Cidr, keys};

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
    /// The same, decoded.
    pub(crate) records: Records,
    endpoints: BTreeMap<String, Vec<IpAddr>>,
}

impl Oracle {
    /// A pair was written or deleted.
    pub(crate) fn learn(&mut self, key: &str, value: Option<&Vec<u8>>) -> Result<(), String> {
        let wrong = |e: serde_json::Error| format!("5: {key}: {e}");
        let records = &mut self.records;
        if let Some(cidr) = keys::parse_block(key) {
            match value {
                Some(value) => {
                    let block = serde_json::from_slice(value).map_err(wrong)?;
                    records.blocks.insert(cidr, block);
                }
                None => {
                    records.blocks.remove(&cidr);
                }
            }
        } else if let Some(id) = key.strip_prefix(keys::IDENTITIES) {
            match value {
                Some(value) => {
                    let identity = serde_json::from_slice(value).map_err(wrong)?;
                    records.identities.insert(id.to_owned(), identity);
                }
                None => {
                    records.identities.remove(id);
                }
            }
        } else if let Some(rest) = key.strip_prefix(keys::AFFINITY) {
            let (node, cidr) = rest.split_once('/').ok_or("affinity without prefix")?;
            let affinity = (node.to_owned(), cidr.parse().map_err(|e| format!("{e}"))?);
            match value {
                Some(_) => records.affinities.insert(affinity),
                None => records.affinities.remove(&affinity),
            };
        } else if let Some(name) =
            key.strip_prefix(&keys::resources_of(model::Kind::WorkloadEndpoint))
        {
            match value {
                Some(value) => {
                    let ips = serde_json::from_slice(value).map_err(wrong)?;
                    self.endpoints.insert(name.to_owned(), ips);
                }
                None => {
                    self.endpoints.remove(name);
                }
            }
            let all = self.endpoints.iter();
            let all = all.flat_map(|(n, ips)| ips.iter().map(|ip| (n.clone(), *ip)));
            records.endpoints = Some(all.collect());
        }
        Ok(())
    }

    /// Invariants 1, 4 and 5 at the present revision, the first two by means of its own, then
    /// [`Oracle::certain`].
    pub(crate) fn look(&self) -> Result<(), String> {
        let mut affine: BTreeMap<Cidr, &str> = BTreeMap::new();
        for (node, cidr) in &self.records.affinities {
            if let Some(other) = affine.insert(*cidr, node) {
                return Err(format!("4: {cidr} is affine to {other} and {node}"));
            }
        }
        self.certain()?;
        // What an operator did to pools and nodes is no fault of the records.
        let excused = |kind: &str| matches!(kind, "BlockOutsidePools" | "UnknownNode");
        match self.problems().iter().find(|p| !excused(&p.kind)) {
            Some(p) => Err(format!("5: {} {}: {}", p.kind, p.object, p.message)),
            None => Ok(()),
        }
    }

    /// Invariants 2 and 3 at the present revision, and 1 again.
    pub(crate) fn certain(&self) -> Result<(), String> {
        let mut owner: BTreeMap<IpAddr, &str> = BTreeMap::new();
        let mut by_handle: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
        for block in self.records.blocks.values() {
            for (place, allocation) in &block.used {
                let ip = block.cidr.nth(u128::from(*place)).ok_or("place outside")?;
                if let Some(other) = owner.insert(ip, &allocation.handle) {
                    let handle = &allocation.handle;
                    return Err(format!("1: {ip} belongs to {other} and {handle}"));
                }
                let ids = [Some(&allocation.handle), allocation.holder.as_ref()];
                for id in ids.into_iter().flatten() {
                    by_handle.entry(id).or_default().insert(ip);
                }
            }
        }
        for (id, certain) in &self.containers {
            match (certain, by_handle.get(id.as_str())) {
                (Certain::Nothing, _) | (Certain::Free, None) => {}
                (Certain::Free, Some(held)) => {
                    return Err(format!("3: {id} was freed, and holds {held:?}"));
                }
                (Certain::Owns(ips), held) => {
                    let owned: BTreeSet<IpAddr> = ips.iter().copied().collect();
                    if held != Some(&owned) {
                        return Err(format!("2: {id} owns {ips:?}, the blocks say {held:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a handle holds addresses at the present revision.
    pub(crate) fn blocks_of(&self, handle: &str) -> Vec<Cidr> {
        let its = |b: &&Block| b.used.values().any(|a| a.live() == Some(handle));
        let blocks = self.records.blocks.values().filter(its);
        blocks.map(|b| b.cidr).collect()
    }

    /// Addresses in use on another node than their block's.
    pub(crate) fn borrowed(&self) -> u64 {
        let blocks = self.records.blocks.values();
        blocks.map(|b| b.summary().borrowed.len() as u64).sum()
    }

    /// What `ipam check` says of the present revision.
    pub(crate) fn problems(&self) -> Vec<model::api::IpamProblem> {
        check(&self.records)
    }
}
