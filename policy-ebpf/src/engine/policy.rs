//! Policies and tiers: which apply to an endpoint, and in which order they are asked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Kind;
use model::object::ObjectId;
use model::resources::tier::{DEFAULT_TIER, DEFAULT_TIER_ORDER};
use model::resources::{Order, PolicySpec, PolicyType, StagedAction, TierAction, TierSpec};
use model::selector::Selector;

use super::intern::Interner;
use super::rule::{port_names, selector};
use super::world::{Group, Namespaces, PortName};
use crate::party::Role;

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Enforced,
    /// As if the staged ones were in force.
    Staged,
}

/// A policy, read.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) spec: PolicySpec,
    pub(super) namespace: Option<Arc<str>>,
    /// Names of ports whose numbers its rules depend on.
    names: BTreeSet<PortName>,
    selector: Option<Selector>,
    namespace_selector: Option<Selector>,
}

/// A policy's number stays while parts compiled from it are in use, even when it is gone.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) policy: Option<Policy>,
    /// Another one with every change of what its rules say.
    pub(super) stamp: u32,
}

/// All policies and tiers.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) slots: Interner<ObjectId, Slot>,
    pub(super) tiers: BTreeMap<String, TierSpec>,
}

/// The policies of one tier that apply to an endpoint in a direction, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InTier {
    pub(super) tier: String,
    pub(super) default: TierAction,
    pub(super) slots: Vec<u32>,
}

impl Policy {
    pub(super) fn read(id: &ObjectId, spec: PolicySpec) -> Policy {
        let rules = spec.ingress.iter().chain(&spec.egress);
        Policy {
            names: rules.flat_map(port_names).collect(),
            namespace: id.namespace.as_deref().map(Arc::from),
            selector: selector(spec.selector.as_deref()),
            namespace_selector: selector(spec.namespace_selector.as_deref()),
            spec,
        }
    }

    /// Whether it selects an endpoint of this node.
    pub(super) fn applies_to(&self, role: Role, group: &Group, namespaces: &Namespaces) -> bool {
        let in_scope = match &self.namespace {
            Some(own) => role == Role::Workload && group.namespace.as_ref() == Some(own),
            None => role != Role::Elsewhere,
        };
        in_scope
            && (self.selector.as_ref()).is_none_or(|s| group.is_selected(s, namespaces))
            && (self.namespace_selector.as_ref()).is_none_or(|s| group.is_in(s, namespaces))
    }
}

impl Policies {
    /// Sets or removes a policy; its number, or `None` when there is none to remove.
    pub(super) fn put(&mut self, id: &ObjectId, spec: Option<PolicySpec>) -> Option<u32> {
        let Some(spec) = spec else {
            let number = self.slots.find(id)?;
            let _: Policy = self.slots[number].policy.take()?;
            return Some(number);
        };
        let (number, _) = self.slots.hold(id.clone());
        let slot = &mut self.slots[number];
        let old = slot.policy.replace(Policy::read(id, spec));
        let (Some(old), Some(new)) = (&old, &slot.policy) else {
            slot.stamp += 1;
            return Some(number);
        };
        let same = old.spec.ingress == new.spec.ingress && old.spec.egress == new.spec.egress;
        if !same {
            slot.stamp += 1;
        }
        self.slots.release(number); // it was held already
        Some(number)
    }

    pub(super) fn get(&self, slot: u32) -> Option<(&ObjectId, &Policy)> {
        let id = self.slots.get(slot)?;
        Some((id, self.slots[slot].policy.as_ref()?))
    }

    /// Those that select an endpoint.
    pub(super) fn of(&self, role: Role, group: &Group, namespaces: &Namespaces) -> BTreeSet<u32> {
        let all = self.slots.iter();
        let read = all.filter_map(|(number, _, slot)| Some((number, slot.policy.as_ref()?)));
        let chosen = read.filter(|(_, p)| p.applies_to(role, group, namespaces));
        chosen.map(|(number, _)| number).collect()
    }

    /// Those whose rules depend on one of these names of ports.
    pub(super) fn naming(&self, names: &BTreeSet<PortName>) -> Vec<u32> {
        let all = self.slots.iter();
        let read = all.filter_map(|(number, _, slot)| Some((number, slot.policy.as_ref()?)));
        let named = read.filter(|(_, policy)| !policy.names.is_disjoint(names));
        named.map(|(number, _)| number).collect()
    }

    /// The enforced policy whose place a staged one would take.
    pub(super) fn replaced_by(&self, staged: &ObjectId) -> Option<u32> {
        let kind = match staged.kind {
            Kind::StagedNetworkPolicy => Kind::NetworkPolicy,
            Kind::StagedGlobalNetworkPolicy => Kind::GlobalNetworkPolicy,
            _ => return None,
        };
        self.find(kind, staged)
    }

    fn find(&self, kind: Kind, id: &ObjectId) -> Option<u32> {
        let id = ObjectId { kind, ..id.clone() };
        self.slots.find(&id)
    }

    /// Whether a policy counts.
    fn counts(&self, id: &ObjectId, policy: &Policy, mode: Mode) -> bool {
        let action = policy.spec.staged_action.unwrap_or_default();
        match (id.kind.is_staged(), mode) {
            (true, Mode::Enforced) => false,
            (true, Mode::Staged) => action == StagedAction::Set,
            (false, Mode::Enforced) => true,
            (false, Mode::Staged) => {
                let staged = match id.kind {
                    Kind::NetworkPolicy => Kind::StagedNetworkPolicy,
                    _ => Kind::StagedGlobalNetworkPolicy,
                };
                let staged = self.find(staged, id).and_then(|n| self.get(n));
                let ignored = |p: &Policy| p.spec.staged_action == Some(StagedAction::Ignore);
                staged.is_none_or(|(_, p)| ignored(p))
            }
        }
    }

    /// Of the policies that select an endpoint, those that are asked in a direction: by tiers in order.
    pub(super) fn in_order(
        &self,
        slots: &BTreeSet<u32>,
        direction: PolicyType,
        mode: Mode,
    ) -> Vec<InTier> {
        let all = slots.iter();
        let read = all.filter_map(|slot| self.get(*slot).map(|(id, p)| (*slot, id, p)));
        let asked =
            read.filter(|(_, id, p)| p.spec.applies_to(direction) && self.counts(id, p, mode));
        let mut tiers: Vec<(&str, Vec<_>)> = Vec::new();
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by(|(_, a, x), (_, b, y)| {
            self.compare_tiers(x.spec.tier(), y.spec.tier())
                .then_with(|| Order::compare(x.spec.order, y.spec.order))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| a.namespace.cmp(&b.namespace))
                .then_with(|| a.kind.cmp(&b.kind))
        });
        for (slot, _, policy) in asked {
            let tier = policy.spec.tier();
            match tiers.last_mut() {
                Some((last, slots)) if *last == tier => slots.push(slot),
                _ => tiers.push((tier, vec![slot])),
            }
        }
        let whole = |(tier, slots): (&str, _)| InTier {
            tier: tier.to_owned(),
            default: self.tier(tier).1,
            slots,
        };
        tiers.into_iter().map(whole).collect()
    }

    fn compare_tiers(&self, a: &str, b: &str) -> Ordering {
        Order::compare(self.tier(a).0, self.tier(b).0).then_with(|| a.cmp(b))
    }

    /// Place and default action of a tier. One that nobody wrote comes last and denies.
    fn tier(&self, name: &str) -> (Option<Order>, TierAction) {
        if name == DEFAULT_TIER {
            return (Some(Order::from(DEFAULT_TIER_ORDER)), TierAction::Deny);
        }
        match self.tiers.get(name) {
            Some(spec) => (spec.order, spec.default_action.unwrap_or_default()),
            None => (None, TierAction::Deny),
        }
    }
}
