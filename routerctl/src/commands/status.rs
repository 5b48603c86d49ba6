//! `status`: how this node is.

use client::{Client, paths};
use model::api::Status;
use serde_json::Value;

use crate::args;
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out, health};
use crate::table::{Cell, Table};
use crate::text::clean;

/// Drift shown to a person; `-o json` has all of it.
const DRIFT_SHOWN: usize = 10;

pub(super) fn run(client: &Client, args: &args::Status, out: &mut Out) -> Result<Done, Failure> {
    let format = args.format.output;
    if args.plan {
        let ops: Vec<Value> = super::get(client, &paths::diff())?;
        if !super::print_value(&ops, format, out)? {
            // An operation is named by its only field.
            ops.iter().for_each(|op| out.line(&clean(&op.to_string())));
        }
        return Ok(Done::Well);
    }
    let value: Value = super::get(client, &paths::status())?;
    if !super::print_value(&value, format, out)? {
        show(&super::typed(value)?, out);
    }
    Ok(Done::Well)
}

fn show(status: &Status, out: &mut Out) {
    let yes_no = |yes: bool| {
        let (colour, word) = if yes {
            (Colour::Green, "yes")
        } else {
            (Colour::Red, "no")
        };
        out.paint(colour, word)
    };
    let mut text = format!(
        "Node:          {}\nReady:         {}\nIn sync:       {}, revision {}\nEncryption:    {:?}\n",
        clean(&status.node),
        yes_no(status.ready),
        yes_no(status.in_sync),
        status.revision,
        status.encryption,
    );
    if status.workload_mtu > 0 {
        text += &format!("Workload MTU:  {}\n", status.workload_mtu);
    }
    if !status.version.is_empty() {
        text += &format!("Version:       {}\n", clean(&status.version));
    }
    out.text(&text);

    let mut table = Table::new(["SUBSYSTEM", "STATE", "MESSAGE"]);
    for subsystem in &status.subsystems {
        table.push(vec![
            Cell::new(&subsystem.name),
            Cell::coloured(format!("{:?}", subsystem.state), health(subsystem.state)),
            Cell::new(&subsystem.message),
        ]);
    }
    section("", &table, !status.subsystems.is_empty(), out);

    let mut table = Table::new(["OBJECT", "PROBLEM"]);
    for problem in &status.problems {
        table.push(vec![
            Cell::new(&problem.object),
            Cell::new(&problem.message),
        ]);
    }
    section("Problems:\n", &table, !status.problems.is_empty(), out);

    let mut table = Table::new(["KIND", "NAME", "MESSAGE"]);
    for rejected in &status.rejected {
        table.push(vec![
            Cell::new(&rejected.kind),
            Cell::new(&rejected.name),
            Cell::new(&rejected.message),
        ]);
    }
    let title = "Rejected, skipped until mended:\n";
    section(title, &table, !status.rejected.is_empty(), out);

    let mut table = Table::new(["AT", "FOUND", "OBJECT"]);
    for drift in status.drift.iter().take(DRIFT_SHOWN) {
        table.push(vec![
            Cell::new(&drift.at),
            Cell::new(&drift.found),
            Cell::new(&drift.object),
        ]);
    }
    let title = "Drift, repaired, newest first:\n";
    section(title, &table, !status.drift.is_empty(), out);
    if let more @ 1.. = status.drift.len().saturating_sub(DRIFT_SHOWN) {
        out.line(&format!("and {more} more; -o json shows all"));
    }
}

fn section(title: &str, table: &Table, wanted: bool, out: &mut Out) {
    if wanted {
        let table = table.render(out.colour());
        out.text(&format!("\n{title}{table}"));
    }
}
