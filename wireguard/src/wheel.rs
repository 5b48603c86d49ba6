//! A hierarchical timer wheel: setting a timer costs the same for one peer and for ten thousand.
//!
//! Four levels of 64 slots; a slot of level n is 64^n ticks wide. When time reaches a slot of a higher
//! level, its timers move down. Timers are never removed: the owner ignores those it no longer wants.

use crate::time::Time;

/// 2^23 ns, about 8 ms. Timers fire up to one tick late and never early.
const TICK_BITS: u32 = 23;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: u32 = 4;
/// Later timers are looked at when this distance is over, and put back. So may the clock's zero be
/// long ago when the wheel is new.
const FARTHEST: u64 = (1 << (SLOT_BITS * LEVELS)) - 1;

#[derive(Debug)]
pub(crate) struct Wheel {
    /// Everything up to this tick has fired.
    now: u64,
    occupied: [u64; LEVELS as usize],
    slots: Vec<Vec<Timer>>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    tick: u64,
    id: u32,
}

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel {
            now: 0,
            occupied: [0; LEVELS as usize],
            slots: (0..SLOTS * LEVELS as usize).map(|_| Vec::new()).collect(),
        }
    }

    /// How late a timer may fire.
    #[cfg(test)]
    pub(crate) const TICK: std::time::Duration = std::time::Duration::from_nanos(1 << TICK_BITS);

    /// Calls `id` at `at`, or at the next tick when that is past.
    pub(crate) fn set(&mut self, id: u32, at: Time) {
        let tick = at.as_nanos().div_ceil(1 << TICK_BITS);
        self.insert(Timer { tick, id });
    }

    fn insert(&mut self, timer: Timer) {
        let distance = timer.tick.saturating_sub(self.now).clamp(1, FARTHEST);
        let level = (63 - distance.leading_zeros()) / SLOT_BITS;
        let slot = ((self.now + distance) >> (SLOT_BITS * level)) & (SLOTS as u64 - 1);
        // Both are below their limits by construction.
        if let (Some(occupied), Some(slots)) = (
            self.occupied.get_mut(level as usize),
            self.slots
                .get_mut(level as usize * SLOTS + usize::try_from(slot).unwrap_or(0)),
        ) {
            *occupied |= 1 << slot;
            slots.push(timer);
        }
    }

    /// The first tick at which a slot, of whatever level, comes due.
    fn first(&self) -> Option<u64> {
        (0..LEVELS)
            .zip(&self.occupied)
            .filter(|(_, occupied)| **occupied != 0)
            .map(|(level, occupied)| {
                let width = SLOT_BITS * level;
                let here = self.now >> width;
                // The slot of this moment is empty or a whole turn away, so look from the one after it.
                let turn = u32::try_from((here + 1) & (SLOTS as u64 - 1)).unwrap_or(0);
                let ahead = u64::from(occupied.rotate_right(turn).trailing_zeros()) + 1;
                (here + ahead) << width
            })
            .min()
    }

    /// When [`Wheel::expire`] has something to do next; now and then only to move timers down.
    pub(crate) fn next(&self) -> Option<Time> {
        self.first().map(|tick| Time::from_nanos(tick << TICK_BITS))
    }

    /// Adds the ids of all timers due by `now` to `due`.
    pub(crate) fn expire(&mut self, now: Time, due: &mut Vec<u32>) {
        let target = now.as_nanos() >> TICK_BITS;
        while let Some(tick) = self.first().filter(|tick| *tick <= target) {
            self.now = tick;
            // Slots of several levels can begin with one tick.
            for level in (0..LEVELS).rev() {
                let width = SLOT_BITS * level;
                if tick.trailing_zeros() >= width {
                    self.empty(level, (tick >> width) & (SLOTS as u64 - 1), due);
                }
            }
        }
        self.now = self.now.max(target);
    }

    /// Fires what is due in one slot and moves the rest down.
    fn empty(&mut self, level: u32, slot: u64, due: &mut Vec<u32>) {
        let (level, slot) = (level as usize, usize::try_from(slot).unwrap_or(0));
        if let Some(occupied) = self.occupied.get_mut(level) {
            *occupied &= !(1 << slot);
        }
        let timers = self.slots.get_mut(level * SLOTS + slot).map(std::mem::take);
        for timer in timers.unwrap_or_default() {
            if timer.tick <= self.now {
                due.push(timer.id);
            } else {
                self.insert(timer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Against a list of all timers.
        #[test]
        fn timers_fire_on_time_and_once(
            steps in prop::collection::vec(
                (prop_oneof![0u64..50, 0u64..20_000, 0u64..3_000_000], prop::collection::vec(
                    prop_oneof![0u64..30, 0u64..15_000, 0u64..1_000_000, 0u64..10_000_000], 0..5)),
                1..40),
        ) {
            let mut wheel = Wheel::new();
            let mut naive: Vec<(u64, u32)> = Vec::new();
            let mut ms = 0;
            let mut id = 0;
            let t = |ms: u64| Time::from_nanos(ms * 1_000_000);
            for (wait, timers) in steps {
                for after in timers {
                    wheel.set(id, t(ms + after));
                    naive.push((ms + after, id));
                    id += 1;
                }
                if let Some(next) = wheel.next() {
                    // Never later than the first timer, one tick allowed.
                    let first = naive.iter().map(|n| t(n.0)).min().unwrap().max(t(ms));
                    prop_assert!(next <= first + 2 * Wheel::TICK);
                }
                ms += wait;
                let mut fired = Vec::new();
                wheel.expire(t(ms), &mut fired);
                for id in fired {
                    let at = naive.iter().position(|n| n.1 == id).expect("fired twice");
                    prop_assert!(naive.swap_remove(at).0 <= ms, "fired early");
                }
                prop_assert!(naive.iter().all(|n| t(n.0) + 2 * Wheel::TICK > t(ms)), "fired late");
            }
        }
    }

    #[test]
    fn a_clock_that_began_years_ago_is_as_good() {
        let (mut wheel, mut due) = (Wheel::new(), Vec::new());
        let year = Time::from_duration(Duration::from_secs(365 * 86_400));
        wheel.set(1, year + Duration::from_secs(5));
        wheel.expire(year, &mut due);
        assert!(due.is_empty());
        assert!(wheel.next().unwrap() <= year + Duration::from_secs(5) + Wheel::TICK);
        wheel.expire(year + Duration::from_secs(6), &mut due);
        assert_eq!(due, [1]);
    }

    #[test]
    fn waking_for_a_far_timer_costs_few_calls() {
        let mut wheel = Wheel::new();
        wheel.set(1, Time::from_duration(Duration::from_secs(540)));
        let (mut wakes, mut due) = (0, Vec::new());
        while let Some(next) = wheel.next() {
            wheel.expire(next, &mut due);
            wakes += 1;
        }
        assert_eq!(due, [1]);
        assert!(wakes <= 4, "{wakes}");
    }
}
