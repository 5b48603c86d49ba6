//! `BGPFilter`s as one list of rules for each direction of a peer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use model::bgp::filter::{Filter, MatchOperator, Operation, PrefixMatch, Rule};
use model::resources::bgp_filter::{
    FilterAction, FilterOperation, FilterOperator, FilterRule, PeerType,
};
use model::{Cidr, Family};

use crate::Inputs;
use crate::pools::{Pool, Pools};

/// Rules for what a peer says, and for what it hears.
pub(super) type Both = (Option<Arc<Filter>>, Arc<Filter>);

/// What becomes of a route that no rule of an operator is about, on its way out: what lies in our pools and service
/// prefixes goes, from wherever we have it, and so does what we announce ourselves. What else was learnt stays here: two switches of a
/// rack must not reach each other by way of a node.
pub(super) fn out(pools: &Pools<'_>, services: impl Iterator<Item = Cidr>) -> Arc<Filter> {
    let of_pool = |pool: &Pool<'_>| Rule {
        accept: !pool.spec.disable_bgp_export,
        prefix: Some(inside(pool.spec.cidr)),
        ..Rule::default()
    };
    let learnt = Rule {
        accept: false,
        remote: true,
        ..Rule::default()
    };
    let services = services.map(|cidr| Rule {
        prefix: Some(inside(cidr)),
        ..Rule::default()
    });
    let rules = pools.iter().map(of_pool).chain(services);
    let rules = rules.chain([learnt]).collect();
    Arc::new(Filter { rules })
}

fn inside(cidr: Cidr) -> PrefixMatch {
    PrefixMatch {
        cidr,
        operator: MatchOperator::In,
        min_len: None,
        max_len: None,
    }
}

/// The filters of these names in order, and after those for what is heard, `out`.
///
/// A filter that is missing is an error: what it should have kept in or out is not known.
pub(super) fn compile(
    inputs: &Inputs<'_>,
    names: &[String],
    external: bool,
    out: &Arc<Filter>,
) -> Result<Both, String> {
    let (mut import, mut export) = (Filter::default(), Filter::default());
    for name in names {
        let filter = inputs.snapshot.bgp_filters.get(name);
        let spec = &filter
            .ok_or_else(|| {
                format!("it is not peered with, since there is no BGPFilter/{name}: apply it, or take it out of spec.filters")
            })?
            .spec;
        let families = [Family::V4, Family::V6];
        for (to, lists) in [
            (&mut import, [&spec.import_v4, &spec.import_v6]),
            (&mut export, [&spec.export_v4, &spec.export_v6]),
        ] {
            for (rules, family) in lists.into_iter().zip(families) {
                let rules = rules.iter().filter(|r| is_for(r, external));
                to.rules.extend(rules.map(|r| rule(r, family)));
            }
        }
    }
    let import = (!import.rules.is_empty()).then(|| Arc::new(import));
    if export.rules.is_empty() {
        return Ok((import, out.clone()));
    }
    export.rules.extend(out.rules.iter().cloned());
    Ok((import, Arc::new(export)))
}

fn is_for(rule: &FilterRule, external: bool) -> bool {
    match rule.peer_type {
        None => true,
        Some(PeerType::External) => external,
        Some(PeerType::Internal) => !external,
    }
}

/// Rules of the two families stand in one list, so each names a prefix of its own.
fn rule(rule: &FilterRule, family: Family) -> Rule {
    let all = match family {
        Family::V4 => Cidr::containing(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => Cidr::containing(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let operator = match rule.match_operator {
        Some(FilterOperator::Equal) => MatchOperator::Equal,
        Some(FilterOperator::NotEqual) => MatchOperator::NotEqual,
        Some(FilterOperator::NotIn) => MatchOperator::NotIn,
        Some(FilterOperator::In) | None => MatchOperator::In,
    };
    let prefix = rule.cidr.map(|cidr| PrefixMatch {
        cidr,
        operator,
        min_len: rule.prefix_length.and_then(|l| l.min),
        max_len: rule.prefix_length.and_then(|l| l.max),
    });
    Rule {
        accept: rule.action == FilterAction::Accept,
        prefix: prefix.or(all.map(inside)),
        remote: rule.source.is_some(),
        communities: (rule.communities.iter().flat_map(|c| c.values.clone())).collect(),
        as_path_prefix: rule.as_path_prefix.iter().map(|n| n.0).collect(),
        operations: rule.operations.iter().flat_map(operation).collect(),
    }
}

fn operation(of: &FilterOperation) -> impl Iterator<Item = Operation> {
    let prepend = of.prepend_as_path.as_ref();
    [
        of.add_community.map(|c| Operation::AddCommunity(c.value)),
        prepend.map(|p| Operation::PrependAsPath(p.prefix.iter().map(|n| n.0).collect())),
        of.set_local_pref.map(|n| Operation::SetLocalPref(n.value)),
        of.set_med.map(|n| Operation::SetMed(n.value)),
    ]
    .into_iter()
    .flatten()
}
