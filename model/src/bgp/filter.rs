//! Rules for routes in or out of a BGP neighbour: the meaning of `BGPFilter`, without its texts. Whoever speaks
//! BGP does the matching.

use serde::Serialize;

use super::{Community, LargeCommunity};
use crate::Cidr;

/// How a rule's prefix and a route's are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixMatch {
    /// The prefix. A route of the other family never matches, whatever the operator.
    pub cidr: Cidr,
    /// How to compare.
    pub operator: MatchOperator,
    /// With `In` and `NotIn`: the shortest prefix that counts as inside.
    pub min_len: Option<u8>,
    /// With `In` and `NotIn`: the longest prefix that counts as inside.
    pub max_len: Option<u8>,
}

/// A change to a route that a rule accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
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

/// Rules of both families for one direction of one neighbour. The first that matches decides; a route that no
/// rule matches is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Filter {
    /// In order.
    pub rules: Vec<Rule>,
}

impl From<LargeCommunity> for Community {
    fn from(large: LargeCommunity) -> Community {
        Community::Large(large)
    }
}
