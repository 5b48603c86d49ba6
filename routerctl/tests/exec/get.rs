//! `get`.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::{run, run_with};

fn pool(name: &str, cidr: &str) -> Value {
    json!({
        "apiVersion": "routerd/v1",
        "kind": "IPPool",
        "metadata": {"name": name, "resourceVersion": "5"},
        "spec": {"cidr": cidr, "vxlanMode": "Always", "x-newer": {"deep": [1, null, "yes"]}},
    })
}

fn list() -> Value {
    json!({
        "apiVersion": "routerd/v1",
        "kind": "List",
        "items": [pool("a", "10.0.0.0/16"), pool("longer-name", "fd00::/48")],
    })
}

/// Two pools, and a watch that ends.
fn daemon() -> FakeDaemon {
    FakeDaemon::start(|r| match r.target.as_str() {
        "/v1/resources/ippools" => Reply::ok(list()),
        "/v1/resources/ippools/a" => Reply::ok(pool("a", "10.0.0.0/16")),
        t if t.contains("watch=true") => Reply::Lines(vec![
            json!({"type": "ADDED", "object": pool("a", "10.0.0.0/16")}),
            json!({"type": "SYNCED", "object": null}),
            json!({"type": "MODIFIED", "object": pool("a", "10.0.0.0/8")}),
            json!({"type": "ADDED", "object": pool("longer-name", "fd00::/48")}),
            json!({"type": "DELETED", "object": {"metadata": {"name": "a"}}}),
        ]),
        t if t.contains("nodes") => Reply::ok(json!({"kind": "List", "items": []})),
        _ => Reply::refuse(404, "IPPool/zz: not found", false),
    })
}

#[test]
fn a_table_of_all_and_of_one() {
    let daemon = daemon();
    let outcome = run(&daemon, &["get", "pools"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
NAME          CIDR          VXLAN    NAT   STATE     AGE
a             10.0.0.0/16   Always   no    Enabled   -
longer-name   fd00::/48     Always   no    Enabled   -
"
    );
    let outcome = run(&daemon, &["get", "IPPool", "a", "-o", "wide"]);
    assert_eq!(
        outcome.stdout,
        "\
NAME   CIDR          VXLAN    NAT   STATE     AGE   BLOCK-SIZE   ASSIGNMENT   USES   NODE-SELECTOR   NAMESPACE-SELECTOR   BGP-EXPORT   LABELS
a      10.0.0.0/16   Always   no    Enabled   -     default      Automatic    -      all()           all()                yes          -
"
    );
}

#[test]
fn json_and_yaml_are_complete() {
    let daemon = daemon();
    assert_eq!(
        run(&daemon, &["get", "ippools", "-o", "json"]).json(),
        list()
    );
    let one = pool("a", "10.0.0.0/16");
    assert_eq!(run(&daemon, &["get", "ippools", "a", "-ojson"]).json(), one);
    let yaml = run(&daemon, &["get", "ippools", "a", "-o", "yaml"]).stdout;
    assert_eq!(
        yaml,
        "\
apiVersion: routerd/v1
kind: IPPool
metadata:
  name: a
  resourceVersion: \"5\"
spec:
  cidr: 10.0.0.0/16
  vxlanMode: Always
  x-newer:
    deep:
    - 1
    - null
    - \"yes\"
"
    );
}

#[test]
fn what_is_not_there() {
    let daemon = daemon();
    let outcome = run(&daemon, &["get", "ippool", "zz"]);
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (1, "error: IPPool/zz: not found\n")
    );
    let outcome = run(&daemon, &["get", "nodes"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert_eq!(outcome.stderr, "No nodes found.\n");
}

#[test]
fn namespace_and_selector_reach_the_daemon() {
    let daemon = FakeDaemon::start(|_| Reply::ok(json!({"items": []})));
    let last = |args: &[&str]| {
        assert_eq!(run(&daemon, args).status, 0);
        daemon.requests().last().unwrap().target.clone()
    };
    assert_eq!(last(&["get", "wep"]), "/v1/resources/workloadendpoints");
    assert_eq!(
        last(&["get", "wep", "-n", "shop", "-l", "a == 'b' && has(c)"]),
        "/v1/resources/workloadendpoints?namespace=shop&labelSelector=a%20%3D%3D%20%27b%27%20%26%26%20has%28c%29"
    );
    assert_eq!(
        last(&["get", "wep", "web"]),
        "/v1/resources/workloadendpoints/default/web"
    );
    assert_eq!(
        last(&["get", "wep", "web", "-n", "x"]),
        "/v1/resources/workloadendpoints/x/web"
    );
}

#[test]
fn a_watch_prints_changes() {
    let daemon = daemon();
    let outcome = run(&daemon, &["get", "ippools", "--watch"]);
    assert_eq!(
        outcome.stdout,
        "\
EVENT      NAME   CIDR          VXLAN    NAT   STATE     AGE
ADDED      a      10.0.0.0/16   Always   no    Enabled   -
MODIFIED   a      10.0.0.0/8    Always   no    Enabled   -
ADDED      longer-name   fd00::/48     Always   no    Enabled   -
DELETED    a             -             -        -     -         -
"
    );
    // The stand-in ended it; a daemon does not.
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("ended the watch"),
        "{}",
        outcome.stderr
    );

    let outcome = run(
        &daemon,
        &["get", "ippools", "longer-name", "-w", "-o", "json"],
    );
    let lines: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        lines,
        [json!({"type": "ADDED", "object": pool("longer-name", "fd00::/48")})]
    );
    let outcome = run(&daemon, &["get", "ippools", "-w", "-o", "yaml"]);
    assert_eq!(outcome.stdout.matches("---\n").count(), 4);
}

#[test]
fn an_answer_that_is_no_list_is_an_error() {
    let daemon = FakeDaemon::start(|_| Reply::ok(json!({})));
    let outcome = run(&daemon, &["get", "nodes"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("no list of nodes"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn texts_of_others_do_not_reach_the_terminal_raw() {
    let daemon = FakeDaemon::start(|r| match r.target.as_str() {
        "/v1/resources/nodes" => {
            Reply::ok(json!({"items": [{"metadata": {"name": "a\u{1b}[2Jb"}, "spec": {}}]}))
        }
        _ => Reply::refuse(422, "bad \u{1b}[31mvalue", false),
    });
    assert!(!run(&daemon, &["get", "nodes"]).stdout.contains('\u{1b}'));
    assert!(!run(&daemon, &["get", "ippools"]).stderr.contains('\u{1b}'));
}

#[test]
fn the_socket_is_an_argument_as_well() {
    let daemon = daemon();
    let socket = daemon.socket();
    let outcome = run_with(
        None,
        &["get", "ippools", "--socket", socket.to_str().unwrap()],
        "",
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn a_daemon_that_hangs_is_left_in_time() {
    let daemon = FakeDaemon::start(|_| Reply::Hang);
    let outcome = run(&daemon, &["get", "ippools", "--timeout", "1"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("no answer within 1 s"),
        "{}",
        outcome.stderr
    );
}
