//! Runs the tool.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use client::fake::FakeDaemon;

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is no JSON: {e}: {self:?}"))
    }
}

/// The tool with an environment of its own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routerctl"));
    command.env_clear().args(args);
    command
}

/// Runs it against a stand-in.
pub(crate) fn run(daemon: &FakeDaemon, args: &[&str]) -> Outcome {
    run_with(Some(&daemon.socket()), args, "")
}

/// Runs it with something on stdin; without a socket it must not need one.
pub(crate) fn run_with(socket: Option<&Path>, args: &[&str], stdin: &str) -> Outcome {
    let mut command = command(args);
    command.env(
        "ROUTERD_SOCKET",
        socket.unwrap_or(Path::new("/nowhere/routerd.sock")),
    );
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may stop reading early: a broken pipe is its right.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
