//! Texts of others on a terminal, and values as YAML and JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_saphyr::SerializerOptions;

use crate::failure::Failure;

/// A text in which nothing can move the cursor or change colours.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// A YAML document; long texts stay on one line, so that a difference is a line.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    let mut options = SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|e| Failure::new(format!("cannot write YAML: {e}")))
}

/// Indented JSON and a line end.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Failure::new(format!("cannot write JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(clean("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert!(matches!(clean("plain ü"), Cow::Borrowed(_)));
    }

    #[test]
    fn yaml_keeps_texts_texts_and_on_one_line() {
        let value = json!({
            "a": "true", "b": "1.0", "c": "null", "d": "x ".repeat(200), "e": [], "f": {"g": [1, {"h": null}]},
        });
        let text = yaml(&value).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines.contains(&"a: \"true\"") || lines.contains(&"a: 'true'"),
            "{text}"
        );
        let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value);
        assert_eq!(lines.len(), 9, "{text}");
    }
}
