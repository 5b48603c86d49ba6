//! AS numbers as operators write them: `64512`, `"64512"`, or dotted, `"1.10"`.

use serde::{Deserialize, Deserializer, Serialize};

/// AS_TRANS (RFC 6793): it stands for numbers that an old speaker cannot say.
const AS_TRANS: u32 = 23_456;

/// An AS number; any 32 bits until it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AsNumber(pub u32);

impl AsNumber {
    /// Whether no speaker may have it (RFC 7607, 6793, 7300).
    pub fn is_reserved(self) -> bool {
        [0, AS_TRANS, 65_535, u32::MAX].contains(&self.0)
    }
}

impl std::fmt::Display for AsNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<AsNumber, D::Error> {
        d.deserialize_any(Visitor).map(AsNumber)
    }
}

struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = u32;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an AS number from 0 to 4294967295, dotted (\"1.10\") only in quotes")
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<u32, E> {
        u32::try_from(v).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(v), &self))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<u32, E> {
        let number = match v.split_once('.') {
            // RFC 5396 "asdot+": two 16-bit halves.
            Some((high, low)) => decimal::<u16>(high)
                .zip(decimal::<u16>(low))
                .map(|(high, low)| u32::from(high) << 16 | u32::from(low)),
            None => decimal(v),
        };
        number.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(v), &self))
    }
}

/// Digits only: `parse` alone would take a sign.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
