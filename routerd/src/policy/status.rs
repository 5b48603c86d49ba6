//! The subsystem `policy` of the status.

use model::api::{Health, Subsystem};

/// What the owner says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// For the status.
    pub subsystem: Subsystem,
    /// Why this node cannot enforce policy.
    pub missing: Option<String>,
}

/// What is known.
pub(super) struct Facts<'a> {
    pub(super) node: &'a str,
    /// Why there is nothing to enforce policy with.
    pub(super) missing: Option<&'a str>,
    /// Endpoints that policies select and nothing protects.
    pub(super) open: usize,
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
        return match f.open {
            0 => (
                Health::Degraded,
                format!("policy cannot be enforced on node {}: {why}", f.node),
            ),
            open => (
                Health::Failed,
                format!("{open} workloads that policies select are not protected: {why}"),
            ),
        };
    }
    if let Some(why) = f.failed.or(f.unattached) {
        return (Health::Failed, why.to_owned());
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
        [first, rest @ ..] => {
            let more = match rest.len() {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            (Health::Degraded, format!("{first}{more}"))
        }
    }
}
