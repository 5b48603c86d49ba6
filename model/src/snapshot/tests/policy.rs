//! What is for policy alone.

use super::*;

#[test]
fn policy_resources_come_change_and_go() {
    let mut s = Snapshot::default();
    let rule = json!({"ingress": [{"action": "Deny"}], "order": 1.5});
    for (key, kind, namespace, spec, part) in [
        (
            "tiers/t",
            "Tier",
            None,
            json!({"order": 1}),
            Changed::POLICIES,
        ),
        (
            "globalnetworkpolicies/t",
            "GlobalNetworkPolicy",
            None,
            rule.clone(),
            Changed::POLICIES,
        ),
        (
            "networkpolicies/shop/t",
            "NetworkPolicy",
            Some("shop"),
            rule.clone(),
            Changed::POLICIES,
        ),
        (
            "stagedglobalnetworkpolicies/t",
            "StagedGlobalNetworkPolicy",
            None,
            rule.clone(),
            Changed::POLICIES,
        ),
        (
            "stagednetworkpolicies/shop/t",
            "StagedNetworkPolicy",
            Some("shop"),
            rule.clone(),
            Changed::POLICIES,
        ),
        (
            "globalnetworksets/t",
            "GlobalNetworkSet",
            None,
            json!({"nets": ["10.0.0.0/8"]}),
            Changed::NETWORK_SETS,
        ),
        (
            "networksets/shop/t",
            "NetworkSet",
            Some("shop"),
            json!({"nets": ["10.0.0.0/8"]}),
            Changed::NETWORK_SETS,
        ),
        (
            "hostendpoints/t",
            "HostEndpoint",
            None,
            json!({"node": "n", "interfaceName": "eth0"}),
            Changed::HOST_ENDPOINTS,
        ),
    ] {
        let key = format!("resources/{key}");
        let value = stored(kind, namespace, "t", spec);
        assert_eq!(apply(&mut s, 1, &key, Some(value.clone())), part, "{key}");
        assert_eq!(
            apply(&mut s, 2, &key, Some(value.clone())),
            Changed::NONE,
            "{key}"
        );
        let bad = stored(kind, namespace, "t", json!({"zzz": 1}));
        assert_eq!(
            apply(&mut s, 3, &key, Some(bad)),
            Changed::REJECTED,
            "{key}"
        );
        assert_eq!(
            apply(&mut s, 4, &key, Some(value)),
            Changed::REJECTED,
            "{key}"
        );
    }
    assert_eq!((s.policies.len(), s.network_sets.len()), (4, 2));
    assert_eq!(
        apply(&mut s, 5, "resources/tiers/t", None),
        Changed::POLICIES
    );
    let key = "resources/networkpolicies/shop/t";
    assert_eq!(apply(&mut s, 6, key, None), Changed::POLICIES);
    assert_eq!((s.tiers.len(), s.policies.len()), (0, 3));
}

#[test]
fn a_remote_endpoint_has_the_labels_that_nobody_can_write_and_its_ports() {
    let mut s = Snapshot::default();
    let mut value: serde_json::Value = serde_json::from_slice(&endpoint("w", "other")).unwrap();
    value["metadata"]["labels"] = json!({"app": "w", "projectcalico.org/namespace": "admin",
        "projectcalico.org/serviceaccount": "root"});
    value["spec"]["ports"] = json!([{"name": "http", "protocol": "TCP", "port": 80}]);
    let key = "resources/workloadendpoints/shop/w";
    apply(&mut s, 1, key, Some(value.to_string().into_bytes()));
    let w = s.remote_endpoints.values().next().unwrap();
    let labels: Vec<_> = w
        .labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("app", "w"),
            ("projectcalico.org/namespace", "shop"),
            ("projectcalico.org/orchestrator", "cni")
        ]
    );
    assert_eq!((w.ports.len(), w.ports[0].port), (1, 80));
}

#[test]
fn policy_that_was_never_read_is_named() {
    let mut s = Snapshot::default();
    let good = stored("Tier", None, "t", json!({"order": 1}));
    let key = "resources/tiers/t";
    apply(&mut s, 1, key, Some(good));
    apply(&mut s, 2, key, Some(b"{".to_vec()));
    apply(&mut s, 3, "resources/ippools/p", Some(b"{".to_vec()));
    assert_eq!(s.unknown_policy().count(), 0, "what was read stands");
    let key = "resources/networkpolicies/shop/p";
    apply(&mut s, 4, key, Some(b"{".to_vec()));
    let names: Vec<_> = s.unknown_policy().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["shop/p"]);
}
