//! What others did to our objects since we left them right.
//!
//! That is the plan back to what the last run achieved, as far as the new target wants it too: what
//! the store, the CNI path or a failed run of ours changed is no drift.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::SystemTime;

use model::api;
use model::kernel::{KernelState, LinkName, Observed, Op};
use netlink::{Conflict, Plan, describe};

use super::target::{hops, is_of};

/// One object found changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The object, in words.
    pub object: String,
    /// `missing`, `changed` or `unexpected`.
    pub found: &'static str,
}

/// What drift is found from.
pub(super) struct Inputs<'a> {
    /// The plan to what the last run aimed at.
    pub(super) back: &'a Plan,
    /// The plan to what is wanted now.
    pub(super) plan: &'a Plan,
    /// Names of the operations that the last run did not get done.
    pub(super) open: &'a BTreeSet<String>,
    /// What the last run could not plan.
    pub(super) conflicts: &'a BTreeSet<Conflict>,
    /// What the last run aimed at.
    pub(super) achieved: &'a KernelState,
    /// A link that was found gone, and may be back.
    pub(super) lost: Option<LinkName>,
    /// What there is.
    pub(super) observed: &'a Observed,
}

/// The objects that differ.
pub(super) fn find(inputs: &Inputs<'_>) -> Vec<Drift> {
    let &Inputs { back, plan, .. } = inputs;
    let mut drifts = Vec::new();
    // What hangs on a link that is gone went with it: the link alone is named.
    let mut gone: BTreeSet<LinkName> = (back.ops.iter())
        .filter_map(|op| match op {
            Op::CreateVxlan(v) => Some(v.name),
            _ => None,
        })
        .chain(inputs.lost)
        .collect();
    for conflict in &back.conflicts {
        if let Conflict::MissingLink { link, .. } = conflict
            && plan.conflicts.binary_search(conflict).is_ok()
            && !inputs.conflicts.contains(conflict)
            && gone.insert(*link)
            && inputs.achieved.workload_links.contains(link)
        {
            drifts.push(Drift {
                object: describe::link(link),
                found: "missing",
            });
        }
    }
    if back.ops.is_empty() {
        return drifts;
    }
    // A link that was not there when the last run looked brings what hangs on it only now.
    let new: BTreeSet<LinkName> = (inputs.conflicts.iter())
        .filter_map(|conflict| match conflict {
            Conflict::MissingLink { link, .. } => Some(*link),
            Conflict::AlienRoute { .. } => None,
        })
        .collect();
    let wanted: HashSet<_> = plan.ops.iter().map(name).collect();
    for op in &back.ops {
        let name = name(op);
        let ours_to_do = inputs.open.contains(&name) || stands(op, inputs.observed);
        let was = match op {
            Op::AddRoute(key, _) => inputs.achieved.routes.get(key),
            _ => None,
        };
        // A route that now leads nowhere led by such a link.
        let led = was.is_some_and(|r| hops(r).iter().any(|h| gone.contains(&h.dev)));
        let hangs_on = led || went_along(op, &gone) || went_along(op, &new);
        if wanted.contains(&name) && !ours_to_do && !hangs_on {
            drifts.push(Drift {
                object: describe::object(op),
                found: found(op, inputs.observed),
            });
        }
    }
    drifts
}

/// An operation as text, by which operations are compared.
pub(super) fn name(op: &Op) -> String {
    format!("{} {}", describe::operation(op), describe::object(op))
}

fn went_along(op: &Op, gone: &BTreeSet<LinkName>) -> bool {
    match op {
        // A link is only deleted here to make room for itself.
        Op::AddAddress(l, _) | Op::DeleteLink(l) | Op::SetMtu(l, _) | Op::SetUp(l) => {
            gone.contains(l)
        }
        Op::SetNeighbour(n) => gone.contains(&n.dev),
        Op::SetFdb(e) => gone.contains(&e.dev),
        Op::AddRoute(_, r) | Op::ReplaceRoute(_, r) => {
            hops(r).iter().any(|h| gone.contains(&h.dev))
        }
        Op::SetSysctl(path, _) => gone.iter().any(|l| is_of(path, *l)),
        _ => false,
    }
}

/// Whether the object is there, and only planned because another operation will take it along.
fn stands(op: &Op, observed: &Observed) -> bool {
    let ours = &observed.ours;
    match op {
        Op::SetNeighbour(n) => ours.neighbours.contains(n),
        Op::SetFdb(e) => ours.fdb.contains(e),
        Op::AddAddress(l, a) => ours.addresses.contains(&(*l, *a)),
        Op::AddRoute(k, r) => ours.routes.get(k) == Some(r),
        _ => false,
    }
}

/// What was found in place of the object.
fn found(op: &Op, observed: &Observed) -> &'static str {
    let ours = &observed.ours;
    let other = match op {
        Op::AddRoute(..) | Op::AddAddress(..) => false,
        Op::CreateVxlan(v) => observed.links.contains_key(&v.name),
        Op::SetNeighbour(n) => (ours.neighbours.iter()).any(|o| (o.dev, o.ip) == (n.dev, n.ip)),
        Op::SetFdb(e) => ours.fdb.iter().any(|o| (o.dev, o.mac) == (e.dev, e.mac)),
        Op::SetNat(_) => ours.nat.is_some(),
        Op::SetGuard(_) => ours.guard.is_some(),
        Op::SetMtu(..)
        | Op::SetMac(..)
        | Op::SetUp(_)
        | Op::ReplaceRoute(..)
        | Op::SetSysctl(..) => true,
        Op::DeleteLink(_)
        | Op::DeleteAddress(..)
        | Op::DeleteRoute(..)
        | Op::DeleteNeighbour(_)
        | Op::DeleteFdb(_)
        | Op::DeleteNat
        | Op::DeleteGuard => return "unexpected",
    };
    if other { "changed" } else { "missing" }
}

/// The newest findings.
#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<api::Drift>);

/// How many findings are kept.
pub(super) const KEPT: usize = 100;

impl Log {
    pub(super) fn add(&mut self, drifts: &[Drift], at: SystemTime) {
        let at = rfc3339(at);
        for drift in drifts {
            self.0.push_front(api::Drift {
                object: drift.object.clone(),
                found: drift.found.to_owned(),
                at: at.clone(),
            });
        }
        self.0.truncate(KEPT);
    }

    /// Newest first.
    pub(super) fn list(&self) -> Vec<api::Drift> {
        self.0.iter().cloned().collect()
    }
}

/// A time as RFC 3339 in UTC, to the second; times before 1970 are 1970.
fn rfc3339(at: SystemTime) -> String {
    let secs = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Years that begin in March have the leap day last; 719,468 days from 0000-03-01 to 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_rfc_3339() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            assert_eq!(rfc3339(at), text);
        }
    }
}
