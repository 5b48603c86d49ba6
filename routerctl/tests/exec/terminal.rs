//! What depends on who reads: colours, progress, and a reader that goes away.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use client::fake::{FakeDaemon, Reply};
use nix::pty::openpty;
use serde_json::json;

use crate::harness::command;

fn doctor() -> FakeDaemon {
    FakeDaemon::start(|_| {
        Reply::ok(json!({"checks": [{"name": "clock", "state": "Ok", "message": "fine"}]}))
    })
}

/// Everything that is written to a terminal until its other end is closed.
fn read_terminal(master: std::os::fd::OwnedFd) -> String {
    let mut bytes = Vec::new();
    // Reading ends with an error when the last writer is gone.
    let _ = File::from(master).read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn on_terminal(daemon: &FakeDaemon, no_color: Option<&str>) -> String {
    let pty = openpty(None, None).unwrap();
    let mut command = command(&["doctor"]);
    command.env("ROUTERD_SOCKET", daemon.socket());
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let mut child = command.stdout(Stdio::from(pty.slave)).spawn().unwrap();
    // The command keeps its end of the terminal open.
    drop(command);
    let text = read_terminal(pty.master);
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn colours_on_a_terminal_only_and_not_when_unwanted() {
    let daemon = doctor();
    assert!(on_terminal(&daemon, None).contains("\x1b[32mOk"));
    assert!(on_terminal(&daemon, Some("")).contains("\x1b[32mOk"));
    assert!(!on_terminal(&daemon, Some("1")).contains('\x1b'));
    let piped = crate::harness::run(&daemon, &["doctor"]);
    assert!(!piped.stdout.contains('\x1b'));
}

#[test]
fn what_takes_long_shows_that_it_goes_on() {
    // The daemon answers once progress was seen, and not before.
    let (seen, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let daemon = FakeDaemon::start(move |_| {
        wait.lock().unwrap().recv().unwrap();
        Reply::ok(json!({"clean": true, "problems": []}))
    });
    let pty = openpty(None, None).unwrap();
    let mut command = command(&["ipam", "check"]);
    command
        .env("ROUTERD_SOCKET", daemon.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(pty.slave));
    let child = command.spawn().unwrap();
    drop(command);
    let mut master = File::from(pty.master);
    let mut text = String::new();
    while !text.contains("waiting for routerd") {
        let mut buffer = [0; 256];
        let n = master.read(&mut buffer).unwrap();
        text += std::str::from_utf8(&buffer[..n]).unwrap();
    }
    seen.send(()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"The address records are clean.\n");
    // And it is wiped away.
    assert!(read_terminal(master.into()).ends_with("\r\x1b[K"));
}

#[test]
fn a_reader_that_goes_away_is_not_complained_about() {
    let items: Vec<_> = (0..20_000)
        .map(|n| json!({"metadata": {"name": format!("node-{n}")}, "spec": {}}))
        .collect();
    let daemon = FakeDaemon::start(move |_| Reply::ok(json!({"items": items})));
    for args in [&["get", "nodes"][..], &["get", "nodes", "-o", "json"]] {
        let mut child = command(args)
            .env("ROUTERD_SOCKET", daemon.socket())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn a_reader_that_goes_away_does_not_stop_apply_half_way() {
    let daemon = FakeDaemon::start(|r| {
        Reply::ok(json!({"object": r.target, "action": "created", "revision": 1}))
    });
    let manifest: String = (0..5)
        .map(|n| format!("---\napiVersion: routerd/v1\nkind: Namespace\nmetadata: {{name: n{n}}}\nspec: {{}}\n"))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command(&["apply", "-f", file.path().to_str().unwrap()])
        .env("ROUTERD_SOCKET", daemon.socket())
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(daemon.requests().len(), 5);
}

#[test]
fn a_full_disk_is_complained_about() {
    let daemon = doctor();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["doctor"])
        .env("ROUTERD_SOCKET", daemon.socket())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot write to stdout")
    );
}
