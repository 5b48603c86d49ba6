//! The incremental compiler: changes of the world in, writes to the tables out.
//!
//! ```text
//!  Change::Party ────► World: who has which address, which atoms hold there ─► identities
//!  Change::Policy ───► Policies ─► those of each endpoint, by tiers ─► parts (a policy's rules, compiled)
//!  Change::Tier ─────►     │                                             │ parts of a tier
//!                          └──────────► chains of the endpoint ◄──── programs: classes, ports, cells
//! ```
//!
//! A batch of changes is worked off in this order, so that no packet meets half of one: rows of new
//! identities in programs that are in use; prefixes; programs that are new, which nothing leads to yet; chains;
//! the endpoints, one write each. Then identities that no rule tells apart any more become one, and what nothing
//! leads to goes last.
//!
//! Everything has a number that lasts as long as it is used, rules too, so their counters go on when a
//! policy changes around them.

mod endpoint;
mod intern;
mod lists;
mod part;
mod policy;
mod ports;
mod program;
mod programs;
mod rule;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::take;

use model::Cidr;
use model::object::ObjectId;
use model::resources::{PolicySpec, PolicyType, TierSpec};
use policy_common::tables::Chain;

use endpoint::{Endpoint, Plan};
use intern::Interner;
use part::{Numbered, Parts};
use policy::Policies;
use programs::Programs;
use world::{Group, World};

use crate::error::PolicyError;
use crate::op::{Op, Update};
use crate::party::{Labels, Party, Role};

/// One change of what the compiler works from; `None` removes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A workload, a host endpoint or a network set.
    Party(ObjectId, Option<Party>),
    /// The labels of a namespace's object.
    Namespace(String, Option<Labels>),
    /// A tier.
    Tier(String, Option<TierSpec>),
    /// A policy of any of the four kinds.
    Policy(ObjectId, Option<PolicySpec>),
    /// Whether there are policies that nobody can read. Any of them may forbid what the others allow, so as
    /// long as there are, no endpoint gets other chains than it has, and a new one stays closed.
    Unknown(bool),
}

/// Rows that each of the tables of classes, ports and cells has room for, if nobody says otherwise.
pub(crate) const ROWS: u32 = 1 << 19;

/// What an engine starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Combinations of classes that one program may have, and so most of its cells.
    pub cells: usize,
    /// Rows of each of those tables that policy may take when it is put in force, of all programs together. What is left in
    /// the tables is for endpoints and sets that come later: their rows are written in any case.
    pub rows: usize,
    /// Generations begin above this: higher than those of a process before whose tables are still in use.
    pub generation: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cells: 1 << 20,
            rows: (ROWS - ROWS / 8) as usize,
            generation: 0,
        }
    }
}

/// What a rule's number stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A rule of a policy.
    Of {
        /// Tier of the policy.
        tier: String,
        /// The policy.
        policy: ObjectId,
        /// The direction of the rule.
        direction: PolicyType,
        /// Its place among the policy's rules of the direction, from 0.
        index: u32,
    },
    /// The default action of a tier.
    EndOfTier {
        /// The tier.
        tier: String,
        /// The direction.
        direction: PolicyType,
    },
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Prefixes with an identity.
    pub prefixes: usize,
    /// Identities.
    pub identities: usize,
    /// Conditions on addresses that rules in force have.
    pub atoms: usize,
    /// Programs in use.
    pub programs: usize,
    /// Cells of all programs.
    pub cells: usize,
    /// Rows of identities in programs.
    pub classes: usize,
    /// Chains in use.
    pub chains: usize,
}

/// The compiler, and all it knows.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    generation: u32,
    /// Whether there are policies that nobody can read.
    unknown: bool,
    world: World,
    policies: Policies,
    parts: Parts,
    programs: Programs,
    chains: Interner<Chain>,
    /// Group and prefixes of everybody.
    parties: HashMap<ObjectId, (u32, Box<[Cidr]>)>,
    endpoints: BTreeMap<ObjectId, Endpoint>,
    /// Endpoints whose chains may have to change.
    pending: BTreeSet<ObjectId>,
    problems: BTreeMap<ObjectId, Vec<PolicyError>>,
    /// What is in force and should not be as large.
    outgrown: Vec<(ObjectId, PolicyError)>,
    /// How many rows there were when there was no room for others; 0 when there was room for all.
    full_at: usize,
}

impl Engine {
    /// Knows nobody and no policy.
    pub fn new(settings: Settings) -> Engine {
        Engine {
            settings,
            generation: settings.generation,
            unknown: false,
            world: World::new(),
            policies: Policies::default(),
            parts: Parts::default(),
            programs: Programs::new(settings.cells, settings.rows),
            chains: Interner::default(),
            parties: HashMap::new(),
            endpoints: BTreeMap::new(),
            pending: BTreeSet::new(),
            problems: BTreeMap::new(),
            outgrown: Vec::new(),
            full_at: 0,
        }
    }

    /// Takes changes in and tells what to write for them.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Update {
        let mut update = self.batch(changes);
        let lacks_room = |errors: &Vec<PolicyError>| {
            let mut errors = errors.iter();
            errors.any(|e| matches!(e, PolicyError::NoRoom { .. }))
        };
        let waiting = self.problems.iter().filter(|(_, e)| lacks_room(e));
        let waiting: Vec<ObjectId> = waiting.map(|(id, _)| id.clone()).collect();
        if waiting.is_empty() {
            self.full_at = 0;
        } else if self.programs.rows() < self.full_at {
            // What left the tables at the end of the update takes no room behind it.
            self.pending.extend(waiting);
            let next = self.batch([]);
            update.next = (!next.is_empty()).then(|| Box::new(next));
            self.full_at = self.programs.rows();
        } else {
            self.full_at = self.programs.rows();
        }
        self.outgrown = self.outgrown();
        update
    }

    /// Works off one batch.
    fn batch(&mut self, changes: impl IntoIterator<Item = Change>) -> Update {
        let mut update = Update::default();
        let mut old = Vec::new();
        for change in changes {
            self.take(change, &mut old, &mut update);
        }
        self.note_renumbered();
        let pending = match self.unknown {
            true => BTreeSet::new(),
            false => take(&mut self.pending),
        };
        let plans: Vec<Plan> = pending.into_iter().filter_map(|id| self.plan(id)).collect();
        self.generation = self.generation.wrapping_add(1);
        if self.world.settle(&mut self.programs, &mut update) {
            update.puts.push(Op::World(self.generation));
        }
        let mut failed = HashMap::new();
        let mut switched = Vec::new();
        for plan in &plans {
            self.install(plan, &mut failed, &mut old, &mut switched, &mut update);
        }
        update.puts.append(&mut switched);
        for plan in plans {
            self.release_plan(plan, &mut update);
        }
        for chain in old {
            self.release_chain(chain, &mut update);
        }
        // Only what no rule in force looks at any more goes: to new packets it is nothing.
        let puts = take(&mut update.puts);
        self.world.settle(&mut self.programs, &mut update);
        update.merges = std::mem::replace(&mut update.puts, puts);
        self.rest();
        update.deletes.sort_by_key(Op::table); // so that many can be written in one call
        update
    }

    fn take(&mut self, change: Change, old: &mut Vec<u32>, update: &mut Update) {
        match change {
            Change::Party(id, party) => self.put_party(id, party, old, update),
            Change::Namespace(name, labels) => {
                if self.world.put_namespace(&name, labels.as_ref()) {
                    let lives_there =
                        |e: &Endpoint| e.group.namespace.as_deref() == Some(name.as_str());
                    for (id, endpoint) in &mut self.endpoints {
                        if lives_there(endpoint) {
                            endpoint.select(&self.policies, &self.world);
                            self.pending.insert(id.clone());
                        }
                    }
                }
            }
            Change::Tier(name, spec) => {
                match spec {
                    Some(spec) => self.policies.tiers.insert(name, spec),
                    None => self.policies.tiers.remove(&name),
                };
                self.pending.extend(self.endpoints.keys().cloned());
            }
            Change::Policy(id, spec) => self.put_policy(&id, spec),
            Change::Unknown(unknown) => self.unknown = unknown,
        }
    }

    fn put_party(
        &mut self,
        id: ObjectId,
        party: Option<Party>,
        old: &mut Vec<u32>,
        update: &mut Update,
    ) {
        let before = self.parties.remove(&id);
        if let Some(party) = &party {
            let group = self.world.put(Group::of(party), &party.nets);
            self.parties
                .insert(id.clone(), (group, party.nets.as_slice().into()));
        }
        // After the new one has come: what both have is not let go in between.
        if let Some((group, nets)) = before {
            self.world.remove(group, &nets);
        }
        match party.filter(|p| p.role != Role::Elsewhere) {
            Some(party) => {
                let endpoint = self.endpoints.entry(id.clone()).or_default();
                endpoint.role = party.role;
                endpoint.group = Group::of(&party);
                endpoint.select(&self.policies, &self.world);
                self.pending.insert(id);
            }
            None => {
                self.pending.remove(&id);
                self.problems.remove(&id);
                if let Some(endpoint) = self.endpoints.remove(&id) {
                    old.extend(endpoint.numbers());
                    update.puts.push(Op::Endpoint(id, None));
                }
            }
        }
    }

    fn put_policy(&mut self, id: &ObjectId, spec: Option<PolicySpec>) {
        let Some(slot) = self.policies.put(id, spec) else {
            return;
        };
        let twin = self.policies.replaced_by(id);
        for (id, endpoint) in &mut self.endpoints {
            let before = endpoint.applies.remove(&slot);
            let policy = self.policies.get(slot).map(|(_, p)| p);
            let after = policy.is_some_and(|p| endpoint.is_selected(p, &self.world));
            if after {
                endpoint.applies.insert(slot);
            }
            let twin = twin.is_some_and(|t| endpoint.applies.contains(&t));
            if before || after || twin {
                self.pending.insert(id.clone());
            }
        }
        // What could not be put in force may fit now.
        self.pending.extend(self.problems.keys().cloned());
        if self.policies.get(slot).is_none() {
            self.policies.slots.release(slot);
        }
    }

    /// Rules that name ports are others once the name has other numbers.
    fn note_renumbered(&mut self) {
        let names = self.world.take_renumbered();
        if names.is_empty() {
            return;
        }
        for slot in self.policies.naming(&names) {
            self.policies.slots[slot].stamp += 1;
            for (id, endpoint) in &self.endpoints {
                if endpoint.applies.contains(&slot) {
                    self.pending.insert(id.clone());
                }
            }
        }
    }

    fn rest(&mut self) {
        self.world.rest();
        self.policies.slots.rest();
        self.parts.rest();
        self.chains.rest();
        self.programs.rest();
    }

    /// Why policies of endpoints are not in force, by endpoint, and which are in force beyond a limit.
    pub fn problems(&self) -> impl Iterator<Item = (&ObjectId, &PolicyError)> {
        let problems = self.problems.iter();
        let problems = problems.flat_map(|(id, errors)| errors.iter().map(move |e| (id, e)));
        problems.chain(self.outgrown.iter().map(|(id, e)| (id, e)))
    }

    /// What a rule's number stands for; `None` for those below [`policy_common::tables::rule::FIRST`] and for
    /// such as are not in use.
    ///
    /// A list of `Log` rules is described by its first.
    pub fn describe(&self, number: u32) -> Option<Rule> {
        let number = self.programs.lists.first(number).unwrap_or(number);
        Some(match self.parts.numbers.get(number)? {
            Numbered::Rule(slot, direction, index) => {
                let policy = self.policies.slots.get(*slot)?.clone();
                let spec = self.policies.get(*slot).map(|(_, p)| p.spec.tier());
                Rule::Of {
                    tier: spec.unwrap_or_default().to_owned(),
                    policy,
                    direction: *direction,
                    index: *index,
                }
            }
            Numbered::End(tier, direction) => Rule::EndOfTier {
                tier: tier.to_string(),
                direction: *direction,
            },
        })
    }

    /// The number that stands for a rule, if one in force here does.
    pub fn number(&self, rule: &Rule) -> Option<u32> {
        let name = match rule {
            Rule::Of {
                policy,
                direction,
                index,
                ..
            } => {
                let slot = self.policies.slots.find(policy)?;
                Numbered::Rule(slot, *direction, *index)
            }
            Rule::EndOfTier { tier, direction } => Numbered::End(tier.as_str().into(), *direction),
        };
        self.parts.numbers.find(&name)
    }

    /// How many batches of changes were taken in.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Everybody who is known.
    pub fn parties(&self) -> impl Iterator<Item = &ObjectId> {
        self.parties.keys()
    }

    /// Every policy that is known.
    pub fn policies(&self) -> impl Iterator<Item = &ObjectId> {
        let slots = self.policies.slots.iter();
        slots.filter_map(|(_, id, slot)| slot.policy.is_some().then_some(id))
    }

    /// Every tier that is known.
    pub fn tiers(&self) -> impl Iterator<Item = &String> {
        self.policies.tiers.keys()
    }

    /// Every namespace with an object that is known.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.world.namespaces.names()
    }

    /// How much there is.
    pub fn size(&self) -> Size {
        let (prefixes, identities) = self.world.size();
        let [programs, cells, classes] = self.programs.size();
        Size {
            prefixes,
            identities,
            atoms: self.world.atoms.len(),
            programs,
            cells,
            classes,
            chains: self.chains.len(),
        }
    }
}
