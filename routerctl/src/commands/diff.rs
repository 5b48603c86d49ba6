//! `diff`: what apply would change.

use std::path::PathBuf;

use client::{Client, Error, paths};
use model::api::{Action, Applied, FlowChange, FlowVerdict, PolicyImpact};
use serde_json::Value;

use super::apply::named;
use super::flows;
use crate::failure::{Done, Failure};
use crate::manifests;
use crate::output::{Colour, Out};
use crate::progress::Progress;
use crate::text;
use crate::unified;

pub(super) fn run(client: &Client, files: &[PathBuf], out: &mut Out) -> Result<Done, Failure> {
    let objects = manifests::read(files)?;
    let mut errors = Vec::new();
    let mut done = Done::Well;
    let mut policy = Vec::new();
    let progress = Progress::start("comparing");
    for (n, object) in objects.iter().enumerate() {
        let id = object.id();
        progress.set(|| format!("comparing {id} ({} of {})", n + 1, objects.len()));
        let target = paths::resource(&id).query("dryRun", "true");
        let body = model::manifest::to_wire(object);
        match client.put::<_, Applied>(&target, &body) {
            Ok(applied) if applied.action == Action::Unchanged => {}
            Ok(applied) => {
                done = Done::Differs;
                let text = difference(&id.to_string(), applied)?;
                print(&text, out);
                if id.kind.belongs_to_policy() {
                    policy.push(body);
                }
            }
            Err(e @ Error::Refused { .. }) => errors.push(named(&id.to_string(), &e)),
            Err(e) => return Err(e.into()),
        }
    }
    drop(progress);
    if !policy.is_empty() {
        impact(client, &policy, out)?;
    }
    if errors.is_empty() {
        Ok(done)
    } else {
        Err(Failure::Failed(errors))
    }
}

/// What would become of connections and flows of this node.
fn impact(client: &Client, objects: &[Value], out: &mut Out) -> Result<(), Failure> {
    let impact: PolicyImpact = match client.post(&paths::policy_impact(), &objects) {
        Ok(impact) => impact,
        // A node without policy programs, or one of an older version.
        Err(Error::Refused {
            status: 404 | 503,
            body,
            ..
        }) => {
            eprintln!("what it would cut is not known: {}", body.error);
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    let PolicyImpact {
        connections,
        cut,
        flows,
        changed,
        samples,
    } = impact;
    let text = format!("# this node: would cut {cut} of {connections} live connections");
    out.line(&match cut {
        0 => text,
        _ => out.paint(Colour::Red, &text),
    });
    out.line(&format!(
        "# this node: {changed} of {flows} flows that it remembers would get another verdict"
    ));
    for FlowChange { flow, would } in &samples {
        let verdict = match would.verdict {
            FlowVerdict::Allow => "allow",
            FlowVerdict::Deny if flow.end.is_none() => "cut",
            FlowVerdict::Deny => "deny",
        };
        let by = flows::decided(&would.by, None);
        out.line(&format!(
            "#   would {verdict} {}: {by}",
            flows::between(flow)
        ));
    }
    Ok(())
}

fn difference(id: &str, applied: Applied) -> Result<String, Failure> {
    let (from, to) = (
        if applied.before.is_some() {
            "stored"
        } else {
            "absent"
        },
        if applied.after.is_some() {
            "applied"
        } else {
            "absent"
        },
    );
    let (before, after) = (document(applied.before)?, document(applied.after)?);
    Ok(format!(
        "--- {id} ({from})\n+++ {id} ({to})\n{}",
        unified::diff(&before, &after)
    ))
}

/// The object as YAML, without what the store sets and nobody applies.
fn document(object: Option<Value>) -> Result<String, Failure> {
    let Some(mut object) = object else {
        return Ok(String::new());
    };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["resourceVersion", "uid", "creationTimestamp"] {
            metadata.remove(field);
        }
    }
    text::yaml(&object)
}

fn print(text: &str, out: &mut Out) {
    for line in text.lines() {
        let colour = match line.as_bytes().first() {
            Some(b'-') => Some(Colour::Red),
            Some(b'+') => Some(Colour::Green),
            Some(b'@') => Some(Colour::Cyan),
            _ => None,
        };
        match colour {
            Some(colour) => {
                let line = out.paint(colour, line);
                out.line(&line);
            }
            None => out.line(line),
        }
    }
}
