//! `bgp`.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::run;

fn serving(target: &'static str, value: &Value) -> FakeDaemon {
    let value = value.clone();
    FakeDaemon::start(move |r| match r.target == target {
        true => Reply::ok(&value),
        false => Reply::refuse(404, "no such path", false),
    })
}

fn peers() -> Value {
    json!({"peers": [
        {"peer": "10.0.0.1", "name": "BGPPeer/tor-1", "node": null, "asNumber": 65001,
         "state": "Established", "uptimeSeconds": 7300, "received": 12, "filtered": 2, "advertised": 3,
         "bfd": "Up", "lastDown": "hold timer expired", "lastDownSeconds": 7310},
        {"peer": "eth1", "name": "BGPPeer/tor-2", "node": null, "asNumber": null,
         "state": "Active", "uptimeSeconds": null, "received": 0, "advertised": 0,
         "bfd": "Down", "lastDown": "no answer from fe80::1 port 179", "later": true},
    ]})
}

#[test]
fn peers_for_people_and_for_scripts() {
    let daemon = serving("/v1/bgp/peers", &peers());
    let outcome = run(&daemon, &["bgp", "peers"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
PEER       NAME            AS      STATE         UP   RECEIVED         ADVERTISED   BFD    LAST DOWN
10.0.0.1   BGPPeer/tor-1   65001   Established   2h   12 (2 refused)   3            Up     2h ago: hold timer expired
eth1       BGPPeer/tor-2   -       Active        -    0                0            Down   no answer from fe80::1 port 179
"
    );
    let outcome = run(&daemon, &["bgp", "peers", "-o", "json"]);
    assert_eq!(outcome.json(), peers());
}

#[test]
fn a_node_without_peers_says_so() {
    let daemon = serving("/v1/bgp/peers", &json!({"peers": []}));
    let outcome = run(&daemon, &["bgp", "peers"]);
    assert!(outcome.stdout.contains("no BGP peers"), "{outcome:?}");
    let outcome = run(&daemon, &["bgp", "peers", "-o", "json"]);
    assert_eq!(outcome.json(), json!({"peers": []}));
}

fn routes() -> Value {
    json!({"routes": [
        {"prefix": "10.1.0.0/26", "nextHop": null, "peer": null, "asPath": [], "communities": [],
         "best": true, "installed": false},
        {"prefix": "192.0.2.0/24", "nextHop": "10.0.0.1", "peer": "10.0.0.1", "asPath": [65001, 65002],
         "communities": ["65001:7", "65001:1:2"], "localPref": 100, "med": 5, "best": true, "installed": true},
        {"prefix": "192.0.2.0/24", "nextHop": "10.0.0.2", "peer": "10.0.0.2", "asPath": [65009],
         "communities": [], "best": false, "installed": false, "filtered": true, "note": "inside our pools",
         "stale": true},
    ]})
}

#[test]
fn routes_for_people_and_for_scripts() {
    let daemon = serving("/v1/bgp/routes", &routes());
    let outcome = run(&daemon, &["bgp", "routes"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
PREFIX         NEXT HOP    FROM        AS PATH       COMMUNITIES         PREF   MED   STATE
10.1.0.0/26    this node   this node   -             -                   -      -     best
192.0.2.0/24   10.0.0.1    10.0.0.1    65001 65002   65001:7 65001:1:2   100    5     best, installed
192.0.2.0/24   10.0.0.2    10.0.0.2    65009         -                   -      -     refused, stale: inside our pools
"
    );
    let outcome = run(&daemon, &["bgp", "routes", "-o", "json"]);
    assert_eq!(outcome.json(), routes());
}

#[test]
fn what_is_asked_for_is_asked_of_the_daemon() {
    let target = "/v1/bgp/routes?prefix=192.0.2.0%2F24&peer=tor%201&advertised=true";
    let daemon = serving(target, &json!({"routes": []}));
    let args = [
        "bgp",
        "routes",
        "192.0.2.0/24",
        "--peer",
        "tor 1",
        "--advertised",
    ];
    let outcome = run(&daemon, &args);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("TO"), "{outcome:?}");
    let outcome = run(&daemon, &["bgp", "routes", "192.0.2.1/24"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("192.0.2.0/24"), "{outcome:?}");
}
