//! `BGPFilter`: rules for routes to and from BGP peers, the first that matches decides.

use serde::{Deserialize, Serialize};

use super::as_number::AsNumber;
use crate::Cidr;
use crate::bgp::Community;

/// What becomes of a route that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterAction {
    /// It is used, or announced.
    Accept,
    /// It is not.
    Reject,
}

/// How a route's prefix and a rule's are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterOperator {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// The same, or inside.
    In,
    /// Neither the same nor inside.
    NotIn,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilterSource {
    /// It was learnt of a BGP peer.
    RemotePeers,
}

/// What a peer is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerType {
    /// In another AS.
    #[serde(rename = "eBGP")]
    External,
    /// In our own.
    #[serde(rename = "iBGP")]
    Internal,
}

/// Lengths that a prefix may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixLength {
    /// The shortest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    /// The longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

/// Communities that a route has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommunityMatch {
    /// One community.
    pub values: Vec<Community>,
}

/// A community to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddCommunity {
    /// The community.
    pub value: Community,
}

/// AS numbers to put before a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrependAsPath {
    /// In the order in which the path then begins.
    pub prefix: Vec<AsNumber>,
}

/// A number to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetNumber {
    /// The number.
    pub value: u32,
}

/// A change to a route: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterOperation {
    /// Adds a community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Puts AS numbers before the path.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "prependASPath"
    )]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Ours: sets LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_local_pref: Option<SetNumber>,
    /// Ours: sets MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "setMED")]
    pub set_med: Option<SetNumber>,
}

/// A rule. What it does not name, it does not ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterRule {
    /// What becomes of a route that matches.
    pub action: FilterAction,
    /// How to compare with `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<FilterOperator>,
    /// A prefix to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Lengths that count as inside of `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Where the route comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<FilterSource>,
    /// What the peer is to us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Communities that the route has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// AS numbers that its path begins with.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "asPathPrefix"
    )]
    pub as_path_prefix: Vec<AsNumber>,
    /// What is done to a route that is accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<FilterOperation>,
}

/// Specification of a `BGPFilter`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpFilterSpec {
    /// For IPv4 routes that the peer hears.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "exportV4")]
    pub export_v4: Vec<FilterRule>,
    /// For IPv4 routes that it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "importV4")]
    pub import_v4: Vec<FilterRule>,
    /// For IPv6 routes that the peer hears.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "exportV6")]
    pub export_v6: Vec<FilterRule>,
    /// For IPv6 routes that it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "importV6")]
    pub import_v6: Vec<FilterRule>,
}
