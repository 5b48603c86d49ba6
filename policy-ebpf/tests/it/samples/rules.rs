//! Random rules, and policies of them.

use model::resources::workload_endpoint::Protocol;
use model::resources::{
    Action, EntityRule, IcmpFields, Order, PolicyPort, PolicySpec, PolicyType, Rule, StagedAction,
};

use super::super::dice::Dice;
use super::{PORT_NAMES, PORTS, TIERS, V4, V6, cidr};

pub(super) fn selector(dice: &mut Dice) -> String {
    let key = dice.pick(&[
        "app",
        "role",
        "zone",
        "pcns.team",
        "projectcalico.org/namespace",
    ]);
    let value = dice.pick(&["a", "b", "ab", "red"]);
    match dice.roll(11) {
        0 => "all()".to_owned(),
        1 => format!("has({key})"),
        2 => format!("!has({key})"),
        3 => format!("{key} != '{value}'"),
        4 => format!("{key} in {{'{value}', 'b'}}"),
        5 => format!("{key} starts with 'a'"),
        6 => format!("({}) && ({})", selector(dice), selector(dice)),
        7 => format!("({}) || ({})", selector(dice), selector(dice)),
        _ => format!("{key} == '{value}'"),
    }
}

fn namespaces(dice: &mut Dice) -> String {
    match dice.roll(6) {
        0 => "all()".to_owned(),
        1 => "global()".to_owned(),
        2 => "!global() && team != 'x'".to_owned(),
        3 => "kubernetes.io/metadata.name == 'red'".to_owned(),
        4 => "has(team)".to_owned(),
        _ => "team == 'x'".to_owned(),
    }
}

fn port(dice: &mut Dice) -> PolicyPort {
    if dice.one_in(3) {
        return PolicyPort::Named(dice.pick(&PORT_NAMES).into());
    }
    let (a, b) = (dice.pick(&PORTS), dice.pick(&PORTS));
    match dice.one_in(2) {
        true => PolicyPort::single(a),
        false => PolicyPort::Range(a.min(b), a.max(b)),
    }
}

fn entity(dice: &mut Dice, nets: &[&str], ports: bool) -> EntityRule {
    let mut entity = EntityRule::default();
    if dice.one_in(3) {
        return entity;
    }
    if dice.one_in(3) {
        entity.nets = dice.many(3, |d| cidr(d.pick(nets)));
    }
    if dice.one_in(6) {
        entity.not_nets = dice.many(2, |d| cidr(d.pick(&nets[..nets.len() - 1])));
    }
    entity.selector = dice.maybe(2, selector);
    entity.not_selector = dice.maybe(5, selector);
    entity.namespace_selector = dice.maybe(4, namespaces);
    if ports && dice.one_in(2) {
        entity.ports = dice.many(3, port);
    }
    if ports && dice.one_in(4) {
        entity.not_ports = dice.many(2, port);
    }
    entity
}

pub(super) fn rule(dice: &mut Dice) -> Rule {
    let action = match dice.roll(9) {
        0..=3 => Action::Allow,
        4..=5 => Action::Deny,
        6 => Action::Pass,
        _ => Action::Log,
    };
    let mut rule = Rule::any(action);
    let protocol = dice.maybe(2, |d| {
        d.pick(&["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "47"])
    });
    rule.protocol = protocol.map(|p| match p {
        "47" => Protocol::Number(47),
        name => Protocol::Name(name.to_owned()),
    });
    rule.not_protocol = dice.maybe(8, |d| {
        Protocol::Name(d.pick(&["TCP", "UDP", "ICMP"]).to_owned())
    });
    let ports = matches!(protocol, Some("TCP" | "UDP" | "SCTP"));
    if matches!(protocol, Some("ICMP" | "ICMPv6")) {
        let fields = |d: &mut Dice| IcmpFields {
            icmp_type: Some(d.pick(&[0, 3, 8])),
            code: d.maybe(2, |d| d.pick(&[0, 4])),
        };
        rule.icmp = dice.maybe(2, fields);
        rule.not_icmp = dice.maybe(4, fields);
    }
    let nets: &[&str] = if dice.one_in(3) { &V6 } else { &V4 };
    rule.ip_version = dice.maybe(8, |d| d.pick(&[4, 6]));
    rule.source = entity(dice, nets, ports);
    rule.destination = entity(dice, nets, ports);
    rule
}

pub(super) fn policy(dice: &mut Dice, staged: bool) -> PolicySpec {
    PolicySpec {
        staged_action: match staged {
            true => dice.maybe(3, |d| {
                d.pick(&[
                    StagedAction::Set,
                    StagedAction::Delete,
                    StagedAction::Ignore,
                ])
            }),
            false => None,
        },
        tier: dice.maybe(2, |d| d.pick(&TIERS).to_owned()),
        order: dice.maybe(2, |d| Order::from(d.pick(&[1, 2]))),
        selector: dice.maybe(2, selector),
        namespace_selector: None,
        types: dice.many(2, |d| d.pick(&[PolicyType::Ingress, PolicyType::Egress])),
        ingress: dice.many(5, rule),
        egress: dice.many(5, rule),
    }
}
