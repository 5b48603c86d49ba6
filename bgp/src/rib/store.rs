//! Attribute sets, each kept once: a next hop and a canonical block, under a small number.
//!
//! A received block is looked up by its bytes before anything in it is decoded. An entry that nothing
//! refers to any more keeps its number until [`AttrStore::collect`], so that within one decision pass equal
//! numbers mean equal attributes.

use std::hash::BuildHasher;
use std::net::Ipv4Addr;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::hops::{HopId, Hops};
use crate::attributes::{AttrView, NextHop, well_known};
use crate::wire::block;
use crate::wire::{Disposition, Fault};

/// Number of an attribute set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttrId(pub(crate) u32);

/// What is known of a route's communities without reading them.
pub(crate) mod mark {
    pub(crate) const NO_EXPORT: u8 = 1;
    pub(crate) const NO_ADVERTISE: u8 = 2;
    pub(crate) const GRACEFUL_SHUTDOWN: u8 = 4;
    pub(crate) const HAS_OTC: u8 = 8;
    pub(crate) const HAS_LOCAL_PREF: u8 = 16;
    pub(crate) const HAS_ORIGINATOR: u8 = 32;
}

/// What decisions need of an attribute set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) local_pref: u32,
    pub(crate) med: u32,
    pub(crate) neighbour_as: u32,
    pub(crate) originator: Ipv4Addr,
    pub(crate) hop: HopId,
    pub(crate) path_len: u16,
    pub(crate) origin: u8,
    pub(crate) clusters: u8,
    pub(crate) marks: u8,
}

impl Header {
    fn of(view: AttrView<'_>, hop: HopId) -> Header {
        let mut marks = 0;
        for community in view.communities() {
            marks |= match community {
                well_known::NO_EXPORT | well_known::NO_EXPORT_SUBCONFED => mark::NO_EXPORT,
                well_known::NO_ADVERTISE => mark::NO_ADVERTISE,
                well_known::GRACEFUL_SHUTDOWN => mark::GRACEFUL_SHUTDOWN,
                _ => 0,
            };
        }
        let mut flag = |is: bool, bit| marks |= if is { bit } else { 0 };
        flag(view.otc().is_some(), mark::HAS_OTC);
        flag(view.local_pref().is_some(), mark::HAS_LOCAL_PREF);
        flag(view.originator().is_some(), mark::HAS_ORIGINATOR);
        Header {
            local_pref: view.local_pref().unwrap_or(super::DEFAULT_LOCAL_PREF),
            med: view.med().unwrap_or(0),
            neighbour_as: view.first_as().unwrap_or(0),
            originator: view.originator().unwrap_or(Ipv4Addr::UNSPECIFIED),
            hop,
            path_len: u16::try_from(view.path_len()).unwrap_or(u16::MAX),
            origin: view.origin() as u8,
            clusters: u8::try_from(view.clusters().count()).unwrap_or(u8::MAX),
            marks,
        }
    }

    pub(crate) fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }
}

#[derive(Debug)]
struct Entry {
    block: Box<[u8]>,
    header: Header,
    refs: u32,
    /// Low half of the hash, kept so that a growing table needs no blocks.
    hash: u32,
    /// Whether the block is one that a neighbour of our own AS may send.
    inner: bool,
    waiting: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct AttrStore {
    entries: Vec<Entry>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Entries that had no reference when last looked at.
    waiting: Vec<u32>,
    pub(crate) hops: Hops,
    decoded: u64,
}

/// A received attribute set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: AttrId,
    pub(crate) discarded: Vec<Fault>,
}

fn spread(hash: u32) -> u64 {
    // The table takes its buckets from the low bits and its tags from the high ones.
    u64::from(hash) | u64::from(hash) << 32
}

impl AttrStore {
    /// Distinct sets kept.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Blocks decoded since the start.
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    fn entry(&self, id: u32) -> &Entry {
        &self.entries[id as usize]
    }

    pub(crate) fn header(&self, id: AttrId) -> &Header {
        &self.entry(id.0).header
    }

    /// The attributes of a set.
    pub fn view(&self, id: AttrId) -> AttrView<'_> {
        AttrView::new(&self.entry(id.0).block)
    }

    /// The next hop of a set.
    pub fn next_hop(&self, id: AttrId) -> NextHop {
        self.hops.hop(self.entry(id.0).header.hop)
    }

    fn hash(&self, hop: &NextHop, inner: bool, block: &[u8]) -> u32 {
        let hash = self.hasher.hash_one((hop, inner, block));
        u32::try_from(hash >> 32).unwrap_or(0)
    }

    fn find(&self, hash: u32, hop: &NextHop, inner: bool, block: &[u8]) -> Option<AttrId> {
        let same = |id: &u32| {
            let entry = self.entry(*id);
            entry.hash == hash
                && entry.inner == inner
                && *entry.block == *block
                && self.hops.hop(entry.header.hop) == *hop
        };
        self.index.find(spread(hash), same).copied().map(AttrId)
    }

    /// A canonical block of our own making, or one that was checked.
    pub(crate) fn intern(&mut self, hop: &NextHop, inner: bool, block: &[u8]) -> AttrId {
        let hash = self.hash(hop, inner, block);
        if let Some(id) = self.find(hash, hop, inner, block) {
            return id;
        }
        let entry = Entry {
            block: block.into(),
            header: Header::of(AttrView::new(block), self.hops.take(hop)),
            refs: 0,
            hash,
            inner,
            waiting: true,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                super::small(self.entries.len() - 1)
            }
        };
        self.waiting.push(id);
        let entries = &self.entries;
        let rehash = |id: &u32| spread(entries[*id as usize].hash);
        self.index.insert_unique(spread(hash), id, rehash);
        AttrId(id)
    }

    /// A block as a neighbour sent it.
    ///
    /// # Errors
    ///
    /// The fault for which its prefixes count as withdrawn.
    pub(crate) fn receive(
        &mut self,
        hop: &NextHop,
        ibgp: bool,
        as4: bool,
        block: &[u8],
    ) -> Result<Received, Fault> {
        if as4 {
            let hash = self.hash(hop, ibgp, block);
            if let Some(id) = self.find(hash, hop, ibgp, block) {
                let discarded = Vec::new();
                return Ok(Received { id, discarded });
            }
        }
        self.decoded += 1;
        let inspected = block::inspect(block, ibgp, as4)?;
        debug_assert!(
            inspected
                .discarded
                .iter()
                .all(|f| f.disposition == Disposition::AttributeDiscard)
        );
        let block = inspected.canonical.as_deref().unwrap_or(block);
        Ok(Received {
            id: self.intern(hop, ibgp, block),
            discarded: inspected.discarded,
        })
    }

    pub(crate) fn retain(&mut self, id: AttrId) {
        self.entries[id.0 as usize].refs += 1;
    }

    pub(crate) fn release(&mut self, id: AttrId) {
        let entry = &mut self.entries[id.0 as usize];
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs == 0 && !entry.waiting {
            entry.waiting = true;
            self.waiting.push(id.0);
        }
    }

    /// Frees what nothing refers to. Numbers may be used again from here on.
    pub(crate) fn collect(&mut self) {
        for id in std::mem::take(&mut self.waiting) {
            let entry = &mut self.entries[id as usize];
            entry.waiting = false;
            if entry.refs > 0 {
                continue;
            }
            entry.block = Box::default();
            let (hash, hop) = (spread(entry.hash), entry.header.hop);
            if let Ok(found) = self.index.find_entry(hash, |other| *other == id) {
                found.remove();
            }
            self.hops.release(hop);
            self.free.push(id);
        }
    }
}
