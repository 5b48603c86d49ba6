//! The classes of source or destination.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::Family;

use super::Atoms;
use crate::engine::intern::Interner;
use crate::engine::world::Signature;

/// Source or destination.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The rows that have an atom.
    pub(super) rows: BTreeMap<u32, Vec<u32>>,
    /// The classes that an atom is part of.
    pub(super) holding: HashMap<u32, BTreeSet<u32>>,
    /// Wide atoms.
    pub(super) wide: Vec<(u32, Option<Family>)>,
    /// Classes: sets of atoms, sorted.
    pub(super) classes: Interner<Vec<u32>>,
}

impl Side {
    /// The atoms of this side that hold for a signature, sorted.
    pub(super) fn holding(&self, signature: &Signature, atoms: &Atoms) -> Vec<u32> {
        let has = |a: &&u32| self.rows.contains_key(a);
        let marked = signature.marks.iter().filter(has).copied();
        let narrow = |a: &u32| atoms.get(*a).is_some_and(|atom| !atom.is_wide());
        let mut holding: Vec<u32> = marked.filter(narrow).collect();
        for (atom, family) in &self.wide {
            let fits = family.is_none_or(|f| f == signature.family);
            if fits && signature.marks.binary_search(atom).is_err() {
                holding.push(*atom);
            }
        }
        holding.sort_unstable();
        holding
    }

    pub(super) fn join(&mut self, class: u32) {
        for atom in self.classes.get(class).into_iter().flatten() {
            self.holding.entry(*atom).or_default().insert(class);
        }
    }

    pub(super) fn part(&mut self, class: u32) {
        for atom in self.classes.get(class).into_iter().flatten() {
            if let Some(classes) = self.holding.get_mut(atom) {
                classes.remove(&class);
            }
        }
    }
}
