//! Tiers, policies, network sets and host endpoints.

use std::net::IpAddr;

use super::specs::{host_address, port};
use super::{Check, ValidationError, is_name};
use crate::kernel::LinkName;
use crate::marks;
use crate::object::ObjectId;
use crate::resources::host_endpoint::{ALL_INTERFACES, DEFAULT_ALLOW, HostEndpointSpec};
use crate::resources::order::Order;
use crate::resources::policy_port::is_port_name;
use crate::resources::tier::{DEFAULT_TIER, DEFAULT_TIER_ORDER};
use crate::resources::workload_endpoint::EndpointPort;
use crate::resources::{PolicySpec, StagedAction, TierAction, TierSpec};
use crate::selector::{Expr, Selector};

mod rule;

/// Most faults of one policy: enough to mend, bounded for hostile input.
const MOST_FAULTS: usize = 20;

/// Tiers that stand for something, with what they have to be.
const FIXED_TIERS: [(&str, i32, TierAction); 3] = [
    (DEFAULT_TIER, DEFAULT_TIER_ORDER, TierAction::Deny),
    ("adminnetworkpolicy", 1_000, TierAction::Pass),
    ("baselineadminnetworkpolicy", 10_000_000, TierAction::Pass),
];

pub(super) fn tier(check: &mut Check, spec: &TierSpec) {
    let name = check.object.name.clone();
    let Some((_, order, action)) = FIXED_TIERS.into_iter().find(|(fixed, ..)| *fixed == name)
    else {
        return;
    };
    let given = spec.order.unwrap_or(Order::from(order));
    let mend = format!("write {order}, or use another tier");
    let problem = "is not the place of this tier";
    check.that(
        given == Order::from(order),
        "spec.order",
        given,
        problem,
        mend,
    );
    let given = spec.default_action.unwrap_or(action);
    let mend = format!("write {action:?}, or use another tier");
    check.that(
        given == action,
        "spec.defaultAction",
        format!("{given:?}"),
        "is not the default action of this tier",
        mend,
    );
}

pub(super) fn policy(check: &mut Check, spec: &PolicySpec) {
    let kind = check.kind();
    if let Some(action) = spec.staged_action
        && !kind.is_staged()
    {
        let mend = format!("remove it, or write kind: Staged{kind}");
        let problem = "is a field of staged kinds only";
        check.fault("spec.stagedAction", format!("{action:?}"), problem, mend);
    }
    if let Some(tier) = &spec.tier {
        let mend = "write the name of a Tier";
        let shown = format!("{tier:?}");
        check.that(
            is_name(tier),
            "spec.tier",
            shown,
            "cannot name a tier",
            mend,
        );
    }
    if let Some(text) = &spec.selector {
        selector(check, "spec.selector", text, Global::Refused);
    }
    if let Some(text) = &spec.namespace_selector {
        let namespaced = kind.is_namespaced();
        if namespaced {
            let problem = "is no field of this kind, which applies to its own namespace";
            let mend = "remove it, or write a GlobalNetworkPolicy";
            check.fault("spec.namespaceSelector", format!("{text:?}"), problem, mend);
        } else {
            selector(check, "spec.namespaceSelector", text, Global::Refused);
        }
    }
    if spec.staged_action == Some(StagedAction::Delete) {
        let rules = spec.ingress.len() + spec.egress.len();
        let problem = "stand in a policy that takes another away";
        let mend = "remove them, or write stagedAction: Set";
        check.that(rules == 0, "spec", format!("{rules} rules"), problem, mend);
    }
    for (field, rules) in [
        ("spec.ingress", &spec.ingress),
        ("spec.egress", &spec.egress),
    ] {
        for (i, rule) in rules.iter().enumerate() {
            if check.errors.len() >= MOST_FAULTS {
                return;
            }
            rule::rule(check, &format!("{field}[{i}]"), rule);
        }
    }
}

/// Whether `global()` means something where a selector stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Global {
    Taken,
    Refused,
}

fn selector(check: &mut Check, field: &str, text: &str, global: Global) {
    match text.parse::<Selector>() {
        Err(e) => check.fault(
            field,
            format!("{text:?}"),
            format!("is no selector: {e}"),
            "write one such as app == 'web'",
        ),
        Ok(s) if global == Global::Refused && has_global(s.expr()) => check.fault(
            field,
            format!("{text:?}"),
            "has global(), which only the namespaceSelector of a rule may have",
            "write all(), or name labels",
        ),
        Ok(_) => {}
    }
}

/// Selectors are at most 64 parentheses deep, so this is no deeper.
fn has_global(expr: &Expr) -> bool {
    match expr {
        Expr::Global => true,
        Expr::Not(part) => has_global(part),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(has_global),
        _ => false,
    }
}

pub(super) fn host_endpoint(check: &mut Check, spec: &HostEndpointSpec) {
    let shown = if spec.node.is_empty() {
        String::new()
    } else {
        format!("{:?}", spec.node)
    };
    let problem = if spec.node.is_empty() {
        "is required"
    } else {
        "cannot name a node"
    };
    check.that(
        is_name(&spec.node),
        "spec.node",
        shown,
        problem,
        "write the name of a Node",
    );
    interface(check, spec);
    for (i, ip) in spec.expected_ips.iter().enumerate() {
        let place = format!("spec.expectedIPs[{i}]");
        match ip {
            // One address would have two spellings, and rules know the one on the wire.
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                let mend = "write the IPv4 address";
                check.fault(place, ip, "is an IPv4 address in IPv6", mend);
            }
            _ => host_address(check, &place, *ip),
        }
    }
    check.unique("spec.expectedIPs", &spec.expected_ips);
    for (i, profile) in spec.profiles.iter().enumerate() {
        check.that(
            profile == DEFAULT_ALLOW,
            format!("spec.profiles[{i}]"),
            format!("{profile:?}"),
            "is a profile, which is known to Calico but not built here",
            format!("write {DEFAULT_ALLOW}, or a policy that says what the profile does"),
        );
    }
    check.unique("spec.profiles", &spec.profiles);
    ports(check, &spec.ports);
}

fn interface(check: &mut Check, spec: &HostEndpointSpec) {
    let name = spec.interface_name.as_str();
    let (problem, mend) = match name {
        "" if spec.expected_ips.is_empty() => (
            "is required where there are no expectedIPs",
            "write the interface, or its expectedIPs",
        ),
        "" | ALL_INTERFACES => return,
        "lo" => (
            "is the loopback interface",
            "write an interface to the outside",
        ),
        _ if name.parse::<LinkName>().is_err() => (
            "cannot name an interface",
            "write 1 to 15 bytes without '/', ':' and white space",
        ),
        _ if marks::is_our_link(name) => (
            "is an interface of a workload or of the daemon",
            "write the workload's policies",
        ),
        _ => return,
    };
    let shown = if name.is_empty() {
        String::new()
    } else {
        format!("{name:?}")
    };
    check.fault("spec.interfaceName", shown, problem, mend);
}

/// Named ports of a host.
fn ports(check: &mut Check, ports: &[EndpointPort]) {
    for (i, p) in ports.iter().enumerate() {
        let field = format!("spec.ports[{i}]");
        port(check, &field, p);
        let shown = format!("{:?}", p.name);
        let problem = "cannot name a port";
        let mend = "write up to 128 letters, digits, '-', '_' and '.'";
        check.that(
            is_port_name(&p.name),
            format!("{field}.name"),
            shown,
            problem,
            mend,
        );
    }
    check.unique("spec.ports", ports);
}

/// What is wrong when the tier of a policy is missing: it would be asked after all tiers that are there,
/// which is hardly what is wanted.
pub fn tier_missing(
    policy: &ObjectId,
    spec: &PolicySpec,
    has_tier: impl Fn(&str) -> bool,
) -> Option<ValidationError> {
    let tier = spec.tier();
    if tier == DEFAULT_TIER || has_tier(tier) {
        return None;
    }
    let problem = format!("there is no Tier/{tier}");
    let mend = "apply the Tier first";
    Some(ValidationError::at(
        policy,
        "spec.tier",
        format!("{tier:?}"),
        problem,
        mend,
    ))
}
