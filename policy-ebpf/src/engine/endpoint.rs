//! Endpoints of this node and their chains.

use std::collections::{BTreeSet, HashMap};

use model::object::ObjectId;
use model::resources::{PolicyType, TierAction};
use policy_common::tables::{Action, Chain, MAX_STAGES, Stage, rule as word};

use super::Engine;
use super::part::Numbered;
use super::policy::{InTier, Mode, Policies, Policy};
use super::program::TooMany;
use super::programs::ProgramKey;
use super::world::{Group, World};
use crate::error::PolicyError;
use crate::op::{Chains, Op, Update};
use crate::party::Role;

/// An endpoint of this node.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) role: Role,
    pub(super) group: Group,
    /// The policies that select it, whatever their direction.
    pub(super) applies: BTreeSet<u32>,
    /// Its chains in the tables; none before it has its first.
    chains: Option<Chains>,
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint {
            role: Role::Workload,
            group: Group {
                namespace: None,
                labels: Default::default(),
                ports: [].into(),
            },
            applies: BTreeSet::new(),
            chains: None,
        }
    }
}

/// What an endpoint should have.
pub(super) struct Plan {
    id: ObjectId,
    profile: u32,
    /// For ingress and egress, as enforced and then, where they are others, as staged.
    enforced: [Draft; 2],
    staged: [Option<Draft>; 2],
}

/// A chain to be.
pub(super) type Draft = Result<Vec<Tier>, PolicyError>;

/// What one tier has to say, compiled up to its parts.
#[derive(PartialEq)]
pub(super) struct Tier {
    name: String,
    default: u32,
    parts: Vec<u32>,
}

const DIRECTIONS: [PolicyType; 2] = [PolicyType::Ingress, PolicyType::Egress];

impl Endpoint {
    /// Finds the policies that select it.
    pub(super) fn select(&mut self, policies: &Policies, world: &World) {
        self.applies = policies.of(self.role, &self.group, &world.namespaces);
    }

    pub(super) fn is_selected(&self, policy: &Policy, world: &World) -> bool {
        policy.applies_to(self.role, &self.group, &world.namespaces)
    }

    /// The chains that it uses.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let chains = self.chains.into_iter();
        let all = chains.flat_map(|c| [c.ingress, c.egress, c.staged_ingress, c.staged_egress]);
        all.filter(|number| *number != 0)
    }
}

impl Engine {
    /// The chains that an endpoint has in the tables; `None` while it is closed.
    pub fn chains(&self, id: &ObjectId) -> Option<Chains> {
        let chains = self.endpoints.get(id)?.chains;
        chains.filter(|chains| chains.ingress != 0)
    }

    /// The policies that select an endpoint, staged ones among them, in no particular order.
    pub fn selecting(&self, id: &ObjectId) -> impl Iterator<Item = &ObjectId> {
        let applies = self.endpoints.get(id).map(|e| &e.applies);
        let slots = applies.into_iter().flatten();
        slots.filter_map(|slot| self.policies.slots.get(*slot))
    }

    /// Whether there are policies that nobody can read.
    pub fn is_in_doubt(&self) -> bool {
        self.unknown
    }

    /// Compiles the policies of an endpoint, up to their parts.
    pub(super) fn plan(&mut self, id: ObjectId) -> Option<Plan> {
        let endpoint = self.endpoints.get(&id)?;
        let allows = match endpoint.role {
            Role::Host { default_allow } => default_allow,
            _ => true,
        };
        let in_order = |direction, mode| self.policies.in_order(&endpoint.applies, direction, mode);
        let enforced = DIRECTIONS.map(|d| in_order(d, Mode::Enforced));
        let staged = DIRECTIONS.map(|d| in_order(d, Mode::Staged));
        let mut staged = staged.into_iter().zip(&enforced);
        let mut staged = [(); 2].map(|()| {
            let (staged, enforced) = staged.next()?;
            (staged != *enforced).then_some(staged)
        });
        let mut directions = DIRECTIONS.into_iter();
        let enforced = enforced.map(|tiers| {
            let direction = directions.next().unwrap_or(PolicyType::Egress);
            self.draft(&id, direction, tiers)
        });
        let mut directions = DIRECTIONS.into_iter();
        let staged = staged.each_mut().map(|tiers| {
            let direction = directions.next().unwrap_or(PolicyType::Egress);
            Some(self.draft(&id, direction, tiers.take()?))
        });
        Some(Plan {
            id,
            profile: if allows {
                word::PROFILE_ALLOW
            } else {
                word::PROFILE_DENY
            },
            enforced,
            staged,
        })
    }

    fn draft(&mut self, id: &ObjectId, direction: PolicyType, tiers: Vec<InTier>) -> Draft {
        if let Some(extra) = tiers.get(MAX_STAGES) {
            let first = extra
                .slots
                .first()
                .and_then(|slot| self.policies.slots.get(*slot));
            return Err(PolicyError::TooManyTiers {
                policy: Box::new(first.unwrap_or(id).clone()),
                tier: extra.tier.clone(),
                endpoint: Box::new(id.clone()),
                limit: MAX_STAGES,
            });
        }
        let mut draft: Vec<Tier> = Vec::new();
        for tier in tiers {
            let mut parts = Vec::new();
            let mut error = None;
            for slot in tier.slots {
                match self
                    .parts
                    .hold(slot, direction, &mut self.policies, &mut self.world)
                {
                    Ok(part) => parts.push(part),
                    Err(e) => error = error.or(Some(e)),
                }
            }
            let name = Numbered::End(tier.tier.as_str().into(), direction);
            let number = match self.parts.numbers.find(&name) {
                Some(number) => number,
                None => self.parts.numbers.hold(name).0, // for good: there are few
            };
            let action = match tier.default {
                TierAction::Deny => Action::Deny,
                TierAction::Pass => Action::Pass,
            };
            draft.push(Tier {
                name: tier.tier,
                default: word::word(number, action),
                parts,
            });
            if let Some(error) = error {
                self.release_draft(draft, &mut Update::default());
                return Err(error);
            }
        }
        Ok(draft)
    }

    /// Puts a plan into the tables. The write of the endpoint itself goes to `switched`.
    pub(super) fn install(
        &mut self,
        plan: &Plan,
        failed: &mut HashMap<ProgramKey, TooMany>,
        old: &mut Vec<u32>,
        switched: &mut Vec<Op>,
        update: &mut Update,
    ) {
        let before = self.endpoints.get(&plan.id).and_then(|e| e.chains);
        let mut problems = Vec::new();
        let mut made = |engine: &mut Engine, draft: &Draft| {
            let chain = match draft {
                Ok(tiers) => engine.chain(&plan.id, tiers, plan.profile, failed, update),
                Err(e) => Err(e.clone()),
            };
            chain.map_err(|e| problems.push(e)).ok()
        };
        let enforced = plan.enforced.each_ref().map(|draft| made(self, draft));
        let staged = (plan.staged.each_ref()).map(|draft| match draft {
            Some(draft) => made(self, draft),
            None => Some(0),
        });
        match problems.is_empty() {
            true => self.problems.remove(&plan.id),
            false => self.problems.insert(plan.id.clone(), problems),
        };
        // Each pair is put in force whole or not at all.
        let standing = before.unwrap_or_default();
        let mut pair = |made: [Option<u32>; 2], standing: [u32; 2]| match made {
            [Some(ingress), Some(egress)] => {
                old.extend(standing.into_iter().filter(|n| *n != 0));
                Some([ingress, egress])
            }
            made => {
                old.extend(made.into_iter().flatten().filter(|n| *n != 0));
                None
            }
        };
        let enforced = pair(enforced, [standing.ingress, standing.egress]);
        let staged = pair(staged, [standing.staged_ingress, standing.staged_egress]);
        let [ingress, egress] = enforced.unwrap_or([standing.ingress, standing.egress]);
        let [staged_ingress, staged_egress] =
            staged.unwrap_or([standing.staged_ingress, standing.staged_egress]);
        let chains = Chains {
            ingress,
            egress,
            staged_ingress,
            staged_egress,
            generation: standing.generation,
        };
        if let Some(endpoint) = self.endpoints.get_mut(&plan.id) {
            endpoint.chains = Some(chains);
            if before != Some(chains) && ingress != 0 {
                let generation = self.generation;
                let chains = Chains {
                    generation,
                    ..chains
                };
                endpoint.chains = Some(chains);
                switched.push(Op::Endpoint(plan.id.clone(), Some(chains)));
            }
        }
    }

    /// The number of a chain, its programs compiled if need be.
    fn chain(
        &mut self,
        id: &ObjectId,
        tiers: &[Tier],
        profile: u32,
        failed: &mut HashMap<ProgramKey, TooMany>,
        update: &mut Update,
    ) -> Result<u32, PolicyError> {
        let mut chain = Chain {
            length: 0,
            profile,
            stages: [Stage::default(); MAX_STAGES],
        };
        let mut programs = Vec::new();
        for (stage, tier) in chain.stages.iter_mut().zip(tiers) {
            let mut made = [(0, 0); 2];
            for (log, made) in [false, true].into_iter().zip(&mut made) {
                match self.program(&tier.parts, log, failed, update) {
                    Ok(program) => *made = program,
                    Err(e) => {
                        for program in programs {
                            self.release_program(program, update);
                        }
                        return Err(self.too_many(id, tier, e));
                    }
                }
                programs.extend(Some(made.0).filter(|number| *number != 0));
            }
            let [(program, masks), (log, log_masks)] = made;
            *stage = Stage {
                program,
                log,
                masks,
                log_masks,
                default: tier.default,
            };
            chain.length += 1;
        }
        let (number, new) = self.chains.hold(chain);
        if new {
            (update.puts).push(Op::Chain(number, Some(Box::new(chain))));
        } else {
            for program in programs {
                self.release_program(program, update); // the chain holds them already
            }
        }
        Ok(number)
    }

    /// Number and masks of a program; 0 when it would have no rows.
    fn program(
        &mut self,
        parts: &[u32],
        log: bool,
        failed: &mut HashMap<ProgramKey, TooMany>,
        update: &mut Update,
    ) -> Result<(u32, u16), TooMany> {
        let key = ProgramKey {
            parts: parts.to_vec(),
            log,
        };
        if let Some(number) = self.programs.hold(&key) {
            return Ok((number, self.programs.masks(number)));
        }
        if let Some(known) = failed.get(&key) {
            return Err(*known);
        }
        let rows = self.parts.rows(parts, log);
        if rows.is_empty() {
            return Ok((0, 0));
        }
        for part in parts {
            self.parts.parts.hold_again(*part);
        }
        let (programs, world) = (&mut self.programs, &mut self.world);
        match programs.build(key.clone(), rows, world, update) {
            Ok(number) => Ok((number, self.programs.masks(number))),
            Err(e) => {
                for part in parts {
                    (self.parts).release(*part, &mut self.policies, &mut self.world, update);
                }
                failed.insert(key, e);
                Err(e)
            }
        }
    }

    fn too_many(&self, id: &ObjectId, tier: &Tier, e: TooMany) -> PolicyError {
        let slot = self.parts.at_order(&tier.parts, e.order);
        let policy = slot.and_then(|slot| self.policies.slots.get(slot));
        let policy = Box::new(policy.unwrap_or(id).clone());
        let (tier, endpoint) = (tier.name.clone(), Box::new(id.clone()));
        match e.no_room {
            true => PolicyError::NoRoom {
                policy,
                tier,
                endpoint,
                limit: self.settings.rows,
            },
            false => PolicyError::TooManyCells {
                policy,
                tier,
                endpoint,
                limit: self.settings.cells,
            },
        }
    }

    /// What is in force beyond a limit, with one endpoint of each.
    pub(super) fn outgrown(&self) -> Vec<(ObjectId, PolicyError)> {
        let outgrown = self.programs.outgrown().into_iter();
        outgrown
            .filter_map(|(program, rows, limit)| {
                let uses = |e: &&Endpoint| {
                    let chains = e.numbers().filter_map(|number| self.chains.get(number));
                    let mut stages = chains.flat_map(|c| &c.stages);
                    stages.any(|s| s.program == program || s.log == program)
                };
                let endpoint = self.endpoints.iter().find(|(_, e)| uses(e))?.0;
                let (key, order) = self.programs.greediest(program)?;
                let slot = self.parts.at_order(&key.parts, order)?;
                let spec = self.policies.get(slot).map(|(_, p)| p.spec.tier());
                let error = PolicyError::Outgrown {
                    policy: Box::new(self.policies.slots.get(slot)?.clone()),
                    tier: spec.unwrap_or_default().to_owned(),
                    endpoint: Box::new(endpoint.clone()),
                    rows,
                    limit,
                };
                Some((endpoint.clone(), error))
            })
            .collect()
    }

    fn release_program(&mut self, number: u32, update: &mut Update) {
        let gone = (self.programs).release(number, &mut self.world.atoms, update);
        for part in gone.iter().flat_map(|key| &key.parts) {
            (self.parts).release(*part, &mut self.policies, &mut self.world, update);
        }
    }

    /// One user less of a chain.
    pub(super) fn release_chain(&mut self, number: u32, update: &mut Update) {
        let Some((chain, ())) = self.chains.release(number) else {
            return;
        };
        update.deletes.push(Op::Chain(number, None));
        let stages = chain.stages.iter().take(chain.length as usize);
        for program in stages.flat_map(|s| [s.program, s.log]) {
            if program != 0 {
                self.release_program(program, update);
            }
        }
    }

    /// Lets go of what a plan held while it was put in force.
    pub(super) fn release_plan(&mut self, plan: Plan, update: &mut Update) {
        let drafts = plan
            .enforced
            .into_iter()
            .chain(plan.staged.into_iter().flatten());
        for draft in drafts.flatten() {
            self.release_draft(draft, update);
        }
    }

    fn release_draft(&mut self, draft: Vec<Tier>, update: &mut Update) {
        for part in draft.into_iter().flat_map(|tier| tier.parts) {
            (self.parts).release(part, &mut self.policies, &mut self.world, update);
        }
    }
}
