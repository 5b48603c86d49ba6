//! Working off what may have changed: prefixes to origins, origins to identities, identities to tables.
//!
//! Numbers of identities are given so that few prefixes change theirs. When a rule begins to look at
//! something, all addresses of an identity often have it, and the identity then stands for more than before
//! under its old number; where only some have it, the larger part keeps the number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::take;

use model::Cidr;

use super::{Origin, Place, Signature, World};
use crate::engine::programs::Programs;
use crate::op::{Op, Update};

/// What a run of [`World::settle`] has to write and to let go.
#[derive(Default)]
struct Run {
    /// Prefixes whose row may have to change.
    written: BTreeSet<Cidr>,
    /// Prefixes that are gone.
    removed: Vec<Cidr>,
    /// Identities, once for each use that ends.
    left: Vec<u32>,
}

/// A signature as a whole number during a run.
type Sign = usize;

/// Origins that change their signature.
#[derive(Default)]
struct Changed {
    signs: HashMap<Signature, Sign>,
    signatures: Vec<Signature>,
    origins: BTreeMap<u32, Sign>,
    /// Prefixes that have such a signature and have such a number in the tables.
    blocks: BTreeMap<(Sign, u32), usize>,
}

impl Changed {
    fn sign(&mut self, signature: Signature) -> Sign {
        let next = self.signatures.len();
        *self.signs.entry(signature).or_insert_with_key(|signature| {
            self.signatures.push(signature.clone());
            next
        })
    }
}

impl World {
    /// Works off all that may have changed. Rows of new identities are written before any prefix leads to
    /// them. Whether a prefix changed its row.
    pub(in crate::engine) fn settle(
        &mut self,
        programs: &mut Programs,
        update: &mut Update,
    ) -> bool {
        let mut run = Run::default();
        for prefix in take(&mut self.stale_prefixes) {
            self.place(prefix, &mut run);
        }
        let changed = self.sign_all();
        if !changed.origins.is_empty() {
            self.renumber(changed, &mut run, programs, update);
        }
        let wrote = self.write(&mut run, update);
        for number in run.left {
            let Some((signature, _)) = self.identities.release(number) else {
                continue;
            };
            for mark in &signature.marks {
                if let Some(used) = self.atoms.get_mut(*mark) {
                    used.marked.remove(&number);
                }
            }
            programs.remove_identity(number, update);
        }
        wrote
    }

    /// Finds the origin of a prefix.
    fn place(&mut self, prefix: Cidr, run: &mut Run) {
        if let Some(node) = self.prefixes.prune(&prefix) {
            if node.origin != 0 {
                self.leave(node.origin, prefix, run);
            }
            if let Some(identity) = self.identities.get_mut(node.identity) {
                identity.weight -= 1;
                run.removed.push(prefix);
            }
            return;
        }
        if self.prefixes.get(&prefix).is_none() {
            return;
        }
        let origin = self.origin_of(prefix);
        let (net, groups) = (origin.net, origin.groups.clone());
        let (number, new) = self.origins.hold(origin);
        if new {
            self.by_net.entry(net).or_default().insert(number);
            for g in &groups {
                self.groups.hold_again(*g);
                self.groups[*g].origins.insert(number);
            }
            self.stale_origins.insert(number);
        }
        let Some(node) = self.prefixes.get_mut(&prefix) else {
            return;
        };
        let old = node.origin;
        node.origin = number;
        run.written.insert(prefix);
        if old == number {
            self.origins.release(number);
            return;
        }
        self.origins[number].prefixes.insert(prefix);
        if old != 0 {
            self.leave(old, prefix, run);
        }
    }

    fn leave(&mut self, origin: u32, prefix: Cidr, run: &mut Run) {
        self.origins[origin].prefixes.remove(&prefix);
        let Some((key, Place { identity, .. })) = self.origins.release(origin) else {
            return;
        };
        self.forget_net(key.net, origin);
        for g in &key.groups {
            self.groups[*g].origins.remove(&origin);
            self.release_group(*g);
        }
        if identity != 0 {
            self.identities[identity].origins.remove(&origin);
            run.left.push(identity);
        }
    }

    fn origin_of(&self, prefix: Cidr) -> Origin {
        let mut origin = Origin {
            family: prefix.family(),
            groups: Vec::new(),
            net: super::prefixes::root(prefix.family()),
        };
        for (cover, node) in self.prefixes.covering(prefix) {
            origin.groups.extend(&node.owners);
            if node.is_net {
                origin.net = cover;
            }
        }
        origin.groups.sort_unstable();
        origin.groups.dedup();
        origin
    }

    /// Which atoms mark an origin.
    fn signature(&self, origin: &Origin) -> Signature {
        let covering = self.prefixes.covering(origin.net);
        let nets = covering.filter(|(_, node)| node.is_net).map(|(net, _)| net);
        let nets: Vec<Cidr> = nets.collect();
        let owners = origin.groups.iter().map(|g| &self.groups[*g].terms[..]);
        let owners: Vec<&[u32]> = owners.collect();
        let mut marks = BTreeSet::new();
        let by_net = nets.iter().filter_map(|net| self.nets.get(net));
        let terms = owners.iter().flat_map(|terms| terms.iter());
        let by_term = terms.map(|t| &self.terms[*t].names);
        for names in by_net.chain(by_term) {
            let atom = |a: &u32| self.atoms.get(*a);
            for a in &names.wanted {
                let holds =
                    || atom(a).is_some_and(|atom| atom.holds(origin.family, &nets, &owners));
                if !marks.contains(a) && holds() {
                    marks.insert(*a);
                }
            }
            let fails =
                |a: &&u32| atom(a).is_some_and(|atom| atom.is_wide() && atom.is_of(origin.family));
            marks.extend(names.unwanted.iter().filter(fails));
        }
        Signature {
            family: origin.family,
            marks: marks.into_iter().collect(),
        }
    }

    /// The origins that have another signature than before.
    fn sign_all(&mut self) -> Changed {
        let mut changed = Changed::default();
        for number in take(&mut self.stale_origins) {
            let Some(origin) = self.origins.get(number) else {
                continue;
            };
            let signature = self.signature(origin);
            let place = &self.origins[number];
            let old = self.identities.get(place.identity);
            if old == Some(&signature) {
                continue;
            }
            let sign = changed.sign(signature);
            changed.origins.insert(number, sign);
            if place.identity != 0 {
                let weight = place.prefixes.len();
                *changed.blocks.entry((sign, place.identity)).or_default() += weight;
                continue;
            }
            for prefix in &place.prefixes {
                let had = self.prefixes.get(prefix).map_or(0, |node| node.identity);
                if had != 0 {
                    *changed.blocks.entry((sign, had)).or_default() += 1;
                }
            }
        }
        changed
    }

    /// Gives signatures their numbers, and origins their identities.
    fn renumber(
        &mut self,
        mut changed: Changed,
        run: &mut Run,
        programs: &mut Programs,
        update: &mut Update,
    ) {
        let bystanders = self.bystanders(&mut changed);
        let numbers = self.choose(&changed);
        // Those who did not change and whose number others keep.
        for (identity, sign) in bystanders {
            if numbers.get(&sign) != Some(&identity) {
                let origins = self.identities[identity].origins.iter();
                for origin in origins.copied().collect::<Vec<_>>() {
                    changed.origins.entry(origin).or_insert(sign);
                }
            }
        }
        for (sign, number) in &numbers {
            self.rename(*number, &changed.signatures[*sign]);
        }
        let mut numbers = numbers;
        for sign in changed.origins.values() {
            if numbers.contains_key(sign) {
                continue;
            }
            let signature = &changed.signatures[*sign];
            let (number, new) = self.identities.hold(signature.clone());
            numbers.insert(*sign, number);
            run.left.push(number); // held only until its origins hold it
            if new {
                for mark in &signature.marks {
                    self.atoms[*mark].marked.insert(number);
                }
                programs.add_identity(number, signature, &self.atoms, update);
            }
        }
        for (origin, sign) in &changed.origins {
            let place = &mut self.origins[*origin];
            let number = numbers[sign];
            if place.identity != number {
                if place.identity != 0 {
                    self.identities[place.identity].origins.remove(origin);
                    run.left.push(place.identity);
                }
                place.identity = number;
                self.identities.hold_again(number);
                self.identities[number].origins.insert(*origin);
                run.written.extend(&place.prefixes);
            }
        }
    }

    /// Identities that changed origins leave or come to, and that others have and keep, with their
    /// signatures; they are weighed like those that change.
    fn bystanders(&self, changed: &mut Changed) -> Vec<(u32, Sign)> {
        let mut leaving: BTreeMap<u32, usize> = BTreeMap::new();
        for origin in changed.origins.keys() {
            let identity = self.origins[*origin].identity;
            *leaving.entry(identity).or_default() += 1;
        }
        let mut moving: BTreeMap<u32, usize> = BTreeMap::new();
        for ((_, identity), weight) in &changed.blocks {
            *moving.entry(*identity).or_default() += weight;
        }
        let targets = changed.signatures.iter();
        let targets = targets.filter_map(|s| self.identities.find(s));
        let involved: BTreeSet<u32> = targets.chain(moving.keys().copied()).collect();
        let mut bystanders = Vec::new();
        for number in involved {
            let identity = &self.identities[number];
            let stay = identity.origins.len() > leaving.get(&number).copied().unwrap_or(0);
            let Some(signature) = self.identities.get(number).filter(|_| stay) else {
                continue;
            };
            let sign = changed.sign(signature.clone());
            let moving = moving.get(&number).copied().unwrap_or(0);
            let weight = identity.weight.saturating_sub(moving);
            *changed.blocks.entry((sign, number)).or_default() += weight;
            bystanders.push((number, sign));
        }
        bystanders
    }

    /// Which signatures keep a number: the heaviest first. No program may see a number change its meaning.
    fn choose(&self, changed: &Changed) -> BTreeMap<Sign, u32> {
        let mut blocks: Vec<_> = changed.blocks.iter().collect();
        blocks.sort_by_key(|(block, weight)| (std::cmp::Reverse(**weight), **block));
        let mut numbers = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for ((sign, number), _) in blocks {
            let free = !numbers.contains_key(sign) && !taken.contains(number);
            if free && self.looks_the_same(*number, &changed.signatures[*sign]) {
                numbers.insert(*sign, *number);
                taken.insert(*number);
            }
        }
        numbers
    }

    /// Whether an identity would be the same to all programs under another signature.
    fn looks_the_same(&self, number: u32, new: &Signature) -> bool {
        let Some(old) = self.identities.get(number) else {
            return false;
        };
        let is_unseen = |a: &u32| match self.atoms.get(*a) {
            Some(_) => self.atoms[*a].programs.is_empty(),
            None => true,
        };
        old.family == new.family && difference(&old.marks, &new.marks).all(|(a, _)| is_unseen(a))
    }

    fn rename(&mut self, number: u32, new: &Signature) {
        let Some(old) = self.identities.key(number) else {
            return;
        };
        if *old == *new {
            return;
        }
        for (mark, gained) in difference(&old.marks, &new.marks) {
            if let Some(used) = self.atoms.get_mut(*mark) {
                match gained {
                    true => used.marked.insert(number),
                    false => used.marked.remove(&number),
                };
            }
        }
        self.identities.rename(number, new.clone());
    }

    /// Writes the rows of prefixes whose identity is another one.
    fn write(&mut self, run: &mut Run, update: &mut Update) -> bool {
        let before = update.puts.len();
        for prefix in &run.written {
            let Some(node) = self.prefixes.get_mut(prefix) else {
                continue;
            };
            let identity = self.origins[node.origin].identity;
            if node.identity == identity {
                continue;
            }
            if let Some(old) = self.identities.get_mut(node.identity) {
                old.weight -= 1;
            }
            self.identities[identity].weight += 1;
            node.identity = identity;
            update.puts.push(Op::Identity(*prefix, Some(identity)));
        }
        for prefix in take(&mut run.removed) {
            update.puts.push(Op::Identity(prefix, None));
        }
        update.puts.len() > before
    }
}

/// What stands in one of two sorted lists only, and whether in the second.
fn difference<'a>(old: &'a [u32], new: &'a [u32]) -> impl Iterator<Item = (&'a u32, bool)> {
    let lost = old.iter().filter(|a| new.binary_search(a).is_err());
    let gained = new.iter().filter(|a| old.binary_search(a).is_err());
    lost.map(|a| (a, false)).chain(gained.map(|a| (a, true)))
}
