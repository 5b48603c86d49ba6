//! `flows`, `policy show`, and what `diff` says of connections.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::run;

fn end(namespace: &str, name: &str, ip: &str) -> Value {
    json!({"ip": ip, "kind": "WorkloadEndpoint", "namespace": namespace, "name": name, "labels": {}})
}

fn flow(verdict: &str, by: &Value, port: u16) -> Value {
    let mut flow = json!({
        "id": 1, "start": "2026-05-01T12:00:00.250Z", "end": null,
        "source": end("shop", "cart", "10.0.0.1"), "destination": end("shop", "web", "10.0.0.2"),
        "protocol": "TCP", "port": port, "verdict": verdict, "bytes": 900, "packets": 7,
        "reporter": "Destination", "later": true,
    });
    let (Some(all), Some(by)) = (flow.as_object_mut(), by.as_object()) else {
        unreachable!();
    };
    all.extend(by.clone());
    flow
}

fn rule() -> Value {
    json!({"by": "Rule", "tier": "default", "kind": "NetworkPolicy", "policy": "shop/web", "rule": 2})
}

fn flows() -> Vec<Value> {
    let end_of_tier = json!({"by": "EndOfTier", "tier": "security", "policy": null, "rule": null});
    let none = json!({"by": "", "tier": null, "policy": null, "rule": null});
    let mut spoofed = flow("Deny", &none, 53);
    spoofed["source"] = json!({"ip": "fd00::1", "namespace": "", "name": "", "labels": {}});
    spoofed["reason"] = json!("SpoofedAddress");
    vec![
        flow("Allow", &rule(), 80),
        flow("Deny", &end_of_tier, 81),
        spoofed,
    ]
}

fn serving(target: &'static str, reply: Reply) -> FakeDaemon {
    FakeDaemon::start(move |r| match r.target == target {
        true => reply.clone(),
        false => Reply::refuse(404, "no such path", false),
    })
}

#[test]
fn flows_for_people_and_for_scripts() {
    let daemon = serving("/v1/flows", Reply::Lines(flows()));
    let outcome = run(&daemon, &["flows"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
START          VERDICT   PROTO   SOURCE      DESTINATION   DECIDED BY             PACKETS   BYTES   SEEN AT
12:00:00.250   Allow     TCP     shop/cart   shop/web:80   shop/web rule 2        7         900     destination
12:00:00.250   Deny      TCP     shop/cart   shop/web:81   end of tier security   7         900     destination
12:00:00.250   Deny      TCP     fd00::1     shop/web:53   SpoofedAddress         7         900     destination
"
    );
    let outcome = run(&daemon, &["flows", "-o", "json"]);
    let lines = outcome
        .stdout
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    assert_eq!(lines.collect::<Vec<_>>(), flows());
}

#[test]
fn who_is_too_slow_reads_how_many_flows_are_missing() {
    let mut all = flows();
    all.insert(1, json!({"missed": 12}));
    let daemon = serving("/v1/flows?follow=true", Reply::Lines(all.clone()));
    let outcome = run(&daemon, &["flows", "--follow"]);
    assert_eq!(outcome.stdout.lines().count(), 4, "{outcome:?}");
    let said = "12 flows are missing here: they came faster than they were read";
    assert!(outcome.stderr.starts_with(said), "{outcome:?}");
    // Scripts find it among the flows.
    let outcome = run(&daemon, &["flows", "--follow", "-o", "json"]);
    let lines = outcome
        .stdout
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    assert_eq!(lines.collect::<Vec<_>>(), all);
}

#[test]
fn what_is_wanted_is_asked_for_and_a_stream_that_ends_is_a_failure() {
    let target = "/v1/flows?denied=true&follow=true&since=10m";
    let daemon = serving(target, Reply::Lines(flows()));
    let outcome = run(
        &daemon,
        &["flows", "--denied", "--follow", "--since", "10m"],
    );
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stdout.starts_with("START"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("routerd ended the flows"),
        "{outcome:?}"
    );
    // A date is so long ago.
    let daemon = FakeDaemon::start(|_| Reply::Lines(Vec::new()));
    let outcome = run(
        &daemon,
        &["flows", "--since", "2026-05-01T12:00:00Z", "--staged"],
    );
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, ""),
        "{outcome:?}"
    );
    let asked = daemon.requests().remove(0).target;
    let since = asked.strip_prefix("/v1/flows?staged=true&since=").unwrap();
    assert!(
        since.strip_suffix('s').unwrap().parse::<u64>().is_ok(),
        "{asked}"
    );
}

#[test]
fn rules_are_shown_in_order_with_what_they_counted() {
    let mut allow = json!({"direction": "Ingress", "action": "Allow", "match": "TCP to port 80",
        "counted": {"packets": 7, "bytes": 900, "connections": 1}});
    let (Some(all), Some(by)) = (allow.as_object_mut(), rule().as_object().cloned()) else {
        unreachable!();
    };
    all.extend(by);
    let profile = json!({"direction": "Egress", "by": "Profile", "tier": null, "policy": null, "rule": null,
        "action": "Allow", "match": "everything that no tier decides", "counted": null});
    let shown = json!({"kind": "WorkloadEndpoint", "namespace": "shop", "name": "web", "interface": "rtd1",
        "problem": null, "rules": [allow, profile]});
    let daemon = serving("/v1/policy?endpoint=web&namespace=shop", Reply::ok(&shown));
    let outcome = run(&daemon, &["policy", "show", "web", "-n", "shop"]);
    assert_eq!(
        outcome.stdout,
        "\
WorkloadEndpoint/shop/web, enforced at rtd1

To it:
TIER      RULE              ACTION   MATCH            PACKETS   BYTES   CONNECTIONS
default   shop/web rule 2   Allow    TCP to port 80   7         900     1

From it:
TIER   RULE        ACTION   MATCH                             PACKETS   BYTES   CONNECTIONS
-      no policy   Allow    everything that no tier decides   -         -       -
",
        "{outcome:?}"
    );
    let outcome = run(
        &daemon,
        &["policy", "show", "web", "-n", "shop", "-o", "json"],
    );
    assert_eq!(outcome.json(), shown);
}

#[test]
fn a_diff_of_policy_says_what_it_would_cut() {
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "deny"}, "spec": {"types": ["Ingress"]}});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deny.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let daemon = |impact: Reply| {
        FakeDaemon::start(move |r| match r.target.as_str() {
            "/v1/policy/impact" => impact.clone(),
            _ => Reply::ok(
                json!({"object": "GlobalNetworkPolicy/deny", "action": "created", "revision": 1,
                "before": null, "after": {"kind": "GlobalNetworkPolicy"}}),
            ),
        })
    };
    let would = json!({"verdict": "Deny", "by": "EndOfTier", "tier": "default", "policy": null, "rule": null});
    let impact = json!({"connections": 3, "cut": 1, "flows": 9, "changed": 0,
        "samples": [{"flow": flow("Allow", &rule(), 80), "would": would}]});
    let told = daemon(Reply::ok(impact));
    let outcome = run(&told, &["diff", "-f", path]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    let text = "\
# this node: would cut 1 of 3 live connections
# this node: 0 of 9 flows that it remembers would get another verdict
#   would cut TCP shop/cart -> shop/web:80: end of tier default
";
    assert!(outcome.stdout.ends_with(text), "{outcome:?}");
    let asked = told.requests().pop().unwrap().body;
    assert_eq!(asked[0]["metadata"]["name"], "deny");
    // Where nothing is seen, the difference is told all the same.
    let blind = daemon(Reply::refuse(503, "no programs", true));
    let outcome = run(&blind, &["diff", "-f", path]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("is not known: no programs"),
        "{outcome:?}"
    );
}
