//! Who is where: from parties to the identities of prefixes.
//!
//! ```text
//!  party ─► group (labels, namespace, ports) ─term holds?─┐
//!    └─ prefixes ─► origin (groups that have it, nets of ───┴─► signature (atoms that hold) ─► identity
//!                           rules that hold it)
//! ```
//!
//! A party of a group that is known costs its prefixes and nothing else: their origin is known, and its
//! identity. What may have changed is noted as it comes and worked off at once by [`World::settle`].

mod atom;
mod group;
mod nets;
mod prefixes;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use model::{Cidr, Family};

pub(super) use atom::{Atom, Used};
pub(super) use group::{Group, Namespaces, Scope, Term};
use prefixes::Prefixes;

use super::intern::Interner;
use crate::party::Labels;

/// Name and protocol of named ports.
pub(super) type PortName = (Box<str>, u8);

/// Parties, atoms, and what follows from the two.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) namespaces: Namespaces,
    groups: Interner<Group, group::Known>,
    terms: Interner<Term, Asked>,
    pub(super) atoms: Interner<Atom, Used>,
    nets: atom::RuleNets,
    prefixes: Prefixes,
    origins: Interner<Origin, Place>,
    /// Origins by their net.
    by_net: BTreeMap<Cidr, BTreeSet<u32>>,
    pub(super) identities: Interner<Signature, Identity>,
    /// Numbers that named ports have, and how many parties have them so.
    numbers: BTreeMap<PortName, BTreeMap<u16, usize>>,
    renumbered: BTreeSet<PortName>,
    stale_prefixes: BTreeSet<Cidr>,
    stale_origins: BTreeSet<u32>,
}

/// Who asks a term, and for whom it holds.
#[derive(Debug, Default)]
struct Asked {
    names: atom::Names,
    groups: BTreeSet<u32>,
}

/// All that an address's conditions can depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    family: Family,
    /// Groups of the parties that have it, sorted.
    groups: Vec<u32>,
    /// The longest prefix that rules name and that holds it; it tells the others.
    net: Cidr,
}

/// Where an origin is.
#[derive(Debug, Default)]
struct Place {
    prefixes: BTreeSet<Cidr>,
    /// 0 before it has one.
    identity: u32,
}

/// What rules see of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    pub(super) family: Family,
    /// Atoms that hold, and wide ones that fail; sorted.
    pub(super) marks: Vec<u32>,
}

/// Who has an identity.
#[derive(Debug, Default)]
pub(super) struct Identity {
    origins: BTreeSet<u32>,
    /// Prefixes that the tables have with it.
    weight: usize,
}

impl World {
    /// A world with nothing but the two families.
    pub(super) fn new() -> World {
        let mut world = World::default();
        (world.stale_prefixes).extend(Family::ALL.map(prefixes::root));
        world
    }

    /// How many prefixes and identities there are.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.prefixes.len(), self.identities.len())
    }

    /// A party comes: its group and the prefixes that it has. [`World::remove`] is called with the same.
    pub(super) fn put(&mut self, group: Group, nets: &[Cidr]) -> u32 {
        let (group, new) = self.groups.hold(group);
        if new {
            self.meet(group);
        }
        self.count_ports(group, true);
        for net in nets {
            let owners = &mut self.prefixes.node(*net).owners;
            let at = owners.partition_point(|g| *g < group);
            let known = owners.get(at) == Some(&group);
            owners.insert(at, group);
            if !known {
                self.doubt(*net);
            }
            // A prefix may be new, too.
            self.stale_prefixes.insert(*net);
        }
        group
    }

    /// A party goes.
    pub(super) fn remove(&mut self, group: u32, nets: &[Cidr]) {
        for net in nets {
            let owners = &mut self.prefixes.node(*net).owners;
            let at = owners.partition_point(|g| *g < group);
            if owners.get(at) == Some(&group) {
                owners.remove(at);
                if owners.get(at) != Some(&group) {
                    self.doubt(*net);
                }
            }
        }
        self.count_ports(group, false);
        self.release_group(group);
    }

    /// Who has the addresses of a prefix has changed.
    fn doubt(&mut self, net: Cidr) {
        let inside = self.prefixes.inside(net).map(|(prefix, _)| prefix);
        self.stale_prefixes.extend(inside);
    }

    /// What rules say of the addresses in one of their prefixes may have changed.
    fn doubt_origins(&mut self, net: Cidr) {
        let inside = self.by_net.range(net..).take_while(|(n, _)| net.covers(n));
        self.stale_origins
            .extend(inside.flat_map(|(_, origins)| origins));
    }

    fn doubt_groups(&mut self, groups: impl IntoIterator<Item = u32>) {
        for group in groups {
            self.stale_origins.extend(&self.groups[group].origins);
        }
    }

    /// Asks all terms about a new group.
    fn meet(&mut self, number: u32) {
        let Some(group) = self.groups.key(number) else {
            return;
        };
        let holds = |term: &Term| group.satisfies(term, &self.namespaces);
        let terms = self.terms.iter().filter(|(_, term, _)| holds(term));
        let terms: Vec<_> = terms.map(|(t, ..)| t).collect();
        for t in &terms {
            self.terms[*t].groups.insert(number);
        }
        self.groups[number].terms = terms;
    }

    fn release_group(&mut self, number: u32) {
        let Some((_, known)) = self.groups.release(number) else {
            return;
        };
        for t in known.terms {
            self.terms[t].groups.remove(&number);
        }
    }

    /// Notes that a party has come with ports, or gone.
    fn count_ports(&mut self, group: u32, comes: bool) {
        let known = self.groups.key(group);
        for port in known.iter().flat_map(|group| &group.ports) {
            let name = (port.name.clone(), port.protocol);
            let counts = self.numbers.entry(name.clone()).or_default();
            let count = counts.entry(port.port).or_default();
            match comes {
                true => *count += 1,
                false => *count -= 1,
            }
            if *count == usize::from(comes) {
                self.renumbered.insert(name.clone());
            }
            counts.retain(|_, count| *count > 0);
            if counts.is_empty() {
                self.numbers.remove(&name);
            }
        }
    }

    /// The numbers that ports have by a name and protocol.
    pub(super) fn numbers(&self, name: &PortName) -> Vec<u16> {
        let numbers = self.numbers.get(name).into_iter().flatten();
        numbers.map(|(number, _)| *number).collect()
    }

    /// Names of ports that have got other numbers since this was last asked.
    pub(super) fn take_renumbered(&mut self) -> BTreeSet<PortName> {
        take(&mut self.renumbered)
    }

    /// The labels of a namespace; whether they are others than before.
    pub(super) fn put_namespace(&mut self, name: &str, labels: Option<&Labels>) -> bool {
        if !self.namespaces.put(name, labels) {
            return false;
        }
        let lives_there = |g: &Group| g.namespace.as_deref() == Some(name);
        let groups = self.groups.iter().filter(|(_, g, _)| lives_there(g));
        let groups: Vec<_> = groups.map(|(number, ..)| number).collect();
        for number in groups {
            let Some(group) = self.groups.key(number) else {
                continue;
            };
            let mut terms = Vec::new();
            for (t, term, _) in self.terms.iter() {
                if group.satisfies(term, &self.namespaces) {
                    terms.push(t);
                }
            }
            if terms == self.groups[number].terms {
                continue;
            }
            for t in take(&mut self.groups[number].terms) {
                self.terms[t].groups.remove(&number);
            }
            for t in &terms {
                self.terms[*t].groups.insert(number);
            }
            self.groups[number].terms = terms;
            self.doubt_groups([number]);
        }
        true
    }

    /// The number of a term, which is used until [`World::release_term`].
    pub(super) fn hold_term(&mut self, term: Term) -> u32 {
        let (number, new) = self.terms.hold(term);
        if new {
            let Some(term) = self.terms.key(number) else {
                return number;
            };
            let holds = |g: &Group| g.satisfies(&term, &self.namespaces);
            let groups = self.groups.iter().filter(|(_, g, _)| holds(g));
            let groups: BTreeSet<_> = groups.map(|(g, ..)| g).collect();
            for g in &groups {
                let terms = &mut self.groups[*g].terms;
                let at = terms.partition_point(|t| *t < number);
                terms.insert(at, number);
            }
            self.terms[number].groups = groups;
        }
        number
    }

    /// One user less of a term.
    pub(super) fn release_term(&mut self, number: u32) {
        let Some((_, asked)) = self.terms.release(number) else {
            return;
        };
        for g in asked.groups {
            if let Ok(at) = self.groups[g].terms.binary_search(&number) {
                self.groups[g].terms.remove(at);
            }
        }
    }

    /// The number of an atom, which is used until [`World::release_atom`]. The terms in it were held for it.
    pub(super) fn hold_atom(&mut self, atom: Atom) -> u32 {
        let (number, new) = self.atoms.hold(atom);
        let Some(atom) = self.atoms.key(number) else {
            return number;
        };
        if !new {
            self.release_terms(&atom);
            return number;
        }
        for net in &atom.nets {
            self.names_of(*net).wanted.insert(number);
        }
        for net in &atom.not_nets {
            self.names_of(*net).unwanted.insert(number);
        }
        if let Some(t) = atom.some {
            self.terms[t].names.wanted.insert(number);
        }
        for t in &atom.none {
            self.terms[*t].names.unwanted.insert(number);
        }
        // Marked will be those where it holds or, if it is wide, those where it fails.
        let (nets, terms) = match (atom.is_wide(), atom.nets.is_empty()) {
            (true, _) => (&atom.not_nets, &atom.none[..]),
            (false, false) => (&atom.nets, &[][..]),
            (false, true) => (&atom.nets, atom.some.as_slice()),
        };
        for net in nets {
            self.doubt_origins(*net);
        }
        for t in terms {
            let groups = self.terms[*t].groups.clone();
            self.doubt_groups(groups);
        }
        number
    }

    /// One user less of an atom.
    pub(super) fn release_atom(&mut self, number: u32) {
        let Some((atom, used)) = self.atoms.release(number) else {
            return;
        };
        for identity in used.marked {
            (self.stale_origins).extend(&self.identities[identity].origins);
        }
        for net in atom.nets.iter().chain(&atom.not_nets) {
            let Some(names) = self.nets.get_mut(net) else {
                continue;
            };
            names.wanted.remove(&number);
            names.unwanted.remove(&number);
            if names.is_empty() {
                self.nets.remove(net);
                self.remove_net(*net);
            }
        }
        if let Some(t) = atom.some {
            self.terms[t].names.wanted.remove(&number);
        }
        for t in &atom.none {
            self.terms[*t].names.unwanted.remove(&number);
        }
        self.release_terms(&atom);
    }

    fn release_terms(&mut self, atom: &Atom) {
        for t in atom.some.iter().chain(&atom.none) {
            self.release_term(*t);
        }
    }

    /// The atoms that name a prefix, which is one of those of rules from here on.
    fn names_of(&mut self, net: Cidr) -> &mut atom::Names {
        self.add_net(net);
        self.nets.entry(net).or_default()
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        self.groups.rest();
        self.terms.rest();
        self.atoms.rest();
        self.origins.rest();
        self.identities.rest();
    }
}
