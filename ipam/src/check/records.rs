//! The records that a check compares, as read from the store at one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::block::{Allocation, Block, Identity};
use model::kv::KeyValue;
use model::{Cidr, keys};

/// All of one revision.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Blocks by their key.
    pub blocks: BTreeMap<Cidr, Block>,
    /// Identities by id.
    pub identities: BTreeMap<String, Identity>,
    /// Node and block of each affinity.
    pub affinities: BTreeSet<(String, Cidr)>,
    /// Names and ranges of the pools.
    pub pools: Vec<(String, Cidr)>,
    /// Names of the nodes.
    pub nodes: BTreeSet<String>,
    /// Namespace/name and each address of the endpoints; `None` leaves them out of the check.
    pub endpoints: Option<Vec<(String, IpAddr)>>,
    /// Keys whose values do not decode, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Records {
    /// Sorts in what stands under `ipam/`. Pools, nodes and endpoints are the caller's to add.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = &'a KeyValue>) -> Records {
        let mut records = Records::default();
        for kv in pairs {
            if let Err(why) = records.add(&kv.key, &kv.value) {
                records.unreadable.push((kv.key.clone(), why));
            }
        }
        records
    }

    /// Every address that is handed out or kept.
    pub fn allocations(&self) -> impl Iterator<Item = (IpAddr, &Allocation)> {
        self.blocks.values().flat_map(|block| {
            let used = block.used.iter();
            used.filter_map(|(place, a)| Some((block.cidr.nth(u128::from(*place))?, a)))
        })
    }

    /// Where a handle or an identity has addresses.
    pub fn blocks_of(&self, handle: &str) -> Vec<Cidr> {
        let its = |a: &Allocation| a.live() == Some(handle) || a.identity() == Some(handle);
        let blocks = self.blocks.values();
        let blocks = blocks.filter(|b| b.used.values().any(its));
        blocks.map(|b| b.cidr).collect()
    }

    fn add(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        if key.starts_with(keys::BLOCKS) {
            let cidr = keys::parse_block(key).ok_or("the key names no prefix")?;
            let block = Block::decode(value).map_err(|e| e.to_string())?;
            self.blocks.insert(cidr, block);
        } else if let Some(id) = key.strip_prefix(keys::IDENTITIES) {
            let identity = Identity::decode(value).map_err(|e| e.to_string())?;
            self.identities.insert(id.to_owned(), identity);
        } else if let Some(rest) = key.strip_prefix(keys::AFFINITY) {
            let (node, cidr) = rest.split_once('/').ok_or("the key names no prefix")?;
            let cidr = cidr.parse().map_err(|e| format!("{e}"))?;
            self.affinities.insert((node.to_owned(), cidr));
        }
        Ok(())
    }
}
