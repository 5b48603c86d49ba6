//! Who is cut off where nothing enforces policy: workloads that policies select.
//!
//! Two go on for all that. Where programs of a daemon before are at the interface, those policies are in force that this
//! daemon found when it began; one that comes to select the workload later is not. And as long as there are policies
//! that cannot be read, everybody stays as they are, and who comes is cut off.

use std::collections::{BTreeMap, BTreeSet};

use model::kernel::LinkName;
use model::object::ObjectId;

/// A workload of this node.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// Its interface.
    pub(super) link: LinkName,
    /// Policies that select it, without staged ones.
    pub(super) policies: BTreeSet<ObjectId>,
    /// Its interface has the programs of a daemon before.
    pub(super) has_programs: bool,
}

/// Who was let go on.
#[derive(Debug)]
pub(super) struct Cutoff {
    open: BTreeSet<ObjectId>,
    /// What the programs of a daemon before enforce.
    enforced: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
}

impl Cutoff {
    /// As a daemon finds it, with the interfaces that one before has cut off.
    pub(super) fn new(
        workloads: &BTreeMap<ObjectId, Workload>,
        found: &BTreeSet<LinkName>,
    ) -> Cutoff {
        let open = workloads.iter().filter(|(_, w)| !found.contains(&w.link));
        // What one before has cut off all the same is selected by more than the programs know.
        let enforced = open.clone().filter(|(_, w)| w.has_programs);
        Cutoff {
            open: open.map(|(id, _)| id.clone()).collect(),
            enforced: (enforced.map(|(id, w)| (id.clone(), w.policies.clone()))).collect(),
        }
    }

    /// Whether it matters of a workload that its interface has programs.
    pub(super) fn trusts(&self, id: &ObjectId) -> bool {
        self.enforced.contains_key(id)
    }

    /// The workloads to be cut off; `in_doubt`: there are policies that cannot be read.
    pub(super) fn judge(
        &mut self,
        workloads: &BTreeMap<ObjectId, Workload>,
        in_doubt: bool,
    ) -> BTreeMap<ObjectId, LinkName> {
        self.enforced.retain(|id, _| workloads.contains_key(id));
        let before = std::mem::take(&mut self.open);
        let mut cut_off = BTreeMap::new();
        for (id, workload) in workloads {
            let enforced = self.enforced.get(id).filter(|_| workload.has_programs);
            let lacks = |policy| enforced.is_none_or(|e| !e.contains(policy));
            let is_new = in_doubt && !before.contains(id);
            if is_new || workload.policies.iter().any(lacks) {
                cut_off.insert(id.clone(), workload.link);
            } else {
                self.open.insert(id.clone());
            }
        }
        cut_off
    }
}

#[cfg(test)]
mod tests {
    use model::Kind;

    use super::*;

    fn id(kind: Kind, name: &str) -> ObjectId {
        ObjectId {
            kind,
            namespace: None,
            name: name.to_owned(),
        }
    }

    /// Workloads by name, each with the policies that select it; `!` before the name: with programs.
    fn workloads(of: &[(&str, &[&str])]) -> BTreeMap<ObjectId, Workload> {
        let each = of.iter().map(|(name, policies)| {
            let (has_programs, name) = match name.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, *name),
            };
            let policies = policies.iter().map(|p| id(Kind::GlobalNetworkPolicy, p));
            let workload = Workload {
                link: format!("rtd-{name}").parse().unwrap(),
                policies: policies.collect(),
                has_programs,
            };
            (id(Kind::WorkloadEndpoint, name), workload)
        });
        each.collect()
    }

    fn found(names: &[&str]) -> BTreeSet<LinkName> {
        let links = names.iter().map(|name| format!("rtd-{name}"));
        links.map(|link| link.parse().unwrap()).collect()
    }

    fn cut(cutoff: &mut Cutoff, of: &[(&str, &[&str])], in_doubt: bool) -> Vec<String> {
        let cut_off = cutoff.judge(&workloads(of), in_doubt);
        for (id, link) in &cut_off {
            assert_eq!(link.as_str(), format!("rtd-{}", id.name));
        }
        cut_off.into_keys().map(|id| id.name).collect()
    }

    fn fresh(of: &[(&str, &[&str])], stands: &[&str]) -> Cutoff {
        Cutoff::new(&workloads(of), &found(stands))
    }

    #[test]
    fn whom_policies_select_is_cut_off_for_as_long_as_they_do() {
        let mut cutoff = fresh(&[], &[]);
        let nobody: [&str; 0] = [];
        assert_eq!(cut(&mut cutoff, &[("a", &[]), ("b", &[])], false), nobody);
        assert_eq!(cut(&mut cutoff, &[("a", &["p"]), ("b", &[])], false), ["a"]);
        let both: &[(&str, &[&str])] = &[("a", &["q"]), ("b", &["q"])];
        assert_eq!(cut(&mut cutoff, both, false), ["a", "b"]);
        assert_eq!(cut(&mut cutoff, &[("b", &["q"])], false), ["b"]);
        assert_eq!(cut(&mut cutoff, &[("a", &[]), ("b", &[])], false), nobody);
    }

    #[test]
    fn what_stands_is_no_reason_to_stay_cut_off() {
        let of: &[(&str, &[&str])] = &[("a", &[]), ("b", &["p"])];
        assert_eq!(cut(&mut fresh(of, &["a", "b", "gone"]), of, false), ["b"]);
    }

    #[test]
    fn in_doubt_everybody_stays_as_they_are_and_who_comes_is_cut_off() {
        let of: &[(&str, &[&str])] = &[("a", &[]), ("b", &[])];
        let mut cutoff = fresh(of, &["b"]);
        assert_eq!(cut(&mut cutoff, of, true), ["b"]);
        let more: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[])];
        assert_eq!(cut(&mut cutoff, more, true), ["b", "c"]);
        // What can be read is as strong as ever, and what was cut off by it comes back when all can be.
        assert_eq!(
            cut(&mut cutoff, &[("a", &["p"]), ("b", &[])], true),
            ["a", "b"]
        );
        assert_eq!(cut(&mut cutoff, of, true), ["a", "b"]);
        assert_eq!(cut(&mut cutoff, of, false), [""; 0]);
        assert_eq!(cut(&mut cutoff, of, true), [""; 0]);
    }

    #[test]
    fn programs_of_a_daemon_before_enforce_what_it_knew() {
        let of: &[(&str, &[&str])] = &[("!a", &["p"]), ("b", &["p"])];
        let mut cutoff = fresh(of, &[]);
        assert_eq!(cut(&mut cutoff, of, false), ["b"]);
        assert!(cutoff.trusts(&id(Kind::WorkloadEndpoint, "a")));
        // One that comes later is not among it.
        assert_eq!(cut(&mut cutoff, &[("!a", &["p", "q"])], false), ["a"]);
        assert_eq!(cut(&mut cutoff, &[("!a", &["p"])], false), [""; 0]);
        // Nor after a restart.
        let both: &[(&str, &[&str])] = &[("!a", &["p", "q"])];
        assert_eq!(cut(&mut fresh(both, &["a"]), both, false), ["a"]);
        // Nor is it enforced without the programs, or at what came in its place.
        assert_eq!(cut(&mut cutoff, &[("a", &["p"])], false), ["a"]);
        assert_eq!(cut(&mut cutoff, &[], false), [""; 0]);
        assert_eq!(cut(&mut cutoff, &[("!a", &["p"])], false), ["a"]);
    }
}
