//! Path and query of a request, encoded as they are built.

use std::fmt::{self, Write};

/// Path and query of a request.
///
/// Built from parts, each percent-encoded, so that no name can reach another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// A path that is known to need no encoding, such as `/v1/status`.
    pub fn new(path: &'static str) -> Target {
        Target {
            text: path.to_owned(),
            has_query: false,
        }
    }

    /// Adds one part to the path.
    pub fn segment(mut self, part: &str) -> Target {
        self.text.push('/');
        match part {
            // Whoever stands between may fold dots that are not encoded.
            "." => self.text.push_str("%2E"),
            ".." => self.text.push_str("%2E%2E"),
            _ => encode(&mut self.text, part),
        }
        self
    }

    /// Adds a parameter.
    pub fn query(mut self, key: &'static str, value: &str) -> Target {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(key);
        self.text.push('=');
        encode(&mut self.text, value);
        self
    }
}

/// Leaves the unreserved characters of RFC 3986 alone.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_leave_their_place() {
        let t = Target::new("/v1/x")
            .segment("a/../b c\r\n")
            .segment("..")
            .query("labelSelector", "a == 'b' && has(c)")
            .query("watch", "true");
        assert_eq!(
            t.to_string(),
            "/v1/x/a%2F..%2Fb%20c%0D%0A/%2E%2E?labelSelector=a%20%3D%3D%20%27b%27%20%26%26%20has%28c%29&watch=true"
        );
    }
}
