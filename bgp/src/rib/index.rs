//! Where a prefix is in its table, found by its hash.
//!
//! A slot holds hash and place, so that neither a look-up nor growth has to look at prefixes elsewhere in memory. It is the
//! one that the hash as a fraction of the whole says, or the next free one: slots are in the order of hashes, and growth
//! goes through the old ones and the new ones from front to back.

use super::prefetch::prefetch;
use super::table::NONE;

/// A slot in which nothing is.
const FREE: u64 = u64::MAX;
/// Slots of the smallest index that has some.
const LEAST: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Hash in the high half, place in the low one.
    slots: Vec<u64>,
    len: usize,
}

fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is wanted")]
fn place_of(slot: u64) -> u32 {
    slot as u32
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Slots from one to another, in the direction of [`Index::next`].
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.slots.len() - from
        }
    }

    /// Fetches what a look-up of `hash` will read. Done for many before the first is looked up, their waits for memory are one.
    pub(crate) fn warm(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// The place with this hash for which `same` is true.
    pub(crate) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot(hash, same).map(|at| place_of(self.slots[at]))
    }

    fn slot(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            // There is always a free slot, but in an index without any.
            let slot = *self.slots.get(at)?;
            if slot == FREE {
                return None;
            }
            if hash_of(slot) == hash && same(place_of(slot)) {
                return Some(at);
            }
            at = self.next(at);
        }
    }

    /// Adds a place that is not there yet.
    pub(crate) fn insert(&mut self, hash: u32, place: u32) {
        debug_assert_ne!(place, NONE);
        if self.len >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        self.len += 1;
        self.put(u64::from(hash) << 32 | u64::from(place));
    }

    fn put(&mut self, slot: u64) {
        let mut at = self.home(hash_of(slot));
        while self.slots[at] != FREE {
            at = self.next(at);
        }
        self.slots[at] = slot;
    }

    #[cold]
    fn grow(&mut self) {
        let slots = LEAST.max(self.slots.len() / 2 * 3);
        for slot in std::mem::replace(&mut self.slots, vec![FREE; slots]) {
            if slot != FREE {
                self.put(slot);
            }
        }
    }

    /// Takes a place out. Whether it was there.
    pub(crate) fn remove(&mut self, hash: u32, place: u32) -> bool {
        let Some(mut hole) = self.slot(hash, |other| other == place) else {
            return false;
        };
        self.len -= 1;
        // What stands behind only because this was taken moves up: a look-up ends at the first free slot.
        let mut at = self.next(hole);
        while self.slots[at] != FREE {
            let home = self.home(hash_of(self.slots[at]));
            if self.distance(home, at) >= self.distance(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.slots[hole] = FREE;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes and the highest ones, so that most places are not where their hash says and the end is passed.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u32..40, 0u32..8, any::<bool>()), 0..300)) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            for (place, hash, add) in steps {
                let hash = u32::MAX - hash * 0x0200_0000;
                if add {
                    model.entry(place).or_insert_with(|| {
                        index.insert(hash, place);
                        hash
                    });
                } else {
                    let there = model.get(&place) == Some(&hash);
                    prop_assert_eq!(index.remove(hash, place), there);
                    if there {
                        model.remove(&place);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                index.warm(hash);
                for (place, hash) in &model {
                    prop_assert_eq!(index.find(*hash, |p| p == *place), Some(*place));
                }
                prop_assert_eq!(index.find(hash, |p| p >= 40), None);
            }
        }
    }

    #[test]
    fn an_empty_one_finds_nothing() {
        let mut index = Index::default();
        index.warm(7);
        assert_eq!(index.find(7, |_| true), None);
        assert!(!index.remove(7, 0));
    }
}
