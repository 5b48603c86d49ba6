//! What rules have counted: the counters of trails, spread over the rules that they lead by.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy_common::classify::Trail;
use policy_common::event::{Counter, CounterKey};
use policy_common::tables::{Cell, rule};

use super::error::KernelError;
use super::maps::Maps;
use super::reader::sum;

/// A rule's word, and whether it is of what would be with the staged policies in force.
pub type Counted = (u32, bool);

/// What is needed to read counters, beside the maps.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The `Log` rules that lists stand for.
    lists: HashMap<u32, Box<[Cell]>>,
    /// What was counted by trails that are gone, since one of their rules is.
    before: BTreeMap<Counted, Counter>,
}

impl Counters {
    /// A list comes or goes.
    pub(super) fn put_list(&mut self, number: u32, list: Option<&[Cell]>) {
        match list {
            Some(list) => self.lists.insert(number, list.into()),
            None => self.lists.remove(&number),
        };
    }

    /// Everything that rules have counted.
    pub(super) fn read(&self, maps: &Maps) -> Result<BTreeMap<Counted, Counter>, KernelError> {
        let mut all = self.before.clone();
        for key in maps.counters.keys()? {
            let counter = sum(&maps.counters.get_of_cpus(&key)?);
            for word in self.words(maps, &key)? {
                let of_rule = all.entry((word, key.staged != 0)).or_default();
                of_rule.add(&counter);
            }
        }
        Ok(all)
    }

    /// The words of all rules that a counter is for, as often as it is theirs.
    pub(super) fn words(&self, maps: &Maps, key: &CounterKey) -> Result<Vec<u32>, KernelError> {
        let trail = match key.trail {
            0 => None,
            _ => maps.trails.get(key)?,
        };
        Ok(self.of_trail(key, trail.as_ref()))
    }

    fn of_trail(&self, key: &CounterKey, trail: Option<&Trail>) -> Vec<u32> {
        let members = |number| self.lists.get(&number).into_iter().flatten().copied();
        let by = trail.into_iter().flat_map(|trail| trail.words(members));
        by.chain([key.rule]).collect()
    }

    /// Forgets what rules have counted, by their numbers. What else they led to keeps its counts.
    pub(super) fn forget(
        &mut self,
        maps: &Maps,
        numbers: &BTreeSet<u32>,
    ) -> Result<(), KernelError> {
        let is_gone = |word: u32| numbers.contains(&rule::number(word));
        for key in maps.counters.keys()? {
            let trail = match key.trail {
                0 => None,
                _ => maps.trails.get(&key)?,
            };
            let words = self.of_trail(&key, trail.as_ref());
            let mut steps = trail.iter().flat_map(|trail| &trail.steps);
            let goes =
                words.iter().any(|word| is_gone(*word)) || steps.any(|step| is_gone(step.rule));
            if !goes {
                continue;
            }
            let counter = sum(&maps.counters.get_of_cpus(&key)?);
            maps.forget(key)?;
            for word in words.into_iter().filter(|word| !is_gone(*word)) {
                let of_rule = self.before.entry((word, key.staged != 0)).or_default();
                of_rule.add(&counter);
            }
        }
        self.before.retain(|(word, _), _| !is_gone(*word));
        Ok(())
    }
}
