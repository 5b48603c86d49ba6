//! Communities of routes, as they are written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A large community (RFC 8092).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// The AS that defines it.
    pub global: u32,
    /// First value.
    pub local1: u32,
    /// Second value.
    pub local2: u32,
}

/// A community of either kind, written `64512:100` or `64512:1:100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large(LargeCommunity),
}

/// The text is no community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no community: write AS:NUMBER with both from 0 to 65535, or AS:NUMBER:NUMBER with all from 0 to 4294967295"
)]
pub struct CommunityError(String);

/// Digits only, without leading zeros: one spelling for each number.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && canonical)
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Community, CommunityError> {
        let read = || {
            let mut parts = text.split(':');
            let (first, second) = (parts.next()?, parts.next()?);
            let community = match parts.next() {
                None => {
                    let (high, low) = (number::<u16>(first)?, number::<u16>(second)?);
                    Community::Standard(u32::from(high) << 16 | u32::from(low))
                }
                Some(third) => Community::Large(LargeCommunity {
                    global: number(first)?,
                    local1: number(second)?,
                    local2: number(third)?,
                }),
            };
            parts.next().is_none().then_some(community)
        };
        read().ok_or_else(|| CommunityError(text.to_owned()))
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(c) => write!(f, "{}:{}", c >> 16, c & 0xffff),
            Community::Large(c) => c.fmt(f),
        }
    }
}

impl Serialize for LargeCommunity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Community {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Community {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Community, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_community_is_refused() {
        for bad in [
            "",
            "1",
            "1:",
            ":1",
            "65536:1",
            "1:65536",
            "1:2:3:4",
            "4294967296:1:1",
            "+1:2",
            "01:2",
            "1 :2",
            "no-export",
        ] {
            assert!(bad.parse::<Community>().is_err(), "{bad}");
        }
        assert_eq!(
            "64512:100".parse(),
            Ok(Community::Standard(64512 << 16 | 100))
        );
    }

    proptest! {
        #[test]
        fn communities_survive_a_round_trip(standard: u32, global: u32, local1: u32, local2: u32) {
            for community in [
                Community::Standard(standard),
                Community::Large(LargeCommunity { global, local1, local2 }),
            ] {
                prop_assert_eq!(community.to_string().parse(), Ok(community));
            }
        }
    }
}
