//! `routerctl`: the operator's tool, a client of one daemon's socket.
//!
//! It owns what an operator types and reads; the daemon decides and does.
//!
//! ```text
//!  arguments ─► args::Args ─► commands::* ─► client ─► routerd
//!  -f FILE ──► manifests ──────┘   │
//!                                  ▼
//!  stdout ◄── output::Out ◄── table / columns / unified / JSON / YAML
//! ```
//!
//! Invariants:
//! * exit status 0 when it is done, 1 when it failed or differs, 2 for wrong usage;
//! * every object given with `-f` is read and checked before the first is written;
//! * stdout carries results only; errors and progress go to stderr;
//! * a reader that goes away (`| head`) ends nothing half-way and is not complained about.

mod age;
mod args;
mod columns;
mod commands;
mod failure;
mod manifests;
mod output;
mod progress;
mod table;
mod text;
mod unified;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let mut out = output::Out::stdout();
    let outcome = commands::run(args, &mut out);
    let written = out.finish();
    match outcome.and_then(|done| written.map(|()| done)) {
        Ok(done) => done.into(),
        Err(failure) => {
            failure.print();
            failure.into()
        }
    }
}
