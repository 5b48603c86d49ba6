//! `status`, `ipam`, `doctor`.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::run;

fn serving(answers: &[(&str, Value)]) -> FakeDaemon {
    let answers: Vec<(String, Value)> = answers
        .iter()
        .map(|(target, value)| ((*target).to_owned(), value.clone()))
        .collect();
    FakeDaemon::start(move |r| {
        let found = answers.iter().find(|(target, _)| *target == r.target);
        found.map_or_else(
            || Reply::refuse(404, "no such path", false),
            |(_, value)| Reply::ok(value),
        )
    })
}

fn status() -> Value {
    json!({
        "node": "rack1-a",
        "ready": true,
        "inSync": false,
        "revision": 42,
        "encryption": "Off",
        "subsystems": [
            {"name": "datastore", "state": "Ok", "message": "etcd, 3 members"},
            {"name": "routes", "state": "Failed", "message": "netlink: no such device"},
        ],
        "rejected": [{"kind": "IPPool", "name": "bad", "message": "does not decode"}],
        "drift": (0..12).map(|n| json!({"object": format!("route 10.0.{n}.0/26"), "found": "missing", "at": "2024-05-01T12:00:00Z"})).collect::<Vec<_>>(),
        "problems": [{"object": "Node/rack1-b", "message": "has no underlay address"}],
        "workloadMtu": 1450,
        "version": "0.1.0",
        "newer": {"x": 1},
    })
}

#[test]
fn status_for_people_and_for_scripts() {
    let daemon = serving(&[("/v1/status", status())]);
    let outcome = run(&daemon, &["status"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let drift: String = (0..10)
        .map(|n| format!("2024-05-01T12:00:00Z   missing   route 10.0.{n}.0/26\n"))
        .collect();
    assert_eq!(
        outcome.stdout,
        format!(
            "\
Node:          rack1-a
Ready:         yes
In sync:       no, revision 42
Encryption:    Off
Workload MTU:  1450
Version:       0.1.0

SUBSYSTEM   STATE    MESSAGE
datastore   Ok       etcd, 3 members
routes      Failed   netlink: no such device

Problems:
OBJECT         PROBLEM
Node/rack1-b   has no underlay address

Rejected, skipped until mended:
KIND     NAME   MESSAGE
IPPool   bad    does not decode

Drift, repaired, newest first:
AT                     FOUND     OBJECT
{drift}and 2 more; -o json shows all
"
        )
    );
    assert_eq!(run(&daemon, &["status", "-o", "json"]).json(), status());
    assert!(
        run(&daemon, &["status", "-o", "yaml"])
            .stdout
            .contains("node: rack1-a\n")
    );
}

#[test]
fn use_of_pools_and_blocks() {
    let pools = json!({"pools": [
        {"name": "default", "cidr": "10.0.0.0/16", "capacity": 65536, "used": 16384, "blocks": 300},
        {"name": "v6", "cidr": "fd00::/48", "capacity": u64::MAX, "used": 1, "blocks": 1},
    ]});
    let blocks = json!({"blocks": [
        {"cidr": "10.0.0.0/26", "node": "rack1-a", "used": 32, "free": 30},
        {"cidr": "10.0.0.64/26", "node": "", "used": 0, "free": 64},
    ]});
    let daemon = serving(&[
        ("/v1/ipam", pools.clone()),
        ("/v1/ipam?blocks=true", blocks.clone()),
    ]);
    assert_eq!(
        run(&daemon, &["ipam", "show"]).stdout,
        "\
NAME      CIDR          CAPACITY   USED    BLOCKS   USE
default   10.0.0.0/16   65536      16384   300      [#####               ]  25%
v6        fd00::/48     >=2^64     1       1        [#                   ]  <1%
"
    );
    assert_eq!(
        run(&daemon, &["ipam", "show", "--blocks"]).stdout,
        "\
CIDR           NODE      USED   FREE   USE
10.0.0.0/26    rack1-a   32     30     [##########          ]  50%
10.0.0.64/26   -         0      64     [                    ]   0%
"
    );
    assert_eq!(run(&daemon, &["ipam", "show", "-o", "json"]).json(), pools);
    assert_eq!(
        run(&daemon, &["ipam", "show", "--blocks", "-o", "json"]).json(),
        blocks
    );
}

#[test]
fn json_has_the_list_even_when_it_is_empty() {
    let daemon = serving(&[("/v1/ipam", json!({})), ("/v1/ipam?blocks=true", json!({}))]);
    assert_eq!(
        run(&daemon, &["ipam", "show", "-o", "json"]).json(),
        json!({"pools": []})
    );
    let blocks = run(&daemon, &["ipam", "show", "--blocks", "-o", "json"]).json();
    assert_eq!(blocks, json!({"blocks": []}));
}

#[test]
fn who_has_an_address() {
    let used = json!({"ip": "10.0.0.5", "state": "Used", "handle": "h1", "node": "a", "namespace": "shop", "name": "web"});
    let free = json!({"ip": "fd00::5", "state": "Free"});
    let daemon = serving(&[
        ("/v1/ipam/addresses/10.0.0.5", used.clone()),
        ("/v1/ipam/addresses/fd00%3A%3A5", free),
    ]);
    assert_eq!(
        run(&daemon, &["ipam", "show", "--ip", "10.0.0.5"]).stdout,
        "\
IP         STATE   NODE   NAMESPACE   NAME   HANDLE
10.0.0.5   Used    a      shop        web    h1
"
    );
    assert_eq!(
        run(&daemon, &["ipam", "show", "--ip", "10.0.0.5", "-o", "json"]).json(),
        used
    );
    assert_eq!(
        run(&daemon, &["ipam", "show", "--ip", "fd00::5"]).stdout,
        "\
IP        STATE   NODE   NAMESPACE   NAME   HANDLE
fd00::5   Free    -      -           -      -
"
    );
}

#[test]
fn check_differs_when_not_clean() {
    let clean = json!({"clean": true, "problems": []});
    let daemon = serving(&[("/v1/ipam/check", clean.clone())]);
    let outcome = run(&daemon, &["ipam", "check"]);
    assert_eq!(outcome.status, 0);
    assert_eq!(outcome.stdout, "The address records are clean.\n");
    assert_eq!(run(&daemon, &["ipam", "check", "-o", "json"]).json(), clean);

    let dirty = json!({"clean": false, "problems": [
        {"kind": "LeakedHandle", "object": "ipam/handles/h1", "message": "no endpoint has it: release --handle h1"},
    ]});
    let daemon = serving(&[("/v1/ipam/check", dirty.clone())]);
    let outcome = run(&daemon, &["ipam", "check"]);
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stdout,
        "\
KIND           OBJECT            PROBLEM
LeakedHandle   ipam/handles/h1   no endpoint has it: release --handle h1
"
    );
    let outcome = run(&daemon, &["ipam", "check", "-o", "json"]);
    assert_eq!((outcome.status, outcome.json()), (1, dirty));
}

#[test]
fn release_says_what_was_released() {
    let daemon = FakeDaemon::start(|r| {
        assert_eq!(
            (r.method.as_str(), r.target.as_str()),
            ("POST", "/v1/ipam/release")
        );
        Reply::ok(if r.body == json!({"node": "gone"}) {
            json!({"addresses": ["10.0.0.5", "fd00::5"], "blocks": ["10.0.0.0/26"]})
        } else {
            json!({"addresses": [], "blocks": []})
        })
    });
    assert_eq!(
        run(&daemon, &["ipam", "release", "--node", "gone"]).stdout,
        "address 10.0.0.5 released\naddress fd00::5 released\nblock 10.0.0.0/26 released\n"
    );
    let outcome = run(&daemon, &["ipam", "release", "--ip", "10.0.0.9"]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "nothing to release\n")
    );
    assert_eq!(
        run(&daemon, &["ipam", "release", "--handle", "h1"]).status,
        0
    );
    let bodies: Vec<Value> = daemon.requests().into_iter().map(|r| r.body).collect();
    assert_eq!(
        bodies,
        [
            json!({"node": "gone"}),
            json!({"ip": "10.0.0.9"}),
            json!({"handle": "h1"})
        ]
    );
}

#[test]
fn tunnels_show_the_path_to_each_node() {
    let shown = json!({"tunnels": [
        {"node": "b", "path": "WireGuard", "postQuantum": true, "lastHandshakeSeconds": 42, "rxBytes": 1200,
         "txBytes": 0, "mtu": 1440, "endpoint": "192.0.2.2:51820"},
        {"node": "c", "path": "Barred", "lastHandshakeSeconds": null, "rxBytes": null, "txBytes": null,
         "mtu": 0, "endpoint": null},
    ], "clearTextBytes": null});
    let daemon = serving(&[("/v1/tunnels", shown.clone())]);
    let outcome = run(&daemon, &["tunnels"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(
        outcome.stdout,
        "\
NODE   PATH        POST-QUANTUM   HANDSHAKE   RECEIVED   SENT   MTU    ENDPOINT
b      WireGuard   yes            42s ago     1200       0      1440   192.0.2.2:51820
c      Barred      -              -           -          -      -      -
"
    );
    let outcome = run(&daemon, &["tunnels", "-o", "json"]);
    assert_eq!((outcome.status, outcome.json()), (0, shown));
}

#[test]
fn doctor_names_the_fix() {
    let checks = |state: &str| {
        json!({"checks": [
            {"name": "kernel", "state": "Ok", "message": "6.18 has all that is needed", "fix": ""},
            {"name": "clock", "state": state, "message": "47 s behind etcd", "fix": "start an NTP client"},
        ]})
    };
    let daemon = serving(&[("/v1/doctor", checks("Failed"))]);
    let outcome = run(&daemon, &["doctor"]);
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stdout,
        "\
Ok         kernel   6.18 has all that is needed
Failed     clock    47 s behind etcd
           fix: start an NTP client

2 checks: 1 ok, 0 degraded, 1 failed
"
    );
    let outcome = run(&daemon, &["doctor", "-o", "json"]);
    assert_eq!((outcome.status, outcome.json()), (1, checks("Failed")));
    let daemon = serving(&[("/v1/doctor", checks("Degraded"))]);
    assert_eq!(run(&daemon, &["doctor"]).status, 0);
}

#[test]
fn an_answer_of_another_version_is_said_to_be_one() {
    let daemon = serving(&[("/v1/status", json!({"node": "a"}))]);
    let outcome = run(&daemon, &["status"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("does not decode"),
        "{}",
        outcome.stderr
    );
    // As it is, it can still be had.
    assert_eq!(
        run(&daemon, &["status", "-o", "json"]).json(),
        json!({"node": "a"})
    );
}
