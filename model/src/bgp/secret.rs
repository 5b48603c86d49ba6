//! A value that is used and never shown.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A secret value. Whatever prints or serialises it gets `***`; clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// Wraps a value.
    pub fn new(value: &[u8]) -> SecretValue {
        SecretValue(value.into())
    }

    /// The value itself, for whoever needs it to work with.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = SecretValue::new(b"swordfish");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), b"swordfish");
    }
}
