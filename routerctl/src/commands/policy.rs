//! `policy`: the rules in force at an endpoint.

use client::{Client, paths};
use model::api::{PolicyRuleShow, PolicyShow};
use model::resources::{Action, PolicyType};
use serde_json::Value;

use super::flows::decided;
use crate::args::{OutputFormat, Policy};
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::table::{Cell, Table};
use crate::text::clean;

pub(super) fn run(client: &Client, command: Policy, out: &mut Out) -> Result<Done, Failure> {
    let Policy::Show {
        endpoint,
        namespace,
        format,
    } = command;
    let target = (paths::policy())
        .query("endpoint", &endpoint)
        .query("namespace", &namespace);
    let value: Value = super::get(client, &target)?;
    if format.output != OutputFormat::Table {
        super::print_value(&value, format.output, out)?;
        return Ok(Done::Well);
    }
    show(&super::typed(value)?, out);
    Ok(Done::Well)
}

fn show(shown: &PolicyShow, out: &mut Out) {
    let name = match shown.namespace.as_str() {
        "" => format!("{}/{}", shown.kind, shown.name),
        namespace => format!("{}/{namespace}/{}", shown.kind, shown.name),
    };
    match &shown.interface {
        Some(interface) => out.line(&format!("{name}, enforced at {interface}")),
        None => {
            let text = format!("{name}: nothing is enforced here");
            let text = out.paint(Colour::Red, &text);
            out.line(&text);
        }
    }
    if let Some(problem) = &shown.problem {
        let text = out.paint(Colour::Red, &clean(problem));
        out.line(&text);
    }
    for (direction, title) in [
        (PolicyType::Ingress, "To it:"),
        (PolicyType::Egress, "From it:"),
    ] {
        let rules = shown.rules.iter().filter(|r| r.direction == direction);
        let mut table = Table::new([
            "TIER",
            "RULE",
            "ACTION",
            "MATCH",
            "PACKETS",
            "BYTES",
            "CONNECTIONS",
        ]);
        rules.for_each(|rule| table.push(row(rule)));
        out.line(&format!("\n{title}"));
        out.text(&table.render(out.colour()));
    }
}

fn row(rule: &PolicyRuleShow) -> Vec<Cell> {
    let mut name = match (&rule.by.policy, rule.by.rule) {
        (Some(policy), Some(index)) => format!("{policy} rule {index}"),
        _ => decided(&rule.by, None),
    };
    if rule.staged {
        name.push_str(" (staged)");
    }
    let action = format!("{:?}", rule.action);
    let count = |pick: fn(&model::api::RuleCount) -> u64| {
        let counted = rule.counted.as_ref().map(|c| pick(c).to_string());
        Cell::new(counted.unwrap_or_default())
    };
    vec![
        Cell::new(rule.by.tier.as_deref().unwrap_or_default()),
        Cell::new(name),
        match rule.action {
            Action::Allow => Cell::coloured(action, Colour::Green),
            Action::Deny => Cell::coloured(action, Colour::Red),
            Action::Log | Action::Pass => Cell::new(action),
        },
        Cell::new(&rule.matches),
        count(|c| c.packets),
        count(|c| c.bytes),
        count(|c| c.connections),
    ]
}
