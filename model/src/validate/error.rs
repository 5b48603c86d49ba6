//! A fault of a resource: object, field, value, problem, mend.

use std::fmt;

/// What is wrong with one field of one object, and what to do about it.
///
/// Shown as `IPPool/default: spec.vxlanMod = "Always": unknown field; did you mean vxlanMode?`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct ValidationError {
    /// The object, such as `IPPool/default`.
    pub object: String,
    /// The field, such as `spec.blockSize`; empty when the object as a whole is meant.
    pub field: String,
    /// The value found there, as JSON and cut short; empty when there is none.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead; empty when the problem says it.
    pub mend: String,
}

/// Longest value that an error shows, bytes.
const SHOWN: usize = 64;

impl ValidationError {
    /// A fault at a field.
    pub fn at(
        object: impl fmt::Display,
        field: impl Into<String>,
        value: impl AsRef<str>,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> ValidationError {
        ValidationError {
            object: object.to_string(),
            field: field.into(),
            value: shorten(value.as_ref()),
            problem: problem.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        if !self.value.is_empty() {
            write!(f, " = {}", self.value)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}

/// Cuts a value for an error message and keeps control characters off the terminal.
fn shorten(value: &str) -> String {
    let mut out: String = value.chars().flat_map(escape).take(SHOWN).collect();
    if out.len() < value.len() {
        out.push('…');
    }
    out
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if c.is_control() {
        (None, Some(c.escape_default()))
    } else {
        (Some(c), None)
    };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// The nearest of `known` to `given`, when near enough to be what was meant.
pub(crate) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A name of outside length would cost its length times that of every known name.
    if given.len() > 128 {
        return None;
    }
    let lower = given.to_ascii_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_ascii_lowercase()), k))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_made_safe_to_print() {
        let e = ValidationError::at("IPPool/p", "spec.x", "a\x1b[31m", "bad", "");
        assert_eq!(e.to_string(), "IPPool/p: spec.x = a\\u{1b}[31m: bad");
        let e = ValidationError::at("IPPool/p", "", "é".repeat(500), "bad", "mend");
        assert_eq!(e.value.chars().count(), SHOWN + 1);
    }

    #[test]
    fn nearest_is_near() {
        let known = ["vxlanMode", "natOutgoing", "cidr"];
        assert_eq!(nearest("vxlanMod", known), Some("vxlanMode"));
        assert_eq!(nearest("NATOUTGOING", known), Some("natOutgoing"));
        assert_eq!(nearest("zzz", known), None);
    }
}
