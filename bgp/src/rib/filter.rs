//! Filters: rules in order, the first that matches decides (the meaning of `BGPFilter`).

pub use model::bgp::Community;
pub use model::bgp::filter::{Filter, MatchOperator, Operation, PrefixMatch, Rule};

use crate::attributes::{AttrView, Edit, Keep};
use crate::prefix::PrefixKey;

/// The part of [`PrefixMatch`] that needs a table's key.
fn prefix_matches<K: PrefixKey>(wanted: &PrefixMatch, key: K) -> bool {
    let Some(cidr) = K::from_cidr(&wanted.cidr) else {
        return false;
    };
    let inside = cidr.covers(key)
        && wanted.min_len.is_none_or(|min| key.len() >= min)
        && wanted.max_len.is_none_or(|max| key.len() <= max);
    match wanted.operator {
        MatchOperator::Equal => cidr == key,
        MatchOperator::NotEqual => cidr != key,
        MatchOperator::In => inside,
        MatchOperator::NotIn => !inside,
    }
}

fn rule_matches<K: PrefixKey>(rule: &Rule, key: K, view: AttrView<'_>, remote: bool) -> bool {
    let has = |community: &Community| match community {
        Community::Standard(c) => view.communities().any(|have| have == *c),
        Community::Large(c) => view.large_communities().any(|have| have == *c),
    };
    (remote || !rule.remote)
        && (rule.prefix.as_ref()).is_none_or(|prefix| prefix_matches(prefix, key))
        && rule.communities.iter().all(has)
        && (rule.as_path_prefix.is_empty() || path_begins(rule, view))
}

fn path_begins(rule: &Rule, view: AttrView<'_>) -> bool {
    let mut path = view.asns();
    (rule.as_path_prefix.iter()).all(|asn| path.next() == Some(*asn))
}

/// Adds a rule's operations to an edit.
pub(crate) fn add_to(rule: &Rule, edit: &mut Edit) {
    for operation in &rule.operations {
        match operation {
            Operation::AddCommunity(Community::Standard(c)) => edit.communities.push(*c),
            Operation::AddCommunity(Community::Large(c)) => edit.large_communities.push(*c),
            // Before what is there, and before what an earlier operation put there.
            Operation::PrependAsPath(asns) => {
                edit.prepend.splice(0..0, asns.iter().copied());
            }
            Operation::SetLocalPref(pref) => edit.local_pref = Keep::Set(*pref),
            Operation::SetMed(med) => edit.med = Keep::Set(*med),
        }
    }
}

/// What a filter said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Reject,
    /// Accepted, with the operations of this rule.
    Accept(Option<u16>),
}

/// What `filter` says of a route.
pub(crate) fn judge<K: PrefixKey>(
    filter: &Filter,
    key: K,
    view: AttrView<'_>,
    remote: bool,
) -> Verdict {
    let matching = |rule: &Rule| rule_matches(rule, key, view, remote);
    match filter.rules.iter().position(matching) {
        None => Verdict::Accept(None),
        Some(at) => match filter.rules.get(at) {
            Some(rule) if rule.accept => {
                let operates = !rule.operations.is_empty();
                Verdict::Accept(u16::try_from(at).ok().filter(|_| operates))
            }
            _ => Verdict::Reject,
        },
    }
}

/// The rule that a verdict names.
pub(crate) fn rule(filter: &Filter, at: Option<u16>) -> Option<&Rule> {
    filter.rules.get(usize::from(at?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::prefix::V4;

    fn verdict(rules: Vec<Rule>, prefix: &str, attributes: &Attributes, remote: bool) -> Verdict {
        let key = V4::from_cidr(&prefix.parse().unwrap()).unwrap();
        let block = attributes.block().unwrap();
        judge(&Filter { rules }, key, AttrView::new(&block), remote)
    }

    fn prefix(cidr: &str, operator: MatchOperator, min: Option<u8>, max: Option<u8>) -> Rule {
        Rule {
            accept: false,
            prefix: Some(PrefixMatch {
                cidr: cidr.parse().unwrap(),
                operator,
                min_len: min,
                max_len: max,
            }),
            ..Rule::default()
        }
    }

    #[test]
    fn prefixes_are_compared_as_the_operator_says() {
        use MatchOperator::{Equal, In, NotEqual, NotIn};
        let net = "10.0.0.0/16";
        let cases = [
            (Equal, None, None, net, true),
            (Equal, None, None, "10.0.1.0/24", false),
            (NotEqual, None, None, net, false),
            (NotEqual, None, None, "10.0.1.0/24", true),
            (In, None, None, net, true),
            (In, None, None, "10.0.1.0/24", true),
            (In, None, None, "10.0.0.0/8", false),
            (In, Some(24), Some(26), "10.0.1.0/24", true),
            (In, Some(25), None, "10.0.1.0/24", false),
            (In, None, Some(20), "10.0.1.0/24", false),
            (NotIn, None, None, "10.1.0.0/24", true),
            (NotIn, None, None, "10.0.1.0/24", false),
            (NotIn, Some(25), None, "10.0.1.0/24", true),
        ];
        for (operator, min, max, route, matches) in cases {
            let verdict = verdict(
                vec![prefix(net, operator, min, max)],
                route,
                &Attributes::default(),
                true,
            );
            assert_eq!(
                verdict == Verdict::Reject,
                matches,
                "{operator:?} {min:?} {max:?} {route}"
            );
        }
    }

    #[test]
    fn the_first_match_wins_and_no_match_accepts() {
        let attributes = Attributes {
            as_path: vec![64512, 64513],
            communities: vec![7],
            ..Attributes::default()
        };
        let by_path = |asns: &[u32], accept| Rule {
            accept,
            as_path_prefix: asns.to_vec(),
            operations: vec![Operation::SetMed(1)],
            ..Rule::default()
        };
        let with = |rules| verdict(rules, "10.0.0.0/8", &attributes, true);
        assert_eq!(with(vec![]), Verdict::Accept(None));
        assert_eq!(
            with(vec![
                by_path(&[64513], false),
                by_path(&[64512], true),
                by_path(&[64512], false)
            ]),
            Verdict::Accept(Some(1))
        );
        assert_eq!(
            with(vec![by_path(&[64512, 64513, 1], false)]),
            Verdict::Accept(None)
        );
        let tagged = |communities: &[u32]| Rule {
            accept: false,
            communities: communities
                .iter()
                .map(|c| Community::Standard(*c))
                .collect(),
            ..Rule::default()
        };
        assert_eq!(with(vec![tagged(&[7])]), Verdict::Reject);
        assert_eq!(with(vec![tagged(&[7, 8])]), Verdict::Accept(None));
        let remote = Rule {
            accept: false,
            remote: true,
            ..Rule::default()
        };
        assert_eq!(with(vec![remote.clone()]), Verdict::Reject);
        assert_eq!(
            verdict(vec![remote], "10.0.0.0/8", &attributes, false),
            Verdict::Accept(None)
        );
    }
}
