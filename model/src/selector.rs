//! Calico's selector language over labels.
//!
//! ```text
//!  text ─parse─► Expr ─matches(labels)─► bool
//!         ▲        │
//!         └─Display┘   canonical: parses back to an equal tree
//!
//!  or      = and { "||" and }
//!  and     = not { "&&" not }
//!  not     = { "!" } term
//!  term    = "(" or ")" | "all()" | "global()" | "has(" KEY ")" | KEY test
//!  test    = "==" VALUE | "!=" VALUE | "in" SET | "not in" SET
//!          | "contains" VALUE | "starts with" VALUE | "ends with" VALUE
//!  SET     = "{" [ VALUE { "," VALUE } [ "," ] ] "}"
//!  VALUE   = '…' or "…", without escapes
//! ```
//!
//! `!=` and `not in` hold for an object that lacks the label; every other test fails for it. An
//! empty text is `all()`. What `global()` means for namespaces is its user's to know; as an
//! expression it holds.

mod eval;
mod parse;

use std::fmt;
use std::str::FromStr;

pub use parse::{MAX_BYTES, MAX_DEPTH, SelectorError};

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector(Expr);

/// The tree of a selector, in canonical form: built by [`Selector`]'s parser only.
///
/// `And` and `Or` have two or more parts, none of the same sort; `Not` never holds a `Not`; sets
/// are sorted and without repetition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expr {
    /// Holds.
    All,
    /// Holds; names what is in no namespace.
    Global,
    /// The label is there.
    Has(Box<str>),
    /// A test of a label's value.
    Test(Box<str>, Test),
    /// The part does not hold.
    Not(Box<Expr>),
    /// All parts hold.
    And(Box<[Expr]>),
    /// A part holds.
    Or(Box<[Expr]>),
}

/// A test of a label's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// Is this.
    Equals(Box<str>),
    /// Is not this, or is missing.
    NotEquals(Box<str>),
    /// Is one of these.
    In(Box<[Box<str>]>),
    /// Is none of these, or is missing.
    NotIn(Box<[Box<str>]>),
    /// Has this somewhere.
    Contains(Box<str>),
    /// Begins with this.
    StartsWith(Box<str>),
    /// Ends with this.
    EndsWith(Box<str>),
}

impl Selector {
    /// `all()`.
    pub const ALL: Selector = Selector(Expr::All);

    /// The tree.
    pub fn expr(&self) -> &Expr {
        &self.0
    }

    /// Whether it is plainly `all()`.
    pub fn is_all(&self) -> bool {
        self.0 == Expr::All
    }
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::ALL
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        parse::parse(text).map(Selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Expr {
    /// Joins parts by `&&`, flattened.
    fn and(parts: Vec<Expr>) -> Expr {
        let flat = parts.into_iter().flat_map(|p| match p {
            Expr::And(parts) => parts.into_vec(),
            other => vec![other],
        });
        Expr::join(flat.collect(), Expr::And)
    }

    /// Joins parts by `||`, flattened.
    fn or(parts: Vec<Expr>) -> Expr {
        let flat = parts.into_iter().flat_map(|p| match p {
            Expr::Or(parts) => parts.into_vec(),
            other => vec![other],
        });
        Expr::join(flat.collect(), Expr::Or)
    }

    fn join(mut parts: Vec<Expr>, of: fn(Box<[Expr]>) -> Expr) -> Expr {
        match (parts.pop(), parts.is_empty()) {
            (None, _) => Expr::All,
            (Some(only), true) => only,
            (Some(last), false) => {
                parts.push(last);
                of(parts.into_boxed_slice())
            }
        }
    }

    /// Negates; twice is nothing.
    fn negate(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            other => Expr::Not(Box::new(other)),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("all()"),
            Expr::Global => f.write_str("global()"),
            Expr::Has(key) => write!(f, "has({key})"),
            Expr::Test(key, test) => write!(f, "{key} {test}"),
            Expr::Not(part) => {
                f.write_str("!")?;
                part.fmt_part(f, matches!(**part, Expr::And(_) | Expr::Or(_)))
            }
            Expr::And(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " && " })?;
                    part.fmt_part(f, matches!(part, Expr::Or(_)))?;
                }
                Ok(())
            }
            Expr::Or(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " || " })?;
                    part.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl Expr {
    fn fmt_part(&self, f: &mut fmt::Formatter<'_>, parentheses: bool) -> fmt::Result {
        if parentheses {
            write!(f, "({self})")
        } else {
            write!(f, "{self}")
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, value) = match self {
            Test::Equals(v) => ("==", v),
            Test::NotEquals(v) => ("!=", v),
            Test::Contains(v) => ("contains", v),
            Test::StartsWith(v) => ("starts with", v),
            Test::EndsWith(v) => ("ends with", v),
            Test::In(set) => return fmt_set(f, "in", set),
            Test::NotIn(set) => return fmt_set(f, "not in", set),
        };
        write!(f, "{word} ")?;
        fmt_value(f, value)
    }
}

fn fmt_set(f: &mut fmt::Formatter<'_>, word: &str, set: &[Box<str>]) -> fmt::Result {
    write!(f, "{word} {{")?;
    for (i, value) in set.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        fmt_value(f, value)?;
    }
    f.write_str("}")
}

/// A value was quoted in one of the two ways, so it lacks at least one of the quotes.
fn fmt_value(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    if value.contains('\'') {
        write!(f, "\"{value}\"")
    } else {
        write!(f, "'{value}'")
    }
}

#[cfg(test)]
mod tests;
