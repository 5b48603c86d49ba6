//! Whole manifests, as operators have them.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy only exempts the #[test] functions themselves

use model::manifest::{self, ManifestError};
use model::resources::workload_endpoint::Protocol;
use model::{Kind, Object};
use serde_json::json;

const CALICO: &str = include_str!("manifests/calico.yaml");

fn parse(text: &str) -> Vec<Object> {
    manifest::parse(text).unwrap()
}

/// The faults, one a line.
fn refused(text: &str) -> Vec<String> {
    match manifest::parse(text) {
        Err(e) => e.to_string().lines().map(str::to_owned).collect(),
        Ok(objects) => panic!("accepted: {objects:?}"),
    }
}

fn object(kind: &str, spec: &serde_json::Value) -> String {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
        .to_string()
}

#[test]
fn calico_manifests_apply_unchanged() {
    let objects = parse(CALICO);
    let ids: Vec<String> = objects.iter().map(|o| o.id().to_string()).collect();
    assert_eq!(
        ids,
        [
            "IPPool/rack-pool",
            "IPPool/six",
            "IPReservation/printers",
            "IPAMConfiguration/default",
            "IPAMConfiguration/default",
            "Node/rack1-a",
            "WorkloadEndpoint/shop/rack1--a-k8s-web--7d9-eth0",
            "Namespace/shop",
        ]
    );
    let Object::IPPool(pool) = &objects[0] else {
        panic!()
    };
    assert!(pool.spec.disable_bgp_export && pool.spec.nat_outgoing);
    assert_eq!(pool.spec.block_len(), 27);
    // What another store wrote means nothing to ours.
    assert_eq!(pool.metadata.resource_version, None);
    assert_eq!(pool.metadata.uid, None);
    assert_eq!(pool.metadata.annotations.len(), 1);
    let Object::IPReservation(reservation) = &objects[2] else {
        panic!()
    };
    assert_eq!(
        reservation.spec.reserved_cidrs[1].to_string(),
        "10.42.3.7/32"
    );
    let Object::Node(node) = &objects[5] else {
        panic!()
    };
    let bgp = node.spec.bgp.as_ref().unwrap();
    assert_eq!(bgp.as_number, Some((1 << 16) + 10));
    assert_eq!(bgp.ipv4_address.unwrap().to_string(), "192.0.2.11/24");
    let Object::WorkloadEndpoint(wep) = &objects[6] else {
        panic!()
    };
    assert_eq!(wep.spec.ports[1].protocol, Protocol::Number(132));
}

#[test]
fn lists_of_any_and_of_one_kind() {
    let objects = parse(
        r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
            {"apiVersion": "routerd/v1", "kind": "IPPoolList", "items": [
                {"metadata": {"name": "b", "uid": "kept"}, "spec": {"cidr": "10.0.0.0/24"}}]},
            {"apiVersion": "v1", "kind": "List", "items": null}]}"#,
    );
    assert_eq!(
        objects.iter().map(Object::kind).collect::<Vec<_>>(),
        [Kind::Namespace, Kind::IPPool]
    );
    assert_eq!(objects[1].metadata().uid.as_deref(), Some("kept"));
    assert_eq!(
        refused("kind: List\nitem: []\n"),
        [
            "line 1: document 1: item: unknown field of a list; known here: items",
            "line 1: document 1: items: a list needs its items; write items: []",
        ]
    );
    assert!(refused("kind: PodList\nitems: []\n")[0].contains("apiVersion: is required"));
}

#[test]
fn defaults_where_the_kind_allows() {
    let objects =
        parse("apiVersion: routerd/v1\nkind: MeshConfiguration\nmetadata: {name: default}\n");
    let Object::MeshConfiguration(mesh) = &objects[0] else {
        panic!()
    };
    assert_eq!(mesh.spec, Default::default());
    let objects = parse(&object("WorkloadEndpoint", &json!({"node": "a"})));
    assert_eq!(objects[0].metadata().namespace.as_deref(), Some("default"));
    assert_eq!(
        refused("apiVersion: routerd/v1\nkind: IPPool\nmetadata: {name: p}\n"),
        ["line 1: IPPool/p: spec.cidr: is required"]
    );
}

#[test]
fn words_of_yaml_1_1_are_booleans_where_one_is_wanted() {
    let objects = parse(
        "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {name: n, labels: {on: no}}\n\
         spec: {cidr: 10.0.0.0/24, natOutgoing: yes, disabled: Off}\n",
    );
    let Object::IPPool(pool) = &objects[0] else {
        panic!()
    };
    assert!(pool.spec.nat_outgoing && !pool.spec.disabled);
    assert_eq!(
        (pool.name(), pool.metadata.labels["on"].as_str()),
        ("n", "no")
    );
}

#[test]
fn every_fault_of_every_document_is_named() {
    let text = "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {name: p, lables: {}}\nspec: {cidr: 10.0.0.0/24, vxlanMod: Always}\n\
                ---\nkind: IPPool\n---\napiVersion: routerd/v1\nkind: IPPol\n---\n[1\n---\n7\n";
    assert_eq!(
        refused(text),
        [
            "line 1: IPPool/p: metadata.lables = {}: unknown field; did you mean labels?",
            "line 1: IPPool/p: spec.vxlanMod = \"Always\": unknown field; did you mean vxlanMode?",
            "line 5: document 2 (IPPool): apiVersion: is required",
            "line 7: document 3 (IPPol): kind = \"IPPol\": is no kind; did you mean IPPool?",
            refused(text)[4].as_str(),
            "line 12: document 5 = 7: is no object; write a mapping with apiVersion, kind, metadata and spec",
        ]
    );
    assert!(refused(text)[4].contains("document 4: is no readable YAML or JSON"));
}

#[test]
fn what_calico_knows_and_we_do_not_is_refused_by_name() {
    for (kind, spec, field) in [
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/24", "ipipMode": "CrossSubnet"}),
            "spec.ipipMode",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/24", "ipip": {"enabled": true}}),
            "spec.ipip",
        ),
        (
            "IPPool",
            json!({"cidr": "10.0.0.0/24", "nat-outgoing": true}),
            "spec.nat-outgoing",
        ),
        (
            "Node",
            json!({"wireguard": {"interfaceIPv4Address": "10.0.0.1"}}),
            "spec.wireguard",
        ),
        (
            "Node",
            json!({"bgp": {"ipv4IPIPTunnelAddr": "10.0.0.1"}}),
            "spec.bgp.ipv4IPIPTunnelAddr",
        ),
        (
            "WorkloadEndpoint",
            json!({"ipNATs": [{"internalIP": "10.0.0.1"}]}),
            "spec.ipNATs",
        ),
        (
            "WorkloadEndpoint",
            json!({"qosControls": {"ingressBandwidth": 1}}),
            "spec.qosControls",
        ),
        (
            "IPAMConfiguration",
            json!({"kubeVirtVMAddressPersistence": "Enabled"}),
            "spec.kubeVirtVMAddressPersistence",
        ),
    ] {
        let faults = refused(&object(kind, &spec));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].contains(&format!(": {field} = ")),
            "{}",
            faults[0]
        );
        assert!(faults[0].contains("not built here; "), "{}", faults[0]);
    }
    for (kind, why) in [
        ("Profile", "write a NetworkPolicy"),
        ("FelixConfiguration", "MeshConfiguration"),
    ] {
        assert!(refused(&object(kind, &json!({})))[0].contains(why));
    }
    assert!(
        refused(&object("MeshConfiguration", &json!({})))[0].contains("write one of routerd/v1")
    );
    assert!(
        refused("apiVersion: v1\nkind: Node\nmetadata: {name: n}\n")[0]
            .contains("projectcalico.org/v3")
    );
}

#[test]
fn a_manifest_past_the_limit_is_refused_unread() {
    let text = format!("# {}\n", "x".repeat(10 << 20));
    assert_eq!(
        manifest::parse(&text),
        Err(ManifestError::TooLarge { bytes: text.len() })
    );
    assert!(refused(&text)[0].contains("split it"));
}

#[test]
fn many_documents_are_read() {
    let one = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n";
    let text = one.repeat(5_000);
    assert_eq!(parse(&text).len(), 5_000);
}

#[test]
fn as_numbers_in_every_notation() {
    let asn = |v: serde_json::Value| object("Node", &json!({"bgp": {"asNumber": v}}));
    for (written, number) in [
        (json!(64512), 64512),
        (json!("64512"), 64512),
        (json!("1.10"), 65546),
        (json!(4_294_967_295_u32), u32::MAX),
    ] {
        let objects = parse(&asn(written));
        let Object::Node(node) = &objects[0] else {
            panic!()
        };
        assert_eq!(node.spec.bgp.as_ref().unwrap().as_number, Some(number));
    }
    for bad in [
        json!(1.1),
        json!("1.65536"),
        json!("1.2.3"),
        json!("-1"),
        json!("+1"),
        json!(4_294_967_296_u64),
    ] {
        assert!(
            refused(&asn(bad.clone()))[0].contains("spec.bgp.asNumber"),
            "{bad}"
        );
    }
}

#[test]
fn stored_and_shown_forms_read_back_equal() {
    for object in parse(CALICO) {
        let mut with_version = object.clone();
        with_version.metadata_mut().resource_version = Some("7".to_owned());
        let stored = manifest::encode_stored(&with_version);
        assert_eq!(manifest::decode_stored(&stored).unwrap(), object);
        assert!(stored.starts_with(br#"{"apiVersion":"routerd/v1","kind":"#));
        let same = std::slice::from_ref(&object);
        assert_eq!(parse(&manifest::to_yaml(&object)), same);
        assert_eq!(parse(&manifest::to_value(&object).to_string()), same);
        assert!(manifest::to_yaml(&object).starts_with("apiVersion: routerd/v1\nkind: "));
    }
}

#[test]
fn stored_values_are_lenient_about_newer_metadata_only() {
    let newer = br#"{"apiVersion":"routerd/v1","kind":"Namespace","metadata":{"name":"a","shard":3},"spec":{}}"#;
    assert_eq!(manifest::decode_stored(newer).unwrap().metadata().name, "a");
    for (bad, why) in [
        (
            r#"{"apiVersion":"routerd/v1","kind":"Namespace","metadata":{"name":"a"},"spec":{"x":1}}"#,
            "spec.x",
        ),
        (
            r#"{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a"},"spec":{}}"#,
            "apiVersion",
        ),
        (
            r#"{"apiVersion":"routerd/v1","kind":"Namespace","metadata":{"name":"a"},"spec":{}"#,
            "JSON",
        ),
        ("null", "no object"),
        ("", "JSON"),
    ] {
        let e = manifest::decode_stored(bad.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(e.contains(why), "{bad}: {e}");
    }
    assert!(manifest::decode_stored(&[0xff, 0xfe]).is_err());
    assert!(manifest::decode_stored(&b"[".repeat(100_000)).is_err());
}

#[test]
fn a_node_keeps_its_status_in_the_store_and_takes_none_from_a_manifest() {
    let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: a}}\nspec: {{}}\nstatus: {{wireguardPublicKey: {key}, podCIDRs: [10.0.0.0/26]}}"
    );
    let mut object = manifest::parse(&text).unwrap().remove(0);
    let Object::Node(node) = &mut object else {
        panic!("{object:?}")
    };
    assert!(node.spec.status.is_empty());
    node.spec.status.wireguard_public_key = Some(key.parse().unwrap());
    let value = manifest::to_value(&object);
    assert_eq!(value["status"]["wireguardPublicKey"], key);
    assert_eq!(value["spec"].get("status"), None);
    let stored = manifest::encode_stored(&object);
    assert_eq!(manifest::decode_stored(&stored).unwrap(), object);
    // As another version may have written it: read the slow way.
    let text = String::from_utf8(stored).unwrap();
    let newer = text.replace(
        "\"wireguardPublicKey\"",
        "\"more\":1,\"wireguardPublicKey\"",
    );
    let newer = newer.replace("\"metadata\":{", "\"metadata\":{\"generation\":2,");
    assert_eq!(manifest::decode_stored(newer.as_bytes()).unwrap(), object);
    let json: model::Object =
        serde_json::from_value(serde_json::to_value(&object).unwrap()).unwrap();
    assert_eq!(json, object);
}
