//! Lines into keys and values, and values of all kinds to and from text.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use model::Cidr;
use zeroize::Zeroizing;

use super::UapiError;
use crate::control::AllowedIpChange;
use crate::keys::KEY_LEN;

/// A `key=value`, and where it is.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) line: usize,
    pub(super) key: &'a str,
    value: &'a str,
}

impl<'a> Field<'a> {
    pub(super) fn parse(line: usize, text: &'a str) -> Result<Field<'a>, UapiError> {
        let (key, value) = text.split_once('=').ok_or(UapiError::Syntax(line))?;
        // What cannot be the name of a key may be a secret in the wrong place: not to be shown.
        let is_name = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !is_name || key.len() > 40 {
            return Err(UapiError::Syntax(line));
        }
        Ok(Field { line, key, value })
    }

    /// A wrong value of a key that is known by the name `key`.
    pub(super) fn wrong(&self, key: &'static str, wanted: &'static str) -> UapiError {
        let line = self.line;
        UapiError::Value { line, key, wanted }
    }

    pub(super) fn unknown(&self) -> UapiError {
        UapiError::UnknownKey {
            line: self.line,
            key: self.key.to_owned(),
        }
    }

    /// A 32-byte key in hexadecimal.
    pub(super) fn secret(&self, key: &'static str) -> Result<Zeroizing<[u8; KEY_LEN]>, UapiError> {
        unhex(self.value).ok_or_else(|| self.wrong(key, "64 hexadecimal digits"))
    }

    /// The same, or nothing at all where zeros would be a key.
    pub(super) fn optional_secret(
        &self,
        key: &'static str,
    ) -> Result<Option<Zeroizing<[u8; KEY_LEN]>>, UapiError> {
        match self.value {
            "" => Ok(None),
            _ => self.secret(key).map(Some),
        }
    }

    /// A number in decimal digits only.
    pub(super) fn number<T: FromStr>(&self, key: &'static str) -> Result<T, UapiError> {
        let is_plain = self.value.bytes().all(|b| b.is_ascii_digit());
        let number = is_plain.then(|| self.value.parse().ok()).flatten();
        number.ok_or_else(|| self.wrong(key, "a decimal number in its range"))
    }

    /// The error number at the end of an answer, which some implementations write negative.
    pub(super) fn errno(&self) -> Result<i32, UapiError> {
        let digits = self.value.strip_prefix('-').unwrap_or(self.value);
        let digits = Field {
            value: digits,
            ..*self
        };
        digits.number("errno")
    }

    /// A switch: it is on, or it is not there.
    pub(super) fn on(&self, key: &'static str) -> Result<(), UapiError> {
        match self.value {
            "true" => Ok(()),
            _ => Err(self.wrong(key, "true, or leave it out")),
        }
    }

    /// The only version there is.
    pub(super) fn version(&self) -> Result<(), UapiError> {
        match self.value {
            "1" => Ok(()),
            _ => Err(self.wrong("protocol_version", "1")),
        }
    }

    pub(super) fn endpoint(&self) -> Result<SocketAddr, UapiError> {
        let endpoint = self.value.parse();
        endpoint.map_err(|_| self.wrong("endpoint", "ADDRESS:PORT or [ADDRESS]:PORT, all numeric"))
    }

    /// `ADDRESS/LENGTH`; with a minus sign to take it away. Bits behind the length do not count.
    pub(super) fn allowed_ip(&self) -> Result<AllowedIpChange, UapiError> {
        let (text, is_removed) = match self.value.strip_prefix('-') {
            Some(text) => (text, true),
            None => (self.value, false),
        };
        let prefix = text.split_once('/').and_then(|(ip, len)| {
            let is_plain = len.bytes().all(|b| b.is_ascii_digit());
            let len = is_plain.then(|| len.parse().ok()).flatten()?;
            Cidr::containing(ip.parse::<IpAddr>().ok()?, len)
        });
        let prefix = prefix.ok_or_else(|| self.wrong("allowed_ip", "ADDRESS/LENGTH"))?;
        Ok(match is_removed {
            true => AllowedIpChange::Remove(prefix),
            false => AllowedIpChange::Add(prefix),
        })
    }
}

/// Writes `key=value` and the end of the line.
pub(super) fn put(out: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{key}={value}");
}

/// Writes a 32-byte key.
pub(super) fn put_secret(out: &mut String, key: &str, bytes: &[u8; KEY_LEN]) {
    out.push_str(key);
    out.push('=');
    for nibble in bytes.iter().flat_map(|b| [b >> 4, b & 15]) {
        // Computed and not looked up, so that a secret leaves no trace in the cache: past 9, skip the
        // codes between '9' and 'a'.
        let skip = (9u8.wrapping_sub(nibble) >> 7) * 39;
        out.push(char::from(nibble + b'0' + skip));
    }
    out.push('\n');
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    if text.len() != 2 * KEY_LEN {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_64_hexadecimal_digits() {
        let mut bytes = [0; KEY_LEN];
        for (n, byte) in (0u8..).zip(&mut bytes) {
            *byte = n.wrapping_mul(0x11) ^ 0x0a;
        }
        let mut line = String::new();
        put_secret(&mut line, "private_key", &bytes);
        let field = Field::parse(1, line.trim_end()).unwrap();
        assert!(
            field.value.starts_with("0a1b28394e5f6c7d8293a0b1c6d7e4f5"),
            "{line}"
        );
        assert_eq!(*field.secret("private_key").unwrap(), bytes);
        for bad in [
            "",
            "0",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert!(unhex(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_prefixes_have_one_form() {
        let field = |value| Field {
            line: 1,
            key: "k",
            value,
        };
        assert_eq!(field("65535").number::<u16>("k").unwrap(), 65535);
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "65536"] {
            assert!(field(bad).number::<u16>("k").is_err(), "{bad}");
        }
        let prefix = "10.0.0.0/8".parse().unwrap();
        assert_eq!(
            field("10.1.2.3/8").allowed_ip().unwrap(),
            AllowedIpChange::Add(prefix)
        );
        assert_eq!(
            field("-10.0.0.0/8").allowed_ip().unwrap(),
            AllowedIpChange::Remove(prefix)
        );
        for bad in [
            "",
            "-",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "a/8",
        ] {
            assert!(field(bad).allowed_ip().is_err(), "{bad}");
        }
    }
}
