//! What both sides are given besides the pair: the moment, chance, limits; and every time and number that is
//! a choice.

use std::time::Duration;

use super::kem::KemKey;
use crate::entropy::{self, Entropy};
use crate::time::Time;

/// How long the former key is tried after both ends have the new one first: handshakes that were begun
/// with it are over by then.
pub(super) const RETIRE: Duration = Duration::from_secs(30);
/// The same where there is to be none: the other end may hear of it later.
pub(super) const LEAVE: Duration = Duration::from_secs(60);
/// First pause before a word is said again; it doubles.
const RETRY: Duration = Duration::from_millis(300);
/// Pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
pub(super) const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A follower gets an exchange for the asking this often.
pub(super) const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long an accepted offer waits to be confirmed: longer than any leader tries.
pub(super) const PENDING: Duration = Duration::from_secs(60);
/// Exchanges that a node leads at a time, greetings aside: who is not there keeps nobody waiting.
pub(super) const IN_FLIGHT: usize = 16;
/// Offers that a node answers in a second, each half a millisecond of work.
const OFFERS: u32 = 200;
/// What each peer adds to the time over which first words are spread.
pub(super) const SPREAD: Duration = Duration::from_millis(2);

pub(super) fn backoff(failures: u32) -> Duration {
    PAUSE
        .saturating_mul(1 << failures.min(6))
        .min(LONGEST_PAUSE)
}

/// What a side needs besides the pair.
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) node: &'a str,
    pub(super) peer: &'a str,
    pub(super) kem: &'a KemKey,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) ticket_secret: &'a [u8],
    pub(super) rotate_every: Duration,
    /// Another exchange may be led.
    pub(super) has_room: bool,
    pub(super) offers: &'a mut Bucket,
}

impl Context<'_> {
    /// Between three quarters and all of it.
    pub(super) fn jitter(&mut self, time: Duration) -> Duration {
        spread(self.entropy, time / 4) + time * 3 / 4
    }

    pub(super) fn retry(&mut self, tries: u32) -> Duration {
        self.jitter(RETRY.saturating_mul(1 << tries.min(6)))
    }

    pub(super) fn may_compute(&mut self) -> bool {
        self.offers.take(self.now)
    }
}

/// A moment before `time` has passed.
pub(super) fn spread(entropy: &mut dyn Entropy, time: Duration) -> Duration {
    time.mul_f64(f64::from(entropy::number(entropy)) / f64::from(u32::MAX))
}

/// So many in a second.
#[derive(Default)]
pub(super) struct Bucket {
    left: u32,
    filled_at: Option<Time>,
}

impl Bucket {
    fn take(&mut self, now: Time) -> bool {
        let is_over = |at: Time| now.since(at) >= Duration::from_secs(1);
        if self.filled_at.is_none_or(is_over) {
            (self.left, self.filled_at) = (OFFERS, Some(now));
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}
