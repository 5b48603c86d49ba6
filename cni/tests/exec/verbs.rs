//! Every verb in every version.

use client::fake::{FakeDaemon, Reply};
use serde_json::{Value, json};

use crate::harness::{Run, VERSIONS, config, made, willing};

/// The result that each version wants, written out.
fn golden(version: &str) -> Value {
    let dns = json!({"nameservers": ["10.96.0.10"], "search": ["cluster.local"]});
    match version {
        "0.1.0" | "0.2.0" => json!({
            "cniVersion": version,
            "ip4": {
                "ip": "10.0.0.5/32",
                "gateway": "169.254.1.1",
                "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
            },
            "ip6": {
                "ip": "fd00::5/128",
                "gateway": "fe80::1",
                "routes": [{"dst": "::/0", "gw": "fe80::1"}],
            },
            "dns": dns,
        }),
        "0.3.0" | "0.3.1" | "0.4.0" => json!({
            "cniVersion": version,
            "interfaces": [
                {"name": "rtrc0ffee", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/blue"},
            ],
            "ips": [
                {"version": "4", "address": "10.0.0.5/32", "gateway": "169.254.1.1", "interface": 1},
                {"version": "6", "address": "fd00::5/128", "gateway": "fe80::1", "interface": 1},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                {"dst": "::/0", "gw": "fe80::1"},
            ],
            "dns": dns,
        }),
        _ => {
            let mut result = json!({
                "cniVersion": version,
                "interfaces": [
                    {"name": "rtrc0ffee", "mac": "02:00:00:00:00:01"},
                    {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/blue"},
                ],
                "ips": [
                    {"address": "10.0.0.5/32", "gateway": "169.254.1.1", "interface": 1},
                    {"address": "fd00::5/128", "gateway": "fe80::1", "interface": 1},
                ],
                "routes": [
                    {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
                    {"dst": "::/0", "gw": "fe80::1"},
                ],
                "dns": dns,
            });
            if version == "1.1.0" {
                result["interfaces"][0]["mtu"] = json!(1450);
                result["interfaces"][1]["mtu"] = json!(1450);
            }
            result
        }
    }
}

#[test]
fn add_gives_the_result_of_its_version() {
    let daemon = willing();
    for version in VERSIONS {
        let outcome = Run::new("ADD", &config(&daemon.socket(), version)).exec();
        assert!(outcome.ok, "{}", outcome.stdout);
        assert_eq!(outcome.json(), golden(version), "{version}");
    }
}

#[test]
fn a_configuration_without_a_version_is_of_the_first() {
    let daemon = willing();
    let mut config = config(&daemon.socket(), "x");
    config.as_object_mut().unwrap().remove("cniVersion");
    assert_eq!(Run::new("ADD", &config).exec().json(), golden("0.1.0"));
}

#[test]
fn a_single_family_leaves_no_trace_of_the_other() {
    let daemon = FakeDaemon::start(|_| {
        let mut made = made();
        made["ips"] = json!(["fd00::5/128"]);
        made["gateways"] = json!(["fe80::1"]);
        Reply::ok(made)
    });
    let old = Run::new("ADD", &config(&daemon.socket(), "0.2.0"))
        .exec()
        .json();
    assert_eq!(old.get("ip4"), None);
    assert_eq!(old["ip6"]["ip"], "fd00::5/128");
    let new = Run::new("ADD", &config(&daemon.socket(), "1.0.0"))
        .exec()
        .json();
    assert_eq!(new["routes"], json!([{"dst": "::/0", "gw": "fe80::1"}]));
    assert_eq!(new["ips"].as_array().unwrap().len(), 1);
}

#[test]
fn add_tells_the_daemon_everything() {
    let daemon = willing();
    let mut config = config(&daemon.socket(), "1.1.0");
    config["ipv4Pools"] = json!(["default"]);
    config["ipv6Pools"] = json!(["fd00::/64"]);
    config["args"] =
        json!({"cni": {"labels": {"app": "web"}, "ips": ["10.0.0.5"], "sticky": true}});
    config["runtimeConfig"] = json!({"ips": ["fd00::5/64"], "mac": "02:00:00:00:00:09"});
    let outcome = Run::new("ADD", &config)
        .var(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c0ffee;IP=10.9.9.9;MAC=02:00:00:00:00:08",
        )
        .exec();
    assert!(outcome.ok, "{}", outcome.stdout);
    let request = &daemon.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/v1/cni/add")
    );
    assert_eq!(
        request.body,
        json!({
            "network": "mesh",
            "containerId": "c0ffee",
            "netns": "/run/netns/blue",
            "ifname": "eth0",
            "namespace": "shop",
            "name": "web-0",
            "kubernetes": true,
            "labels": {"app": "web"},
            "ips": ["fd00::5", "10.0.0.5"],
            "mac": "02:00:00:00:00:09",
            "ipv4Pools": ["default"],
            "ipv6Pools": ["fd00::/64"],
            "sticky": true,
            "validAttachments": [],
            "previous": null,
        })
    );
}

#[test]
fn cni_args_count_where_nothing_newer_is_said() {
    let daemon = willing();
    let outcome = Run::new("ADD", &config(&daemon.socket(), "1.1.0"))
        .var("CNI_ARGS", "IP=10.9.9.9;MAC=02:00:00:00:00:08")
        .exec();
    assert!(outcome.ok, "{}", outcome.stdout);
    let body = &daemon.requests()[0].body;
    assert_eq!(body["ips"], json!(["10.9.9.9"]));
    assert_eq!(body["mac"], "02:00:00:00:00:08");
    // Without a pod the workload is named after its container.
    assert_eq!(body["namespace"], "default");
    assert_eq!(body["name"], "c0ffee");
    assert_eq!(body["kubernetes"], false);
}

#[test]
fn del_works_in_every_version_and_without_a_namespace() {
    let daemon = willing();
    for version in VERSIONS {
        let del = Run::new("DEL", &config(&daemon.socket(), version));
        for run in [
            del,
            Run::new("DEL", &config(&daemon.socket(), version)).without("CNI_NETNS"),
        ] {
            // Twice: what is gone already is no error.
            for _ in 0..2 {
                let outcome = run.exec();
                assert!(outcome.ok, "{version}: {}", outcome.stdout);
                assert_eq!(outcome.stdout, "");
            }
        }
    }
    let requests = daemon.requests();
    assert_eq!(requests.len(), VERSIONS.len() * 4);
    assert!(requests.iter().all(|r| r.target == "/v1/cni/del"));
    assert_eq!(requests[0].body["netns"], "/run/netns/blue");
    assert_eq!(requests[2].body["netns"], "");
}

#[test]
fn del_survives_a_configuration_that_was_broken_since() {
    let daemon = willing();
    let mut config = config(&daemon.socket(), "1.1.0");
    config["ipv4Pools"] = json!(7);
    config["typo"] = json!(true);
    config["prevResult"] = json!([]);
    let outcome = Run::new("DEL", &config).exec();
    assert!(outcome.ok, "{}", outcome.stdout);
}

#[test]
fn check_hands_the_previous_result_over() {
    let daemon = willing();
    for version in VERSIONS {
        let mut config = config(&daemon.socket(), version);
        config["prevResult"] = golden(version);
        let outcome = Run::new("CHECK", &config).exec();
        if version < "0.4.0" {
            let (code, text) = outcome.failure();
            assert_eq!(code, 1, "{text}");
            assert!(text.contains("CHECK came with version 0.4.0"), "{text}");
            continue;
        }
        assert!(outcome.ok, "{version}: {}", outcome.stdout);
        assert_eq!(outcome.stdout, "");
        let mut wanted = made();
        if version != "1.1.0" {
            // Older results do not carry it.
            wanted["mtu"] = json!(0);
        }
        assert_eq!(
            daemon.requests().last().unwrap().body["previous"],
            wanted,
            "{version}"
        );
    }
    assert_eq!(daemon.requests().len(), 3);
}

#[test]
fn status_asks_the_daemon() {
    let daemon = willing();
    for version in VERSIONS {
        let outcome = Run::new("STATUS", &config(&daemon.socket(), version))
            .without("CNI_CONTAINERID")
            .without("CNI_NETNS")
            .without("CNI_IFNAME")
            .exec();
        if version < "1.1.0" {
            assert_eq!(outcome.failure().0, 1);
        } else {
            assert!(outcome.ok, "{}", outcome.stdout);
            assert_eq!(outcome.stdout, "");
        }
    }
    let requests = daemon.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, "/v1/cni/status");
    assert_eq!(requests[0].body["network"], "mesh");
}

#[test]
fn gc_hands_the_valid_attachments_over() {
    let daemon = willing();
    let list =
        json!([{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]);
    for version in VERSIONS {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let mut config = config(&daemon.socket(), version);
            config[key] = list.clone();
            let outcome = Run::new("GC", &config).without("CNI_CONTAINERID").exec();
            if version < "1.1.0" {
                assert_eq!(outcome.failure().0, 1);
            } else {
                assert!(outcome.ok, "{}", outcome.stdout);
                assert_eq!(outcome.stdout, "");
                assert_eq!(
                    daemon.requests().last().unwrap().body["validAttachments"],
                    list
                );
            }
        }
    }
    assert_eq!(daemon.requests().len(), 2);
    // Silence is not an empty list.
    let outcome = Run::new("GC", &config(&daemon.socket(), "1.1.0")).exec();
    assert_eq!(outcome.failure().0, 7);
    assert_eq!(daemon.requests().len(), 2);
}

#[test]
fn version_needs_no_daemon_and_answers_in_kind() {
    for version in VERSIONS {
        let run = Run::new("VERSION", &json!({"cniVersion": version}));
        let json = run.exec().json();
        assert_eq!(
            json,
            json!({"cniVersion": version, "supportedVersions": VERSIONS})
        );
    }
    for stdin in ["", "{}", "{\"cniVersion\":\"7.0.0\"}"] {
        let outcome = Run::new("VERSION", &Value::Null)
            .stdin(stdin.as_bytes())
            .exec();
        assert_eq!(outcome.json()["cniVersion"], "1.1.0");
    }
}
