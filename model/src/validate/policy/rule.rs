//! One rule of a policy.

use super::{Global, selector};
use crate::resources::policy_port::PolicyPort;
use crate::resources::workload_endpoint::Protocol;
use crate::resources::{EntityRule, IcmpFields, Rule};
use crate::validate::Check;
use crate::{Cidr, Family};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols with ports: TCP, UDP and SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

pub(super) fn rule(check: &mut Check, field: &str, rule: &Rule) {
    if let Some(version) = rule.ip_version {
        let good = [4, 6].contains(&version);
        let place = format!("{field}.ipVersion");
        check.that(good, place, version, "is no IP version", "write 4 or 6");
    }
    for (name, protocol) in [
        ("protocol", &rule.protocol),
        ("notProtocol", &rule.not_protocol),
    ] {
        if let Some(p) = protocol {
            let mend = format!(
                "write one of {}, or a number from 1 to 255",
                Protocol::names().collect::<Vec<_>>().join(", ")
            );
            let shown = match p {
                Protocol::Name(name) => format!("{name:?}"),
                Protocol::Number(n) => n.to_string(),
            };
            let place = format!("{field}.{name}");
            check.that(p.number().is_some(), place, shown, "is no protocol", mend);
        }
    }
    icmp(check, field, rule);
    families(check, field, rule);
    for (name, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        let place = format!("{field}.{name}");
        ports(check, &place, entity, rule);
        for (name, text, global) in [
            ("selector", &entity.selector, Global::Refused),
            ("notSelector", &entity.not_selector, Global::Refused),
            (
                "namespaceSelector",
                &entity.namespace_selector,
                Global::Taken,
            ),
        ] {
            if let Some(text) = text {
                selector(check, &format!("{place}.{name}"), text, global);
            }
        }
    }
}

/// The protocol that a rule is for, as a number.
fn protocol(rule: &Rule) -> Option<u8> {
    rule.protocol.as_ref().and_then(Protocol::number)
}

fn icmp(check: &mut Check, field: &str, rule: &Rule) {
    let protocol = protocol(rule);
    for (name, icmp) in [("icmp", &rule.icmp), ("notICMP", &rule.not_icmp)] {
        let Some(IcmpFields { icmp_type, code }) = icmp else {
            continue;
        };
        let place = format!("{field}.{name}");
        if !matches!(protocol, Some(ICMP | ICMPV6)) {
            let problem = "needs a protocol with types and codes";
            check.fault(
                &place,
                "",
                problem,
                "write protocol: ICMP or ICMPv6 beside it",
            );
        }
        if let Some(255) = icmp_type {
            check.fault(
                format!("{place}.type"),
                255,
                "is no ICMP type",
                "write 0 to 254",
            );
        }
        if let (None, Some(code)) = (icmp_type, code) {
            let problem = "means nothing without its type";
            check.fault(
                format!("{place}.code"),
                code,
                problem,
                "write the type beside it",
            );
        }
        if icmp_type.is_none() && code.is_none() {
            check.fault(&place, "", "names nothing", "write a type, or remove it");
        }
    }
    let (version, name) = match protocol {
        Some(ICMP) => (4, "ICMP"),
        Some(ICMPV6) => (6, "ICMPv6"),
        _ => return,
    };
    if let Some(other) = rule.ip_version.filter(|v| *v != version) {
        let problem = format!("never has {name}");
        let mend = format!("write {version}, or remove it");
        check.fault(format!("{field}.ipVersion"), other, problem, mend);
    }
}

/// All prefixes of a rule are of one family, for one packet has one.
fn families(check: &mut Check, field: &str, rule: &Rule) {
    let wanted = rule.ip_version.and_then(|v| match v {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => None,
    });
    let mut seen = wanted;
    for (name, nets) in [
        ("source.nets", &rule.source.nets),
        ("source.notNets", &rule.source.not_nets),
        ("destination.nets", &rule.destination.nets),
        ("destination.notNets", &rule.destination.not_nets),
    ] {
        for (i, net) in nets.iter().enumerate() {
            let place = || format!("{field}.{name}[{i}]");
            if *seen.get_or_insert(net.family()) != net.family() {
                let (problem, mend) = match wanted {
                    Some(_) => ("is not of the rule's ipVersion", "remove one of the two"),
                    None => (
                        "is of another IP version than a prefix before it",
                        "write a rule for each IP version",
                    ),
                };
                check.fault(place(), net, problem, mend);
                return;
            }
            if name.ends_with("notNets") && is_everything(net) {
                let problem = "is every address, so the rule matches nothing";
                check.fault(
                    place(),
                    net,
                    problem,
                    "remove the rule, or write a smaller prefix",
                );
                return;
            }
        }
    }
}

fn is_everything(net: &Cidr) -> bool {
    net.prefix_len() == 0
}

fn ports(check: &mut Check, field: &str, entity: &EntityRule, rule: &Rule) {
    for (name, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
        if ports.is_empty() {
            continue;
        }
        let place = format!("{field}.{name}");
        match protocol(rule) {
            Some(p) if WITH_PORTS.contains(&p) => {}
            // An unknown one has its fault already.
            None if rule.protocol.is_some() => {}
            _ => {
                let given = rule
                    .protocol
                    .as_ref()
                    .map_or("no protocol".to_owned(), ToString::to_string);
                let problem = format!("stand in a rule for {given}, which has none");
                let shown = ports
                    .iter()
                    .map(PolicyPort::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                let mend = "write protocol: TCP, UDP or SCTP, or remove them";
                check.fault(place, shown, problem, mend);
            }
        }
    }
}
