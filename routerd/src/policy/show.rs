//! The rules in force at an endpoint, in order, with what they decided.

use std::net::IpAddr;

use calc::policy::{Mode, Party, World};
use model::Kind;
use model::api::{PolicyRuleShow, PolicyShow, RuleCount};
use model::object::ObjectId;
use model::resources::{Action, PolicyType, TierAction, tier::DEFAULT_TIER};
use model::snapshot::Snapshot;
use policy_ebpf::Rule;
use policy_ebpf::common::tables::{self, rule as word};
use policy_ebpf::flows::Said;

use super::words::in_words;
use crate::flows::{Counted, by, people};
use crate::gone::Gone;
use crate::services::Services;

/// Why an endpoint is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShowError {
    /// Nobody is called so.
    #[error(
        "no endpoint {0} on this node: see `routerctl get workloadendpoints` and `routerctl get hostendpoints`"
    )]
    NotFound(String),
    /// It is another node's.
    #[error("{0} is on node {1}: ask the daemon there")]
    Elsewhere(String, String),
    /// Nobody answers.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A rule, and how it is found among the counters.
struct Row {
    shown: PolicyRuleShow,
    said: Said,
}

/// What is in force at an endpoint, by its name, the name of its pod, or an address.
///
/// # Errors
/// As [`ShowError`] lists.
pub async fn show(s: &Services, endpoint: &str, namespace: &str) -> Result<PolicyShow, ShowError> {
    let (name, space) = (endpoint.to_owned(), namespace.to_owned());
    let node = s.views.node.to_string();
    let asked = s.control.query(move |snapshot, _| {
        let id = find(snapshot, &node, &name, &space)?;
        Ok((id, people::about(snapshot, &Default::default())))
    });
    let asked: Result<_, ShowError> = asked.await.ok_or(Gone::Stopping)?;
    let (id, about) = asked?;
    let of = id.clone();
    // Of many policies this takes a while.
    let built = tokio::task::spawn_blocking(move || rows(&about, &of));
    let mut rows = built.await.map_err(|_| Gone::Stopping)?;
    let rule = |row: &Row| match &row.said {
        Said::Rule(rule) => Some(rule.clone()),
        _ => None,
    };
    let rules: Vec<Option<Rule>> = rows.iter().map(rule).collect();
    let of = id.clone();
    let asked = s.policy.ask(move |seen| {
        let number = |rule: &Option<Rule>| seen.engine.number(rule.as_ref()?);
        let numbers: Vec<Option<u32>> = rules.iter().map(number).collect();
        let names: Vec<&str> = seen.attached.of(&of).map(|i| i.name.as_str()).collect();
        let interface = (!names.is_empty()).then(|| names.join(", "));
        (numbers, interface, problem(seen, &of))
    });
    let (numbers, interface, problem) = asked.await?;
    if let Ok(counted) = s.flows.counted().await {
        for (row, number) in rows.iter_mut().zip(numbers) {
            row.shown.counted = Some(count(row, number, &counted));
        }
    }
    Ok(PolicyShow {
        kind: id.kind.to_string(),
        namespace: id.namespace.unwrap_or_default(),
        name: id.name,
        interface,
        problem,
        rules: rows.into_iter().map(|r| r.shown).collect(),
    })
}

fn find(
    snapshot: &Snapshot,
    node: &str,
    name: &str,
    namespace: &str,
) -> Result<ObjectId, ShowError> {
    let workload = |namespace: &str, name: &str| ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let ip: Option<IpAddr> = name.parse().ok();
    let local = snapshot.local_endpoints.iter().find(|(key, endpoint)| {
        let here =
            &*key.namespace == namespace && (&*key.name == name || endpoint.spec.called() == name);
        here || ip.is_some_and(|ip| endpoint.spec.ip_networks.iter().any(|n| n.contains(ip)))
    });
    if let Some((key, _)) = local {
        return Ok(workload(&key.namespace, &key.name));
    }
    let host = snapshot.host_endpoints.iter().find(|(host, spec)| {
        *host == name || ip.is_some_and(|ip| spec.spec.expected_ips.contains(&ip))
    });
    if let Some((host, endpoint)) = host {
        let on = &endpoint.spec.node;
        return match on == node {
            true => Ok(ObjectId {
                kind: Kind::HostEndpoint,
                namespace: None,
                name: host.clone(),
            }),
            false => Err(ShowError::Elsewhere(
                format!("HostEndpoint/{host}"),
                on.clone(),
            )),
        };
    }
    let remote = snapshot.remote_endpoints.iter().find(|(key, remote)| {
        let there =
            &*key.namespace == namespace && (&*key.name == name || &*remote.workload == name);
        there || ip.is_some_and(|ip| remote.ips.contains(&ip))
    });
    Err(match remote {
        Some((key, remote)) => {
            let id = workload(&key.namespace, &key.name);
            ShowError::Elsewhere(id.to_string(), remote.node.to_string())
        }
        None => ShowError::NotFound(match ip {
            Some(ip) => ip.to_string(),
            None => format!("{namespace}/{name}"),
        }),
    })
}

fn problem(seen: &super::Seen<'_>, id: &ObjectId) -> Option<String> {
    if let Some(why) = seen.missing() {
        if seen.barrier.cuts_off(id) {
            return Some(format!(
                "the workload is cut off, since policy cannot be enforced on this node: {why}"
            ));
        }
        return Some(format!("policy cannot be enforced on this node: {why}"));
    }
    let mut problems = seen.engine.problems();
    if let Some((_, error)) = problems.find(|(of, _)| *of == id) {
        return Some(format!("what stood before is in force: {error}"));
    }
    seen.engine
        .is_in_doubt()
        .then(|| "there are policies that cannot be read: what stood before is in force".to_owned())
}

/// Every rule that is asked, enforced ones first; empty when the endpoint is not there any more.
fn rows(about: &Snapshot, id: &ObjectId) -> Vec<Row> {
    let mut rows = Vec::new();
    for mode in [Mode::Enforced, Mode::Staged] {
        let world = World::new(about, mode);
        let party = match id.kind {
            Kind::HostEndpoint => world.host(&id.name),
            _ => world.workload(id.namespace.as_deref().unwrap_or_default(), &id.name),
        };
        let Some(party) = party else { return rows };
        for direction in [PolicyType::Ingress, PolicyType::Egress] {
            let part = of_direction(about, &world, party, (id, direction, mode));
            rows.extend(part);
        }
    }
    rows
}

fn of_direction(
    about: &Snapshot,
    world: &World<'_>,
    party: &Party<'_>,
    (id, direction, mode): (&ObjectId, PolicyType, Mode),
) -> Vec<Row> {
    let is_staged = mode == Mode::Staged;
    let mut rows = Vec::new();
    let mut ends = false;
    for (tier, policies) in world.policies(party, direction) {
        for policy in policies {
            let Some(stored) = about.policies.get(policy) else {
                continue;
            };
            if policy.kind.is_staged() != is_staged {
                continue; // of the staged world only what is new in it
            }
            for (index, rule) in (0..).zip(stored.spec.rules(direction)) {
                let said = Said::Rule(Rule::Of {
                    tier: tier.to_owned(),
                    policy: policy.clone(),
                    direction,
                    index,
                });
                rows.push(Row::of(
                    direction,
                    said,
                    rule.action,
                    in_words(rule),
                    is_staged,
                ));
            }
        }
        let default = about.tiers.get(tier).filter(|_| tier != DEFAULT_TIER);
        let default = default
            .and_then(|t| t.spec.default_action)
            .unwrap_or_default();
        let action = match default {
            TierAction::Deny => Action::Deny,
            TierAction::Pass => Action::Pass,
        };
        ends |= action == Action::Deny;
        if !is_staged {
            let said = Said::Rule(Rule::EndOfTier {
                tier: tier.to_owned(),
                direction,
            });
            let words = "everything else that comes to this tier".to_owned();
            rows.push(Row::of(direction, said, action, words, false));
        }
    }
    if !is_staged && !ends {
        let host = about
            .host_endpoints
            .get(&id.name)
            .filter(|_| id.kind == Kind::HostEndpoint);
        let action = match host.is_none_or(|h| h.spec.default_allow()) {
            true => Action::Allow,
            false => Action::Deny,
        };
        let words = "everything that no tier decides".to_owned();
        rows.push(Row::of(direction, Said::Profile, action, words, false));
    }
    rows
}

impl Row {
    fn of(direction: PolicyType, said: Said, action: Action, matches: String, staged: bool) -> Row {
        Row {
            shown: PolicyRuleShow {
                direction,
                by: by(Some(&said)),
                action,
                matches,
                staged,
                counted: None,
            },
            said,
        }
    }
}

fn count(row: &Row, number: Option<u32>, counted: &Counted) -> RuleCount {
    let (said, staged) = (&row.said, row.shown.staged);
    let rule = match (said, row.shown.action, number) {
        (Said::Profile, Action::Allow, _) => word::PROFILE_ALLOW,
        (Said::Profile, ..) => word::PROFILE_DENY,
        (_, _, None) => return RuleCount::default(),
        (_, Action::Allow, Some(number)) => word::word(number, tables::Action::Allow),
        (_, Action::Deny, Some(number)) => word::word(number, tables::Action::Deny),
        (_, Action::Pass, Some(number)) => word::word(number, tables::Action::Pass),
        (_, Action::Log, Some(number)) => word::log(number),
    };
    let kernel = counted.kernel.get(&(rule, staged)).copied();
    // What a profile lets through and what it denies are called the same, and nothing passes by a denial.
    let passes = !matches!((said, row.shown.action), (Said::Profile, Action::Deny));
    let passed = counted.passed.get(&(said.clone(), staged)).copied();
    let passed = passed.filter(|_| passes);
    let (kernel, passed) = (kernel.unwrap_or_default(), passed.unwrap_or_default());
    RuleCount {
        packets: kernel.packets + passed.packets,
        bytes: kernel.bytes + passed.bytes,
        connections: kernel.connections,
    }
}

#[cfg(test)]
mod tests {
    use policy_ebpf::common::event::Counter;

    use super::*;

    #[test]
    fn what_a_profile_lets_through_is_not_counted_where_it_denies() {
        let counter = |packets| Counter {
            packets,
            ..Counter::default()
        };
        let counted = Counted {
            kernel: [
                ((word::PROFILE_ALLOW, false), counter(1)),
                ((word::PROFILE_DENY, false), counter(10)),
            ]
            .into(),
            passed: [((Said::Profile, false), counter(100))].into(),
        };
        let packets = |action| {
            let matches = String::new();
            let row = Row::of(PolicyType::Ingress, Said::Profile, action, matches, false);
            count(&row, None, &counted).packets
        };
        assert_eq!((packets(Action::Allow), packets(Action::Deny)), (101, 10));
    }
}
