//! Released versions of the CNI specification.

use serde_json::Value;

/// A released version; ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(crate) const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    pub(crate) const NEWEST: Version = Version::V1_1_0;

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// The version that a configuration speaks, if it says so and it is known.
pub(crate) fn peek(config: &[u8]) -> Option<Version> {
    let value: Value = serde_json::from_slice(config).ok()?;
    Version::parse(value.get("cniVersion")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order_and_parse_back() {
        assert!(Version::ALL.is_sorted());
        for v in Version::ALL {
            assert_eq!(Version::parse(v.as_str()), Some(v));
        }
        assert_eq!(Version::ALL.last(), Some(&Version::NEWEST));
        assert_eq!(Version::parse("1.1"), None);
    }

    #[test]
    fn peek_takes_only_what_is_known() {
        assert_eq!(peek(br#"{"cniVersion":"0.4.0"}"#), Some(Version::V0_4_0));
        for other in [
            "",
            "{}",
            "[]",
            r#"{"cniVersion":4}"#,
            r#"{"cniVersion":"9"}"#,
        ] {
            assert_eq!(peek(other.as_bytes()), None);
        }
    }
}
