//! One module a command.

mod accept;
mod apply;
mod bgp;
mod delete;
mod diff;
mod doctor;
mod explain;
mod flows;
mod get;
mod ipam;
mod policy;
mod shell;
mod status;
mod tunnels;

use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Limits, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{Args, Command, OutputFormat};
use crate::failure::{Done, Failure};
use crate::manifests;
use crate::output::Out;
use crate::progress::Progress;
use crate::text;

/// Does what was typed.
pub(crate) fn run(args: Args, out: &mut Out) -> Result<Done, Failure> {
    let limits = Limits {
        overall: Duration::from_secs(args.timeout),
        ..Limits::default()
    };
    let client = Client::new(args.socket, limits);
    match args.command {
        Command::Apply(files) => apply::run(&client, &files.files, out),
        Command::Diff(files) => diff::run(&client, &files.files, out),
        Command::Validate(files) => validate(&files.files, out),
        Command::Delete(args) => delete::run(&client, &args, out),
        Command::Get(args) => get::run(&client, &args, out),
        Command::Status(args) => status::run(&client, &args, out),
        Command::AcceptSnapshot { yes } => accept::run(&client, yes, out),
        Command::Ipam(command) => ipam::run(&client, command, out),
        Command::Bgp(command) => bgp::run(&client, command, out),
        Command::Flows(args) => flows::run(&client, &args, out),
        Command::Policy(command) => policy::run(&client, command, out),
        Command::Tunnels(args) => tunnels::run(&client, &args, out),
        Command::Explain(args) => explain::run(&client, &args, out),
        Command::Doctor(format) => doctor::run(&client, format.output, out),
        Command::Completion { shell } => shell::completion(shell, out),
        Command::Man { dir } => shell::man(&dir),
    }
}

fn validate(files: &[PathBuf], out: &mut Out) -> Result<Done, Failure> {
    for object in manifests::read(files)? {
        out.line(&format!("{} valid", object.id()));
    }
    Ok(Done::Well)
}

/// Asks the daemon and shows on a terminal that it takes its time.
fn get<T: DeserializeOwned>(client: &Client, target: &Target) -> Result<T, Failure> {
    let _progress = Progress::start("waiting for routerd");
    Ok(client.get(target)?)
}

/// Prints what the daemon said, whole; `false` when a person wants a table.
fn print_value(
    value: &impl Serialize,
    format: OutputFormat,
    out: &mut Out,
) -> Result<bool, Failure> {
    match format {
        OutputFormat::Table => return Ok(false),
        OutputFormat::Yaml => out.text(&text::yaml(value)?),
        OutputFormat::Json => out.text(&text::json(value)?),
    }
    Ok(true)
}

/// Reads an answer as what the tables are made of.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|e| {
        Failure::new(format!(
            "the answer of routerd does not decode: {e}: is routerctl of the version of routerd? -o json prints it as it is"
        ))
    })
}
