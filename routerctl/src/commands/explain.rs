//! `explain`: what becomes of a packet, and who decides.

use client::{Client, paths};
use model::api::{
    ExplainCheck, ExplainDecision, ExplainEnd, ExplainPath, ExplainRoute, ExplainStep,
    ExplainVerdict, Explanation,
};
use serde_json::Value;

use crate::args::Explain;
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::table::{Cell, Table};
use crate::text::clean;

/// Rules of one policy that do not match, shown to a person before they are counted instead.
const MISSES_SHOWN: usize = 4;

pub(super) fn run(client: &Client, args: &Explain, out: &mut Out) -> Result<Done, Failure> {
    let mut target = paths::explain()
        .query("source", &args.source)
        .query("destination", &args.destination)
        .query("protocol", &args.protocol);
    let numbers = [
        ("port", args.port.map(u32::from)),
        ("sourcePort", args.source_port.map(u32::from)),
        ("icmpType", args.icmp_type.map(u32::from)),
        ("icmpCode", args.icmp_code.map(u32::from)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            target = target.query(name, &number.to_string());
        }
    }
    if args.all {
        target = target.query("all", "true");
    }
    let value: Value = super::get(client, &target)?;
    if !super::print_value(&value, args.format.output, out)? {
        show(&super::typed(value)?, args, out);
    }
    Ok(Done::Well)
}

fn show(e: &Explanation, args: &Explain, out: &mut Out) {
    let packet = match (e.packet.port, e.packet.icmp_type, e.packet.source_port) {
        (Some(port), ..) => format!("{}, port {port}", args.protocol),
        (None, Some(icmp), _) => format!("{}, type {icmp}", args.protocol),
        (None, None, Some(_)) => format!("{}, any port", args.protocol),
        (None, None, None) => args.protocol.clone(),
    };
    out.text(&format!(
        "From:      {}\nTo:        {}\nPacket:    {}\nVerdict:   {}, {}\n",
        end(&e.source),
        end(&e.destination),
        clean(&packet),
        verdict(e.verdict, out),
        clean(&e.summary),
    ));
    for ports in &e.ports {
        let list = ports.ports.join(", ");
        let verdict = verdict(ports.verdict, out);
        out.line(&format!(
            "  ports {}: {verdict}, {}",
            clean(&list),
            clean(&ports.by)
        ));
    }
    out.text(&format!("Way:       {}\n", way(&e.route)));
    if e.mtu > 0 {
        out.text(&format!(
            "MTU:       {}, {}\n",
            e.mtu,
            clean(&e.route.mtu_reason)
        ));
    }
    out.text(&format!("Kernel:    {}\n", kernel(e, out)));

    out.line("");
    steps(&e.steps, args.all, out);
    if let Some(staged) = &e.staged {
        let verdict = verdict(staged.verdict, out);
        let summary = clean(&staged.summary);
        out.line(&format!("\nWith staged policies: {verdict}, {summary}"));
        steps(&staged.steps, args.all, out);
    }
    checks(&e.kernel, args.all, out);
    if !e.not_checked.is_empty() {
        out.line("\nNot checked:");
        e.not_checked
            .iter()
            .for_each(|line| out.line(&format!("  {}", clean(line))));
    }
}

fn end(end: &ExplainEnd) -> String {
    clean(&format!("{} ({})", end.ip, end.text)).into_owned()
}

fn verdict(verdict: ExplainVerdict, out: &Out) -> String {
    match verdict {
        ExplainVerdict::Allow => out.paint(Colour::Green, "Allow"),
        ExplainVerdict::Deny => out.paint(Colour::Red, "Deny"),
    }
}

fn way(route: &ExplainRoute) -> String {
    let path = match route.path {
        ExplainPath::Local => "local",
        ExplainPath::Direct => "direct",
        ExplainPath::Vxlan => "VXLAN",
        ExplainPath::WireGuard => "WireGuard",
        ExplainPath::Host => "the host's own routes",
        ExplainPath::None => "none",
    };
    let mut text = format!("{path}, from node {}", route.node);
    let parts = [
        ("to node", route.next_node.clone()),
        ("by route", route.prefix.map(|p| p.to_string())),
        ("via", route.via.map(|v| v.to_string())),
        ("dev", route.device.clone()),
        ("carried to", route.tunnel_endpoint.map(|t| t.to_string())),
        ("masqueraded as", route.masquerade.map(|m| m.to_string())),
    ];
    for (word, value) in parts {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    }
    clean(&text).into_owned()
}

fn kernel(e: &Explanation, out: &Out) -> String {
    let differs = e.kernel.iter().filter(|c| !c.agrees).count();
    match (e.kernel_agrees, differs) {
        (true, _) => out.paint(Colour::Green, "agrees"),
        (false, 0) => "was not asked: neither end is on this node".to_owned(),
        (false, n) => {
            let text = format!("differs in {n} of {} (see below)", e.kernel.len());
            out.paint(Colour::Red, &text)
        }
    }
}

fn steps(steps: &[ExplainStep], all: bool, out: &mut Out) {
    let mut table = Table::new(["AT", "DECISION", "TIER", "POLICY", "RULE", "WHY"]);
    let mut missed = 0;
    for (index, step) in steps.iter().enumerate() {
        let is_miss = step.decision == ExplainDecision::NoMatch && !step.by_port;
        missed = if is_miss { missed + 1 } else { 0 };
        if all || missed <= MISSES_SHOWN {
            table.push(row(step));
            continue;
        }
        let next = steps.get(index + 1);
        let goes_on = next.is_some_and(|s| s.decision == step.decision && !s.by_port);
        if !goes_on {
            let more = format!("{} more rules; --all shows them", missed - MISSES_SHOWN);
            table.push(["", "NoMatch", "", "", "", &more].map(Cell::new).into());
        }
    }
    out.text(&table.render(out.colour()));
}

fn row(step: &ExplainStep) -> Vec<Cell> {
    let decision = format!("{:?}", step.decision);
    let why = match step.by_port {
        true => format!("{} (depends on the port)", step.reason),
        false => step.reason.clone(),
    };
    vec![
        Cell::new(format!("{:?}", step.at)),
        match step.decision {
            ExplainDecision::Allow => Cell::coloured(decision, Colour::Green),
            ExplainDecision::Deny => Cell::coloured(decision, Colour::Red),
            _ => Cell::new(decision),
        },
        Cell::new(step.tier.as_deref().unwrap_or_default()),
        Cell::new(step.policy.as_deref().unwrap_or_default()),
        Cell::new(step.rule.map(|r| r.to_string()).unwrap_or_default()),
        Cell::new(why),
    ]
}

/// What the kernel was asked: all of it on demand, else what differs.
fn checks(checks: &[ExplainCheck], all: bool, out: &mut Out) {
    let shown: Vec<_> = checks.iter().filter(|c| all || !c.agrees).collect();
    if shown.is_empty() {
        return;
    }
    let mut table = Table::new(["KERNEL", "AGREES", "EXPECTED", "FOUND"]);
    for check in shown {
        table.push(vec![
            Cell::new(&check.object),
            match check.agrees {
                true => Cell::coloured("yes", Colour::Green),
                false => Cell::coloured("no", Colour::Red),
            },
            Cell::new(&check.expected),
            Cell::new(&check.found),
        ]);
    }
    out.line("");
    out.text(&table.render(out.colour()));
}
