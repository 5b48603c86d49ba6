//! What resources would do to connections and flows, were they applied.
//!
//! The store as it is and as it would be are compiled, and each packet that began something is asked about in both. What is
//! kept of connections and flows decides how far this looks, not how many rules there are.

use std::collections::BTreeSet;

use model::api::{FlowChange, FlowStaged, PolicyImpact};
use model::kv::Event;
use model::object::ObjectId;
use model::resources::LiveConnections;
use model::snapshot::Snapshot;
use model::{Object, keys, manifest};
use policy_ebpf::common::classify::{Work, classify, identify};
use policy_ebpf::common::reason::Reason;
use policy_ebpf::common::tables::rule;
use policy_ebpf::flows::{Record, Said, ip};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Engine, Settings, feed};

use super::show::{by, verdict};
use super::{Clock, Filter, FlowsError, flow, people};
use crate::gone::Gone;
use crate::services::Services;

/// Flows that are shown.
const SAMPLES: usize = 20;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ImpactError {
    /// Nothing is seen.
    #[error(transparent)]
    Flows(#[from] FlowsError),
    /// They would not be in force.
    #[error("{0}")]
    Policy(String),
}

/// Compares the verdicts of what lives and of what is remembered.
///
/// # Errors
/// As [`ImpactError`] lists.
pub async fn impact(s: &Services, objects: Vec<Object>) -> Result<PolicyImpact, ImpactError> {
    let (records, clock) = s.flows.records(Filter::default()).await?;
    let ends = |r: &Record| [ip(&r.tuple.source), ip(&r.tuple.destination)];
    let addresses: BTreeSet<_> = records.iter().flat_map(ends).collect();
    let asked = s
        .control
        .query(move |snapshot, _| people::about(snapshot, &addresses));
    let before = asked.await.ok_or(FlowsError::Gone(Gone::Stopping))?;
    let node = s.views.node.to_string();
    let compared = tokio::task::spawn_blocking(move || {
        let after = applied(&before, &node, &objects);
        compare(&records, [&before, &after], &node, &clock)
    });
    compared
        .await
        .unwrap_or(Err(FlowsError::Gone(Gone::Stopping).into()))
}

fn applied(before: &Snapshot, node: &str, objects: &[Object]) -> Snapshot {
    let mut after = before.clone();
    for object in objects {
        let event = Event {
            key: keys::resource(&object.id()),
            value: Some(manifest::encode_stored(object)),
            revision: before.revision + 1,
        };
        after.apply(node, &event);
    }
    after
}

fn compare(
    records: &[Record],
    [before, after]: [&Snapshot; 2],
    node: &str,
    clock: &Clock,
) -> Result<PolicyImpact, ImpactError> {
    let keeps = after.mesh.live_connections == LiveConnections::Keep;
    let (before, after) = (Compiled::of(before, node), Compiled::of(after, node));
    if let Some(problem) = after.problem(&before) {
        return Err(ImpactError::Policy(problem));
    }
    let mut impact = PolicyImpact::default();
    let (mut cut, mut changed) = (Vec::new(), Vec::new());
    for record in records {
        let lives = record.allowed && record.end.is_none();
        match lives {
            true => impact.connections += 1,
            false => impact.flows += 1,
        }
        if !is_of_policy(record) {
            continue;
        }
        let verdicts = before.judge(record).zip(after.judge(record));
        let Some((was, would)) = verdicts.filter(|(was, would)| was.0 != would.0) else {
            continue;
        };
        // What a policy that changed while it lives has cut is no news.
        let samples = match (lives, was.0) {
            (true, true) if keeps => continue,
            (true, true) => {
                impact.cut += 1;
                &mut cut
            }
            (true, false) => continue,
            (false, _) => {
                impact.changed += 1;
                &mut changed
            }
        };
        if samples.len() < SAMPLES {
            let would = FlowStaged {
                verdict: verdict(would.0),
                by: by(after.said(would.1).as_ref()),
            };
            let flow = flow(record, node, clock);
            samples.push(FlowChange { flow, would });
        }
    }
    cut.append(&mut changed);
    cut.truncate(SAMPLES);
    impact.samples = cut;
    Ok(impact)
}

/// Whether policy has a say about it.
fn is_of_policy(record: &Record) -> bool {
    let others = [
        rule::FAILSAFE,
        rule::OF_HOST,
        rule::ENDPOINT_TO_HOST,
        rule::SPOOFED,
    ];
    matches!(record.reason, None | Some(Reason::Policy)) && !others.contains(&record.decided.rule)
}

/// A snapshot's policy, as the kernel would have it.
struct Compiled {
    engine: Engine,
    tables: Mirror,
}

impl Compiled {
    fn of(snapshot: &Snapshot, node: &str) -> Compiled {
        let mut engine = Engine::new(Settings::default());
        let mut tables = Mirror::default();
        let all = feed::everything(&engine, snapshot, node);
        tables.update(&engine.apply(all));
        Compiled { engine, tables }
    }

    /// What the other does not have.
    fn problem(&self, other: &Compiled) -> Option<String> {
        let known: BTreeSet<String> = other
            .engine
            .problems()
            .map(|(_, e)| e.to_string())
            .collect();
        let mut problems = self.engine.problems().map(|(_, e)| e.to_string());
        problems.find(|problem| !known.contains(problem))
    }

    /// Whether the packet that began something passes, and the word of what decides; `None` where its endpoint is not
    /// there.
    fn judge(&self, record: &Record) -> Option<(bool, u32)> {
        let id: &ObjectId = match record.outbound {
            true => &record.names.source.as_ref()?.id,
            false => &record.names.destination.as_ref()?.id,
        };
        let chains = self.tables.endpoints.get(id)?;
        let number = match record.outbound {
            true => chains.egress,
            false => chains.ingress,
        };
        let mut work = Work {
            tuple: record.tuple,
            ..Work::default()
        };
        identify(&self.tables, &mut work);
        classify(&self.tables, self.tables.chains.get(&number)?, &mut work);
        Some((work.allowed(), work.rule))
    }

    fn said(&self, word: u32) -> Option<Said> {
        let rule = || self.engine.describe(rule::number(word)).map(Said::Rule);
        Said::built_in(word).or_else(rule)
    }
}
