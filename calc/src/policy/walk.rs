//! A verdict with everything that was asked on the way to it, for people.

use std::collections::BTreeSet;

use model::object::ObjectId;
use model::resources::{Action, PolicyType, TierAction};

use super::matching::{Ports, Rule, Side, Unmet};
use super::order::Policy;
use super::{Packet, Party, World};

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The packet's destination port stands for any: rules that would match by another are marked.
    pub any_port: bool,
    /// Policies that do not select the endpoint are told too.
    pub all: bool,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has a say.
    Does(Action),
    /// The rule does not match.
    NoMatch,
    /// The policy does not apply.
    NotSelected,
}

/// One thing that was asked about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<'a> {
    /// The tier; none where the profile or a failsafe port decides.
    pub tier: Option<&'a str>,
    /// The policy; none at the end of a tier too.
    pub policy: Option<&'a ObjectId>,
    /// The rule's place.
    pub rule: Option<usize>,
    /// What came of it.
    pub said: Said,
    /// Something else for other destination ports.
    pub by_port: bool,
    /// Why.
    pub why: String,
}

impl<'a> World<'a> {
    /// Everything that is asked about a packet at an endpoint, in order; the last decides, as
    /// [`World::evaluate`] does.
    pub fn walk(
        &self,
        endpoint: &Party<'a>,
        direction: PolicyType,
        packet: &Packet,
        depth: Depth,
    ) -> Vec<Look<'a>> {
        let mut looks = Vec::new();
        if self.is_failsafe(endpoint, direction, packet) {
            let why = "a failsafe port, which no policy closes";
            looks.push(bare(Said::Does(Action::Allow), why.to_owned()));
            return looks;
        }
        'tiers: for tier in &self.tiers {
            let of_policy = |policy: &Policy<'a>, said, why| Look {
                tier: Some(tier.name),
                policy: Some(policy.id),
                rule: None,
                said,
                by_port: false,
                why,
            };
            let mut policies = 0;
            for policy in &tier.policies {
                if let Some(why) = policy.passes_over(endpoint, direction) {
                    if depth.all {
                        looks.push(of_policy(policy, Said::NotSelected, why));
                    }
                    continue;
                }
                policies += 1;
                for (index, rule) in policy.rules(direction).iter().enumerate() {
                    let (said, by_port, why) = self.ask(policy, rule, packet, depth);
                    looks.push(Look {
                        rule: Some(index),
                        by_port,
                        ..of_policy(policy, said, why)
                    });
                    match said {
                        Said::Does(Action::Allow | Action::Deny) => return looks,
                        Said::Does(Action::Pass) => continue 'tiers,
                        Said::Does(Action::Log) | Said::NoMatch | Said::NotSelected => {}
                    }
                }
            }
            if policies == 0 {
                continue;
            }
            let action = match tier.default_action {
                TierAction::Deny => Action::Deny,
                TierAction::Pass => Action::Pass,
            };
            let why = format!(
                "no rule of tier {} matches, and policies of it select the endpoint",
                tier.name
            );
            looks.push(Look {
                tier: Some(tier.name),
                ..bare(Said::Does(action), why)
            });
            if action == Action::Deny {
                return looks;
            }
        }
        let (action, why) = match (endpoint.default_allow, endpoint.is_host()) {
            (true, _) => (
                Action::Allow,
                "no tier decides, and the profile of the endpoint allows",
            ),
            (false, true) => (
                Action::Deny,
                "no tier decides, and the host endpoint has no profile that allows",
            ),
            (false, false) => (Action::Deny, "no tier decides, and no profile allows"),
        };
        looks.push(bare(Said::Does(action), why.to_owned()));
        looks
    }

    /// What a rule says about a packet, whether that hangs on the destination port, and why.
    fn ask(
        &self,
        policy: &Policy<'a>,
        rule: &Rule<'a>,
        packet: &Packet,
        depth: Depth,
    ) -> (Said, bool, String) {
        let namespace = policy.namespace();
        let unmet = rule.unmet(namespace, packet, &self.parties, Ports::Count);
        let by_port = depth.any_port
            && rule.speaks_of_ports()
            && (rule.unmet(namespace, packet, &self.parties, Ports::Ignore)).is_none();
        match unmet {
            None => {
                let why = match rule.action() {
                    Action::Log => "it matches, and logging goes on to the next rule",
                    Action::Pass => "it matches, and the next tier is asked",
                    Action::Allow | Action::Deny => "the first rule that matches",
                };
                (Said::Does(rule.action()), by_port, why.to_owned())
            }
            Some(_) if by_port => {
                let ports = rule.wanted(Unmet::PORTS);
                let why = format!("{:?} for ports {ports}", rule.action());
                (Said::NoMatch, true, why)
            }
            Some(unmet) => {
                let field = match unmet.side {
                    None => String::new(),
                    Some(Side::Source) => "source.".to_owned(),
                    Some(Side::Destination) => "destination.".to_owned(),
                };
                let (name, wanted) = (unmet.field.name(), rule.wanted(unmet));
                (Said::NoMatch, false, format!("{field}{name}: {wanted}"))
            }
        }
    }

    /// The destination ports that rules tell apart for packets at endpoints, as ranges; nothing where rules name more than `most`.
    pub fn sorts_of_ports(
        &self,
        endpoints: &[(&Party<'a>, PolicyType, Packet)],
        most: usize,
    ) -> Option<Vec<(u16, u16)>> {
        // Where a range begins.
        let mut edges = BTreeSet::from([0]);
        for (endpoint, direction, packet) in endpoints {
            let policies = self.tiers.iter();
            let policies = policies.flat_map(|t| t.policies(endpoint, *direction));
            for policy in policies {
                let rules = policy.rules(*direction).iter();
                let matching = rules.filter(|r| {
                    let of = policy.namespace();
                    (r.unmet(of, packet, &self.parties, Ports::Ignore)).is_none()
                });
                for (first, last) in
                    matching.flat_map(|r| r.destination_ports(packet, &self.parties))
                {
                    edges.insert(first);
                    edges.extend(last.checked_add(1));
                }
                if edges.len() > most {
                    return None;
                }
            }
            let open = self.failsafe_of(endpoint, *direction).flatten();
            for (_, port) in open.filter(|(p, _)| *p == packet.protocol) {
                edges.insert(*port);
                edges.extend(port.checked_add(1));
            }
        }
        let ends = edges.iter().skip(1).map(|e| e - 1).chain([u16::MAX]);
        Some(edges.iter().copied().zip(ends).collect())
    }
}

fn bare<'a>(said: Said, why: String) -> Look<'a> {
    Look {
        tier: None,
        policy: None,
        rule: None,
        said,
        by_port: false,
        why,
    }
}
