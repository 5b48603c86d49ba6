//! Reads a selector: recursive descent, depth bounded.

use super::{Expr, Test};

/// Longest selector, bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 64;
/// Longest label key, bytes.
const MAX_KEY: usize = 512;

/// Where a selector stops making sense. Never retryable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: expected {expected}, found {found}")]
pub struct SelectorError {
    /// Byte offset into the text.
    pub at: usize,
    /// What could stand there.
    pub expected: &'static str,
    /// What stands there, cut short.
    pub found: String,
}

const TERM: &str = "a label, has(), all(), global(), ! or (";
const TEST: &str = "==, !=, in {}, not in {}, contains, starts with or ends with after the label";
const VALUE: &str = "a value in quotes";

pub(super) fn parse(text: &str) -> Result<Expr, SelectorError> {
    let mut p = Parser {
        text,
        at: 0,
        depth: 0,
    };
    if text.len() > MAX_BYTES {
        return Err(p.error("at most 64 KiB of selector"));
    }
    p.space();
    if p.rest().is_empty() {
        return Ok(Expr::All);
    }
    let expr = p.or()?;
    if p.rest().is_empty() {
        Ok(expr)
    } else {
        Err(p.error("&&, || or the end"))
    }
}

/// Every method leaves `at` on a character boundary and past trailing space.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, expected: &'static str) -> SelectorError {
        let found: String = self.rest().chars().take(20).collect();
        SelectorError {
            at: self.at,
            expected,
            found: if found.is_empty() {
                "the end".to_owned()
            } else {
                format!("{found:?}")
            },
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
    }

    /// Takes a sign.
    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
            self.space();
        }
        found
    }

    /// Takes words with any or no space between them; the last must end there.
    fn take_words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|w| self.take(w));
        let ends = self
            .text
            .get(..self.at)
            .unwrap_or_default()
            .ends_with([' ', '\t', '\n', '\r'])
            || !self
                .rest()
                .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if !(found && ends) {
            self.at = start;
        }
        found && ends
    }

    fn or(&mut self) -> Result<Expr, SelectorError> {
        let mut parts = vec![self.and()?];
        while self.take("||") {
            parts.push(self.and()?);
        }
        Ok(Expr::or(parts))
    }

    fn and(&mut self) -> Result<Expr, SelectorError> {
        let mut parts = vec![self.not()?];
        while self.take("&&") {
            parts.push(self.not()?);
        }
        Ok(Expr::and(parts))
    }

    fn not(&mut self) -> Result<Expr, SelectorError> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let term = self.term()?;
        Ok(if negated { term.negate() } else { term })
    }

    fn term(&mut self) -> Result<Expr, SelectorError> {
        if self.rest().starts_with('(') {
            if self.depth >= MAX_DEPTH {
                return Err(self.error("at most 64 parentheses inside of each other"));
            }
            self.take("(");
            self.depth += 1;
            let inner = self.or()?;
            self.depth -= 1;
            self.close(inner)
        } else if self.take("all(") {
            self.close(Expr::All)
        } else if self.take("global(") {
            self.close(Expr::Global)
        } else if self.take("has(") {
            let key = self.key("a label")?;
            self.close(Expr::Has(key))
        } else {
            let key = self.key(TERM)?;
            Ok(Expr::Test(key, self.test()?))
        }
    }

    fn close(&mut self, inner: Expr) -> Result<Expr, SelectorError> {
        if self.take(")") {
            Ok(inner)
        } else {
            Err(self.error("&&, || or )"))
        }
    }

    fn key(&mut self, expected: &'static str) -> Result<Box<str>, SelectorError> {
        let rest = self.rest();
        let is_key = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let len = rest.find(|c| !is_key(c)).unwrap_or(rest.len());
        match rest.get(..len) {
            Some(key) if (1..=MAX_KEY).contains(&len) => {
                self.at += len;
                self.space();
                Ok(key.into())
            }
            Some("") | None => Err(self.error(expected)),
            Some(_) => Err(self.error("a label of at most 512 bytes")),
        }
    }

    fn test(&mut self) -> Result<Test, SelectorError> {
        if self.take("==") {
            self.value(VALUE).map(Test::Equals)
        } else if self.take("!=") {
            self.value(VALUE).map(Test::NotEquals)
        } else if self.take_words(&["contains"]) {
            self.value(VALUE).map(Test::Contains)
        } else if self.take_words(&["starts", "with"]) {
            self.value(VALUE).map(Test::StartsWith)
        } else if self.take_words(&["ends", "with"]) {
            self.value(VALUE).map(Test::EndsWith)
        } else if self.take_words(&["not", "in"]) {
            self.set().map(Test::NotIn)
        } else if self.take_words(&["in"]) {
            self.set().map(Test::In)
        } else {
            Err(self.error(TEST))
        }
    }

    fn value(&mut self, expected: &'static str) -> Result<Box<str>, SelectorError> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let Some(quote) = chars.next().filter(|c| "'\"".contains(*c)) else {
            return Err(self.error(expected));
        };
        match chars.as_str().split_once(quote) {
            Some((value, _)) => {
                self.at += value.len() + 2;
                self.space();
                Ok(value.into())
            }
            None => Err(self.error("a value with its closing quote")),
        }
    }

    fn set(&mut self) -> Result<Box<[Box<str>]>, SelectorError> {
        if !self.take("{") {
            return Err(self.error("{ and values in quotes"));
        }
        let mut values = Vec::new();
        while !self.take("}") {
            values.push(self.value("a value in quotes or }")?);
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err(self.error(", or }"));
            }
        }
        values.sort();
        values.dedup();
        Ok(values.into_boxed_slice())
    }
}
