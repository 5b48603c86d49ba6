//! Values by number: equal values share one, which is free when its last user lets go.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// Numbers begin at 1. One that became free is given away in a later batch only, since the tables may still
/// hold rows of its former meaning until the end of this one.
#[derive(Debug)]
pub(super) struct Interner<K, V = ()> {
    numbers: HashMap<Arc<K>, u32>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<u32>,
    resting: Vec<u32>,
    /// What numbers have that are not in use.
    nothing: V,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: Arc<K>,
    uses: u32,
    value: V,
}

impl<K, V: Default> Default for Interner<K, V> {
    fn default() -> Interner<K, V> {
        Interner::starting_at(1)
    }
}

impl<K, V: Default> Interner<K, V> {
    /// Numbers begin at `first`.
    pub(super) fn starting_at(first: usize) -> Interner<K, V> {
        Interner {
            numbers: HashMap::new(),
            slots: (0..first).map(|_| None).collect(),
            free: Vec::new(),
            resting: Vec::new(),
            nothing: V::default(),
        }
    }
}

impl<K: Hash + Eq, V: Default> Interner<K, V> {
    /// The number of a value, and whether it is a new one. Whoever asks uses it until [`Interner::release`].
    pub(super) fn hold(&mut self, key: K) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(&key) {
            self.hold_again(number);
            return (number, false);
        }
        let key = Arc::new(key);
        let slot = Slot {
            key: key.clone(),
            uses: 1,
            value: V::default(),
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.slots[number as usize] = Some(slot);
        self.numbers.insert(key, number);
        (number, true)
    }

    /// One more user of a number in use.
    #[track_caller]
    pub(super) fn hold_again(&mut self, number: u32) {
        match self.slots.get_mut(number as usize) {
            Some(Some(slot)) => slot.uses += 1,
            _ => not_in_use(number),
        }
    }

    /// One user less; when it was the last, the value comes back and the number rests.
    #[track_caller]
    pub(super) fn release(&mut self, number: u32) -> Option<(Arc<K>, V)> {
        let place = self.slots.get_mut(number as usize);
        let Some(place @ Some(_)) = place else {
            not_in_use(number);
            return None;
        };
        let slot = place.as_mut()?;
        slot.uses -= 1;
        if slot.uses > 0 {
            return None;
        }
        let slot = place.take()?;
        if self.numbers.get(&slot.key) == Some(&number) {
            self.numbers.remove(&slot.key);
        }
        self.resting.push(number);
        Some((slot.key, slot.value))
    }
}

impl<K: Hash + Eq, V> Interner<K, V> {
    /// The number that a value has.
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// What a number stands for, if it is in use.
    pub(super) fn get(&self, number: u32) -> Option<&K> {
        let slot = self.slots.get(number as usize)?.as_ref()?;
        Some(&slot.key)
    }

    /// What a number stands for, shared, if it is in use.
    pub(super) fn key(&self, number: u32) -> Option<Arc<K>> {
        let slot = self.slots.get(number as usize)?.as_ref()?;
        Some(slot.key.clone())
    }

    /// What is kept with a number, if it is in use.
    pub(super) fn value(&self, number: u32) -> Option<&V> {
        let slot = self.slots.get(number as usize)?.as_ref()?;
        Some(&slot.value)
    }

    /// As [`Interner::value`], to change it.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        let slot = self.slots.get_mut(number as usize)?.as_mut()?;
        Some(&mut slot.value)
    }

    /// Makes a number stand for another value, which has none.
    pub(super) fn rename(&mut self, number: u32, key: K) {
        let key = Arc::new(key);
        if let Some(Some(slot)) = self.slots.get_mut(number as usize) {
            // Where several change names at once, another may have taken this one's already.
            if self.numbers.get(&slot.key) == Some(&number) {
                self.numbers.remove(&slot.key);
            }
            slot.key = key.clone();
            self.numbers.insert(key, number);
        }
    }

    /// Those in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &K, &V)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| {
            let slot = slot.as_ref()?;
            Some((number, &*slot.key, &slot.value))
        })
    }

    /// What is kept with those in use.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().flatten().map(|slot| &mut slot.value)
    }

    /// Whether letting go of a number once frees it.
    pub(super) fn has_one_user(&self, number: u32) -> bool {
        let slot = self.slots.get(number as usize);
        slot.and_then(Option::as_ref)
            .is_some_and(|slot| slot.uses == 1)
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// At the end of a batch: what became free in it can be given away.
    pub(super) fn rest(&mut self) {
        self.free.append(&mut self.resting);
    }
}

/// A number comes from `hold` and is in use until `release`: anything else is a defect here, not an input. Then it stands
/// for nothing, and that is said: a rule less, an endpoint closed, rather than nobody who compiles.
#[track_caller]
fn not_in_use(number: u32) {
    let place = std::panic::Location::caller();
    tracing::error!("policy: number {number} is not in use at {place}: a defect, please report it");
    debug_assert!(false, "number {number} is not in use");
}

impl<K: Hash + Eq, V: Default> Index<u32> for Interner<K, V> {
    type Output = V;

    #[track_caller]
    fn index(&self, number: u32) -> &V {
        self.value(number).unwrap_or_else(|| {
            not_in_use(number);
            &self.nothing
        })
    }
}

impl<K: Hash + Eq, V: Default> IndexMut<u32> for Interner<K, V> {
    #[track_caller]
    fn index_mut(&mut self, number: u32) -> &mut V {
        match self.slots.get_mut(number as usize) {
            Some(Some(slot)) => &mut slot.value,
            _ => {
                not_in_use(number);
                self.nothing = V::default();
                &mut self.nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lives_as_long_as_its_users_and_rests_for_the_batch() {
        let mut names = Interner::<&str>::default();
        assert_eq!(names.hold("a"), (1, true));
        assert_eq!(names.hold("b"), (2, true));
        assert_eq!(names.hold("a"), (1, false));
        assert!(names.release(1).is_none());
        assert_eq!(names.release(1).map(|(k, ())| *k), Some("a"));
        assert_eq!((names.find(&"a"), names.get(1)), (None, None));
        assert_eq!(names.hold("c"), (3, true));
        names.rest();
        assert_eq!(names.hold("d"), (1, true));
        names.rename(1, "e");
        assert_eq!((names.find(&"d"), names.find(&"e")), (None, Some(1)));
        assert_eq!(names.len(), 3);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn a_number_that_is_not_in_use_is_nothing() {
        let mut names = Interner::<&str, u8>::default();
        assert_eq!((names[7], names[0]), (0, 0));
        names[7] = 1;
        names[8] += 0;
        assert_eq!(
            (names[7], names.key(7), names.has_one_user(7)),
            (0, None, false)
        );
        assert_eq!((names.release(9), names.release(0)), (None, None));
        names.hold("a");
        assert!(names.release(1).is_some() && names.release(1).is_none());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic = "number 7 is not in use"]
    fn a_number_that_is_not_in_use_is_a_defect() {
        let _ = Interner::<&str, u8>::default()[7];
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic = "number 1 is not in use"]
    fn to_let_go_twice_is_a_defect() {
        let mut names = Interner::<&str>::default();
        names.hold("a");
        names.release(1);
        names.release(1);
    }
}
