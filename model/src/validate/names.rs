//! Names, namespaces, labels and annotations, by Kubernetes' rules.

use super::Check;
use crate::Kind;
use crate::object::Object;

/// Longest name, bytes.
const MAX_NAME: usize = 253;
/// Longest part between dots, namespace, and label value, bytes.
const MAX_LABEL: usize = 63;
/// Most bytes of annotations.
const MAX_ANNOTATIONS: usize = 256 << 10;

const SUBDOMAIN: &str = "write up to 253 lower-case letters, digits, '-' and '.', starting and ending with a letter or digit";
const LABEL: &str =
    "write up to 63 lower-case letters, digits and '-', starting and ending with a letter or digit";

const LABEL_KEY: &str =
    "write [PREFIX/]NAME with up to 63 letters, digits, '-', '_' and '.' in NAME";
const LABEL_VALUE: &str =
    "write up to 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";

/// Whether this can name a resource or a node: an RFC 1123 subdomain.
///
/// Such a name holds no `/`, no `..` and no NUL, so it is safe as a part of a key or a path.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_dns_part)
}

/// Whether this can name a namespace: an RFC 1123 label.
fn is_dns_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_dns_part(name)
}

fn is_dns_part(part: &str) -> bool {
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    let edge = |c: Option<&u8>| c.is_some_and(|c| *c != b'-');
    let bytes = part.as_bytes();
    bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// The part of a label key after the slash, or a label value.
fn is_qualified(text: &str) -> bool {
    let inner = |c: &u8| c.is_ascii_alphanumeric() || b"-_.".contains(c);
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// Whether labels can have this key.
pub(crate) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_name(prefix) && is_qualified(name),
        None => is_qualified(key),
    }
}

/// Whether labels can have this value.
pub(crate) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

pub(super) fn metadata(check: &mut Check, object: &Object) {
    let meta = object.metadata();
    name(check, &meta.name);
    namespace(check, meta.namespace.as_deref());
    // These run for every endpoint of the mesh at start: format only what is shown.
    let field = |key: &str| format!("metadata.labels[{key:?}]");
    for (key, value) in &meta.labels {
        if !is_label_key(key) {
            check.fault(field(key), format!("{key:?}"), "is no label key", LABEL_KEY);
        }
        if !is_label_value(value) {
            check.fault(
                field(key),
                format!("{value:?}"),
                "is no label value",
                LABEL_VALUE,
            );
        }
    }
    for key in meta.annotations.keys().filter(|k| !is_label_key(k)) {
        let problem = "is no annotation key";
        check.fault(
            "metadata.annotations",
            format!("{key:?}"),
            problem,
            LABEL_KEY,
        );
    }
    let size: usize = meta
        .annotations
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum();
    if size > MAX_ANNOTATIONS {
        let problem = format!("are {size} bytes together");
        check.fault(
            "metadata.annotations",
            "",
            problem,
            "keep them below 256 KiB",
        );
    }
}

fn name(check: &mut Check, name: &str) {
    let kind = check.kind();
    let (good, problem, mend) = if kind.is_singleton() {
        (
            name == "default",
            "is not the one name of its kind",
            "name it default",
        )
    } else if kind == Kind::BGPConfiguration {
        (
            super::bgp::is_configuration_name(name),
            "is no name of its kind",
            "name it default, or node.NAME for one node",
        )
    } else if kind == Kind::Namespace {
        (is_dns_label(name), "cannot name a namespace", LABEL)
    } else {
        (is_name(name), "cannot name a resource", SUBDOMAIN)
    };
    if !good {
        check.fault("metadata.name", format!("{name:?}"), problem, mend);
    }
}

fn namespace(check: &mut Check, namespace: Option<&str>) {
    let field = "metadata.namespace";
    match (check.kind().is_namespaced(), namespace) {
        (true, None) => check.fault(field, "", "is required", "name the namespace it lives in"),
        (true, Some(ns)) if !is_dns_label(ns) => {
            check.fault(field, format!("{ns:?}"), "cannot name a namespace", LABEL);
        }
        (false, Some(ns)) => {
            let problem = "this kind lives in no namespace";
            check.fault(field, format!("{ns:?}"), problem, "remove it");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_paths() {
        for good in [
            "a",
            "rack1-a",
            "rack1--a-k8s-web-eth0",
            "a.example.net",
            "0",
        ] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(254);
        for bad in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-",
            "A",
            "a_b",
            "a b",
            "a\0",
            "é",
            "a\n",
            "%2e%2e",
            long.as_str(),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name(&"a".repeat(253)));
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)));
        assert!(!is_dns_label("a.b"));
    }

    #[test]
    fn label_keys() {
        for good in ["app", "App_1.x", "projectcalico.org/namespace", "a.b/C"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "A.b/c", "a/b/c", "-a", "a-", "a b", "a\0"] {
            assert!(!is_label_key(bad), "{bad:?}");
        }
    }
}
