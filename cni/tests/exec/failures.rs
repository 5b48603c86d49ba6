//! What a runtime is told when something is wrong.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::{Run, VERSIONS, config, willing};

/// A configuration with which every verb passes up to the daemon.
fn full(socket: &Path) -> Value {
    let mut config = config(socket, "1.1.0");
    config["cni.dev/valid-attachments"] = json!([]);
    config
}

fn with_previous(verb: &str, mut config: Value) -> Value {
    if verb == "CHECK" {
        config["prevResult"] = json!({
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/blue"}],
        });
    }
    config
}

#[test]
fn a_bad_variable_is_named_and_the_daemon_not_asked() {
    let daemon = willing();
    let c = full(&daemon.socket());
    for verb in ["ADD", "DEL", "CHECK"] {
        let run = || Run::new(verb, &with_previous(verb, c.clone()));
        for (run, name) in [
            (run().without("CNI_CONTAINERID"), "CNI_CONTAINERID"),
            (run().var("CNI_CONTAINERID", "a/b"), "CNI_CONTAINERID"),
            (run().without("CNI_IFNAME"), "CNI_IFNAME"),
            (run().var("CNI_IFNAME", "0123456789abcdef"), "CNI_IFNAME"),
            (run().var("CNI_IFNAME", "."), "CNI_IFNAME"),
            (run().var("CNI_IFNAME", "a:b"), "CNI_IFNAME"),
            (run().var("CNI_ARGS", "FOO=1"), "CNI_ARGS"),
            (run().var("CNI_ARGS", "nonsense"), "CNI_ARGS"),
        ] {
            let (code, text) = run.exec().failure();
            assert_eq!(code, 4, "{verb} {text}");
            assert!(text.contains(name), "{text}");
        }
    }
    for verb in ["ADD", "CHECK"] {
        for run in [
            Run::new(verb, &c).without("CNI_NETNS"),
            Run::new(verb, &c).var("CNI_NETNS", "netns/blue"),
        ] {
            let (code, text) = run.exec().failure();
            assert_eq!(code, 4, "{text}");
            assert!(text.contains("CNI_NETNS"), "{text}");
        }
    }
    for run in [
        Run::new("add", &c),
        Run::new("", &c),
        Run::new("ADD", &c).without("CNI_COMMAND"),
    ] {
        let (code, text) = run.exec().failure();
        assert_eq!(code, 4);
        assert!(text.contains("CNI_COMMAND"), "{text}");
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn a_bad_configuration_is_refused_and_the_daemon_not_asked() {
    let daemon = willing();
    for verb in ["ADD", "CHECK", "STATUS"] {
        for (key, value, code) in [
            ("ipv4pools", json!([]), 2),
            ("ipMasq", json!(true), 2),
            ("ipv4Pools", json!("default"), 7),
            ("name", json!(""), 7),
            ("socket", json!("relative"), 7),
            ("runtimeConfig", json!({"mac": "zz"}), 7),
            ("args", json!({"cni": {"ips": ["300.0.0.1"]}}), 7),
            ("cniVersion", json!("9.9.9"), 1),
        ] {
            let mut config = with_previous(verb, full(&daemon.socket()));
            config[key] = value;
            let (given, text) = Run::new(verb, &config).exec().failure();
            assert_eq!(given, code, "{verb} {key}: {text}");
        }
    }
    for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
        for stdin in ["", "[]", "{", "nonsense"] {
            let outcome = Run::new(verb, &Value::Null).stdin(stdin.as_bytes()).exec();
            assert_eq!(outcome.failure().0, 6, "{verb} {stdin:?}");
        }
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn a_configuration_of_ten_megabytes_is_refused() {
    let daemon = willing();
    let mut config = full(&daemon.socket());
    config["args"] = json!({"x": "x".repeat(10 << 20)});
    let (code, text) = Run::new("ADD", &config).exec().failure();
    assert_eq!(code, 7, "{text}");
    assert!(text.contains("larger than"), "{text}");
}

#[test]
fn another_plugin_before_us_is_an_error_at_add_only() {
    let daemon = willing();
    let mut config = full(&daemon.socket());
    config["prevResult"] = json!({"ips": [{"address": "10.0.0.1/24"}]});
    let (code, text) = Run::new("ADD", &config).exec().failure();
    assert_eq!(code, 7);
    assert!(text.contains("comes first"), "{text}");
    assert!(Run::new("DEL", &config).exec().ok);

    let (code, text) = Run::new("CHECK", &full(&daemon.socket())).exec().failure();
    assert_eq!(code, 7);
    assert!(text.contains("prevResult: missing"), "{text}");
}

#[test]
fn errors_speak_the_version_that_was_asked_in() {
    for version in VERSIONS {
        let outcome = Run::new("ADD", &config(Path::new("/nowhere/r.sock"), version)).exec();
        assert_eq!(outcome.json()["cniVersion"], version);
        assert_eq!(outcome.json()["code"], 11);
    }
}

#[test]
fn without_a_daemon_the_runtime_is_told_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.sock");
    // A socket that outlived its daemon.
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    for socket in [missing, stale] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let config = with_previous(verb, full(&socket));
            let (code, text) = Run::new(verb, &config).exec().failure();
            assert_eq!(
                code,
                if verb == "STATUS" { 50 } else { 11 },
                "{verb} {text}"
            );
            assert!(text.contains("routerd is not running"), "{text}");
            assert!(text.contains(&*socket.to_string_lossy()), "{text}");
        }
    }
}

#[test]
fn a_daemon_that_hangs_is_left_after_the_time_out() {
    let daemon = FakeDaemon::start(|_| Reply::Hang);
    for (verb, wanted) in [("ADD", 11), ("DEL", 11), ("STATUS", 50)] {
        let mut config = with_previous(verb, full(&daemon.socket()));
        config["timeoutSeconds"] = json!(1);
        let start = Instant::now();
        let (code, text) = Run::new(verb, &config).exec().failure();
        assert_eq!(code, wanted, "{text}");
        assert!(text.contains("no answer within 1 s"), "{text}");
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn refusals_of_the_daemon_have_the_codes_of_the_specification() {
    for (status, retryable, wanted) in [
        (400, false, 7),
        (404, false, 3),
        (409, false, 101),
        (422, false, 7),
        (500, false, 100),
        (500, true, 11),
        (503, true, 11),
        (504, false, 11),
    ] {
        let daemon = FakeDaemon::start(move |_| {
            Reply::refuse(status, "IPPool/a is full: add one", retryable)
        });
        for verb in ["ADD", "DEL", "CHECK", "GC"] {
            let config = with_previous(verb, full(&daemon.socket()));
            let (code, text) = Run::new(verb, &config).exec().failure();
            assert_eq!(code, wanted, "{verb} {status}");
            assert!(text.contains("IPPool/a is full: add one"), "{text}");
        }
        let (code, _) = Run::new("STATUS", &full(&daemon.socket())).exec().failure();
        assert_eq!(code, if status == 500 { 51 } else { 50 }, "{status}");
    }
}

#[test]
fn an_answer_that_is_none_does_not_pass_for_success() {
    for (reply, wanted) in [
        (Reply::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()), 6),
        (
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{".to_vec()),
            6,
        ),
        (Reply::ok(json!({"ips": ["10.0.0.5"], "mtu": "x"})), 6),
        (
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
            11,
        ),
        (Reply::Raw(vec![]), 11),
        (Reply::ok(json!({})), 100),
    ] {
        let daemon = FakeDaemon::start(move |_| reply.clone());
        let (code, text) = Run::new("ADD", &full(&daemon.socket())).exec().failure();
        assert_eq!(code, wanted, "{text}");
    }
}
