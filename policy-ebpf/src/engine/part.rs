//! Parts: the rules of one policy in one direction, compiled once for all programs they are in.

use std::sync::Arc;

use model::object::ObjectId;
use model::resources::{Action as RuleAction, PolicyType};
use policy_common::tables::{Action, rule as word};

use super::intern::Interner;
use super::policy::Policies;
use super::program::ProgramRow;
use super::rule::{self, Place, Row};
use super::world::World;
use crate::error::PolicyError;
use crate::op::{Op, Update};

/// Which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PartKey {
    pub(super) slot: u32,
    pub(super) direction: PolicyType,
    stamp: u32,
}

/// Compiled rules.
#[derive(Debug, Default)]
pub(super) struct Part {
    rows: Vec<Row>,
    logs: Vec<Row>,
    /// The word of each rule.
    words: Vec<u32>,
}

/// What has a number on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Numbered {
    /// A rule, by its policy, direction and place.
    Rule(u32, PolicyType, u32),
    /// The end of a tier.
    End(Arc<str>, PolicyType),
}

/// All parts, and the numbers of rules.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) parts: Interner<PartKey, Part>,
    pub(super) numbers: Interner<Numbered>,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            parts: Interner::default(),
            numbers: Interner::starting_at(word::FIRST as usize),
        }
    }
}

impl Parts {
    /// The part of a policy in a direction, compiled if need be, used until [`Parts::release`].
    pub(super) fn hold(
        &mut self,
        slot: u32,
        direction: PolicyType,
        policies: &mut Policies,
        world: &mut World,
    ) -> Result<u32, PolicyError> {
        let stamp = policies.slots[slot].stamp;
        let key = PartKey {
            slot,
            direction,
            stamp,
        };
        if let Some(number) = self.parts.find(&key) {
            self.parts.hold_again(number);
            return Ok(number);
        }
        let part = self.compile(key, policies, world)?;
        policies.slots.hold_again(slot);
        let (number, _) = self.parts.hold(key);
        self.parts[number] = part;
        Ok(number)
    }

    fn compile(
        &mut self,
        key: PartKey,
        policies: &Policies,
        world: &mut World,
    ) -> Result<Part, PolicyError> {
        let mut part = Part::default();
        let Some((id, policy)) = policies.get(key.slot) else {
            return Ok(part);
        };
        for (index, spec) in (0..).zip(policy.spec.rules(key.direction)) {
            let place = Place {
                namespace: policy.namespace.as_ref(),
                direction: key.direction,
                index,
            };
            let Ok(rows) = rule::rows(spec, &place, world) else {
                part.release(world);
                self.release_numbers(key, part.words.len(), None);
                return Err(needs_protocol(id, key.direction, index));
            };
            let name = Numbered::Rule(key.slot, key.direction, index);
            let (number, _) = self.numbers.hold(name);
            part.words.push(match spec.action {
                RuleAction::Allow => word::word(number, Action::Allow),
                RuleAction::Deny => word::word(number, Action::Deny),
                RuleAction::Pass => word::word(number, Action::Pass),
                RuleAction::Log => word::log(number),
            });
            match rule::is_log(spec) {
                true => part.logs.extend(rows),
                false => part.rows.extend(rows),
            }
        }
        Ok(part)
    }

    /// One user less of a part.
    pub(super) fn release(
        &mut self,
        number: u32,
        policies: &mut Policies,
        world: &mut World,
        update: &mut Update,
    ) {
        let Some((key, part)) = self.parts.release(number) else {
            return;
        };
        part.release(world);
        self.release_numbers(*key, part.words.len(), Some(update));
        policies.slots.release(key.slot);
    }

    fn release_numbers(&mut self, key: PartKey, count: usize, mut update: Option<&mut Update>) {
        for index in (0..).take(count) {
            let name = Numbered::Rule(key.slot, key.direction, index);
            let Some(number) = self.numbers.find(&name) else {
                continue;
            };
            if self.numbers.release(number).is_some()
                && let Some(update) = &mut update
            {
                update.deletes.push(Op::Forget(number));
            }
        }
    }

    /// The rows of a program of some parts in order.
    pub(super) fn rows(&self, parts: &[u32], log: bool) -> Vec<ProgramRow> {
        let mut rows = Vec::new();
        let mut offset = 0;
        for part in parts {
            let part = &self.parts[*part];
            let own = match log {
                true => &part.logs,
                false => &part.rows,
            };
            rows.extend(own.iter().filter_map(|row| {
                Some(ProgramRow {
                    order: offset + row.index,
                    word: *part.words.get(row.index as usize)?,
                    ends: [row.source, row.destination],
                    ports: [row.source_port.clone(), row.destination_port.clone()],
                })
            }));
            offset += u32::try_from(part.words.len()).unwrap_or(u32::MAX);
        }
        rows
    }

    /// The policy of the row with some order among parts.
    pub(super) fn at_order(&self, parts: &[u32], order: u32) -> Option<u32> {
        let mut left = order as usize;
        for part in parts {
            let count = self.parts[*part].words.len();
            if left < count {
                return Some(self.parts.get(*part)?.slot);
            }
            left -= count;
        }
        None
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        self.parts.rest();
        self.numbers.rest();
    }
}

impl Part {
    fn release(&self, world: &mut World) {
        for row in self.rows.iter().chain(&self.logs) {
            for atom in row.source.iter().chain(&row.destination) {
                world.release_atom(*atom);
            }
        }
    }
}

fn needs_protocol(policy: &ObjectId, direction: PolicyType, index: u32) -> PolicyError {
    let direction = match direction {
        PolicyType::Ingress => "ingress",
        PolicyType::Egress => "egress",
    };
    PolicyError::NeedsProtocol {
        policy: Box::new(policy.clone()),
        field: format!("{direction}[{index}]"),
    }
}
