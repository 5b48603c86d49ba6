//! The subsystem `policy` of the status.

use model::api::{Health, Subsystem};
use model::marks;

use super::barrier::Barrier;

/// What the owner says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// For the status.
    pub subsystem: Subsystem,
    /// Why this node cannot enforce policy.
    pub missing: Option<String>,
    /// Workloads that are cut off for that.
    pub cut_off: usize,
}

/// What is known.
pub(super) struct Facts<'a> {
    pub(super) node: &'a str,
    /// Why there is nothing to enforce policy with.
    pub(super) missing: Option<&'a str>,
    /// Host endpoints that policies select and nothing protects.
    pub(super) open: usize,
    /// Workloads that are cut off for that.
    pub(super) barrier: &'a Barrier,
    /// Interfaces that have the programs.
    pub(super) endpoints: usize,
    pub(super) policies: usize,
    /// Why policies of endpoints are not in force.
    pub(super) problems: Vec<String>,
    /// There are policies that nobody can read.
    pub(super) in_doubt: bool,
    /// Why the kernel does not have what it should have.
    pub(super) failed: Option<&'a str>,
    /// Why an interface does not have the programs.
    pub(super) unattached: Option<&'a str>,
}

pub(super) fn subsystem(facts: &Facts<'_>) -> Subsystem {
    let (state, message) = judge(facts);
    Subsystem {
        name: "policy".into(),
        state,
        message,
    }
}

fn judge(f: &Facts<'_>) -> (Health, String) {
    if let Some(why) = f.missing {
        return missing(f, why);
    }
    if let Some(why) = f.failed.or(f.unattached) {
        return (Health::Failed, why.to_owned());
    }
    if let Some(why) = &f.barrier.failed {
        return (
            Health::Degraded,
            format!("workloads may be cut off for no reason: {why}"),
        );
    }
    if f.in_doubt {
        let why = "there are policies that cannot be read: endpoints keep the policies that they have, and new ones \
                   stay closed; apply or delete what is rejected";
        return (Health::Degraded, why.to_owned());
    }
    match f.problems.as_slice() {
        [] => (
            Health::Ok,
            format!("{} policies, {} interfaces", f.policies, f.endpoints),
        ),
        all => (Health::Degraded, several(all)),
    }
}

/// The first of several, and how many more there are.
pub(crate) fn several(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// What becomes of endpoints where nothing enforces policy, and why nothing does.
fn missing(f: &Facts<'_>, why: &str) -> (Health, String) {
    let uncut = "workloads that policies select are not cut off";
    let open = "host endpoints that policies select are not protected";
    let kept = "workloads keep the policies of the daemon before, however these change";
    let counts = [
        (f.barrier.uncut(), uncut),
        (f.open, open),
        (f.barrier.kept, kept),
    ];
    let unprotected = counts.into_iter().filter(|(count, _)| *count > 0);
    let mut said: Vec<String> = unprotected.map(|(n, of)| format!("{n} {of}")).collect();
    let state = match said.is_empty() {
        true => Health::Degraded,
        false => Health::Failed,
    };
    said.extend(f.barrier.failed.clone());
    let cut_off: Vec<String> = f.barrier.cut_off().map(ToString::to_string).collect();
    if !cut_off.is_empty() {
        let (who, table) = (several(&cut_off), marks::NFT_CUTOFF);
        said.push(format!(
            "{who} cut off by table inet {table}, since policies select it, or might"
        ));
    }
    if !said.is_empty() {
        said.push("mend this and start routerd again, or delete the policies".to_owned());
    }
    said.insert(
        0,
        format!("policy cannot be enforced on node {}: {why}", f.node),
    );
    (state, said.join("; "))
}
