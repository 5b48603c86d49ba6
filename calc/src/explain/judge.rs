//! What policy says at an end, step by step.

use std::fmt;
use std::net::IpAddr;

use model::Kind;
use model::api::{ExplainAt, ExplainDecision, ExplainStep, ExplainVerdict};
use model::kernel::LinkName;
use model::object::ObjectId;
use model::resources::host_endpoint::ALL_INTERFACES;
use model::resources::{Action, HostEndpointSpec, PolicyType};

use super::Judged;
use super::ends::{End, Who};
use super::way::Way;
use crate::Inputs;
use crate::policy::{By, Depth, Look, Packet, Party, Said, World};

/// What decides at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// A rule.
    Rule {
        /// Tier of its policy.
        tier: String,
        /// Its policy.
        policy: ObjectId,
        /// Direction that it is for.
        direction: PolicyType,
        /// Its place among the rules of that.
        index: usize,
    },
    /// The default action of a tier.
    EndOfTier {
        /// The tier.
        tier: String,
    },
    /// The profile of the endpoint.
    Profile,
    /// A port of a host that no policy closes.
    Failsafe,
}

/// A decision of policy at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The packet is let through.
    pub allowed: bool,
    /// By whom.
    pub by: Decider,
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decider::Rule {
                tier,
                policy,
                direction,
                index,
            } => {
                let (kind, name) = (policy.kind, name(policy));
                let direction = word(*direction);
                write!(f, "{direction}[{index}] of {kind} {name} (tier {tier})")
            }
            Decider::EndOfTier { tier } => write!(f, "the end of tier {tier}"),
            Decider::Profile => f.write_str("the profile"),
            Decider::Failsafe => f.write_str("a failsafe port"),
        }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "Allow" } else { "Deny" };
        write!(f, "{verdict} by {}", self.by)
    }
}

/// A direction as policies write it.
pub(super) fn word(direction: PolicyType) -> &'static str {
    match direction {
        PolicyType::Ingress => "ingress",
        PolicyType::Egress => "egress",
    }
}

/// A policy as `name` or `namespace/name`.
fn name(policy: &ObjectId) -> String {
    match &policy.namespace {
        Some(namespace) => format!("{namespace}/{}", policy.name),
        None => policy.name.clone(),
    }
}

/// An endpoint that policy is asked about.
pub(super) struct Judge<'w, 'a> {
    pub(super) party: &'w Party<'a>,
    pub(super) direction: PolicyType,
    /// Source that the endpoint sees, where it is another.
    pub(super) seen_from: Option<IpAddr>,
    id: ObjectId,
    node: String,
}

impl<'w, 'a> Judge<'w, 'a> {
    /// A workload.
    pub(super) fn workload(
        world: &'w World<'a>,
        end: &End<'a>,
        direction: PolicyType,
    ) -> Option<Judge<'w, 'a>> {
        let Who::Workload {
            namespace,
            name,
            node,
            ..
        } = end.who
        else {
            return None;
        };
        Some(Judge {
            party: world.workload(namespace, name)?,
            direction,
            seen_from: None,
            id: ObjectId {
                kind: Kind::WorkloadEndpoint,
                namespace: Some(namespace.to_owned()),
                name: name.to_owned(),
            },
            node: node.to_owned(),
        })
    }

    /// The host endpoint of the interface that packets of a host go by.
    pub(super) fn host(
        inputs: &Inputs<'a>,
        world: &'w World<'a>,
        end: &End<'a>,
        way: &Way,
        direction: PolicyType,
    ) -> Option<Judge<'w, 'a>> {
        let name = match end.who {
            Who::Host { name } => name,
            Who::Node { name: node, .. } => {
                let hosts = &inputs.snapshot.host_endpoints;
                let of_node = hosts.iter().filter(|(_, r)| r.spec.node == node);
                let device = device(inputs, end, node, way);
                let there = of_node.filter(|(_, r)| is_at(&r.spec, end.ip, device));
                // One for all interfaces is at those that no other names.
                let (name, _) =
                    there.min_by_key(|(_, r)| r.spec.interface_name == ALL_INTERFACES)?;
                name
            }
            Who::Workload { .. } | Who::Nobody | Who::Outside => return None,
        };
        let spec = &inputs.snapshot.host_endpoints.get(name)?.spec;
        Some(Judge {
            party: world.host(name)?,
            direction,
            seen_from: None,
            id: ObjectId {
                kind: Kind::HostEndpoint,
                namespace: None,
                name: name.to_owned(),
            },
            node: spec.node.clone(),
        })
    }

    /// The packet as the endpoint sees it.
    pub(super) fn sees(&self, packet: &Packet) -> Packet {
        Packet {
            source: self.seen_from.unwrap_or(packet.source),
            ..*packet
        }
    }

    /// What policy says.
    pub(super) fn judge(&self, world: &World<'a>, packet: &Packet) -> Judged {
        let packet = self.sees(packet);
        let verdict = world.evaluate(self.party, self.direction, &packet);
        let by = match verdict.by {
            By::Rule { tier, policy, rule } => Decider::Rule {
                tier: tier.to_owned(),
                policy: policy.clone(),
                direction: self.direction,
                index: rule,
            },
            By::EndOfTier { tier, .. } => Decider::EndOfTier {
                tier: tier.to_owned(),
            },
            By::Profile => Decider::Profile,
            By::Failsafe => Decider::Failsafe,
        };
        Judged {
            endpoint: self.id.clone(),
            node: self.node.clone(),
            direction: self.direction,
            packet,
            decided: Decided {
                allowed: verdict.allowed,
                by,
            },
        }
    }

    /// Everything that is asked, in order.
    pub(super) fn walk(
        &self,
        world: &World<'a>,
        packet: &Packet,
        any_port: bool,
        all: bool,
    ) -> Vec<ExplainStep> {
        let packet = self.sees(packet);
        let depth = Depth { any_port, all };
        let looks = world.walk(self.party, self.direction, &packet, depth);
        looks.into_iter().map(|look| self.step(look)).collect()
    }

    fn step(&self, look: Look<'_>) -> ExplainStep {
        ExplainStep {
            at: match self.direction {
                PolicyType::Egress => ExplainAt::Egress,
                PolicyType::Ingress => ExplainAt::Ingress,
            },
            decision: match look.said {
                Said::Does(Action::Allow) => ExplainDecision::Allow,
                Said::Does(Action::Deny) => ExplainDecision::Deny,
                Said::Does(Action::Pass) => ExplainDecision::Pass,
                Said::Does(Action::Log) => ExplainDecision::Log,
                Said::NoMatch => ExplainDecision::NoMatch,
                Said::NotSelected => ExplainDecision::NotSelected,
            },
            tier: look.tier.map(str::to_owned),
            policy: look.policy.map(name),
            policy_kind: look.policy.map(|p| p.kind.to_string()),
            rule: look.rule.and_then(|r| u32::try_from(r).ok()),
            by_port: look.by_port,
            reason: look.why,
        }
    }
}

/// The interface that packets of a host go by, as far as this node knows.
fn device(inputs: &Inputs<'_>, end: &End<'_>, node: &str, way: &Way) -> Option<LinkName> {
    if node != inputs.node {
        return None;
    }
    let by_route = way.hop().filter(|_| way.is_here).map(|hop| hop.dev);
    let underlay = || (inputs.underlay.of(model::Family::of(end.ip))).map(|l| l.interface);
    by_route.or_else(underlay)
}

/// Whether a host endpoint is at the interface that an address of its host is reached by. Interfaces of other nodes
/// are not known here: one by name is taken to be that.
fn is_at(spec: &HostEndpointSpec, ip: IpAddr, device: Option<LinkName>) -> bool {
    match (spec.interface_name.as_str(), device) {
        (ALL_INTERFACES, _) => true,
        ("", _) => spec.expected_ips.contains(&ip),
        (name, Some(device)) => name == device.as_str(),
        (_, None) => spec.expected_ips.is_empty() || spec.expected_ips.contains(&ip),
    }
}

/// The steps of policy that have a say, as what they are told apart by.
pub(super) fn deciding(steps: &[ExplainStep]) -> impl Iterator<Item = impl PartialEq + use<'_>> {
    let of_policy = |s: &&ExplainStep| {
        let has_say = !matches!(
            s.decision,
            ExplainDecision::NoMatch | ExplainDecision::NotSelected
        );
        has_say && matches!(s.at, ExplainAt::Egress | ExplainAt::Ingress)
    };
    let steps = steps.iter().filter(of_policy);
    steps.map(|s| (s.at, s.decision, &s.tier, &s.policy, &s.policy_kind, s.rule))
}

/// What all steps come to, and why in a sentence.
pub(super) fn verdict(steps: &[ExplainStep]) -> (ExplainVerdict, String) {
    if let Some(step) = steps.iter().find(|s| s.decision == ExplainDecision::Deny) {
        let at = match step.at {
            ExplainAt::Source => "at the source",
            ExplainAt::Egress => "by egress policy of the source",
            ExplainAt::Route => "on the way",
            ExplainAt::Encryption => "for want of encryption",
            ExplainAt::Nat => "by translation of addresses",
            ExplainAt::Ingress => "by ingress policy of the destination",
            ExplainAt::Destination => "at the destination",
        };
        return (ExplainVerdict::Deny, format!("denied {at}: {}", by(step)));
    }
    let allowed = steps
        .iter()
        .filter(|s| s.decision == ExplainDecision::Allow);
    let allowed = allowed.map(|s| {
        let at = match s.at {
            ExplainAt::Egress => "egress",
            ExplainAt::Ingress => "ingress",
            _ => "there",
        };
        format!("{at} by {}", by(s))
    });
    let said: Vec<String> = allowed.collect();
    let said = match said.is_empty() {
        true => "no policy has a say".to_owned(),
        false => said.join("; "),
    };
    (ExplainVerdict::Allow, format!("allowed: {said}"))
}

/// Who made a step.
fn by(step: &ExplainStep) -> String {
    let direction = match step.at {
        ExplainAt::Egress => "egress",
        _ => "ingress",
    };
    match (&step.tier, &step.policy, step.rule) {
        (Some(tier), Some(policy), Some(rule)) => {
            let kind = step.policy_kind.as_deref().unwrap_or_default();
            format!("{direction}[{rule}] of {kind} {policy} (tier {tier})")
        }
        (Some(tier), ..) => format!("the end of tier {tier}, no rule of which matches"),
        _ => step.reason.clone(),
    }
}
