//! The client against a stand-in for the daemon.

use std::time::{Duration, Instant};

use client::fake::{FakeDaemon, Reply};
use client::{Client, Error, Limits, Target};
use serde_json::{Value, json};

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        overall: Duration::from_secs(20),
        max_answer: 1 << 20,
    }
}

fn hurried() -> Limits {
    Limits {
        overall: Duration::from_millis(200),
        ..limits()
    }
}

fn client(daemon: &FakeDaemon) -> Client {
    Client::new(daemon.socket(), limits())
}

#[test]
fn every_method_carries_its_body_and_target() {
    let daemon = FakeDaemon::start(|r| Reply::ok(json!([r.method, r.target, r.body])));
    let c = client(&daemon);
    let t = Target::new("/v1/x").query("a", "b c");
    let at = "/v1/x?a=b%20c";
    assert_eq!(c.get::<Value>(&t).unwrap(), json!(["GET", at, null]));
    assert_eq!(c.delete::<Value>(&t).unwrap(), json!(["DELETE", at, null]));
    let body = json!({"k": [1, 2]});
    assert_eq!(
        c.put::<_, Value>(&t, &body).unwrap(),
        json!(["PUT", at, body])
    );
    assert_eq!(
        c.post::<_, Value>(&t, &body).unwrap(),
        json!(["POST", at, body])
    );
}

#[test]
fn a_large_body_and_a_large_answer_pass() {
    let daemon = FakeDaemon::start(|r| Reply::ok(&r.body));
    let body = "x".repeat(900_000);
    let back: String = client(&daemon).put(&Target::new("/v1/x"), &body).unwrap();
    assert!(back == body);
}

#[test]
fn an_empty_answer_is_nothing() {
    let daemon = FakeDaemon::start(|r| Reply::Empty(if r.method == "GET" { 200 } else { 204 }));
    client(&daemon).get::<()>(&Target::new("/v1/x")).unwrap();
    client(&daemon).delete::<()>(&Target::new("/v1/x")).unwrap();
}

#[test]
fn a_refusal_keeps_the_words_of_the_daemon() {
    let daemon = FakeDaemon::start(|r| match r.target.as_str() {
        "/v1/no" => Reply::refuse(422, "IPPool/a: spec.cidr: overlaps IPPool/b", false),
        "/v1/later" => Reply::refuse(503, "the datastore is away", true),
        _ => Reply::Raw(b"HTTP/1.1 503 X\r\n\r\n<html>proxy</html>".to_vec()),
    });
    let ask = |path| {
        client(&daemon)
            .get::<Value>(&Target::new(path))
            .unwrap_err()
    };

    let no = ask("/v1/no");
    assert_eq!(no.to_string(), "IPPool/a: spec.cidr: overlaps IPPool/b");
    assert_eq!((no.status(), no.is_retryable()), (Some(422), false));
    let later = ask("/v1/later");
    assert!(later.is_retryable());
    let foreign = ask("/v1/foreign");
    assert_eq!(
        foreign.to_string(),
        "GET /v1/foreign: status 503: <html>proxy</html>"
    );
    assert!(foreign.is_retryable());
}

#[test]
fn a_missing_daemon_is_named_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let e = Client::new(&socket, limits())
        .get::<Value>(&Target::new("/v1/x"))
        .unwrap_err();
    assert!(e.is_retryable());
    let text = e.to_string();
    assert!(text.contains(&*socket.to_string_lossy()), "{text}");
    assert!(text.contains("is routerd running?"), "{text}");
    assert!(text.contains("--socket or ROUTERD_SOCKET"), "{text}");
}

#[test]
fn a_path_too_long_for_a_socket_is_an_error() {
    let e = Client::new(format!("/tmp/{}", "x".repeat(200)), limits())
        .get::<Value>(&Target::new("/v1/x"))
        .unwrap_err();
    assert!(matches!(e, Error::Connect { .. }), "{e}");
}

#[test]
fn a_daemon_that_hangs_is_left_in_time() {
    let daemon = FakeDaemon::start(|_| Reply::Hang);
    let start = Instant::now();
    let e = Client::new(daemon.socket(), hurried())
        .get::<Value>(&Target::new("/v1/x"))
        .unwrap_err();
    assert!(matches!(e, Error::Timeout { .. }), "{e}");
    assert!(e.is_retryable());
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_daemon_that_accepts_nobody_is_left_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Nobody accepts: connections stand in the queue until it is full.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let limits = Limits {
        connect: Duration::from_millis(100),
        ..limits()
    };
    let e = Client::new(&socket, limits)
        .get::<Value>(&Target::new("/v1/x"))
        .unwrap_err();
    match e {
        Error::Connect { source, .. } => {
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_answer_that_stops_short_or_is_none_is_told_apart() {
    let daemon = FakeDaemon::start(|r| {
        Reply::Raw(match r.target.as_str() {
            "/v1/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".to_vec(),
            "/v1/gone" => vec![],
            "/v1/ssh" => b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
            "/v1/moved" => b"HTTP/1.1 301 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}".to_vec(),
        })
    });
    let ask = |path| {
        client(&daemon)
            .get::<Value>(&Target::new(path))
            .unwrap_err()
    };
    assert!(matches!(ask("/v1/short"), Error::Io { .. }));
    assert!(matches!(ask("/v1/gone"), Error::Io { .. }));
    for path in ["/v1/ssh", "/v1/moved", "/v1/json"] {
        let e = ask(path);
        assert!(matches!(e, Error::Broken { .. }), "{path}: {e}");
        assert!(!e.is_retryable());
    }
}

#[test]
fn an_answer_larger_than_the_limit_is_refused() {
    let daemon = FakeDaemon::start(|r| match r.target.as_str() {
        "/v1/watch" => Reply::Lines(vec![json!("x".repeat(2000))]),
        _ => Reply::ok("x".repeat(2000)),
    });
    let limits = Limits {
        max_answer: 1000,
        ..limits()
    };
    let c = Client::new(daemon.socket(), limits);
    let e = c.get::<Value>(&Target::new("/v1/x")).unwrap_err();
    assert!(e.to_string().contains("larger than 1000 bytes"), "{e}");
    let mut lines = c.watch(&Target::new("/v1/watch")).unwrap();
    let e = lines.next_line::<Value>().unwrap_err();
    assert!(e.to_string().contains("longer than 1000 bytes"), "{e}");
}

#[test]
fn a_refusal_before_the_whole_body_was_read_is_heard() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        let body = r#"{"error":"the body is too large"}"#;
        write!(
            stream,
            "HTTP/1.1 413 X\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream.shutdown(std::net::Shutdown::Read).unwrap();
        // Kept open so that the answer is not lost with the connection.
        let _ = stream.read(&mut [0]);
        stream
    });
    let e = Client::new(&socket, limits())
        .put::<_, Value>(&Target::new("/v1/x"), &"x".repeat(8 << 20))
        .unwrap_err();
    assert_eq!(e.to_string(), "the body is too large");
    server.join().unwrap();
}

#[test]
fn a_watch_gives_lines_and_its_end() {
    let daemon = FakeDaemon::start(|r| {
        match r.target.as_str() {
        "/v1/no" => Reply::refuse(404, "no such kind", false),
        _ => Reply::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n5\r\n:1}\n\n\r\n2\r\n{}\r\n0\r\n\r\n"
                .to_vec(),
        ),
    }
    });
    let mut lines = client(&daemon).watch(&Target::new("/v1/watch")).unwrap();
    assert_eq!(lines.next_line::<Value>().unwrap(), Some(json!({"a": 1})));
    assert_eq!(lines.next_line::<Value>().unwrap(), Some(json!({})));
    assert_eq!(lines.next_line::<Value>().unwrap(), None);
    let e = client(&daemon).watch(&Target::new("/v1/no")).unwrap_err();
    assert_eq!(e.to_string(), "no such kind");
}

#[test]
fn a_watch_may_be_silent_for_longer_than_a_request() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (quiet_over, wait) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
        wait.recv().unwrap();
        writeln!(stream, "1").unwrap();
    });
    let mut lines = Client::new(&socket, hurried())
        .watch(&Target::new("/v1/watch"))
        .unwrap();
    // The silence itself is what is tested: twice the time a whole request may take.
    let timer = std::thread::spawn(move || {
        std::thread::sleep(hurried().overall * 2);
        quiet_over.send(()).unwrap();
    });
    assert_eq!(lines.next_line::<u8>().unwrap(), Some(1));
    timer.join().unwrap();
    server.join().unwrap();
}
