//! `completion` and `man`: what is made of the arguments themselves.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;
use crate::failure::{Done, Failure};
use crate::output::Out;

pub(super) fn completion(shell: clap_complete::Shell, out: &mut Out) -> Result<Done, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "routerctl", &mut script);
    out.text(&String::from_utf8_lossy(&script));
    Ok(Done::Well)
}

/// One page a command.
pub(super) fn man(dir: &Path) -> Result<Done, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Args::command(), dir).map_err(failed)?;
    Ok(Done::Well)
}
