//! Which counters of a session have been seen: a sliding bitmap, after RFC 6479.

/// Counters that may arrive after a later one and still be taken.
pub(crate) const WINDOW: u64 = 8192;
const BITS: u64 = 64;
/// One word more than the window: the word that is being entered is cleared whole.
const WORDS: usize = (WINDOW / BITS) as usize + 1;

/// The receive window of one session. Only for authenticated counters: a forger must not move it.
#[derive(Debug)]
pub(crate) struct ReplayWindow {
    /// One above the greatest counter accepted.
    next: u64,
    seen: [u64; WORDS],
}

/// A counter that was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// Greater than all before.
    Newest,
    /// It was overtaken.
    Late,
}

impl ReplayWindow {
    pub(crate) const fn new() -> ReplayWindow {
        ReplayWindow {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// Takes `counter` once; `None` when it was seen or is too old to know.
    pub(crate) fn accept(&mut self, counter: u64) -> Option<Fresh> {
        // The last counter is never sent, which leaves room for `next`.
        if counter == u64::MAX || counter.saturating_add(WINDOW) < self.next {
            return None;
        }
        let word = counter / BITS;
        let fresh = if counter >= self.next {
            let newest_word = self.next.saturating_sub(1) / BITS;
            let entered = (word - newest_word).min(WORDS as u64);
            for step in 1..=entered {
                self.seen[place(newest_word + step)] = 0;
            }
            self.next = counter + 1;
            Fresh::Newest
        } else {
            Fresh::Late
        };
        let bit = 1 << (counter % BITS);
        let seen = &mut self.seen[place(word)];
        let new = *seen & bit == 0;
        *seen |= bit;
        new.then_some(fresh)
    }
}

/// Always below `WORDS`.
#[allow(clippy::cast_possible_truncation)]
fn place(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_is_8192_wide() {
        let mut w = ReplayWindow::new();
        assert_eq!(w.accept(0), Some(Fresh::Newest));
        assert_eq!(w.accept(0), None);
        assert_eq!(w.accept(10_000), Some(Fresh::Newest));
        assert_eq!(w.accept(10_000 + 1 - WINDOW), Some(Fresh::Late));
        assert_eq!(w.accept(10_000 - WINDOW), None);
        assert_eq!(w.accept(u64::MAX), None);
        assert_eq!(w.accept(u64::MAX - 1), Some(Fresh::Newest));
        assert_eq!(w.accept(u64::MAX - 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Against a set of all counters ever accepted.
        #[test]
        fn equals_a_set(
            start in prop_oneof![Just(0u64), Just(u64::MAX - 40_000), any::<u64>()],
            steps in prop::collection::vec((-9000i64..9000, any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = HashSet::new();
            let mut greatest: Option<u64> = None;
            let mut at = start;
            for (step, stay) in steps {
                at = if stay { at.saturating_add_signed(step % 3) } else { at.saturating_add_signed(step) };
                let too_old = greatest.is_some_and(|g| g >= WINDOW && at <= g - WINDOW);
                let want = at != u64::MAX && !too_old && !seen.contains(&at);
                let newest = greatest.is_none_or(|g| at > g);
                let got = window.accept(at);
                prop_assert_eq!(got.is_some(), want, "{}", at);
                if want {
                    prop_assert_eq!(got == Some(Fresh::Newest), newest);
                    seen.insert(at);
                    greatest = greatest.max(Some(at));
                }
            }
        }
    }
}
