//! Durations as Go writes them: `9s`, `2m0s`, `1h30m`, `300ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in Go's notation; kept to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write one such as 9s, 2m or 1h30m")]
pub struct DurationError(String);

impl GoDuration {
    /// A number of seconds.
    pub const fn seconds(seconds: u64) -> GoDuration {
        GoDuration(Duration::from_secs(seconds))
    }

    /// Whole seconds, if it is that.
    pub fn whole_seconds(self) -> Option<u64> {
        (self.0.subsec_nanos() == 0).then_some(self.0.as_secs())
    }
}

const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// Reads `1h30m` and the like to milliseconds.
fn millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let (name, unit) = UNITS.iter().find(|(name, _)| tail.starts_with(name))?;
        total = total.checked_add(number.checked_mul(*unit)?)?;
        rest = tail.strip_prefix(name)?;
    }
    (!text.is_empty()).then_some(total)
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<GoDuration, DurationError> {
        let millis = millis(text).ok_or_else(|| DurationError(text.to_owned()))?;
        Ok(GoDuration(Duration::from_millis(millis)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let millis = self.0.subsec_millis();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if !seconds.is_multiple_of(60) || seconds == 0 && millis == 0 {
            write!(f, "{}s", seconds % 60)?;
        }
        if millis > 0 {
            write!(f, "{millis}ms")?;
        }
        Ok(())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<GoDuration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_go_writes_them() {
        for (text, millis, written) in [
            ("9s", 9000, "9s"),
            ("2m0s", 120_000, "2m"),
            ("1h0m0s", 3_600_000, "1h"),
            ("1h30m", 5_400_000, "1h30m"),
            ("300ms", 300, "300ms"),
            ("90s", 90_000, "1m30s"),
            ("0s", 0, "0s"),
            ("0", 0, "0s"),
        ] {
            let read: GoDuration = text.parse().unwrap();
            assert_eq!(read.0, Duration::from_millis(millis), "{text}");
            assert_eq!(read.to_string(), written);
        }
        for bad in [
            "",
            "9",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "1s ",
            "99999999999999999999s",
        ] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn durations_survive_a_round_trip(millis in 0u64..1 << 40) {
            let duration = GoDuration(Duration::from_millis(millis));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
