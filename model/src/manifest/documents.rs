//! Splits a text into documents and reads each into a JSON value.

use serde_json::Value;

use super::Fault;
use crate::validate::ValidationError;

/// Nodes of one document: a full manifest of small objects fits, a bomb does not.
const MAX_NODES: usize = 1_000_000;
/// Text of all scalars of one document, aliases expanded.
const MAX_SCALAR_BYTES: usize = 2 * super::MAX_BYTES;
/// Nodes that aliases may add.
const MAX_REPLAYED: usize = 10_000;

/// A document of a manifest.
pub(super) struct Document {
    /// How an error names it: `document 2`.
    pub(super) name: String,
    /// Line that it starts at, from 1.
    pub(super) line: usize,
    /// What it says.
    pub(super) value: Value,
}

/// Reads every document of a text; a fault in one leaves the others readable.
pub(super) fn read(text: &str, faults: &mut Vec<Fault>) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let written = split(text).into_iter().filter(|(_, t)| !is_blank(t));
    for (i, (line, text)) in written.enumerate() {
        let name = format!("document {}", i + 1);
        match serde_saphyr::from_multiple_with_options::<Value>(text, options()) {
            Ok(values) => documents.extend(values.into_iter().map(|value| Document {
                name: name.clone(),
                line,
                value,
            })),
            Err(e) => faults.push(syntax_error(&e, name, line)),
        }
    }
    documents
}

/// Cuts before every `---` at the start of a line. YAML forbids that inside of scalars, so the cut
/// is exact, and an error in one document cannot hide the next.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.strip_prefix("---");
        if marker.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            parts.push((start_line, &text[start..at]));
            (start, start_line) = (at, i + 1);
        }
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts
}

/// Nothing but white space, comments, directives and the marker.
fn is_blank(text: &str) -> bool {
    text.lines().enumerate().all(|(i, line)| {
        let rest = match line.strip_prefix("---") {
            Some(rest) if i == 0 => rest,
            _ => line,
        };
        let rest = rest.trim();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%')
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_documents: 1000,
            max_depth: 64,
            flow_nesting_limit: 64,
            max_aliases: 1000,
            max_anchors: 1000,
            max_total_scalar_bytes: MAX_SCALAR_BYTES,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: MAX_SCALAR_BYTES,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 16,
        },
        // `name: no` is a name; a field that wants a boolean takes `no` all the same.
        strict_booleans: true,
        // JSON has no such numbers; as text they are refused where a number is wanted, with the field's name.
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        emit_comments: false,
        with_snippet: false,
    }
}

fn syntax_error(e: &serde_saphyr::Error, name: String, start: usize) -> Fault {
    let inner = e.location().and_then(|l| usize::try_from(l.line()).ok());
    Fault {
        line: start + inner.unwrap_or(1).saturating_sub(1),
        error: ValidationError::at(
            name,
            "",
            "",
            format!("is no readable YAML or JSON: {e}"),
            "",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good(text: &str) -> Vec<Document> {
        let mut faults = Vec::new();
        let documents = read(text, &mut faults);
        assert_eq!(faults, []);
        documents
    }

    fn values(text: &str) -> Vec<Value> {
        good(text).into_iter().map(|d| d.value).collect()
    }

    fn fault(text: &str) -> Fault {
        let mut faults = Vec::new();
        read(text, &mut faults);
        faults.remove(0)
    }

    #[test]
    fn documents_and_their_lines() {
        let text = "# head\n%YAML 1.2\n---\n# only a comment\n---\na: 1\n--- {b: 2}\n---\n---\nc: |\n  ---\n  x\n...\n";
        let found: Vec<_> = good(text)
            .into_iter()
            .map(|d| (d.name, d.line, d.value))
            .collect();
        let doc = |i: u8| format!("document {i}");
        assert_eq!(
            found,
            [
                (doc(1), 5, json!({"a": 1})),
                (doc(2), 7, json!({"b": 2})),
                (doc(3), 9, json!({"c": "---\nx\n"})),
            ]
        );
        assert!(values("").is_empty());
    }

    #[test]
    fn json_is_read_as_it_is() {
        let text =
            "{\n\t\"a\": [1, -2, 1.5, true, null],\n\t\"b\": \"x\\u00e9\\ud83d\\ude00\\/\\t\"\n}\n";
        assert_eq!(values(text), [serde_json::from_str::<Value>(text).unwrap()]);
        assert_eq!(values("\u{feff}{\"a\":1}"), [json!({"a": 1})]);
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        let text = "mac: 02:00:00:00:00:01\nv6: ::1\nasn: \"1.10\"\nyes: n\nt: 2024-01-01T00:00:00Z\nn: ~\n";
        assert_eq!(
            values(text),
            [
                json!({"mac": "02:00:00:00:00:01", "v6": "::1", "asn": "1.10", "yes": "n",
                    "t": "2024-01-01T00:00:00Z", "n": null})
            ]
        );
    }

    #[test]
    fn a_broken_document_names_its_line_and_leaves_the_others() {
        let text = "a: 1\n---\nb: [1\n---\nc: 3\n";
        assert!((3..=4).contains(&fault(text).line), "{}", fault(text));
        assert_eq!(read(text, &mut Vec::new()).len(), 2);
        assert!(fault("a: 1\na: 2\n").error.problem.contains("uplicate"));
        assert!(
            fault("{\"a\": 1, \"a\": 2}")
                .error
                .problem
                .contains("uplicate")
        );
    }

    #[test]
    fn anchors_work_and_bombs_do_not() {
        assert_eq!(
            values("a: &x {k: v}\nb: *x\n"),
            [json!({"a": {"k": "v"}, "b": {"k": "v"}})]
        );
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        fault(&bomb);
        // Few nodes, much text.
        let wide = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(1 << 20),
            vec!["*a"; 900].join(",")
        );
        fault(&wide);
        fault(&"[".repeat(100_000));
        fault(&format!("{}x", "- ".repeat(100_000)));
    }
}
