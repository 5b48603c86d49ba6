//! Tests of configurations.

use proptest::prelude::*;
use serde_json::json;

use super::fields::KNOWN;
use super::*;

fn with(extra: &Value) -> Vec<u8> {
    let mut config = json!({"cniVersion": "1.1.0", "name": "mesh", "type": "routerd-cni"});
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    serde_json::to_vec(&config).unwrap()
}

fn add(extra: &Value) -> Result<Config, Failure> {
    Config::parse(Verb::Add, &with(extra))
}

#[test]
fn the_documented_configuration_is_taken() {
    let c = add(&json!({
        "socket": "/tmp/r.sock", "ipv4Pools": ["a"], "ipv6Pools": ["fd00::/64"],
        "capabilities": {"ips": true, "mac": true},
        "args": {"cni": {"labels": {"app": "web"}, "ips": ["10.0.0.5"], "sticky": true, "org.example": 1}},
        "runtimeConfig": {"ips": ["10.0.0.5/24", "fd00::5/64"], "mac": "02-00-00-00-00-01"},
        "dns": {"nameservers": ["10.0.0.1"], "search": ["x"]},
        "ipam": {}, "ipMasq": false, "plugins": [], "cni.dev/other": 1, "prevResult": null,
    }))
    .unwrap();
    assert_eq!(c.socket, "/tmp/r.sock");
    assert_eq!(c.ipv4_pools, ["a"]);
    assert_eq!(c.ipv6_pools, ["fd00::/64"]);
    assert_eq!(c.labels["app"], "web");
    assert_eq!(
        c.ips,
        ["10.0.0.5", "fd00::5"].map(|i| i.parse::<IpAddr>().unwrap())
    );
    assert_eq!(c.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
    assert!(c.sticky);
    assert!(c.previous.is_none());
    assert!(!c.dns.is_empty());
}

#[test]
fn defaults() {
    let c = add(&json!({"ipv4Pools": null, "dns": null, "runtimeConfig": null})).unwrap();
    assert_eq!(c.socket, client::DEFAULT_SOCKET);
    assert_eq!(c.timeout, Duration::from_secs(30));
    assert!(c.dns.is_empty() && c.ipv4_pools.is_empty() && c.labels.is_empty());
    let first = Config::parse(Verb::Add, br#"{"name":"mesh"}"#).unwrap();
    assert_eq!(first.version, Version::V0_1_0);
}

#[test]
fn labels_are_taken_as_conventions_have_them() {
    let c = add(&json!({"args": {"cni": {"labels": [{"key": "a", "value": "b"}]}}})).unwrap();
    assert_eq!(c.labels["a"], "b");
}

#[test]
fn an_unknown_field_is_refused_with_key_value_and_the_nearest() {
    for (extra, key, value, mend) in [
        (
            json!({"ipv4pool": ["a"]}),
            "ipv4pool",
            "[\"a\"]",
            "ipv4Pools",
        ),
        (json!({"sokcet": "/x"}), "sokcet", "\"/x\"", "socket"),
        (json!({"ipMasq": true}), "ipMasq", "true", "natOutgoing"),
        (
            json!({"capabilities": {"portMappings": true}}),
            "capabilities.portMappings",
            "true",
            "portmap plugin",
        ),
        (
            json!({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}),
            "runtimeConfig.bandwidth",
            "{\"ingressRate\":1}",
            "bandwidth plugin",
        ),
        (
            json!({"args": {"cni": {"label": {}}}}),
            "args.cni.label",
            "{}",
            "args.cni.labels",
        ),
    ] {
        let e = add(&extra).unwrap_err();
        assert_eq!(e.code, Code::Field, "{extra}");
        assert!(e.msg.contains(key) && e.msg.contains(value), "{}", e.msg);
        assert!(e.details.contains(mend), "{}", e.details);
    }
    assert!(add(&json!({"capabilities": {"portMappings": false}})).is_ok());
    assert!(add(&json!({"runtimeConfig": {"portMappings": []}})).is_ok());
}

#[test]
fn a_wrong_value_is_refused_with_its_field() {
    for (extra, part) in [
        (json!({"name": ""}), "name: \"\""),
        (json!({"name": "a/b"}), "name: \"a/b\""),
        (json!({"name": 3}), "name: "),
        (json!({"cniVersion": 1}), "cniVersion: 1"),
        (json!({"socket": "r.sock"}), "socket: \"r.sock\""),
        (json!({"timeoutSeconds": 0}), "timeoutSeconds: 0"),
        (json!({"timeoutSeconds": -1}), "timeoutSeconds: "),
        (json!({"ipv4Pools": "a"}), "ipv4Pools: "),
        (json!({"ipv6Pools": ["a", 1]}), "ipv6Pools[1]: "),
        (
            json!({"args": {"cni": {"ips": ["10.0.0"]}}}),
            "args.cni.ips: \"10.0.0\"",
        ),
        (
            json!({"args": {"cni": {"labels": ["a"]}}}),
            "args.cni.labels: write",
        ),
        (json!({"args": {"cni": {"sticky": 1}}}), "args.cni.sticky: "),
        (
            json!({"runtimeConfig": {"ips": ["::1/129"]}}),
            "runtimeConfig.ips: \"::1/129\"",
        ),
        (
            json!({"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}}),
            "runtimeConfig.mac: ff:ff",
        ),
        (json!({"dns": {"nameservers": 1}}), "dns.nameservers: "),
        (json!({"prevResult": []}), "prevResult: "),
    ] {
        let e = add(&extra).unwrap_err();
        assert_eq!(e.code, Code::Config, "{extra}: {e:?}");
        assert!(e.details.contains(part), "{extra}: {}", e.details);
    }
}

#[test]
fn what_is_no_object_does_not_decode() {
    for bytes in ["", "[]", "{", "3", "{\"name\":\"a\"} x"] {
        let e = Config::parse(Verb::Add, bytes.as_bytes()).unwrap_err();
        assert_eq!(e.code, Code::Decode, "{bytes}");
    }
}

#[test]
fn a_version_or_verb_out_of_reach_is_incompatible() {
    for (verb, version) in [
        (Verb::Add, "2.0.0"),
        (Verb::Add, "0.5"),
        (Verb::Check, "0.3.1"),
        (Verb::Gc, "1.0.0"),
        (Verb::Status, "1.0.0"),
    ] {
        let e = Config::parse(verb, &with(&json!({"cniVersion": version}))).unwrap_err();
        assert_eq!(e.code, Code::Version, "{verb} {version}");
        assert!(e.details.contains(version), "{}", e.details);
    }
}

#[test]
fn removing_needs_no_more_than_name_and_socket() {
    let bad = json!({"ipv4Pools": 3, "typo": 1, "capabilities": {"x": true}, "prevResult": [], "cni.dev/valid-attachments": []});
    for verb in [Verb::Del, Verb::Gc] {
        assert!(Config::parse(verb, &with(&bad)).is_ok(), "{verb}");
    }
    let e = Config::parse(Verb::Del, &with(&json!({"name": ""}))).unwrap_err();
    assert_eq!(e.code, Code::Config);
}

#[test]
fn gc_takes_either_name_of_the_list_and_never_silence() {
    let one = json!([{"containerID": "a", "ifname": "eth0"}]);
    let gc = |extra: Value| Config::parse(Verb::Gc, &with(&extra)).map(|c| c.valid_attachments);
    for key in [VALID_ATTACHMENTS, DRAFT_ATTACHMENTS] {
        let list = gc(json!({key: one})).unwrap().unwrap();
        assert_eq!((list.len(), list[0].container_id.as_str()), (1, "a"));
    }
    assert_eq!(
        gc(json!({VALID_ATTACHMENTS: [], DRAFT_ATTACHMENTS: one})),
        Ok(Some(vec![]))
    );
    assert_eq!(gc(json!({VALID_ATTACHMENTS: null})), Ok(Some(vec![])));
    for bad in [
        json!({}),
        json!({VALID_ATTACHMENTS: [{"containerID": "a"}]}),
    ] {
        assert_eq!(gc(bad).unwrap_err().code, Code::Config);
    }
}

#[test]
fn a_previous_result_counts_when_it_says_something() {
    for (value, says) in [
        (
            json!({"cniVersion": "1.1.0", "interfaces": [], "dns": {}}),
            false,
        ),
        (json!({"ips": [{"address": "10.0.0.1/32"}]}), true),
    ] {
        let c = add(&json!({"prevResult": value})).unwrap();
        assert_eq!(c.previous.is_some(), says);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop::sample::select(vec!["cni", "ips", "mac", "labels", "key", "value", "x"]),
                inner,
                0..4
            )
            .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(key in prop::sample::select(KNOWN.to_vec()), value in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for verb in [Verb::Add, Verb::Check, Verb::Del, Verb::Gc, Verb::Status] {
            let _ = Config::parse(verb, &with(&json!({key: value, VALID_ATTACHMENTS: value})));
            let _ = Config::parse(verb, &bytes);
        }
        let _ = crate::previous::parse(&value, "eth0");
    }
}
