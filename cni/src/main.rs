//! `routerd-cni`: the CNI plugin, a thin client of the daemon's socket.
//!
//! It owns the form of what a container runtime says and hears; the daemon does the work.
//!
//! ```text
//!  CNI_* variables ─► environment ─┐
//!  stdin (JSON) ────► config ──────┴─► plugin::run ─► POST /v1/cni/<verb> ─► routerd
//!                                         │
//!  stdout (JSON) ◄── result / failure ◄───┘
//! ```
//!
//! Invariants:
//! * whatever goes wrong, stdout carries one JSON error and the exit status is not 0;
//! * a request that the daemon could misread never leaves;
//! * DEL and GC need as little of the configuration as possible, so that a mistake in it cannot
//!   keep what was added from being removed.

mod arguments;
mod config;
mod environment;
mod failure;
mod plugin;
mod previous;
mod result;
mod version;

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use config::MAX_CONFIG;
use failure::{Code, Failure};
use version::Version;

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_none() && std::io::stdin().is_terminal() {
        eprintln!(
            "routerd-cni {}: a CNI plugin for container runtimes, not for people. Spec versions: {}",
            env!("CARGO_PKG_VERSION"),
            Version::ALL.map(Version::as_str).join(", ")
        );
    }
    let stdin = read_stdin();
    // Also an error is told in the words of the version that was asked for.
    let spoken = stdin
        .as_deref()
        .ok()
        .and_then(version::peek)
        .unwrap_or(Version::NEWEST);
    let outcome = stdin.and_then(|bytes| plugin::run(&|name| std::env::var_os(name), &bytes));
    let (text, status) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.to_json(spoken)), ExitCode::FAILURE),
    };
    match text.map_or(Ok(()), |text| {
        std::io::stdout().write_all(format!("{text}\n").as_bytes())
    }) {
        Ok(()) => status,
        Err(e) => {
            eprintln!("routerd-cni: cannot write the result: {e}");
            ExitCode::FAILURE
        }
    }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = std::io::stdin();
    let mut bytes = Vec::new();
    if stdin.is_terminal() {
        return Ok(bytes);
    }
    stdin
        .lock()
        .take(MAX_CONFIG + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            Failure::new(
                Code::Io,
                "cannot read the network configuration from stdin",
                e.to_string(),
            )
        })?;
    Ok(bytes)
}
