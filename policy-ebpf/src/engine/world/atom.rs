//! Atoms: the whole condition that one end of a rule puts on an address.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cidr, Family};

/// A condition on an address. Equal ones are one atom, whichever rules they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Atom {
    /// It is of this family.
    pub(in crate::engine) family: Option<Family>,
    /// It lies in one of these, if there are any; sorted.
    pub(in crate::engine) nets: Vec<Cidr>,
    /// It lies in none of these; sorted.
    pub(in crate::engine) not_nets: Vec<Cidr>,
    /// Somebody has it for whom this term holds.
    pub(in crate::engine) some: Option<u32>,
    /// Nobody has it for whom one of these terms holds; sorted.
    pub(in crate::engine) none: Vec<u32>,
}

/// What follows for an atom.
#[derive(Debug, Default)]
pub(in crate::engine) struct Used {
    /// The programs with rules that have it.
    pub(in crate::engine) programs: BTreeSet<u32>,
    /// The identities that are marked with it: for a wide one those where it fails, else those where it holds.
    pub(in crate::engine) marked: BTreeSet<u32>,
}

/// Atoms that name a thing.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Those that need it.
    pub(super) wanted: BTreeSet<u32>,
    /// Those that exclude it.
    pub(super) unwanted: BTreeSet<u32>,
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }
}

/// Prefixes that atoms name.
pub(super) type RuleNets = BTreeMap<Cidr, Names>;

impl Atom {
    /// Whether it holds for most addresses: it names nothing that has to be there. Identities are then marked
    /// where it fails, so that marks stay few.
    pub(in crate::engine) fn is_wide(&self) -> bool {
        self.nets.is_empty() && self.some.is_none()
    }

    /// Whether it asks for nothing.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        *self == Atom::default()
    }

    /// Whether an address of this family can have it.
    pub(in crate::engine) fn is_of(&self, family: Family) -> bool {
        self.family.is_none_or(|f| f == family)
    }

    /// Whether it holds for an address that lies in exactly these of the prefixes that rules name, and for
    /// whose owners exactly these terms hold, one list for each owner.
    pub(super) fn holds(&self, family: Family, nets: &[Cidr], owners: &[&[u32]]) -> bool {
        let lies_in = |of: &[Cidr]| nets.iter().any(|n| of.binary_search(n).is_ok());
        let somebody = |t: &u32| owners.iter().any(|terms| terms.binary_search(t).is_ok());
        self.is_of(family)
            && (self.nets.is_empty() || lies_in(&self.nets))
            && !lies_in(&self.not_nets)
            && self.some.as_ref().is_none_or(somebody)
            && !self.none.iter().any(somebody)
    }
}
