//! When to run next: at once for a new state, soon for a change by others, slowly otherwise.

use std::time::{Duration, SystemTime};

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, since any fixed moment.
    pub since_start: Duration,
    /// For people.
    pub wall: SystemTime,
}

/// How long things take at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Notifications of the kernel within this time are one.
    pub coalesce: Duration,
    /// A new state waits this long while a link is being attached: mostly it is about that link, and
    /// a look at everything would be in the way.
    pub attaching: Duration,
    /// Everything is looked at this often, whether something was heard or not.
    pub resync: Duration,
    /// The encrypted tunnel is looked at this often: of its peers the kernel tells nothing.
    pub look: Duration,
    /// Pause before the first retry of what failed; doubles each time.
    pub retry_first: Duration,
    /// Longest pause before a retry.
    pub retry_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            coalesce: Duration::from_millis(50),
            attaching: Duration::from_millis(20),
            resync: Duration::from_secs(60),
            look: Duration::from_secs(5),
            retry_first: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// After a run the next waits this many times what the run took: a fifth of one core at most.
const REST: u32 = 4;
/// No new state waits longer than this for the one before.
const REST_MAX: Duration = Duration::from_secs(1);
/// Somebody who undoes our repairs is met 2^this times less often.
const FIGHT_MAX: u32 = 7;

/// What a finished run says about the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// Something has to be tried again.
    pub(super) failed: bool,
    /// Somebody had changed our objects.
    pub(super) drifted: bool,
}

#[derive(Debug)]
pub(super) struct Schedule {
    timing: Timing,
    /// A new state came at this time.
    desired: Option<Duration>,
    /// The kernel said at this time that it was changed.
    changed: Option<Duration>,
    /// The slow timer, or a retry; none before the first run.
    timer: Option<Duration>,
    started: Duration,
    ended: Duration,
    failures: u32,
    fights: u32,
    /// State of the random numbers.
    seed: u64,
}

impl Schedule {
    pub(super) fn new(timing: Timing, seed: u64) -> Schedule {
        Schedule {
            timing,
            desired: None,
            changed: None,
            timer: None,
            started: Duration::ZERO,
            ended: Duration::ZERO,
            failures: 0,
            fights: 0,
            seed,
        }
    }

    pub(super) fn desired(&mut self, now: Now) {
        self.desired.get_or_insert(now.since_start);
    }

    pub(super) fn changed(&mut self, now: Now) {
        self.changed.get_or_insert(now.since_start);
    }

    /// When the next run is due, with a link being attached or not.
    pub(super) fn due(&self, attaching: bool) -> Option<Duration> {
        let rest = (self.ended.saturating_sub(self.started) * REST).min(REST_MAX);
        let wait = match attaching {
            true => self.timing.attaching,
            false => Duration::ZERO,
        };
        let desired = self.desired.map(|at| (at + wait).max(self.ended + rest));
        let changed = self.changed.map(|at| {
            let calm = self.timing.coalesce * 2u32.pow(self.fights.min(FIGHT_MAX));
            (at + self.timing.coalesce).max(self.ended + rest.max(calm))
        });
        [desired, changed, self.timer].into_iter().flatten().min()
    }

    pub(super) fn start(&mut self, now: Now) {
        self.started = now.since_start;
        self.desired = None;
        self.changed = None;
    }

    /// Ends a run.
    pub(super) fn finish(&mut self, now: Now, run: Finished) {
        self.ended = now.since_start;
        let count = |n: u32, is: bool| if is { n.saturating_add(1) } else { 0 };
        self.fights = count(self.fights, run.drifted);
        self.failures = count(self.failures, run.failed);
        let mut pause = self.timing.resync;
        if self.failures > 0 {
            let doubled = 2u32.saturating_pow(self.failures - 1);
            let retry = self.timing.retry_first.saturating_mul(doubled);
            let retry = retry.min(self.timing.retry_max);
            // Half of the pause is left to chance, so that many nodes do not retry as one.
            pause = pause.min(retry / 2 + retry * self.random() / (2 * u32::from(u16::MAX)));
        }
        self.timer = Some(now.since_start + pause);
    }

    /// A random number of 16 bits (SplitMix64).
    fn random(&mut self) -> u32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, ..] = (z ^ (z >> 31)).to_le_bytes();
        u32::from(u16::from_le_bytes([a, b]))
    }
}
