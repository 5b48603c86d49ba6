//! `doctor`: what is wrong with this host, and the fix.

use client::{Client, paths};
use model::api::{Doctor, Health};
use serde_json::Value;

use crate::args::OutputFormat;
use crate::failure::{Done, Failure};
use crate::output::{Out, health};
use crate::text::clean;

pub(super) fn run(client: &Client, format: OutputFormat, out: &mut Out) -> Result<Done, Failure> {
    let value: Value = super::get(client, &paths::doctor())?;
    let printed = super::print_value(&value, format, out)?;
    let doctor: Doctor = super::typed(value)?;
    if !printed {
        show(&doctor, out);
    }
    Ok(if doctor.checks.iter().any(|c| c.state == Health::Failed) {
        Done::Differs
    } else {
        Done::Well
    })
}

fn show(doctor: &Doctor, out: &mut Out) {
    let width = doctor
        .checks
        .iter()
        .map(|c| c.name.chars().count())
        .max()
        .unwrap_or_default();
    for check in &doctor.checks {
        let state = out.paint(
            health(check.state),
            &format!("{:<8}", format!("{:?}", check.state)),
        );
        let name = clean(&check.name);
        out.line(&format!(
            "{state}   {name:<width$}   {}",
            clean(&check.message)
        ));
        if !check.fix.is_empty() {
            out.line(&format!("{:11}fix: {}", "", clean(&check.fix)));
        }
    }
    let count = |state| doctor.checks.iter().filter(|c| c.state == state).count();
    out.line(&format!(
        "\n{} checks: {} ok, {} degraded, {} failed",
        doctor.checks.len(),
        count(Health::Ok),
        count(Health::Degraded),
        count(Health::Failed)
    ));
}
