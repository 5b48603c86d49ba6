//! `flows`: who talks to whom.

use std::time::SystemTime;

use client::{Client, Target, paths};
use model::api::{Flow, FlowBy, FlowEnd, FlowVerdict, Reporter};
use serde_json::Value;

use crate::age;
use crate::args::{Flows, LineFormat};
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::table::{Cell, Table};
use crate::text;

/// Widths that most rows fit in: what is followed cannot wait for the widest.
const WIDTHS: [usize; 8] = [12, 7, 5, 28, 28, 34, 7, 7];

pub(super) fn run(client: &Client, args: &Flows, out: &mut Out) -> Result<Done, Failure> {
    let mut lines = client.watch(&target(args)?)?;
    let mut table = Table::new([
        "START",
        "VERDICT",
        "PROTO",
        "SOURCE",
        "DESTINATION",
        if args.staged { "STAGED" } else { "DECIDED BY" },
        "PACKETS",
        "BYTES",
        "SEEN AT",
    ]);
    if args.follow {
        table.widen(&WIDTHS);
        if args.output == LineFormat::Table {
            out.text(&table.render(out.colour()));
        }
    }
    let mut any = false;
    while let Some(value) = lines.next_line::<Value>()? {
        any = true;
        // A flow has no such field.
        let missed = value.get("missed").and_then(Value::as_u64);
        match (args.output, missed) {
            // As the daemon says it, with what only a newer one knows.
            (LineFormat::Json, _) => out.line(&value.to_string()),
            (LineFormat::Table, Some(missed)) => eprintln!(
                "{missed} flows are missing here: they came faster than they were read; --denied and --staged choose fewer"
            ),
            (LineFormat::Table, None) => {
                table.push(row(&super::typed(value)?, args.staged));
                if args.follow {
                    out.text(&table.drain(out.colour()));
                }
            }
        }
        if out.is_closed() {
            return Ok(Done::Well);
        }
    }
    if args.follow {
        return Err(Failure::new(
            "routerd ended the flows: start it again".to_owned(),
        ));
    }
    match (args.output, any) {
        (LineFormat::Table, true) => out.text(&table.render(out.colour())),
        (LineFormat::Table, false) => eprintln!("No flows found."),
        (LineFormat::Json, _) => {}
    }
    Ok(Done::Well)
}

fn target(args: &Flows) -> Result<Target, Failure> {
    let mut target = paths::flows();
    for (wanted, name) in [
        (args.denied, "denied"),
        (args.staged, "staged"),
        (args.follow, "follow"),
    ] {
        if wanted {
            target = target.query(name, "true");
        }
    }
    let Some(since) = &args.since else {
        return Ok(target);
    };
    let seconds = age::seconds_since(since, SystemTime::now());
    match seconds {
        Some(seconds) => Ok(target.query("since", &format!("{seconds}s"))),
        None => Ok(target.query("since", since)),
    }
}

fn row(flow: &Flow, staged: bool) -> Vec<Cell> {
    let (verdict, by) = match (&flow.staged, staged) {
        (Some(staged), true) => (staged.verdict, &staged.by),
        _ => (flow.verdict, &flow.by),
    };
    let mut by = decided(by, flow.reason.as_deref().filter(|_| !staged));
    if flow.kept && !staged {
        by.push_str(" (denied by now, kept)");
    }
    if !flow.logged.is_empty() && !staged {
        let rules: Vec<String> = flow.logged.iter().map(|by| decided(by, None)).collect();
        by.push_str(&format!("; logged by {}", rules.join(", ")));
    }
    vec![
        Cell::new(clock(&flow.start)),
        match verdict {
            FlowVerdict::Allow => Cell::coloured("Allow", Colour::Green),
            FlowVerdict::Deny => Cell::coloured("Deny", Colour::Red),
        },
        Cell::new(&flow.protocol),
        Cell::new(end(&flow.source, None)),
        Cell::new(end(&flow.destination, flow.port)),
        Cell::new(by),
        Cell::new(flow.packets.to_string()),
        Cell::new(flow.bytes.to_string()),
        Cell::new(match flow.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        }),
    ]
}

/// Who talks to whom: `TCP default/a -> default/b:80`.
pub(super) fn between(flow: &Flow) -> String {
    let source = end(&flow.source, None);
    let destination = end(&flow.destination, flow.port);
    text::clean(&format!("{} {source} -> {destination}", flow.protocol)).into_owned()
}

/// The time of a date: `12:30:45.123`.
fn clock(date: &str) -> &str {
    let time = date.split_once('T').map_or(date, |(_, time)| time);
    time.trim_end_matches('Z')
}

fn end(end: &FlowEnd, port: Option<u16>) -> String {
    let name = match (end.namespace.as_str(), end.name.as_str()) {
        (_, "") => return place(&end.ip.to_string(), end.ip.is_ipv6(), port),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    place(&name, false, port)
}

fn place(name: &str, bracket: bool, port: Option<u16>) -> String {
    match (port, bracket) {
        (Some(port), true) => format!("[{name}]:{port}"),
        (Some(port), false) => format!("{name}:{port}"),
        (None, _) => name.to_owned(),
    }
}

/// What decided, in words.
pub(super) fn decided(by: &FlowBy, reason: Option<&str>) -> String {
    let tier = by.tier.as_deref().unwrap_or_default();
    match (by.by.as_str(), &by.policy, by.rule) {
        (_, Some(policy), Some(rule)) if tier == "default" => format!("{policy} rule {rule}"),
        (_, Some(policy), Some(rule)) => format!("{tier}: {policy} rule {rule}"),
        ("EndOfTier", ..) => format!("end of tier {tier}"),
        ("Profile", ..) => "no policy".to_owned(),
        ("Host", ..) => "its own host".to_owned(),
        ("Failsafe", ..) => "failsafe port".to_owned(),
        ("EndpointToHost", ..) => "defaultEndpointToHostAction".to_owned(),
        ("Spoofed", ..) => "address is not its own".to_owned(),
        _ => match reason {
            Some("Policy") | None => String::new(),
            Some(reason) => reason.to_owned(),
        },
    }
}
