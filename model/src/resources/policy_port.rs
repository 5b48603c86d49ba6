//! Ports in a rule: a number, a range, or the name of an endpoint's port.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a port, bytes.
const MAX_NAME: usize = 128;

/// Ports that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyPort {
    /// From the first to the last, both included; equal for a single port.
    Range(u16, u16),
    /// The port that endpoints have by this name.
    Named(Box<str>),
}

impl PolicyPort {
    /// One port.
    pub const fn single(port: u16) -> PolicyPort {
        PolicyPort::Range(port, port)
    }
}

/// Why a text names no ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyPortError {
    /// The first port is above the last.
    #[error("{first}:{last} is upside down: write {last}:{first}")]
    UpsideDown {
        /// As written, before the colon.
        first: u16,
        /// As written, after it.
        last: u16,
    },
    /// Neither a number, nor a range, nor a name.
    #[error("{0:?} is no port: write 80, \"8000:8999\", or the name of an endpoint's port")]
    Syntax(String),
}

impl PolicyPortError {
    /// Whether the same text may be accepted later: never.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl FromStr for PolicyPort {
    type Err = PolicyPortError;

    fn from_str(text: &str) -> Result<PolicyPort, PolicyPortError> {
        let syntax = || PolicyPortError::Syntax(text.to_owned());
        let number = |s: &str| s.parse::<u16>().ok().filter(|_| is_digits(s));
        if is_digits(text) {
            return number(text).map(PolicyPort::single).ok_or_else(syntax);
        }
        if let Some((first, last)) = text.split_once(':') {
            let (first, last) = number(first).zip(number(last)).ok_or_else(syntax)?;
            return match first <= last {
                true => Ok(PolicyPort::Range(first, last)),
                false => Err(PolicyPortError::UpsideDown { first, last }),
            };
        }
        match is_port_name(text) {
            true => Ok(PolicyPort::Named(text.into())),
            false => Err(syntax()),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether endpoints can have a port by this name.
pub fn is_port_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(known)
}

impl fmt::Display for PolicyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyPort::Range(first, last) if first == last => write!(f, "{first}"),
            PolicyPort::Range(first, last) => write!(f, "{first}:{last}"),
            PolicyPort::Named(name) => f.write_str(name),
        }
    }
}

impl Serialize for PolicyPort {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            PolicyPort::Range(first, last) if first == last => s.serialize_u16(*first),
            _ => s.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for PolicyPort {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<PolicyPort, D::Error> {
        d.deserialize_any(Visitor)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = PolicyPort;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port from 0 to 65535, a range such as \"8000:8999\", or a port's name")
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<PolicyPort, E> {
        let port = u16::try_from(v);
        port.map(PolicyPort::single)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<PolicyPort, E> {
        v.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ranges_and_names() {
        for (text, port) in [
            ("80", PolicyPort::single(80)),
            ("\"80\"", PolicyPort::single(80)),
            ("\"0:65535\"", PolicyPort::Range(0, 65535)),
            ("\"7:7\"", PolicyPort::single(7)),
            ("\"http_2.x-y\"", PolicyPort::Named("http_2.x-y".into())),
        ] {
            let read: PolicyPort = serde_json::from_str(text).unwrap();
            assert_eq!(read, port);
            let written = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<PolicyPort>(&written).unwrap(), port);
        }
    }

    #[test]
    fn what_is_no_port_says_what_to_write() {
        let error = |text: &str| text.parse::<PolicyPort>().unwrap_err().to_string();
        assert_eq!(error("90:80"), "90:80 is upside down: write 80:90");
        let long = "a".repeat(129);
        for bad in [
            "", "65536", "1:65536", "1:", ":1", "1:2:3", "+1:2", "a b", "é", &long,
        ] {
            assert!(error(bad).contains("is no port"), "{bad}");
        }
        for bad in ["-1", "70000", "1.5", "true", "[80]"] {
            assert!(serde_json::from_str::<PolicyPort>(bad).is_err(), "{bad}");
        }
    }
}
