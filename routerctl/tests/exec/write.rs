//! `apply`, `diff`, `validate`, `delete`.

use client::fake::{FakeDaemon, Reply, Request};
use serde_json::json;

use crate::harness::{run, run_with};

const POOL: &str = "\
apiVersion: routerd/v1
kind: IPPool
metadata:
  name: default
spec:
  cidr: 10.0.0.0/16
";
const ENDPOINT: &str = "\
apiVersion: routerd/v1
kind: WorkloadEndpoint
metadata:
  name: vm1
  namespace: shop
spec:
  node: a
  interfaceName: tap0
  ipNetworks: [10.0.0.5/32]
";
const NAMESPACE: &str = "\
apiVersion: routerd/v1
kind: Namespace
metadata:
  name: shop
  labels: {team: red}
spec: {}
";

/// `IPPool/default` of `/v1/resources/ippools/default`, near enough.
fn object(r: &Request) -> String {
    let parts: Vec<_> = r.target.split(['/', '?']).skip(3).collect();
    parts.join("/")
}

/// Creates and deletes everything.
fn willing() -> FakeDaemon {
    FakeDaemon::start(|r| {
        let action = if r.method == "DELETE" {
            "deleted"
        } else {
            "created"
        };
        Reply::ok(json!({"object": object(r), "action": action, "revision": 7}))
    })
}

fn targets(daemon: &FakeDaemon) -> Vec<String> {
    daemon
        .requests()
        .iter()
        .map(|r| format!("{} {}", r.method, r.target))
        .collect()
}

#[test]
fn apply_writes_in_order_and_prints_a_line_a_resource() {
    let daemon = willing();
    let text = [ENDPOINT, POOL, NAMESPACE].join("---\n");
    let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], &text);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(outcome.stderr, "");
    assert_eq!(
        outcome.stdout,
        "namespaces/shop created\nippools/default created\nworkloadendpoints/shop/vm1 created\n"
    );
    assert_eq!(
        targets(&daemon),
        [
            "PUT /v1/resources/namespaces/shop",
            "PUT /v1/resources/ippools/default",
            "PUT /v1/resources/workloadendpoints/shop/vm1",
        ]
    );
    let body = &daemon.requests()[1].body;
    assert_eq!(body["apiVersion"], "routerd/v1");
    assert_eq!(body["kind"], "IPPool");
    assert_eq!(body["spec"]["cidr"], "10.0.0.0/16");
}

#[test]
fn apply_takes_a_directory_and_several_files() {
    let daemon = willing();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("b.yml", NAMESPACE);
    write("a.yaml", POOL);
    write(
        "c.json",
        r#"{"apiVersion":"routerd/v1","kind":"IPReservation","metadata":{"name":"r"},"spec":{"reservedCIDRs":["10.0.0.1/32"]}}"#,
    );
    write("README.md", "not a manifest");
    std::fs::create_dir(dir.path().join("deeper.yaml")).unwrap();
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), ENDPOINT).unwrap();
    let (dir, file) = (dir.path().to_str().unwrap(), other.path().to_str().unwrap());
    let outcome = run(&daemon, &["apply", "-f", file, "-f", dir]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(daemon.requests().len(), 4);
}

#[test]
fn nothing_is_written_when_anything_is_wrong() {
    let daemon = willing();
    let bad = POOL.replace("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/16\n  natOutgoin: true");
    let text = [NAMESPACE, &bad].join("---\n");
    for verb in ["apply", "diff", "validate"] {
        let outcome = run_with(Some(&daemon.socket()), &[verb, "-f", "-"], &text);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert_eq!(outcome.stdout, "");
        assert!(
            outcome.stderr.starts_with("error: stdin: "),
            "{}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains("IPPool/default"),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("natOutgoing"), "{}", outcome.stderr);
    }
    // A value that has the right type and cannot be all the same.
    let bad = POOL.replace("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/16\n  blockSize: 12");
    let outcome = run_with(
        Some(&daemon.socket()),
        &["apply", "-f", "-"],
        &[NAMESPACE, &bad].join("---\n"),
    );
    assert_eq!(outcome.status, 1);
    assert!(
        outcome
            .stderr
            .starts_with("error: stdin: IPPool/default: spec.blockSize = 12"),
        "{}",
        outcome.stderr
    );
    let twice = [POOL, POOL].join("---\n");
    let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], &twice);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome
            .stderr
            .contains("IPPool/default: is in stdin already"),
        "{}",
        outcome.stderr
    );
    for (stdin, part) in [("", "no resource"), ("a: [", "stdin: ")] {
        let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], stdin);
        assert_eq!(outcome.status, 1);
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    let huge = format!("{POOL}# {}\n", "x".repeat(10 << 20));
    let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], &huge);
    assert!(outcome.stderr.contains("larger than"), "{}", outcome.stderr);
    let outcome = run(&daemon, &["apply", "-f", "/nowhere/x.yaml"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("/nowhere/x.yaml: No such file"),
        "{}",
        outcome.stderr
    );
    assert!(daemon.requests().is_empty());
}

#[test]
fn one_refusal_keeps_none_of_the_others_back() {
    let daemon = FakeDaemon::start(|r| {
        if r.target.contains("ippools") {
            Reply::refuse(
                422,
                "IPPool/default: spec.cidr: overlaps IPPool/old: choose another",
                false,
            )
        } else {
            Reply::ok(json!({"object": object(r), "action": "unchanged", "revision": 7}))
        }
    });
    let text = [ENDPOINT, POOL, NAMESPACE].join("---\n");
    let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], &text);
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stdout,
        "namespaces/shop unchanged\nworkloadendpoints/shop/vm1 unchanged\n"
    );
    assert_eq!(
        outcome.stderr,
        "error: IPPool/default: spec.cidr: overlaps IPPool/old: choose another\n"
    );
}

#[test]
fn a_daemon_that_is_not_there_is_said_once() {
    let text = [ENDPOINT, POOL, NAMESPACE].join("---\n");
    let outcome = run_with(None, &["apply", "-f", "-"], &text);
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stderr.matches("is routerd running?").count(),
        1,
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("/nowhere/routerd.sock"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("2 of 3 objects were not tried"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn validate_needs_no_daemon() {
    let outcome = run_with(
        None,
        &["validate", "-f", "-"],
        &[ENDPOINT, POOL].join("---\n"),
    );
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "IPPool/default valid\nWorkloadEndpoint/shop/vm1 valid\n"
    );
}

#[test]
fn diff_prints_what_would_change() {
    let daemon = FakeDaemon::start(|r| {
        assert!(r.target.ends_with("?dryRun=true"), "{}", r.target);
        let stored = |nat: bool, version: &str| {
            json!({"apiVersion": "routerd/v1", "kind": "IPPool",
                "metadata": {"name": "default", "resourceVersion": version, "uid": "u"},
                "spec": {"cidr": "10.0.0.0/16", "natOutgoing": nat}})
        };
        Reply::ok(match r.target.contains("ippools") {
            true => json!({"object": "IPPool/default", "action": "configured", "revision": 7,
                "before": stored(true, "3"), "after": stored(false, "7")}),
            false => json!({"object": "Namespace/shop", "action": "created", "revision": 7,
                "after": {"kind": "Namespace", "metadata": {"name": "shop"}}}),
        })
    });
    let text = [POOL, NAMESPACE].join("---\n");
    let outcome = run_with(Some(&daemon.socket()), &["diff", "-f", "-"], &text);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "\
--- Namespace/shop (absent)
+++ Namespace/shop (applied)
@@ -0,0 +1,3 @@
+kind: Namespace
+metadata:
+  name: shop
--- IPPool/default (stored)
+++ IPPool/default (applied)
@@ -4,4 +4,4 @@
   name: default
 spec:
   cidr: 10.0.0.0/16
-  natOutgoing: true
+  natOutgoing: false
"
    );
}

#[test]
fn diff_without_differences_is_silent() {
    let daemon = FakeDaemon::start(|_| {
        Reply::ok(json!({"object": "IPPool/default", "action": "unchanged", "revision": 7}))
    });
    let outcome = run_with(Some(&daemon.socket()), &["diff", "-f", "-"], POOL);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
}

#[test]
fn delete_by_manifest_goes_the_other_way_round() {
    let daemon = willing();
    let text = [POOL, NAMESPACE, ENDPOINT].join("---\n");
    let outcome = run_with(Some(&daemon.socket()), &["delete", "-f", "-"], &text);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "workloadendpoints/shop/vm1 deleted\nippools/default deleted\nnamespaces/shop deleted\n"
    );
}

#[test]
fn what_is_wrong_can_be_deleted_all_the_same() {
    let daemon = willing();
    let bad = POOL.replace("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/16\n  blockSize: 12");
    let outcome = run_with(Some(&daemon.socket()), &["delete", "-f", "-"], &bad);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn a_manifest_of_calico_is_taken_as_it_is() {
    let daemon = willing();
    let calico = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: default}\nspec: {cidr: 10.0.0.0/16, natOutgoing: true}\n";
    let outcome = run_with(Some(&daemon.socket()), &["apply", "-f", "-"], calico);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(daemon.requests()[0].body["apiVersion"], "routerd/v1");
}

#[test]
fn delete_by_kind_and_name() {
    let daemon = willing();
    for (args, target) in [
        (
            &["delete", "pool", "default"][..],
            "DELETE /v1/resources/ippools/default",
        ),
        (
            &["delete", "wep", "vm1"],
            "DELETE /v1/resources/workloadendpoints/default/vm1",
        ),
        (
            &["delete", "wep", "vm1", "-n", "shop"],
            "DELETE /v1/resources/workloadendpoints/shop/vm1",
        ),
        (
            &["delete", "node", "../x"],
            "DELETE /v1/resources/nodes/..%2Fx",
        ),
    ] {
        assert_eq!(run(&daemon, args).status, 0);
        assert_eq!(targets(&daemon).last().unwrap(), target);
    }
}

#[test]
fn deleting_what_is_not_there() {
    let daemon = FakeDaemon::start(|_| Reply::refuse(404, "IPPool/x: not found", false));
    let outcome = run(&daemon, &["delete", "ippool", "x"]);
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (1, "error: IPPool/x: not found\n")
    );
    let outcome = run(&daemon, &["delete", "ippool", "x", "--ignore-not-found"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn wrong_usage_is_status_two() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["apply"],
        &["delete"],
        &["delete", "ippool"],
        &["delete", "ippool", "x", "-f", "y"],
        &["delete", "ippool", "x", "-n", "ns"],
        &["get", "pod"],
        &["get", "ippool", "-n", "ns"],
        &["get", "ippool", "x", "-l", "a == 'b'"],
        &["get", "ippool", "-o", "xml"],
        &["ipam", "release"],
        &["ipam", "release", "--ip", "10.0.0.1", "--node", "a"],
        &["ipam", "show", "--ip", "10.0.0"],
        &["ipam", "show", "--ip", "10.0.0.1", "--blocks"],
        &["status", "--timeout", "0"],
        &["completion", "tcsh"],
    ] {
        let outcome = run_with(None, args, "");
        assert_eq!(outcome.status, 2, "{args:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "");
        assert!(
            outcome.stderr.contains("--help") || args.is_empty(),
            "{}",
            outcome.stderr
        );
    }
    let outcome = run_with(None, &["get", "pod"], "");
    assert!(outcome.stderr.contains("IPPool"), "{}", outcome.stderr);
    assert_eq!(run_with(None, &["--help"], "").status, 0);
    assert_eq!(run_with(None, &["--version"], "").status, 0);
}
