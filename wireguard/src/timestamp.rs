//! TAI64N time stamps (twelve bytes), which make every initiation newer than the one before.

use std::time::Duration;

/// Seconds between the TAI64 label of 1970 and its zero, with the ten leap seconds of then.
const TAI64_1970: u64 = (1 << 62) + 10;
/// Low bits of the nanoseconds that are not told: the exact clock of a node is nobody's business.
const BLUR: u32 = (1 << 24) - 1;

/// A time stamp; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp([u8; 12]);

impl Timestamp {
    pub(crate) fn from_bytes(bytes: [u8; 12]) -> Timestamp {
        Timestamp(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The stamp of `unix`, or the next one after `last` when the clock has not moved on since (or back).
    pub(crate) fn after(last: Option<Timestamp>, unix: Duration) -> Timestamp {
        let stamp = Timestamp::at(unix);
        match last {
            Some(last) if last >= stamp => last.next(),
            _ => stamp,
        }
    }

    fn at(unix: Duration) -> Timestamp {
        let mut bytes = [0; 12];
        let seconds = TAI64_1970.saturating_add(unix.as_secs());
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&(unix.subsec_nanos() & !BLUR).to_be_bytes());
        Timestamp(bytes)
    }

    fn next(self) -> Timestamp {
        let number = self.0.iter().fold(0u128, |n, b| (n << 8) | u128::from(*b)) + 1;
        let mut bytes = [0; 12];
        bytes.copy_from_slice(&number.to_be_bytes()[4..]);
        Timestamp(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_format() {
        let stamp = Timestamp::at(Duration::new(1, 0x0200_0001));
        assert_eq!(stamp.0, [0x40, 0, 0, 0, 0, 0, 0, 11, 2, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn stamps_only_grow_whatever_the_clock_does(clock in prop::collection::vec(0u64..5_000_000_000, 2..50)) {
            let mut last = None;
            for nanos in clock {
                let stamp = Timestamp::after(last, Duration::from_nanos(nanos));
                prop_assert!(last.is_none_or(|l| l < stamp));
                last = Some(stamp);
            }
        }
    }
}
