//! `explain`.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::run;

fn end(ip: &str, text: &str) -> Value {
    json!({"ip": ip, "kind": "Workload", "pool": null, "block": null, "blockNode": null, "text": text})
}

fn step(decision: &str, policy: Option<&str>, rule: Option<u32>, by_port: bool) -> Value {
    json!({"at": "Egress", "decision": decision, "tier": "default", "policy": policy,
           "policyKind": "NetworkPolicy", "rule": rule, "byPort": by_port, "reason": "since so"})
}

fn told() -> Value {
    let mut steps: Vec<Value> = (0..7)
        .map(|n| step("NoMatch", Some("shop/out"), Some(n), false))
        .collect();
    steps.push(step("NoMatch", Some("shop/out"), Some(7), true));
    steps.push(step("Deny", None, None, false));
    json!({
        "verdict": "Deny", "summary": "denied by the end of tier default",
        "packet": {"protocol": 6, "port": null, "sourcePort": 49152, "icmpType": null, "icmpCode": null},
        "source": end("10.0.0.1", "workload shop/web on node a"),
        "destination": end("10.0.1.1", "workload shop/api on node b"),
        "steps": steps,
        "ports": [{"ports": ["80", "8000:8999"], "verdict": "Allow", "by": "egress[7]"}],
        "route": {"node": "a", "path": "Vxlan", "nextNode": "b", "prefix": "10.0.1.0/26", "via": "10.0.1.0",
                  "device": "rtd.vxlan4", "tunnelEndpoint": "192.0.2.2", "encrypted": false,
                  "encryption": "Off", "masquerade": null, "mtuReason": "VXLAN over IPv4 adds 50 bytes"},
        "mtu": 1450, "staged": null, "kernelAgrees": false,
        "kernel": [
            {"object": "route", "agrees": true, "expected": "r", "found": "r"},
            {"object": "egress policy", "agrees": false, "expected": "Deny", "found": "everything passes"},
        ],
        "notChecked": ["ingress policy is enforced on node b"],
        "later": true,
    })
}

const ASKED: &str = "/v1/explain?source=shop%2Fweb&destination=10.0.1.1&protocol=tcp";

fn serving(asked: &'static str) -> FakeDaemon {
    FakeDaemon::start(move |r| match r.target == asked {
        true => Reply::ok(told()),
        false => Reply::refuse(404, &format!("not {}", r.target), false),
    })
}

#[test]
fn a_way_for_people_and_for_scripts() {
    let daemon = serving(ASKED);
    let outcome = run(&daemon, &["explain", "shop/web", "10.0.1.1"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
From:      10.0.0.1 (workload shop/web on node a)
To:        10.0.1.1 (workload shop/api on node b)
Packet:    tcp, any port
Verdict:   Deny, denied by the end of tier default
  ports 80, 8000:8999: Allow, egress[7]
Way:       VXLAN, from node a to node b by route 10.0.1.0/26 via 10.0.1.0 dev rtd.vxlan4 carried to 192.0.2.2
MTU:       1450, VXLAN over IPv4 adds 50 bytes
Kernel:    differs in 1 of 2 (see below)

AT       DECISION   TIER      POLICY     RULE   WHY
Egress   NoMatch    default   shop/out   0      since so
Egress   NoMatch    default   shop/out   1      since so
Egress   NoMatch    default   shop/out   2      since so
Egress   NoMatch    default   shop/out   3      since so
-        NoMatch    -         -          -      3 more rules; --all shows them
Egress   NoMatch    default   shop/out   7      since so (depends on the port)
Egress   Deny       default   -          -      since so

KERNEL          AGREES   EXPECTED   FOUND
egress policy   no       Deny       everything passes

Not checked:
  ingress policy is enforced on node b
"
    );
    let outcome = run(&daemon, &["explain", "shop/web", "10.0.1.1", "-o", "json"]);
    assert_eq!(outcome.json(), told());
}

#[test]
fn every_option_is_asked() {
    let daemon = serving(
        "/v1/explain?source=a&destination=b&protocol=icmp&sourcePort=7&icmpType=8&icmpCode=0&all=true",
    );
    let args = [
        "explain",
        "a",
        "b",
        "--proto",
        "icmp",
        "--source-port",
        "7",
        "--icmp-type",
        "8",
        "--icmp-code",
        "0",
        "--all",
    ];
    let outcome = run(&daemon, &args);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("more rules"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("route           yes"),
        "{outcome:?}"
    );
    let outcome = run(&daemon, &["explain", "nobody", "b"]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    let usage = run(&daemon, &["explain", "a"]);
    assert_eq!(usage.status, 2);
}
