//! BGP resources and secrets, as operators write them.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy only exempts the #[test] functions themselves
#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow

use model::manifest;
use model::resources::bgp_peer::NextHopMode;
use model::validate::validate;
use model::{Kind, Object};
use serde_json::{Value, json};

const CALICO: &str = include_str!("manifests/calico-bgp.yaml");

fn named(kind: Kind, name: &str, spec: Value) -> String {
    json!({"apiVersion": "routerd/v1", "kind": kind.as_str(), "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Everything that is wrong with an object, one a line; nothing when it is accepted.
fn faults(kind: Kind, name: &str, spec: Value) -> Vec<String> {
    match manifest::parse(&named(kind, name, spec)) {
        Err(e) => e.to_string().lines().map(str::to_owned).collect(),
        Ok(objects) => {
            let errors = validate(&objects[0]).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect()
        }
    }
}

/// Each has exactly one fault, at the field, with a mend.
fn refused(kind: Kind, name: &str, cases: &[(Value, &str)]) {
    for (spec, field) in cases {
        let found = faults(kind, name, spec.clone());
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert!(
            found[0].contains(&format!(": {field}")),
            "{spec}: {found:?}"
        );
    }
}

#[test]
fn calico_manifests_apply_unchanged() {
    let objects = manifest::parse(CALICO).unwrap();
    for object in &objects {
        assert_eq!(validate(object), Ok(()), "{}", object.id());
        let stored = manifest::encode_stored(object);
        assert_eq!(manifest::decode_stored(&stored).unwrap(), *object);
    }
    let [
        Object::BGPConfiguration(default),
        Object::BGPConfiguration(one),
        Object::BGPPeer(peer),
        Object::BGPPeer(reflected),
        Object::BGPFilter(filter),
        Object::Secret(secret),
    ] = objects.as_slice()
    else {
        panic!("{objects:?}")
    };
    assert_eq!(default.spec.service_blocks().count(), 4);
    assert_eq!(default.spec.node_to_node_mesh_enabled, Some(false));
    assert_eq!(one.spec.listen_port, Some(1179));
    let spec = &peer.spec;
    assert_eq!(spec.peer_ip.unwrap().to_string(), "192.0.2.1:1179");
    assert_eq!(spec.local_as_number.unwrap().0, 65546);
    assert_eq!(spec.next_hop_mode, Some(NextHopMode::Own));
    assert_eq!(spec.max_restart_time.unwrap().to_string(), "2m");
    assert!(reflected.spec.peer_selector.is_some());
    assert_eq!(filter.spec.export_v4[0].operations.len(), 2);
    let values: Vec<_> = secret
        .spec
        .data
        .values()
        .map(model::bgp::SecretValue::expose)
        .collect();
    assert_eq!(values, [&b"secret"[..], b"very-secret"]);
}

#[test]
fn a_secret_is_stored_and_sent_and_never_shown() {
    let object = manifest::parse(CALICO).unwrap().pop().unwrap();
    let shown = [
        manifest::to_yaml(&object),
        manifest::to_value(&object).to_string(),
        format!("{object:?}"),
        serde_json::to_string(&object).unwrap(),
    ];
    for text in &shown {
        assert!(
            !text.contains("very-secret") && !text.contains("dmVyeS1zZWNyZXQ"),
            "{text}"
        );
        assert!(
            text.contains("rr-password") && text.contains("***"),
            "{text}"
        );
    }
    for text in [
        manifest::to_wire(&object).to_string(),
        String::from_utf8(manifest::encode_stored(&object)).unwrap(),
    ] {
        assert!(text.contains("dmVyeS1zZWNyZXQ="), "{text}");
        assert_eq!(
            manifest::parse(&text).unwrap(),
            std::slice::from_ref(&object)
        );
    }
    // What was shown is no value to write back.
    let error = manifest::parse(&shown[0]).unwrap_err().to_string();
    assert!(error.contains("stringData"), "{error}");
}

#[test]
fn no_fault_of_a_secret_shows_what_it_holds() {
    for spec in [
        json!({"data": {"a": "swordfish!"}}),
        json!({"data": "swordfish!"}),
        json!({"stringData": {"a": ["swordfish!"]}}),
        json!({"swordfish!": 1, "password": "swordfish!"}),
        json!({"stringData": {"swordfish! ": "x"}}),
    ] {
        let found = faults(Kind::Secret, "s", spec.clone());
        assert!(!found.is_empty(), "{spec}");
        // An unknown field is named: a field is no value.
        let leaked = found
            .iter()
            .any(|f| f.contains("\"swordfish!") || f.contains("swordfish! "));
        assert!(!leaked, "{found:?}");
    }
    let stored = br#"{"apiVersion":"routerd/v1","kind":"Secret","metadata":{"name":"s"},"spec":{"data":{"a":"swordfish!"}}}"#;
    let error = manifest::decode_stored(stored).unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("swordfish"),
        "{error}"
    );
}

#[test]
fn configurations() {
    let kind = Kind::BGPConfiguration;
    for good in [
        json!({}),
        json!({"holdTime": "0s"}),
        json!({"nodeASNumbers": [{"nodeSelector": "rack == 'a'", "asNumber": 65001}]}),
        json!({"nodeMeshPassword": {"file": "/etc/routerd/bgp"}, "nodeMeshMaxRestartTime": "4095s"}),
    ] {
        assert_eq!(faults(kind, "default", good.clone()), [""; 0], "{good}");
    }
    refused(
        kind,
        "default",
        &[
            (json!({"asNumber": 0}), "spec.asNumber = 0"),
            (json!({"asNumber": 23456}), "spec.asNumber"),
            (json!({"listenPort": 0}), "spec.listenPort"),
            (json!({"holdTime": "2s"}), "spec.holdTime = 2s"),
            (json!({"holdTime": "3500ms"}), "spec.holdTime"),
            (json!({"holdTime": "9"}), "spec.holdTime"),
            (
                json!({"nodeMeshMaxRestartTime": "2h"}),
                "spec.nodeMeshMaxRestartTime",
            ),
            (json!({"nodeMeshPassword": {}}), "spec.nodeMeshPassword"),
            (
                json!({"nodeMeshPassword": {"file": "bgp"}}),
                "spec.nodeMeshPassword.file",
            ),
            (
                json!({"nodeMeshPassword": {"file": "/a", "secretKeyRef": {"name": "a", "key": "b"}}}),
                "spec.nodeMeshPassword",
            ),
            (
                json!({"nodeMeshPassword": {"secretKeyRef": {"name": "a", "key": "b", "optional": true}}}),
                "spec.nodeMeshPassword.secretKeyRef.optional",
            ),
            (
                json!({"nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "1s"}),
                "spec.nodeMeshMaxRestartTime",
            ),
            (
                json!({"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["none"]}]}),
                "spec.prefixAdvertisements[0].communities[0]",
            ),
            (
                json!({"communities": [{"name": "a", "value": "65536:1"}]}),
                "spec.communities[0].value",
            ),
            (
                json!({"nodeASNumbers": [{"nodeSelector": "rack =", "asNumber": 65001}]}),
                "spec.nodeASNumbers[0].nodeSelector",
            ),
            (
                json!({"serviceClusterIPs": [{"cidr": "127.0.0.0/8"}]}),
                "spec.serviceClusterIPs[0].cidr",
            ),
            (
                json!({"logSeverityScreen": "Debug"}),
                "spec.logSeverityScreen",
            ),
            (
                json!({"ignoredInterfaces": ["eth1"]}),
                "spec.ignoredInterfaces",
            ),
            (
                json!({"localWorkloadPeeringIPV4": "169.254.1.1"}),
                "spec.localWorkloadPeeringIPV4",
            ),
            (
                json!({"programClusterRoutes": "EnabledIPIPOnly"}),
                "spec.programClusterRoutes",
            ),
            (
                json!({"ipv4NormalRoutePriority": 1024}),
                "spec.ipv4NormalRoutePriority",
            ),
            (json!({"extensions": {"a": "b"}}), "spec.extensions"),
        ],
    );
    refused(
        kind,
        "node.a",
        &[
            (
                json!({"nodeToNodeMeshEnabled": true}),
                "spec.nodeToNodeMeshEnabled",
            ),
            (json!({"asNumber": 65001}), "spec.asNumber"),
            (
                json!({"serviceClusterIPs": [{"cidr": "10.0.0.0/8"}]}),
                "spec.serviceClusterIPs",
            ),
        ],
    );
    for bad in ["other", "node.", "node.A", "node"] {
        assert!(
            faults(kind, bad, json!({}))[0].contains("metadata.name"),
            "{bad}"
        );
    }
}

#[test]
fn peers() {
    for good in [
        json!({"peerIP": "192.0.2.1", "asNumber": 65001}),
        json!({"peerIP": "[2001:db8::1]:1179", "asNumber": "65001"}),
        json!({"peerInterface": "swp1"}),
        json!({"peerInterface": "swp1", "asNumber": 65001, "ttlSecurity": 1}),
        json!({"peerInterface": "eth0", "peerIP": "fe80::1", "asNumber": 65001, "password": {"file": "/p"}}),
        json!({"node": "a", "peerSelector": "has(rr)", "bfd": {}}),
        json!({"nodeSelector": "rack == 'a'", "peerIP": "192.0.2.1", "asNumber": 65001, "ttlSecurity": 255}),
    ] {
        assert_eq!(faults(Kind::BGPPeer, "p", good.clone()), [""; 0], "{good}");
    }
    let with = |more: Value| {
        let mut spec = json!({"peerIP": "192.0.2.1", "asNumber": 65001});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    refused(
        Kind::BGPPeer,
        "p",
        &[
            (json!({}), "spec: names no peer"),
            (json!({"peerIP": "192.0.2.1"}), "spec.asNumber: is required"),
            (with(json!({"asNumber": 0})), "spec.asNumber = 0"),
            (
                with(json!({"asNumber": 4_294_967_295_u32})),
                "spec.asNumber",
            ),
            (with(json!({"localASNumber": 0})), "spec.localASNumber"),
            (with(json!({"peerIP": "224.0.0.1"})), "spec.peerIP"),
            (with(json!({"peerIP": "0.0.0.0"})), "spec.peerIP"),
            (with(json!({"peerIP": "127.0.0.1"})), "spec.peerIP"),
            (with(json!({"peerIP": "192.0.2.1:0"})), "spec.peerIP"),
            (with(json!({"peerIP": "192.0.2.1/24"})), "spec.peerIP"),
            (with(json!({"peerIP": "tor-1"})), "spec.peerIP"),
            (with(json!({"peerIP": "fe80::1"})), "spec.peerInterface"),
            (with(json!({"peerInterface": "eth0"})), "spec.peerInterface"),
            (json!({"peerInterface": "rtd-vx4"}), "spec.peerInterface"),
            (
                json!({"peerInterface": "swp1", "password": {"file": "/p"}}),
                "spec.password",
            ),
            (
                json!({"peerInterface": "swp1", "ttlSecurity": 2}),
                "spec.ttlSecurity",
            ),
            (with(json!({"ttlSecurity": 0})), "spec.ttlSecurity"),
            (
                with(json!({"node": "a", "nodeSelector": "all()"})),
                "spec.nodeSelector",
            ),
            (with(json!({"node": "A"})), "spec.node"),
            (with(json!({"nodeSelector": "a ="})), "spec.nodeSelector"),
            (
                json!({"peerSelector": "has(rr)", "asNumber": 1}),
                "spec.asNumber",
            ),
            (
                json!({"peerSelector": "has(rr)", "peerIP": "192.0.2.1"}),
                "spec.peerIP",
            ),
            (
                with(json!({"reversePeering": "Manual"})),
                "spec.reversePeering",
            ),
            (with(json!({"filters": ["a", "a"]})), "spec.filters[1]"),
            (with(json!({"filters": ["A"]})), "spec.filters[0]"),
            (with(json!({"holdTime": "1s"})), "spec.holdTime"),
            (
                with(json!({"maxRestartTime": "4096s"})),
                "spec.maxRestartTime",
            ),
            (with(json!({"maxPrefixes": 0})), "spec.maxPrefixes"),
            (
                with(json!({"bfd": {"multiplier": 0}})),
                "spec.bfd.multiplier",
            ),
            (
                with(json!({"bfd": {"transmitIntervalMs": 5}})),
                "spec.bfd.transmitIntervalMs",
            ),
            (with(json!({"bfd": {"interval": 5}})), "spec.bfd.interval"),
            (
                with(json!({"numAllowedLocalASNumbers": -1})),
                "spec.numAllowedLocalASNumbers",
            ),
            (
                with(json!({"reachableBy": "192.0.2.9"})),
                "spec.reachableBy",
            ),
            (
                with(json!({"localWorkloadSelector": "all()"})),
                "spec.localWorkloadSelector",
            ),
            (
                with(json!({"failureDetectionMode": "BFDIfDirectlyConnected"})),
                "spec.failureDetectionMode",
            ),
            (
                with(json!({"restartMode": "LongLivedGracefulRestart"})),
                "spec.restartMode",
            ),
            (
                with(json!({"birdGatewayMode": "DirectIfDirectlyConnected"})),
                "spec.birdGatewayMode",
            ),
        ],
    );
}

#[test]
fn filters() {
    let rule = |list: &str, more: Value| {
        let mut rule = json!({"action": "Accept"});
        for (field, value) in more.as_object().unwrap() {
            rule[field] = value.clone();
        }
        json!({list: [{"action": "Reject"}, rule]})
    };
    let v4 = |more| rule("exportV4", more);
    for good in [
        v4(json!({})),
        v4(json!({"prefixLength": {"max": 32}, "cidr": "0.0.0.0/0", "matchOperator": "In"})),
        v4(json!({"operations": [{"setLocalPref": {"value": 200}}, {"setMED": {"value": 0}}]})),
        rule(
            "importV6",
            json!({"cidr": "::/0", "matchOperator": "In", "prefixLength": {"max": 128}}),
        ),
    ] {
        assert_eq!(
            faults(Kind::BGPFilter, "f", good.clone()),
            [""; 0],
            "{good}"
        );
    }
    let at = "spec.exportV4[1]";
    for (bad, field) in [
        (json!({"action": "Drop"}), ".action"),
        (json!({"cidr": "10.0.0.0/8"}), ".matchOperator"),
        (json!({"matchOperator": "In"}), ".matchOperator"),
        (json!({"cidr": "fd00::/8", "matchOperator": "In"}), ".cidr"),
        (json!({"prefixLength": {"min": 8}}), ".prefixLength"),
        (
            json!({"cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 24, "max": 16}}),
            ".prefixLength",
        ),
        (
            json!({"cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"max": 33}}),
            ".prefixLength",
        ),
        (
            json!({"communities": {"values": []}}),
            ".communities.values",
        ),
        (
            json!({"communities": {"values": ["1:2", "1:3"]}}),
            ".communities.values",
        ),
        (json!({"asPathPrefix": [0]}), ".asPathPrefix[0]"),
        (json!({"operations": [{}]}), ".operations[0]"),
        (
            json!({"operations": [{"setMED": {"value": 1}, "setLocalPref": {"value": 1}}]}),
            ".operations[0]",
        ),
        (
            json!({"action": "Reject", "operations": [{"setMED": {"value": 1}}]}),
            ".operations",
        ),
        (
            json!({"operations": [{"prependASPath": {"prefix": []}}]}),
            ".operations[0].prependASPath.prefix",
        ),
        (json!({"interface": "eth0"}), ".interface"),
        (json!({"priority": 100}), ".priority"),
    ] {
        refused(Kind::BGPFilter, "f", &[(v4(bad), &format!("{at}{field}"))]);
    }
    let set_priority = v4(json!({"operations": [{"setPriority": {"value": 9}}]}));
    let found = faults(Kind::BGPFilter, "f", set_priority);
    assert!(
        found[0].contains("spec.exportV4[1].operations[0].setPriority"),
        "{found:?}"
    );
    assert!(found[0].contains("setLocalPref"), "{found:?}");
}
