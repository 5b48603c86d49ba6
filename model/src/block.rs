//! The IPAM records that the store keeps: blocks and identities. The `ipam` crate owns their rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// Version of the stored form.
pub const FORMAT: u32 = 1;

/// A block: a slice of a pool, the node it is affine to, and every address in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// [`FORMAT`].
    pub version: u32,
    /// The slice.
    pub cidr: Cidr,
    /// Node whose workloads it is for; `None` once released with addresses still borrowed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who has what, by place in the block.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<u32, Allocation>,
    /// Freed addresses that rest: place to the time of release, milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cooldown: BTreeMap<u32, u64>,
    /// When the block last became empty, milliseconds since the epoch; it goes back after a grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<u64>,
}

/// One address handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// The handle that holds it.
    pub handle: String,
    /// Node that uses it; differs from the block's when borrowed. `None` while the address is kept
    /// for an identity that no live workload has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Handle of the live workload, where `handle` is an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The workload as `namespace/name`; `None` for a tunnel's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

impl Allocation {
    /// Handle of the workload that uses the address now.
    pub fn live(&self) -> Option<&str> {
        self.node.as_ref()?;
        Some(self.holder.as_ref().unwrap_or(&self.handle))
    }

    /// The identity that keeps the address when its workload goes.
    pub fn identity(&self) -> Option<&str> {
        (self.holder.is_some() || self.node.is_none()).then_some(&*self.handle)
    }

    /// Namespace and name of the workload.
    pub fn workload(&self) -> Option<(&str, &str)> {
        self.workload.as_deref()?.split_once('/')
    }
}

/// An identity: addresses that are kept across workloads. Where they are used now is told by the
/// blocks alone, as for every other address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// [`FORMAT`].
    pub version: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The blocks that the addresses lie in, in the order of the addresses.
    pub blocks: Vec<Cidr>,
}

/// Why a stored block or identity cannot be used. Never retryable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// No JSON of this shape.
    #[error("is no readable record: {0}")]
    Syntax(String),
    /// Written by a newer version.
    #[error("has format {0}, and this version reads {FORMAT}; upgrade this node")]
    Format(u32),
    /// Names a place past the end of the block.
    #[error("place {place} lies outside of {cidr}")]
    Outside {
        /// The block.
        cidr: Cidr,
        /// The place.
        place: u32,
    },
    /// One address is handed out and resting at once.
    #[error("place {0} is both used and cooling down")]
    UsedAndCooling(u32),
    /// Addresses and the blocks they lie in do not pair up.
    #[error("has {addresses} addresses in {blocks} blocks")]
    Unpaired {
        /// Number of addresses.
        addresses: usize,
        /// Number of blocks.
        blocks: usize,
    },
}

impl Block {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Only a map with keys that are no strings fails to encode; serde_json writes numbers as such.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the stored form; any bytes are safe.
    ///
    /// # Errors
    /// A block that cannot have been written by us.
    pub fn decode(bytes: &[u8]) -> Result<Block, RecordError> {
        let block: Block = read(bytes)?;
        check_format(block.version)?;
        let places = || block.used.keys().chain(block.cooldown.keys());
        if let Some(place) = places().find(|p| u128::from(**p) >= block.cidr.size()) {
            return Err(RecordError::Outside {
                cidr: block.cidr,
                place: *place,
            });
        }
        match block.used.keys().find(|p| block.cooldown.contains_key(p)) {
            Some(place) => Err(RecordError::UsedAndCooling(*place)),
            None => Ok(block),
        }
    }
}

impl Identity {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        // As for blocks.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the stored form; any bytes are safe.
    ///
    /// # Errors
    /// An identity that cannot have been written by us.
    pub fn decode(bytes: &[u8]) -> Result<Identity, RecordError> {
        let identity: Identity = read(bytes)?;
        check_format(identity.version)?;
        let (addresses, blocks) = (identity.addresses.len(), identity.blocks.len());
        if addresses == blocks {
            Ok(identity)
        } else {
            Err(RecordError::Unpaired { addresses, blocks })
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(bytes).map_err(|e| RecordError::Syntax(e.to_string()))
}

fn check_format(version: u32) -> Result<(), RecordError> {
    if version == FORMAT {
        Ok(())
    } else {
        Err(RecordError::Format(version))
    }
}

/// What other nodes need to know of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSummary {
    /// Node it is affine to.
    pub node: Option<Arc<str>>,
    /// Whether any address is handed out. Not how many: other nodes need not look up at every ADD.
    pub in_use: bool,
    /// Addresses used on another node than the block's.
    pub borrowed: Vec<(IpAddr, Arc<str>)>,
}

impl Block {
    /// A block with every address free.
    pub fn new(cidr: Cidr, node: Option<String>) -> Block {
        Block {
            version: FORMAT,
            cidr,
            node,
            used: BTreeMap::new(),
            cooldown: BTreeMap::new(),
            empty_since: None,
        }
    }

    /// What other nodes need to know of it.
    pub fn summary(&self) -> BlockSummary {
        let borrowed = self.used.iter().filter_map(|(place, a)| {
            let user = a.node.as_ref()?;
            (Some(user) != self.node.as_ref()).then(|| {
                let ip = self.cidr.nth(u128::from(*place))?;
                Some((ip, Arc::from(user.as_str())))
            })?
        });
        BlockSummary {
            node: self.node.as_deref().map(Arc::from),
            in_use: !self.used.is_empty(),
            borrowed: borrowed.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_in_use_elsewhere_are_borrowed() {
        let cidr: Cidr = "10.0.0.0/30".parse().unwrap();
        let mut block = Block::new(cidr, Some("a".into()));
        for (place, node) in [(0, Some("a")), (1, Some("b")), (2, None)] {
            let allocation = Allocation {
                handle: format!("h{place}"),
                node: node.map(str::to_owned),
                holder: None,
                workload: None,
            };
            block.used.insert(place, allocation);
        }
        let summary = block.summary();
        assert!(summary.in_use);
        assert_eq!(
            summary.borrowed,
            [("10.0.0.1".parse().unwrap(), Arc::from("b"))]
        );
        let text = serde_json::to_string(&block).unwrap();
        assert_eq!(serde_json::from_str::<Block>(&text).unwrap(), block);
    }

    fn block() -> Block {
        let used = |node: &str| Allocation {
            handle: "h".to_owned(),
            node: Some(node.to_owned()),
            holder: None,
            workload: Some("shop/web".to_owned()),
        };
        Block {
            version: FORMAT,
            cidr: "10.0.0.64/26".parse().unwrap(),
            node: Some("a".to_owned()),
            used: [(0, used("a")), (63, used("b"))].into(),
            cooldown: [(1, 1_700_000_000_000)].into(),
            empty_since: None,
        }
    }

    #[test]
    fn records_survive() {
        assert_eq!(Block::decode(&block().encode()), Ok(block()));
        let identity = Identity {
            version: FORMAT,
            addresses: vec!["10.0.0.64".parse().unwrap()],
            blocks: vec![block().cidr],
        };
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity.clone()));
        let unpaired = Identity {
            blocks: Vec::new(),
            ..identity
        };
        assert!(Identity::decode(&unpaired.encode()).is_err());
    }

    #[test]
    fn impossible_blocks_are_refused() {
        let with = |change: fn(&mut Block)| {
            let mut b = block();
            change(&mut b);
            Block::decode(&b.encode()).unwrap_err().to_string()
        };
        assert_eq!(
            with(|b| b.version = 2),
            "has format 2, and this version reads 1; upgrade this node"
        );
        assert_eq!(
            with(|b| {
                b.cooldown.insert(64, 0);
            }),
            "place 64 lies outside of 10.0.0.64/26"
        );
        assert_eq!(
            with(|b| {
                b.cooldown.insert(63, 0);
            }),
            "place 63 is both used and cooling down"
        );
        assert!(Block::decode(b"{\"version\":1").is_err());
    }
}
