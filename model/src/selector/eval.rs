//! Whether a selector holds for a set of labels. Allocates nothing.

use std::collections::BTreeMap;

use super::{Expr, Selector, Test};

impl Selector {
    /// Whether it holds for these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(&|key| labels.get(key).map(String::as_str))
    }

    /// Whether it holds where `label` gives the value of each label that is there.
    pub fn matches_with<'l>(&self, label: &impl Fn(&str) -> Option<&'l str>) -> bool {
        holds(self.expr(), label)
    }
}

fn holds<'l>(expr: &Expr, label: &impl Fn(&str) -> Option<&'l str>) -> bool {
    match expr {
        Expr::All | Expr::Global => true,
        Expr::Has(key) => label(key).is_some(),
        Expr::Test(key, test) => test.holds(label(key)),
        Expr::Not(part) => !holds(part, label),
        Expr::And(parts) => parts.iter().all(|p| holds(p, label)),
        Expr::Or(parts) => parts.iter().any(|p| holds(p, label)),
    }
}

impl Test {
    /// Whether it holds for a label's value; `None` when the label is missing.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let is = |wanted: &str| value == Some(wanted);
        let is_in = |set: &[Box<str>]| {
            value.is_some_and(|v| set.binary_search_by(|s| s.as_ref().cmp(v)).is_ok())
        };
        match self {
            Test::Equals(wanted) => is(wanted),
            Test::NotEquals(wanted) => !is(wanted),
            Test::In(set) => is_in(set),
            Test::NotIn(set) => !is_in(set),
            Test::Contains(part) => value.is_some_and(|v| v.contains(&**part)),
            Test::StartsWith(part) => value.is_some_and(|v| v.starts_with(&**part)),
            Test::EndsWith(part) => value.is_some_and(|v| v.ends_with(&**part)),
        }
    }
}
