//! A fault while reading, in an operator's words.

use std::fmt;

use serde::de;

use super::Step;
use super::reader::Place;
use crate::validate::nearest;

/// A fault while it travels up: the place is filled in by the innermost reader.
#[derive(Debug, Default)]
pub(super) struct ReadError {
    pub(super) steps: Vec<Step>,
    placed: bool,
    pub(super) missing: bool,
    pub(super) problem: String,
    pub(super) mend: String,
}

impl ReadError {
    fn new(problem: impl Into<String>, mend: impl Into<String>) -> ReadError {
        ReadError {
            problem: problem.into(),
            mend: mend.into(),
            ..ReadError::default()
        }
    }

    pub(super) fn at(mut self, place: &Place<'_>) -> ReadError {
        if !self.placed {
            // What is missing has put its own name there already.
            let inner = std::mem::replace(&mut self.steps, place.steps());
            self.steps.extend(inner);
            self.placed = true;
        }
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        ReadError::new(message.to_string(), "")
    }

    fn invalid_type(found: de::Unexpected<'_>, wanted: &dyn de::Expected) -> ReadError {
        use de::Unexpected as U;
        let wanted = plain(&wanted.to_string());
        let (is, scalar) = match found {
            U::Str(_) => ("a string", false),
            U::Unsigned(_) | U::Signed(_) | U::Float(_) => ("a number", true),
            U::Bool(_) => ("a boolean", true),
            U::Seq => ("a list", false),
            U::Map => ("a mapping", false),
            _ => ("nothing", false),
        };
        let mend = if scalar && wanted.contains("string") {
            "put it in quotes".to_owned()
        } else {
            format!("write {wanted}")
        };
        ReadError::new(format!("is {is}"), mend)
    }

    fn invalid_value(_: de::Unexpected<'_>, wanted: &dyn de::Expected) -> ReadError {
        let wanted = plain(&wanted.to_string());
        ReadError::new("is not allowed", format!("write {wanted}"))
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> ReadError {
        let known = match nearest(given, known.iter().copied()) {
            Some(near) => format!("did you mean {near}? One of {}", known.join(", ")),
            None => format!("write one of {}", known.join(", ")),
        };
        ReadError::new("is not known", known)
    }

    fn missing_field(name: &'static str) -> ReadError {
        ReadError {
            steps: vec![Step::Field(name.to_owned())],
            missing: true,
            ..ReadError::new("is required", "")
        }
    }
}

/// serde's words for what it expects, in an operator's.
fn plain(wanted: &str) -> String {
    match wanted {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        w if w.starts_with("struct ") => "a mapping",
        w if w.starts_with("enum ") => "one of its names as a string",
        w => w,
    }
    .to_owned()
}
