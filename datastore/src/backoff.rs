//! How long to wait before trying again.

use std::time::Duration;

/// Doubles from `first` to `most`; the jitter keeps thousands of nodes from returning at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Backoff {
        Backoff {
            first,
            most,
            next: first,
        }
    }

    /// The next pause: half to all of the step, by `random` in 0..1.
    pub(crate) fn pause(&mut self, random: f64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A number in 0..1 that differs between processes and calls; not for secrets.
pub(crate) fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0u8) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_most_and_start_again() {
        let ms = Duration::from_millis;
        let mut b = Backoff::new(ms(100), ms(350));
        let pauses: Vec<_> = (0..4).map(|_| b.pause(1.0)).collect();
        assert_eq!(pauses, [ms(100), ms(200), ms(350), ms(350)]);
        assert_eq!(b.pause(0.0), ms(175));
        b.reset();
        assert_eq!(b.pause(1.0), ms(100));
    }

    #[test]
    fn random_numbers_differ_and_stay_in_range() {
        let numbers: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|r| (0.0..=1.0).contains(r)));
        assert!(numbers.windows(2).any(|w| w[0] != w[1]));
    }
}
