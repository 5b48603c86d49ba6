//! A program that makes labs, run so that Ctrl-C leaves nothing behind.
//!
//! A signal ends a process without running destructors, and one that runs them itself would race
//! with what is just being made. So the program runs as a child; the parent waits for either its
//! end or a signal, and takes away what a dead child left.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use super::{sweep, sys};

/// Set in the child, which does the work.
const CHILD: &str = "ROUTERD_LAB_SUPERVISED";

/// Runs `body` in a child of this program with the same arguments; call it first in `main`, before
/// there are threads. On SIGINT, SIGTERM or SIGHUP the lab is removed and the status is 130.
pub fn supervised(body: impl FnOnce() -> ExitCode) -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        // The parent's blocked signals are inherited.
        return match SigSet::all().thread_unblock() {
            Ok(()) => body(),
            Err(_) => ExitCode::FAILURE,
        };
    }
    match parent() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn parent() -> Result<ExitCode> {
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let awaited: SigSet = ends.into_iter().chain([Signal::SIGCHLD]).collect();
    awaited.thread_block().context("block signals")?;
    let me = std::env::current_exe().context("find my own path")?;
    let mut command = Command::new(me);
    command.args(std::env::args_os().skip(1)).env(CHILD, "1");
    sys::enter(&mut command, None, Vec::new());
    let mut child = command.spawn().context("start myself")?;
    loop {
        let signal = awaited.wait().context("wait for a signal")?;
        if signal != Signal::SIGCHLD {
            // It ends by the same Ctrl-C as a rule, but not by a signal sent to this process alone.
            let _ = child.kill();
            child.wait()?;
            eprintln!("\ninterrupted: removing the lab");
            sweep::dead()?;
            return Ok(ExitCode::from(130));
        }
        if let Some(status) = child.try_wait()? {
            // Also after a child that was killed.
            sweep::dead()?;
            let code = status.code().and_then(|c| u8::try_from(c).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
}
