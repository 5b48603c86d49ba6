//! `Secret`: values that other objects refer to, written and never shown. Of Kubernetes' API, but in no namespace.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base64;
use crate::bgp::SecretValue;

/// What stands in place of a value.
pub const HIDDEN: &str = "***";

/// Specification of a `Secret`. It serialises with its keys only: the store alone gets the values, by
/// [`crate::manifest::encode_stored`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretSpec {
    /// The values by their keys.
    pub data: BTreeMap<String, SecretValue>,
}

impl SecretSpec {
    /// The values in base64, for whoever stores or sends them.
    pub(crate) fn exposed(&self) -> BTreeMap<&str, String> {
        let data = self.data.iter();
        data.map(|(key, value)| (key.as_str(), base64::encode(value.expose())))
            .collect()
    }
}

impl Serialize for SecretSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            data: BTreeMap<&'a str, &'static str>,
        }
        let keys = self.data.keys().map(|key| (key.as_str(), HIDDEN));
        let data = keys.collect();
        Shown { data }.serialize(s)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// In base64.
    #[serde(default)]
    data: BTreeMap<String, Encoded>,
    /// As they are; they win over `data`.
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

struct Encoded(SecretValue);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Encoded, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        match base64::decode(&text) {
            Some(value) => Ok(Encoded(SecretValue::new(value))),
            None if text == HIDDEN => Err(serde::de::Error::custom(
                "this is what is shown in place of a value: write the value itself under stringData",
            )),
            None => Err(serde::de::Error::custom(
                "is no base64: write the value as it is under stringData",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for SecretSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<SecretSpec, D::Error> {
        let written = Written::deserialize(d)?;
        let mut data: BTreeMap<String, SecretValue> =
            (written.data.into_iter().map(|(k, v)| (k, v.0))).collect();
        for (key, text) in written.string_data {
            let value = SecretValue::new(text);
            data.insert(key, value);
        }
        Ok(SecretSpec { data })
    }
}
