//! Troubles worth a line in the log: those seen twice in a row, once.
//!
//! What races with the CNI path goes wrong once and is right the next time.

use std::collections::BTreeSet;

#[derive(Debug)]
pub(super) struct Recurring<T> {
    last: BTreeSet<T>,
    reported: BTreeSet<T>,
}

impl<T> Default for Recurring<T> {
    fn default() -> Self {
        Recurring {
            last: BTreeSet::new(),
            reported: BTreeSet::new(),
        }
    }
}

impl<T: Ord + Clone> Recurring<T> {
    /// Files what a run saw and gives back what is to be reported.
    pub(super) fn update(&mut self, seen: BTreeSet<T>) -> Vec<T> {
        self.reported.retain(|t| seen.contains(t));
        let again = |t: &&T| self.last.contains(*t) && !self.reported.contains(*t);
        let new: Vec<T> = seen.iter().filter(again).cloned().collect();
        self.reported.extend(new.iter().cloned());
        self.last = seen;
        new
    }

    /// What the last run saw.
    pub(super) fn last(&self) -> &BTreeSet<T> {
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_reported_the_second_time_and_once() {
        let mut r = Recurring::default();
        let mut see = |s: &[u8]| -> Vec<u8> { r.update(s.iter().copied().collect()) };
        let none: [u8; 0] = [];
        assert_eq!(see(&[1]), none);
        assert_eq!(see(&[1, 2]), [1]);
        assert_eq!(see(&[1, 2]), [2]);
        assert_eq!(see(&[2]), none);
        assert_eq!(see(&[1, 2]), none);
        assert_eq!(see(&[1]), [1]);
    }
}
