//! The most that a count was within a window of time.

use std::collections::VecDeque;
use std::time::Instant;

/// A count's falls, as much of them as the highest value within the window needs.
#[derive(Debug, Default)]
pub(super) struct Peak {
    /// When the count fell, and from what; later falls are from less.
    falls: VecDeque<(Instant, usize)>,
}

impl Peak {
    /// The count fell from that value.
    pub(super) fn fell(&mut self, now: Instant, from: usize) {
        while self.falls.back().is_some_and(|(_, n)| *n <= from) {
            self.falls.pop_back();
        }
        self.falls.push_back((now, from));
    }

    /// The highest value at or after `start` of a count that is `current` now. `start` never goes back.
    pub(super) fn since(&mut self, start: Option<Instant>, current: usize) -> usize {
        // No clock has run for as long as the window: nothing is older than that.
        while start.is_some_and(|start| self.falls.front().is_some_and(|(at, _)| *at < start)) {
            self.falls.pop_front();
        }
        self.falls.front().map_or(current, |(_, n)| current.max(*n))
    }

    /// What was lost up to here counts no more.
    pub(super) fn forget(&mut self) {
        self.falls.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fall_counts_until_the_window_has_passed_it() {
        let base = Instant::now();
        let at = |s| base + Duration::from_secs(s);
        let mut peak = Peak::default();
        peak.fell(at(0), 9);
        peak.fell(at(4), 5);
        peak.fell(at(5), 7);
        assert_eq!(peak.since(Some(at(0)), 6), 9);
        assert_eq!(peak.since(Some(at(1)), 6), 7);
        assert_eq!(peak.since(Some(at(5)), 8), 8);
        assert_eq!(peak.since(Some(at(6)), 2), 2);
        peak.fell(at(7), 2);
        peak.forget();
        assert_eq!(peak.since(None, 1), 1);
    }
}
