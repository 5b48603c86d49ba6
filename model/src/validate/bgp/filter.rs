//! Rules of a `BGPFilter`.

use crate::Family;
use crate::resources::bgp_filter::{FilterAction, FilterOperation, FilterRule};
use crate::resources::{AsNumber, BgpFilterSpec};
use crate::validate::Check;

/// Most operations of a rule, and most AS numbers of one: Calico's limits.
const MOST: usize = 10;

pub(in crate::validate) fn filter(check: &mut Check, spec: &BgpFilterSpec) {
    for (field, rules, family) in [
        ("exportV4", &spec.export_v4, Family::V4),
        ("importV4", &spec.import_v4, Family::V4),
        ("exportV6", &spec.export_v6, Family::V6),
        ("importV6", &spec.import_v6, Family::V6),
    ] {
        for (i, rule) in rules.iter().enumerate() {
            filter_rule(check, &format!("spec.{field}[{i}]"), rule, family);
        }
    }
}

fn filter_rule(check: &mut Check, field: &str, rule: &FilterRule, family: Family) {
    if let Some(cidr) = rule.cidr.filter(|c| c.family() != family) {
        let problem = format!("is no prefix of {family}");
        let mend = "move the rule to the list of its family";
        check.fault(format!("{field}.cidr"), cidr, problem, mend);
    }
    check.that(
        rule.cidr.is_some() == rule.match_operator.is_some(),
        format!("{field}.matchOperator"),
        rule.match_operator
            .map_or(String::new(), |o| format!("{o:?}")),
        "stands beside cidr, and never without it",
        "write both, or neither",
    );
    if let Some(length) = &rule.prefix_length {
        let field = format!("{field}.prefixLength");
        let both = (length.min.unwrap_or(0), length.max.unwrap_or(family.bits()));
        let shown = format!("{} to {}", both.0, both.1);
        check.that(
            rule.cidr.is_some(),
            &field,
            &shown,
            "needs a cidr",
            "write cidr and matchOperator too",
        );
        check.that(
            both.0 <= both.1 && both.1 <= family.bits(),
            &field,
            &shown,
            format!("is no range of prefix lengths of {family}"),
            format!(
                "write min and max of 0 to {}, the smaller first",
                family.bits()
            ),
        );
    }
    if let Some(communities) = &rule.communities {
        check.that(
            communities.values.len() == 1,
            format!("{field}.communities.values"),
            format!("{} values", communities.values.len()),
            "is not one community",
            "write one; two rules match either of two",
        );
    }
    let path = format!("{field}.asPathPrefix");
    as_path(check, &path, &rule.as_path_prefix);
    let operations = format!("{field}.operations");
    check.that(
        rule.operations.is_empty() || rule.action == FilterAction::Accept,
        &operations,
        "",
        "change a route that is rejected",
        "remove them, or write action: Accept",
    );
    check.that(
        rule.operations.len() <= MOST,
        &operations,
        rule.operations.len(),
        "are too many",
        format!("write at most {MOST}"),
    );
    for (i, operation) in rule.operations.iter().enumerate() {
        filter_operation(check, &format!("{operations}[{i}]"), operation);
    }
}

fn as_path(check: &mut Check, field: &str, path: &[AsNumber]) {
    for (i, number) in path.iter().enumerate() {
        check.that(
            number.0 != 0,
            format!("{field}[{i}]"),
            number,
            "is on no path",
            "write an AS number",
        );
    }
}

fn filter_operation(check: &mut Check, field: &str, operation: &FilterOperation) {
    let FilterOperation {
        add_community,
        prepend_as_path,
        set_local_pref,
        set_med,
    } = operation;
    let set = [
        add_community.is_some(),
        prepend_as_path.is_some(),
        set_local_pref.is_some(),
        set_med.is_some(),
    ];
    let mend = "write one of addCommunity, prependASPath, setLocalPref, setMED; a list has several";
    let one = set.into_iter().filter(|is| *is).count() == 1;
    check.that(one, field, "", "is not one operation", mend);
    if let Some(prepend) = prepend_as_path {
        let field = format!("{field}.prependASPath.prefix");
        as_path(check, &field, &prepend.prefix);
        check.that(
            (1..=MOST).contains(&prepend.prefix.len()),
            &field,
            format!("{} AS numbers", prepend.prefix.len()),
            "is no prefix of a path",
            format!("write 1 to {MOST} AS numbers"),
        );
    }
}
