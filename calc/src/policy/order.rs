//! Which policies there are, in the order in which they are asked.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::object::ObjectId;
use model::resources::tier::{DEFAULT_TIER, DEFAULT_TIER_ORDER};
use model::resources::{Order, PolicySpec, PolicyType, StagedAction, TierAction};
use model::selector::Selector;
use model::snapshot::Snapshot;
use model::{Kind, Resource};

use super::matching::Rule;
use super::{Mode, Party};

/// A tier and its policies in order.
#[derive(Clone, Debug)]
pub(super) struct Tier<'a> {
    pub(super) name: &'a str,
    order: Option<Order>,
    pub(super) default_action: TierAction,
    pub(super) policies: Vec<Policy<'a>>,
}

/// A policy, read.
#[derive(Clone, Debug)]
pub(super) struct Policy<'a> {
    pub(super) id: &'a ObjectId,
    spec: &'a PolicySpec,
    selector: Option<Selector>,
    namespace_selector: Option<Selector>,
    ingress: Vec<Rule<'a>>,
    egress: Vec<Rule<'a>>,
}

/// All tiers in order. One that policies name and nobody wrote comes last and denies.
pub(super) fn tiers(snapshot: &Snapshot, mode: Mode) -> Vec<Tier<'_>> {
    let mut tiers: BTreeMap<&str, Tier<'_>> = BTreeMap::new();
    let tier = |name, order, default_action| Tier {
        name,
        order,
        default_action,
        policies: Vec::new(),
    };
    let default_order = Some(Order::from(DEFAULT_TIER_ORDER));
    let default = tier(DEFAULT_TIER, default_order, TierAction::Deny);
    tiers.insert(DEFAULT_TIER, default);
    for (name, r) in &snapshot.tiers {
        let action = r.spec.default_action.unwrap_or_default();
        if name != DEFAULT_TIER {
            tiers.insert(name, tier(name, r.spec.order, action));
        }
    }
    for (id, r) in in_force(snapshot, mode) {
        let name = r.spec.tier();
        let of = tiers.entry(name);
        let of = of.or_insert_with(|| tier(name, None, TierAction::Deny));
        of.policies.push(Policy::read(id, &r.spec));
    }
    let mut tiers: Vec<_> = tiers.into_values().collect();
    for tier in &mut tiers {
        tier.policies.sort_by(Policy::compare);
    }
    tiers.sort_by(|a, b| Order::compare(a.order, b.order).then(a.name.cmp(b.name)));
    tiers
}

type Stored<'a> = (&'a ObjectId, &'a Resource<PolicySpec>);

/// The policies that count.
fn in_force(snapshot: &Snapshot, mode: Mode) -> impl Iterator<Item = Stored<'_>> {
    snapshot
        .policies
        .iter()
        .filter(move |(id, r)| match (id.kind.is_staged(), mode) {
            (true, Mode::Enforced) => false,
            (true, Mode::Staged) => r.spec.staged_action.unwrap_or_default() == StagedAction::Set,
            (false, Mode::Enforced) => true,
            (false, Mode::Staged) => !is_replaced(snapshot, id),
        })
}

/// Whether a staged policy would take the place of this one, or take it away.
fn is_replaced(snapshot: &Snapshot, id: &ObjectId) -> bool {
    let staged = ObjectId {
        kind: match id.kind {
            Kind::NetworkPolicy => Kind::StagedNetworkPolicy,
            _ => Kind::StagedGlobalNetworkPolicy,
        },
        ..id.clone()
    };
    let staged = snapshot.policies.get(&staged);
    staged.is_some_and(|r| r.spec.staged_action != Some(StagedAction::Ignore))
}

impl<'a> Tier<'a> {
    /// The policies that apply to an endpoint in a direction, in order.
    pub(super) fn policies<'t>(
        &'t self,
        endpoint: &'t Party<'_>,
        direction: PolicyType,
    ) -> impl Iterator<Item = &'t Policy<'a>> {
        let policies = self.policies.iter();
        policies.filter(move |p| p.spec.applies_to(direction) && p.applies_to(endpoint))
    }
}

impl<'a> Policy<'a> {
    fn read(id: &'a ObjectId, spec: &'a PolicySpec) -> Policy<'a> {
        let rules = |direction| spec.rules(direction).iter().map(Rule::read).collect();
        Policy {
            id,
            spec,
            selector: selector(spec.selector.as_deref()),
            namespace_selector: selector(spec.namespace_selector.as_deref()),
            ingress: rules(PolicyType::Ingress),
            egress: rules(PolicyType::Egress),
        }
    }

    /// By order, then name; a global policy and one of a namespace may have the same of both.
    fn compare(a: &Policy<'_>, b: &Policy<'_>) -> Ordering {
        Order::compare(a.spec.order, b.spec.order)
            .then_with(|| a.id.name.cmp(&b.id.name))
            .then_with(|| a.id.namespace.cmp(&b.id.namespace))
    }

    pub(super) fn namespace(&self) -> Option<&'a str> {
        self.id.namespace.as_deref()
    }

    pub(super) fn rules(&self, direction: PolicyType) -> &[Rule<'a>] {
        match direction {
            PolicyType::Ingress => &self.ingress,
            PolicyType::Egress => &self.egress,
        }
    }

    /// Why it does not apply to an endpoint in a direction; nothing where it does.
    pub(super) fn passes_over(
        &self,
        endpoint: &Party<'_>,
        direction: PolicyType,
    ) -> Option<String> {
        if !self.spec.applies_to(direction) {
            return Some(format!("it is not for {direction:?}"));
        }
        if self.applies_to(endpoint) {
            return None;
        }
        Some(match (self.namespace(), &self.spec.namespace_selector) {
            (Some(own), _) if !endpoint.is_workload_of(own) => {
                format!("it is for workloads of namespace {own}")
            }
            (None, Some(of)) => {
                let selector = self.spec.selector.as_deref().unwrap_or("all()");
                format!("{selector} in namespaces {of} does not select it")
            }
            _ => {
                let selector = self.spec.selector.as_deref().unwrap_or("all()");
                format!("{selector} does not select it")
            }
        })
    }

    fn applies_to(&self, endpoint: &Party<'_>) -> bool {
        let in_scope = match self.namespace() {
            Some(namespace) => endpoint.is_workload_of(namespace),
            None => endpoint.is_endpoint(),
        };
        in_scope
            && (self.selector.as_ref()).is_none_or(|s| endpoint.selected(s))
            && (self.namespace_selector.as_ref()).is_none_or(|s| endpoint.namespace_selected(s))
    }
}

/// Reads a selector. Stored ones are checked; should one not parse all the same it selects nothing.
pub(super) fn selector(text: Option<&str>) -> Option<Selector> {
    let nothing = || "!all()".parse().unwrap_or_default();
    text.map(|text| text.parse().unwrap_or_else(|_| nothing()))
}
