//! The prefixes of a family and their paths: adj-RIB-in of all peers and loc-RIB in one place.
//!
//! A prefix is 12 bytes (IPv4) and 11 to 16 bytes of index; a path is 20 bytes. The best path comes first in its
//! prefix's list.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::PeerId;
use super::chunked::Chunked;
use super::index::Index;
use super::store::AttrId;
use crate::prefix::PrefixKey;

/// No prefix or path.
pub(crate) const NONE: u32 = u32::MAX;

/// Bits of [`Path::flags`].
pub(crate) mod path_flag {
    /// Refused by the import filter; kept so that a new filter needs no help from the peer.
    pub(crate) const FILTERED: u8 = 1;
    /// From before a restart or refresh, and not heard again yet.
    pub(crate) const STALE: u8 = 2;
    /// Used beside the best one.
    pub(crate) const MULTI: u8 = 4;
    /// The best.
    pub(crate) const BEST: u8 = 8;
    /// Refused by the guard of our pools; filtered too.
    pub(crate) const GUARDED: u8 = 16;
}

/// One path of a prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) next: u32,
    /// After import.
    pub(crate) attrs: AttrId,
    /// As received.
    pub(crate) raw: AttrId,
    /// Identifier that the peer gave it (RFC 7911), or 0.
    pub(crate) path_id: u32,
    pub(crate) peer: PeerId,
    pub(crate) flags: u8,
}

impl Path {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Net<K> {
    pub(crate) key: K,
    pub(crate) head: u32,
}

/// See the module. Numbers of prefixes and paths are places in vectors and are used again.
#[derive(Debug)]
pub(crate) struct Table<K> {
    pub(crate) nets: Chunked<Net<K>>,
    pub(crate) paths: Chunked<Path>,
    free_nets: Vec<u32>,
    free_paths: Vec<u32>,
    index: Index,
    hasher: DefaultHashBuilder,
    /// Prefixes without a path, which may still have to be withdrawn somewhere.
    dead: VecDeque<u32>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table {
            nets: Chunked::default(),
            paths: Chunked::default(),
            free_nets: Vec::new(),
            free_paths: Vec::new(),
            index: Index::default(),
            hasher: DefaultHashBuilder::default(),
            dead: VecDeque::new(),
        }
    }
}

impl<K: PrefixKey> Table<K> {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Numbers of prefixes are below this.
    pub(crate) fn end(&self) -> u32 {
        super::small(self.nets.len())
    }

    pub(crate) fn key(&self, net: u32) -> K {
        self.nets[net].key
    }

    pub(crate) fn path(&self, path: u32) -> &Path {
        &self.paths[path]
    }

    pub(crate) fn path_mut(&mut self, path: u32) -> &mut Path {
        &mut self.paths[path]
    }

    fn hash(&self, key: K) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// Fetches what a look-up of the prefix will read.
    pub(crate) fn warm(&self, key: K) {
        self.index.warm(self.hash(key));
    }

    pub(crate) fn find(&self, key: K) -> Option<u32> {
        self.find_hashed(self.hash(key), key)
    }

    fn find_hashed(&self, hash: u32, key: K) -> Option<u32> {
        self.index.find(hash, |net| self.nets[net].key == key)
    }

    pub(crate) fn find_or_insert(&mut self, key: K) -> u32 {
        let hash = self.hash(key);
        if let Some(net) = self.find_hashed(hash, key) {
            return net;
        }
        let fresh = Net { key, head: NONE };
        let net = match self.free_nets.pop() {
            Some(net) => {
                self.nets[net] = fresh;
                net
            }
            None => {
                self.nets.push(fresh);
                super::small(self.nets.len() - 1)
            }
        };
        self.index.insert(hash, net);
        net
    }

    /// Numbers of a prefix's paths, the best first.
    pub(crate) fn paths_of(&self, net: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.nets[net].head;
        std::iter::from_fn(move || {
            let path = at;
            at = self.paths.get(path)?.next;
            Some(path)
        })
    }

    pub(crate) fn find_path(&self, net: u32, peer: PeerId, path_id: u32) -> Option<u32> {
        self.paths_of(net).find(|path| {
            let path = self.path(*path);
            path.peer == peer && path.path_id == path_id
        })
    }

    /// The path in use, if any.
    pub(crate) fn best(&self, net: u32) -> Option<&Path> {
        let head = self.nets[net].head;
        let best = self.paths.get(head);
        best.filter(|path| path.is(path_flag::BEST))
    }

    /// Adds a path; its `next` is overwritten. It does not become the first, so that the best stays it.
    pub(crate) fn add_path(&mut self, net: u32, mut path: Path) {
        let head = self.nets[net].head;
        path.next = match self.paths.get(head) {
            Some(first) => first.next,
            None => NONE,
        };
        let at = match self.free_paths.pop() {
            Some(at) => {
                self.paths[at] = path;
                at
            }
            None => {
                self.paths.push(path);
                super::small(self.paths.len() - 1)
            }
        };
        match self.paths.get_mut(head) {
            Some(first) => first.next = at,
            None => self.nets[net].head = at,
        }
    }

    fn unlink(&mut self, net: u32, path: u32) {
        let next = self.path(path).next;
        if self.nets[net].head == path {
            self.nets[net].head = next;
            return;
        }
        let before = self.paths_of(net).find(|p| self.path(*p).next == path);
        if let Some(before) = before {
            self.path_mut(before).next = next;
        }
    }

    pub(crate) fn remove_path(&mut self, net: u32, path: u32) -> Path {
        self.unlink(net, path);
        self.free_paths.push(path);
        if self.nets[net].head == NONE {
            self.dead.push_back(net);
        }
        *self.path(path)
    }

    /// Makes `path` the first of its prefix's list.
    pub(crate) fn move_first(&mut self, net: u32, path: u32) {
        if self.nets[net].head == path {
            return;
        }
        self.unlink(net, path);
        let head = std::mem::replace(&mut self.nets[net].head, path);
        self.path_mut(path).next = head;
    }

    /// Prefixes that lost their last path since they were last freed.
    pub(crate) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// Frees prefixes without a path for which `gone` says that nobody has to hear of them any more. Looks at `most`
    /// of them, those that have waited longest.
    pub(crate) fn bury(&mut self, most: usize, gone: impl Fn(u32) -> bool) {
        for _ in 0..most.min(self.dead.len()) {
            let Some(net) = self.dead.pop_front() else {
                return;
            };
            let Net { key, head } = self.nets[net];
            if head != NONE {
                continue;
            }
            if !gone(net) {
                self.dead.push_back(net);
                continue;
            }
            if self.index.remove(self.hash(key), net) {
                self.free_nets.push(net);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::V4;

    #[test]
    fn prefixes_and_paths_are_small() {
        assert_eq!(size_of::<Net<V4>>(), 12);
        assert_eq!(size_of::<Path>(), 20);
    }

    #[test]
    fn a_dead_prefix_is_freed_once_and_its_number_used_again() {
        let mut table = Table::<V4>::default();
        let path = |peer| Path {
            next: 0,
            attrs: AttrId(0),
            raw: AttrId(0),
            path_id: 0,
            peer: PeerId(peer),
            flags: 0,
        };
        let net = table.find_or_insert(V4::default());
        table.add_path(net, path(1));
        table.add_path(net, path(2));
        let peers = |table: &Table<V4>| -> Vec<u16> {
            table.paths_of(net).map(|p| table.path(p).peer.0).collect()
        };
        assert_eq!(peers(&table), [1, 2]);
        let second = table.find_path(net, PeerId(2), 0).unwrap();
        table.move_first(net, second);
        assert_eq!(peers(&table), [2, 1]);
        for peer in [1, 2] {
            let path = table.find_path(net, PeerId(peer), 0).unwrap();
            table.remove_path(net, path);
        }
        table.bury(9, |_| false);
        assert_eq!((table.len(), table.dead()), (1, 1));
        // Alive and dead again: listed twice, freed once.
        table.add_path(net, path(3));
        let again = table.find_path(net, PeerId(3), 0).unwrap();
        table.remove_path(net, again);
        table.bury(9, |_| true);
        assert_eq!((table.len(), table.dead()), (0, 0));
        assert_eq!(table.find(V4::default()), None);
        let other = table.find_or_insert(V4::from_bits(8, &[10]).unwrap());
        assert_eq!(other, net);
        assert_eq!(table.find_or_insert(V4::default()), net + 1);
    }
}
