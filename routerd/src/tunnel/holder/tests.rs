//! The daemon's side alone: programs that only pretend. The real one is in the lab's tests.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;

/// A program that is a shell script.
fn pretending(directory: &Path, script: &str) -> Holder {
    let program = directory.join(PROGRAM);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    Holder {
        program,
        socket: directory.join("rtd.wg.sock"),
        json: true,
        child: None,
        told: false,
        silence: None,
        removed: false,
    }
}

#[test]
fn it_is_told_port_mark_and_log_and_says_when_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let script = "echo \"$@\" > \"${0%/*}/arguments\"; env > \"${0%/*}/env\"; echo ready; exec >/dev/null; read nothing";
    let mut holder = pretending(directory.path(), script);
    holder.start(51820, 7).unwrap();
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("arguments"), "--port 51820 --fwmark 7 --json\n");
    // Nothing of the daemon's own: a shell makes these.
    let shells = ["PWD=", "_=", "SHLVL=", "OLDPWD="];
    let foreign = |line: &&str| !shells.iter().any(|s| line.starts_with(s));
    assert_eq!(read("env").lines().find(foreign), None);
    // Its standard input has ended, and so has it.
    let status = holder.child.as_mut().unwrap().wait().unwrap();
    assert!(!status.success());
    holder.reap();
    assert!(holder.child.is_none());
}

#[test]
fn why_it_does_not_start_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let told = |script: &str| {
        let error = pretending(directory.path(), script)
            .start(1, 0)
            .unwrap_err();
        assert!(error.is_retryable());
        error.to_string()
    };
    let taken = "bind UDP port 1: Address already in use (os error 98)";
    assert_eq!(
        told(&format!("echo '{taken}'; exit 1")),
        format!("{PROGRAM}: {taken}")
    );
    assert!(told("exit 3").contains("exit status: 3"));
    // Endless words are no memory.
    assert!(told("yes").len() < 2 * WORDS);

    let mut absent = pretending(directory.path(), "");
    absent.program = directory.path().join("absent");
    let error = absent.start(1, 0).unwrap_err().to_string();
    assert!(
        error.contains("absent") && error.contains("install it"),
        "{error}"
    );
    assert!(!absent.is_possible());
}

#[test]
fn silence_is_not_waited_for_for_ever() {
    let mut silent = Command::new("sleep")
        .arg("600")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = last_words(silent.stdout.take().unwrap(), Duration::from_millis(20));
    assert_eq!(said, "");
    silent.kill().unwrap();
    silent.wait().unwrap();
}

#[test]
fn a_socket_goes_when_its_process_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rtd.wg.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let served = Served::look(&path, PATIENCE);
    let process = std::thread::spawn(move || drop(listener.accept().unwrap()));
    served.end().unwrap();
    process.join().unwrap();
    assert!(!path.exists());
    // Nobody is no obstacle either.
    Served::look(&path, PATIENCE).end().unwrap();
}

#[test]
fn our_program_is_known_by_its_name_also_after_an_upgrade() {
    for ours in ["/usr/sbin/routerd-tunnel", "/old/routerd-tunnel (deleted)"] {
        assert!(is_ours(Path::new(ours)), "{ours}");
    }
    for other in ["/usr/bin/wireguard-go", "/usr/sbin/routerd", "/"] {
        assert!(!is_ours(Path::new(other)), "{other}");
    }
}

/// Also when more questions wait than the socket has room for.
#[test]
fn one_that_does_not_answer_is_not_waited_for_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = pretending(directory.path(), "");
    let listener = UnixListener::bind(&holder.socket).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(2).unwrap()).unwrap();
    let connect = || uapi::client::connect(&holder.socket, Duration::from_millis(1));
    let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
    assert!(!waiting.is_empty());
    let begun = Instant::now();
    let error = holder.prepare(1, 0).unwrap_err().to_string();
    assert!(begun.elapsed() < 2 * ANSWER, "{:?}", begun.elapsed());
    assert!(error.contains("has not answered for 0 s"), "{error}");
    assert!(!holder.hangs());
    // Nor is another started beside it.
    let remains = Served::look(&holder.socket, AGAIN).end().unwrap_err();
    assert!(matches!(remains, HolderError::Remains(_)), "{remains}");
}
