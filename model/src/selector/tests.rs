use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn sel(text: &str) -> Selector {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn each_test_with_and_without_the_label() {
    // text, holds for a=abc, holds for nothing
    for (text, with, without) in [
        ("", true, true),
        ("  \t", true, true),
        ("all()", true, true),
        ("all( )", true, true),
        ("global()", true, true),
        ("has(a)", true, false),
        ("has( a )", true, false),
        ("!has(a)", false, true),
        ("a == 'abc'", true, false),
        ("a==\"abc\"", true, false),
        ("a == 'x'", false, false),
        ("a != 'abc'", false, true),
        ("a!='x'", true, true),
        ("a in {'x', \"abc\"}", true, false),
        ("a in {'x','abc',}", true, false),
        ("a in {}", false, false),
        ("a not in {'x', 'abc'}", false, true),
        ("a notin {'x'}", true, true),
        ("a not in {}", true, true),
        ("a contains 'b'", true, false),
        ("a contains ''", true, false),
        ("a starts with 'ab'", true, false),
        ("a starts  with 'b'", false, false),
        ("a startswith 'ab'", true, false),
        ("a ends with 'bc'", true, false),
        ("a ends with 'ab'", false, false),
        ("!a == 'x'", true, true),
        ("!!has(a)", true, false),
        ("!(a == 'x' || has(b))", true, true),
    ] {
        assert_eq!(sel(text).matches(&labels(&[("a", "abc")])), with, "{text}");
        assert_eq!(sel(text).matches(&labels(&[])), without, "{text}");
    }
}

#[test]
fn words_are_labels_where_a_label_is_wanted() {
    for word in [
        "in",
        "not",
        "contains",
        "starts",
        "has",
        "all",
        "global",
        "a.b/c_d-e",
        "-x",
    ] {
        let text = format!("{word} in {{'v'}}");
        assert!(sel(&text).matches(&labels(&[(word, "v")])), "{text}");
    }
}

#[test]
fn and_binds_closer_than_or() {
    let s = sel("has(a) || has(b) && has(c)");
    assert!(s.matches(&labels(&[("a", "")])));
    assert!(!s.matches(&labels(&[("b", "")])));
    assert!(s.matches(&labels(&[("b", ""), ("c", "")])));
    assert_eq!(
        sel("(has(a) || has(b)) && has(c)").to_string(),
        "(has(a) || has(b)) && has(c)"
    );
}

#[test]
fn shown_in_one_form() {
    for (text, shown) in [
        ("", "all()"),
        ("((a==\"x\"))", "a == 'x'"),
        ("a == \"it's\"", "a == \"it's\""),
        ("a not  in{'z','a','z'}", "a not in {'a', 'z'}"),
        ("has(a)&&(has(b)&&!!has(c))", "has(a) && has(b) && has(c)"),
        ("!(has(a)||has(b))", "!(has(a) || has(b))"),
        ("!(!(a != ''))", "a != ''"),
    ] {
        assert_eq!(sel(text).to_string(), shown);
    }
}

#[test]
fn errors_point_at_the_byte() {
    for (text, at, expected) in [
        ("a = 'x'", 2, "=="),
        ("a == x", 5, "quotes"),
        ("a == 'x", 5, "closing quote"),
        ("a == 'x' b", 9, "&&"),
        ("a == 'x' & b", 9, "&&"),
        ("a == 'x' &&", 11, "a label"),
        ("(has(a)", 7, ")"),
        ("has()", 4, "a label"),
        ("has (a)", 4, "=="),
        ("all(", 4, ")"),
        ("a in ['x']", 5, "{"),
        ("a in {'x' 'y'}", 10, ","),
        ("a in {,}", 6, "a value"),
        ("a inf {'x'}", 2, "=="),
        ("a ends withs 'x'", 2, "=="),
        ("é == 'x'", 0, "a label"),
        ("a == 'é' ü", 10, "&&"),
    ] {
        let e = text.parse::<Selector>().unwrap_err();
        assert_eq!(e.at, at, "{text}: {e}");
        assert!(e.expected.contains(expected), "{text}: {e}");
    }
    let e = "a == 'x' oops".parse::<Selector>().unwrap_err();
    assert_eq!(
        e.to_string(),
        "at byte 9: expected &&, || or the end, found \"oops\""
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |n: usize| format!("{}has(a){}", "(".repeat(n), ")".repeat(n));
    assert_eq!(sel(&nested(MAX_DEPTH)).to_string(), "has(a)");
    assert!(nested(MAX_DEPTH + 1).parse::<Selector>().is_err());
    assert!(nested(30_000).parse::<Selector>().is_err());
    assert!("!".repeat(60_000).parse::<Selector>().is_err());
    assert!(
        format!("has({})", "a".repeat(513))
            .parse::<Selector>()
            .is_err()
    );
    assert!(" ".repeat(MAX_BYTES + 1).parse::<Selector>().is_err());
}

fn key() -> impl Strategy<Value = Box<str>> {
    prop::sample::select(vec!["a", "b", "in", "x.io/y"]).prop_map(Box::from)
}

fn value() -> impl Strategy<Value = Box<str>> {
    prop::sample::select(vec!["", "a", "ab", "b", "it's", "\"q\"", "é}", "||"]).prop_map(Box::from)
}

fn set() -> impl Strategy<Value = Box<[Box<str>]>> {
    let sorted = |s: BTreeSet<_>| s.into_iter().collect();
    prop::collection::btree_set(value(), 0..4).prop_map(sorted)
}

fn expr() -> impl Strategy<Value = Expr> {
    let test = prop_oneof![
        value().prop_map(Test::Equals),
        value().prop_map(Test::NotEquals),
        set().prop_map(Test::In),
        set().prop_map(Test::NotIn),
        value().prop_map(Test::Contains),
        value().prop_map(Test::StartsWith),
        value().prop_map(Test::EndsWith),
    ];
    let leaf = prop_oneof![
        1 => Just(Expr::All),
        1 => Just(Expr::Global),
        2 => key().prop_map(Expr::Has),
        8 => (key(), test).prop_map(|(k, t)| Expr::Test(k, t)),
    ];
    leaf.prop_recursive(5, 24, 4, |part| {
        prop_oneof![
            part.clone().prop_map(Expr::negate),
            prop::collection::vec(part.clone(), 2..4).prop_map(Expr::and),
            prop::collection::vec(part, 2..4).prop_map(Expr::or),
        ]
    })
}

/// What the language says, in other words than `eval`: the set of labels is asked, not the test.
fn naive(expr: &Expr, labels: &BTreeMap<String, String>) -> bool {
    let some = |key: &str, f: &dyn Fn(&str) -> bool| {
        labels.iter().filter(|(k, _)| *k == key).any(|(_, v)| f(v))
    };
    match expr {
        Expr::All | Expr::Global => true,
        Expr::Has(key) => some(key, &|_| true),
        Expr::Not(part) => !naive(part, labels),
        Expr::And(parts) => parts.iter().filter(|p| !naive(p, labels)).count() == 0,
        Expr::Or(parts) => parts.iter().filter(|p| naive(p, labels)).count() > 0,
        Expr::Test(key, test) => match test {
            Test::Equals(x) => some(key, &|v| v == &**x),
            Test::NotEquals(x) => !some(key, &|v| v == &**x),
            Test::In(set) => some(key, &|v| set.iter().any(|s| &**s == v)),
            Test::NotIn(set) => !some(key, &|v| set.iter().any(|s| &**s == v)),
            Test::Contains(x) => some(key, &|v| v.split(&**x).count() > 1),
            Test::StartsWith(x) => some(key, &|v| v.strip_prefix(&**x).is_some()),
            Test::EndsWith(x) => some(key, &|v| v.strip_suffix(&**x).is_some()),
        },
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_evaluator(
        expr in expr(),
        labels in prop::collection::btree_map(key().prop_map(String::from), value().prop_map(String::from), 0..4),
    ) {
        prop_assert_eq!(Selector(expr.clone()).matches(&labels), naive(&expr, &labels));
    }

    #[test]
    fn what_is_shown_parses_back(expr in expr()) {
        let shown = expr.to_string();
        prop_assert_eq!(sel(&shown).0, expr, "{}", shown);
    }

    #[test]
    fn any_text_is_safe(text in "[ab!&|(){},='\"a-z é]{0,40}|\\PC{0,60}") {
        match text.parse::<Selector>() {
            Ok(s) => prop_assert_eq!(sel(&s.to_string()), s),
            Err(e) => prop_assert!(text.is_char_boundary(e.at), "{}", e),
        }
    }
}
