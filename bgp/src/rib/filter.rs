//! Filters: rules in order, the first that matches decides (the meaning of `BGPFilter`).

use model::Cidr;

use crate::attributes::{AttrView, Edit, Keep, LargeCommunity};
use crate::prefix::PrefixKey;

/// How a rule's prefix and a route's are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOperator {
    /// The same prefix.
    Equal,
    /// Another prefix.
    NotEqual,
    /// Inside.
    In,
    /// Not inside.
    NotIn,
}

/// A prefix to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixMatch {
    /// The prefix.
    pub cidr: Cidr,
    /// How to compare.
    pub operator: MatchOperator,
    /// With `In` and `NotIn`: the shortest prefix that counts as inside.
    pub min_len: Option<u8>,
    /// With `In` and `NotIn`: the longest prefix that counts as inside.
    pub max_len: Option<u8>,
}

impl PrefixMatch {
    fn matches<K: PrefixKey>(&self, key: K) -> bool {
        let Some(cidr) = K::from_cidr(&self.cidr) else {
            return false;
        };
        let inside = cidr.covers(key)
            && self.min_len.is_none_or(|min| key.len() >= min)
            && self.max_len.is_none_or(|max| key.len() <= max);
        match self.operator {
            MatchOperator::Equal => cidr == key,
            MatchOperator::NotEqual => cidr != key,
            MatchOperator::In => inside,
            MatchOperator::NotIn => !inside,
        }
    }
}

/// A community to look for or to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large(LargeCommunity),
}

/// A change to a route that a rule accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Adds a community.
    AddCommunity(Community),
    /// Puts AS numbers before the path, nearest first.
    PrependAsPath(Vec<u32>),
    /// Sets LOCAL_PREF.
    SetLocalPref(u32),
    /// Sets MULTI_EXIT_DISC.
    SetMed(u32),
}

/// One rule. What it does not name, it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whether a route that matches is used.
    pub accept: bool,
    /// The route's prefix.
    pub prefix: Option<PrefixMatch>,
    /// Only routes that neighbours announced, not ours.
    pub remote: bool,
    /// All of these are on the route.
    pub communities: Vec<Community>,
    /// The path begins with these AS numbers.
    pub as_path_prefix: Vec<u32>,
    /// What is done to a route that is accepted.
    pub operations: Vec<Operation>,
}

impl Default for Rule {
    /// Accepts everything.
    fn default() -> Rule {
        Rule {
            accept: true,
            prefix: None,
            remote: false,
            communities: Vec::new(),
            as_path_prefix: Vec::new(),
            operations: Vec::new(),
        }
    }
}

impl Rule {
    fn matches<K: PrefixKey>(&self, key: K, view: AttrView<'_>, remote: bool) -> bool {
        let has = |community: &Community| match community {
            Community::Standard(c) => view.communities().any(|have| have == *c),
            Community::Large(c) => view.large_communities().any(|have| have == *c),
        };
        (remote || !self.remote)
            && self.prefix.is_none_or(|prefix| prefix.matches(key))
            && self.communities.iter().all(has)
            && (self.as_path_prefix.is_empty() || self.path_begins(view))
    }

    fn path_begins(&self, view: AttrView<'_>) -> bool {
        let mut path = view.asns();
        self.as_path_prefix
            .iter()
            .all(|asn| path.next() == Some(*asn))
    }

    /// Adds the rule's operations to an edit.
    pub(crate) fn add_to(&self, edit: &mut Edit) {
        for operation in &self.operations {
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
}

/// Rules of both families for one direction of one neighbour. A route that no rule matches is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// In order.
    pub rules: Vec<Rule>,
}

/// What a filter said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Reject,
    /// Accepted, with the operations of this rule.
    Accept(Option<u16>),
}

impl Filter {
    pub(crate) fn judge<K: PrefixKey>(&self, key: K, view: AttrView<'_>, remote: bool) -> Verdict {
        let matching = |rule: &Rule| rule.matches(key, view, remote);
        match self.rules.iter().position(matching) {
            None => Verdict::Accept(None),
            Some(at) => match self.rules.get(at) {
                Some(rule) if rule.accept => {
                    let operates = !rule.operations.is_empty();
                    Verdict::Accept(u16::try_from(at).ok().filter(|_| operates))
                }
                _ => Verdict::Reject,
            },
        }
    }

    pub(crate) fn rule(&self, at: Option<u16>) -> Option<&Rule> {
        self.rules.get(usize::from(at?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::prefix::V4;

    fn judge(rules: Vec<Rule>, prefix: &str, attributes: &Attributes, remote: bool) -> Verdict {
        let key = V4::from_cidr(&prefix.parse().unwrap()).unwrap();
        let block = attributes.block().unwrap();
        Filter { rules }.judge(key, AttrView::new(&block), remote)
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
            let verdict = judge(
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
        let with = |rules| judge(rules, "10.0.0.0/8", &attributes, true);
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
            judge(vec![remote], "10.0.0.0/8", &attributes, false),
            Verdict::Accept(None)
        );
    }
}
