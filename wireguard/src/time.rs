//! Time as an argument: nothing in this crate reads a clock.

use std::time::Duration;

/// A monotonic time: nanoseconds since a moment of the driver's choice, the same for one device's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The driver's moment zero.
    pub const ZERO: Time = Time(0);

    /// `nanos` after zero.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// `duration` after zero; stops at the end of time (584 years).
    pub fn from_duration(duration: Duration) -> Time {
        Time(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(Time::from_duration(rhs).0))
    }
}

/// The two clocks of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For everything that waits.
    pub mono: Time,
    /// Since 1970, for the time stamps that protect initiations against replay. Steps are harmless:
    /// what is sent never goes back.
    pub unix: Duration,
}
