#![allow(clippy::needless_pass_by_value)] // `json!` reads better without a borrow

use serde_json::{Value, json};

use super::*;
use crate::resources::{IpPoolSpec, IpReservationSpec};
use crate::{Cidr, Metadata, Resource};

fn object(kind: Kind, spec: Value) -> Object {
    let name = if kind.is_singleton() { "default" } else { "x" };
    let text = json!({
        "apiVersion": "routerd/v1", "kind": kind.as_str(), "metadata": {"name": name}, "spec": spec,
    });
    manifest::parse(&text.to_string()).unwrap().remove(0)
}

/// Faults of a spec, each as `field = value`.
fn faults(kind: Kind, spec: Value) -> Vec<String> {
    let errors = validate(&object(kind, spec)).err().unwrap_or_default();
    for e in &errors {
        assert!(!e.problem.is_empty(), "{e}");
    }
    errors
        .iter()
        .map(|e| format!("{} = {}", e.field, e.value))
        .collect()
}

fn endpoint(changes: Value) -> Value {
    let mut spec = json!({
        "node": "a", "interfaceName": "tap80", "ipNetworks": ["10.0.0.1/32", "fd00::1/128"],
        "mac": "02:00:00:00:00:01",
        "ports": [{"name": "http", "protocol": "tcp", "port": 80, "hostPort": 0, "hostIP": ""}],
    });
    for (field, value) in changes.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

#[test]
fn pools() {
    let pool = |spec: Value| faults(Kind::IPPool, spec);
    for good in [
        json!({"cidr": "10.0.0.0/16"}),
        json!({"cidr": "10.0.0.0/26"}),
        json!({"cidr": "10.0.0.7/32", "blockSize": 32}),
        json!({"cidr": "10.0.0.0/8", "blockSize": 20}),
        json!({"cidr": "fd00::/8", "blockSize": 116}),
        json!({"cidr": "fd00::/64", "blockSize": 128, "nodeSelector": "rack in {'a'}"}),
    ] {
        assert_eq!(pool(good.clone()), [""; 0], "{good}");
    }
    for (bad, fault) in [
        (
            json!({"cidr": "10.0.0.0/16", "blockSize": 19}),
            "spec.blockSize = 19",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "blockSize": 33}),
            "spec.blockSize = 33",
        ),
        (
            json!({"cidr": "fd00::/64", "blockSize": 115}),
            "spec.blockSize = 115",
        ),
        (
            json!({"cidr": "fd00::/64", "blockSize": 129}),
            "spec.blockSize = 129",
        ),
        (json!({"cidr": "10.0.0.0/27"}), "spec.blockSize = 26"),
        (json!({"cidr": "0.0.0.0/0"}), "spec.cidr = 0.0.0.0/0"),
        (
            json!({"cidr": "169.254.0.0/24"}),
            "spec.cidr = 169.254.0.0/24",
        ),
        (json!({"cidr": "224.0.0.0/8"}), "spec.cidr = 224.0.0.0/8"),
        (json!({"cidr": "127.1.0.0/16"}), "spec.cidr = 127.1.0.0/16"),
        (json!({"cidr": "fe80::/64"}), "spec.cidr = fe80::/64"),
        (json!({"cidr": "ff02::/64"}), "spec.cidr = ff02::/64"),
        (json!({"cidr": "::/64"}), "spec.cidr = ::/64"),
        (
            json!({"cidr": "::ffff:10.0.0.0/104"}),
            "spec.cidr = ::ffff:10.0.0.0/104",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "nodeSelector": "a = 'b'"}),
            "spec.nodeSelector = \"a = 'b'\"",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "namespaceSelector": "("}),
            "spec.namespaceSelector = \"(\"",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "allowedUses": []}),
            "spec.allowedUses = []",
        ),
        (
            json!({"cidr": "10.0.0.0/16", "allowedUses": ["Tunnel", "Tunnel"]}),
            "spec.allowedUses[1] = Tunnel",
        ),
    ] {
        assert_eq!(pool(bad), [fault]);
    }
}

#[test]
fn endpoints() {
    let wep = |changes: Value| faults(Kind::WorkloadEndpoint, endpoint(changes));
    for good in [
        json!({}),
        json!({"interfaceName": "cali0ef24ba11aa"}),
        json!({"interfaceName": "rtd0123456789ab"}),
    ] {
        assert_eq!(wep(good.clone()), [""; 0], "{good}");
    }
    for (bad, fault) in [
        (json!({"node": ""}), "spec.node = "),
        (json!({"node": "../a"}), "spec.node = \"../a\""),
        (json!({"interfaceName": ""}), "spec.interfaceName = "),
        (
            json!({"interfaceName": "a/b"}),
            "spec.interfaceName = \"a/b\"",
        ),
        (
            json!({"interfaceName": "sixteen-bytes-xx"}),
            "spec.interfaceName = \"sixteen-bytes-xx\"",
        ),
        (
            json!({"interfaceName": "rtd.vxlan4"}),
            "spec.interfaceName = \"rtd.vxlan4\"",
        ),
        (
            json!({"interfaceName": "lo"}),
            "spec.interfaceName = \"lo\"",
        ),
        (
            json!({"ipNetworks": ["10.0.0.0/24"]}),
            "spec.ipNetworks[0] = 10.0.0.0/24",
        ),
        (
            json!({"ipNetworks": ["10.0.0.1", "10.0.0.1/32"]}),
            "spec.ipNetworks[1] = 10.0.0.1/32",
        ),
        (
            json!({"ipNetworks": ["127.0.0.1"]}),
            "spec.ipNetworks[0] = 127.0.0.1",
        ),
        (
            json!({"mac": "01:00:00:00:00:01"}),
            "spec.mac = 01:00:00:00:00:01",
        ),
        (
            json!({"mac": "00:00:00:00:00:00"}),
            "spec.mac = 00:00:00:00:00:00",
        ),
        (
            json!({"ports": [{"protocol": "TCP", "port": 0}]}),
            "spec.ports[0].port = 0",
        ),
        (
            json!({"ports": [{"protocol": "TPC", "port": 1}]}),
            "spec.ports[0].protocol = \"TPC\"",
        ),
        (
            json!({"ports": [{"protocol": 0, "port": 1}]}),
            "spec.ports[0].protocol = 0",
        ),
        (
            json!({"containerID": "a\nb"}),
            "spec.containerID = \"a\\nb\"",
        ),
        (json!({"profiles": ["a", "a"]}), "spec.profiles[1] = \"a\""),
    ] {
        assert_eq!(wep(bad), [fault]);
    }
}

#[test]
fn configurations() {
    let mesh = |spec| faults(Kind::MeshConfiguration, spec);
    let ipam = |spec| faults(Kind::IPAMConfiguration, spec);
    for mtu in [json!("auto"), json!(1280), json!(65535)] {
        assert_eq!(mesh(json!({"mtu": mtu})), [""; 0]);
    }
    assert_eq!(mesh(json!({"mtu": 1279})), ["spec.mtu = 1279"]);
    assert_eq!(mesh(json!({"mtu": 65536})), ["spec.mtu = 65536"]);
    assert_eq!(
        mesh(json!({"vxlanVNI": 0, "vxlanPort": 0})),
        ["spec.vxlanPort = 0", "spec.vxlanVNI = 0"]
    );
    assert_eq!(
        mesh(json!({"vxlanVNI": 1 << 24})),
        ["spec.vxlanVNI = 16777216"]
    );
    for encryption in ["Off", "Preferred", "Required"] {
        assert_eq!(mesh(json!({"encryption": encryption})), [""; 0]);
    }
    for port in [0, 4789] {
        assert_eq!(
            mesh(json!({"wireguardPort": port})),
            [format!("spec.wireguardPort = {port}")]
        );
    }
    for post_quantum in ["Preferred", "Required"] {
        assert_eq!(
            mesh(json!({"postQuantum": post_quantum})),
            [format!("spec.postQuantum = {post_quantum}")]
        );
        let with = |port: u16| {
            mesh(
                json!({"encryption": "Preferred", "postQuantum": post_quantum, "postQuantumPort": port}),
            )
        };
        assert_eq!(with(7), [""; 0]);
        for port in [0, 4789, 51820] {
            assert_eq!(with(port), [format!("spec.postQuantumPort = {port}")]);
        }
    }
    // What is not used is in nobody's way.
    assert_eq!(mesh(json!({"wireguardPort": 51821})), [""; 0]);
    assert_eq!(
        mesh(
            json!({"failsafeInboundHostPorts": [{"protocol": "SCTP", "port": 1}, {"protocol": "tcp", "port": 0}]})
        ),
        [
            "spec.failsafeInboundHostPorts[0].protocol = SCTP",
            "spec.failsafeInboundHostPorts[1].port = 0"
        ]
    );
    assert_eq!(
        ipam(json!({"cooldownSeconds": 86400, "maxBlocksPerHost": 1_000_000})),
        [""; 0]
    );
    assert_eq!(
        ipam(json!({"cooldownSeconds": 86401, "maxBlocksPerHost": 1_000_001})),
        [
            "spec.cooldownSeconds = 86401",
            "spec.maxBlocksPerHost = 1000001"
        ]
    );
}

#[test]
fn nodes() {
    let node = |spec| faults(Kind::Node, spec);
    assert_eq!(
        node(
            json!({"bgp": {"ipv4Address": "192.0.2.1/24", "ipv6Address": "2001:db8::1/64", "asNumber": 64512},
                    "addresses": [{"address": "192.0.2.1"}]})
        ),
        [""; 0]
    );
    assert_eq!(
        node(
            json!({"bgp": {"ipv4Address": "2001:db8::1/64", "ipv6Address": "fe80::1/64", "asNumber": 0},
                    "vxlanTunnelMACAddr": "ff:ff:ff:ff:ff:ff", "addresses": [{"address": "here"}]})
        ),
        [
            "spec.bgp.ipv4Address = 2001:db8::1/64",
            "spec.bgp.ipv6Address = fe80::1",
            "spec.bgp.asNumber = 0",
            "spec.vxlanTunnelMACAddr = ff:ff:ff:ff:ff:ff",
            "spec.addresses[0].address = \"here\"",
        ]
    );
}

#[test]
fn names_and_scope() {
    let renamed = |kind, name: &str, namespace: Option<&str>| {
        let spec = match kind {
            Kind::IPPool => json!({"cidr": "10.0.0.0/16"}),
            Kind::WorkloadEndpoint => endpoint(json!({})),
            _ => json!({}),
        };
        let mut object = object(kind, spec);
        object.metadata_mut().name = name.to_owned();
        object.metadata_mut().namespace = namespace.map(str::to_owned);
        validate(&object)
            .err()
            .unwrap_or_default()
            .iter()
            .map(|e| e.field.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        renamed(Kind::IPPool, "../../etc/passwd", None),
        ["metadata.name"]
    );
    assert_eq!(renamed(Kind::IPPool, "a\0b", None), ["metadata.name"]);
    assert_eq!(
        renamed(Kind::IPPool, "a", Some("b")),
        ["metadata.namespace"]
    );
    assert_eq!(
        renamed(Kind::WorkloadEndpoint, "a", None),
        ["metadata.namespace"]
    );
    assert_eq!(
        renamed(Kind::WorkloadEndpoint, "a", Some("a.b")),
        ["metadata.namespace"]
    );
    assert_eq!(
        renamed(Kind::WorkloadEndpoint, "a", Some(&"a".repeat(64))),
        ["metadata.namespace"]
    );
    assert_eq!(renamed(Kind::Namespace, "a.b", None), ["metadata.name"]);
    assert_eq!(
        renamed(Kind::MeshConfiguration, "mine", None),
        ["metadata.name"]
    );
    assert_eq!(renamed(Kind::MeshConfiguration, "default", None), [""; 0]);
}

#[test]
fn labels_annotations_and_size() {
    let mut object = object(Kind::Namespace, json!({}));
    let meta = object.metadata_mut();
    meta.labels.insert("a b".into(), "ok".into());
    meta.labels.insert("c".into(), "x".repeat(64));
    meta.annotations.insert("huge".into(), "x".repeat(2 << 20));
    let fields: Vec<String> = validate(&object)
        .unwrap_err()
        .into_iter()
        .map(|e| e.field)
        .collect();
    assert_eq!(
        fields,
        [
            "metadata.labels[\"a b\"]",
            "metadata.labels[\"c\"]",
            "metadata.annotations",
            ""
        ]
    );
}

#[test]
fn an_error_names_object_field_value_and_mend() {
    let errors = validate(&object(
        Kind::IPPool,
        json!({"cidr": "10.0.0.0/16", "blockSize": 9}),
    ));
    assert_eq!(
        errors.unwrap_err()[0].to_string(),
        "IPPool/x: spec.blockSize = 9: is no block size of IPv4; write 20 to 32"
    );
}

#[test]
fn large_lists_are_checked_in_time() {
    let cidrs = (0..60_000u32).map(|i| Cidr::host(std::net::Ipv4Addr::from(i + (10 << 24)).into()));
    let spec = IpReservationSpec {
        reserved_cidrs: cidrs.chain(["10.0.0.0/32".parse().unwrap()]).collect(),
    };
    let object = Object::IPReservation(Resource {
        metadata: Metadata::named("x"),
        spec,
    });
    assert_eq!(
        validate(&object).unwrap_err().last().unwrap().field,
        "spec.reservedCIDRs[60000]"
    );
}

fn pool(name: &str, cidr: &str) -> Resource<IpPoolSpec> {
    Resource::named(name, IpPoolSpec::new(cidr.parse().unwrap()))
}

#[test]
fn overlapping_pools_are_both_named() {
    let standing = [pool("a", "10.0.0.0/16"), pool("b", "fd00::/48")];
    let conflict = pool_conflict(&pool("c", "10.0.128.0/17"), &standing).unwrap();
    assert_eq!(
        conflict.to_string(),
        "IPPool/c: spec.cidr = 10.0.128.0/17: overlaps 10.0.0.0/16 of IPPool/a; \
         write a prefix of its own, or delete the other pool first"
    );
    assert!(pool_conflict(&pool("c", "fd00::/16"), &standing).is_some());
    assert_eq!(pool_conflict(&pool("c", "10.1.0.0/16"), &standing), None);
    assert_eq!(pool_conflict(&pool("a", "10.0.0.0/15"), &standing), None);
}

#[test]
fn blocks_pin_place_and_size_of_their_pool() {
    let (old, moved) = (pool("a", "10.0.0.0/16"), pool("a", "10.1.0.0/16"));
    let mut resized = old.clone();
    resized.spec.block_size = Some(27);
    let mut spelled_out = old.clone();
    spelled_out.spec.block_size = Some(26);
    let fields = |new| {
        let errors = pool_change_allowed(&old, new, true)
            .err()
            .unwrap_or_default();
        errors.into_iter().map(|e| e.field).collect::<Vec<_>>()
    };
    assert_eq!(fields(&moved), ["spec.cidr"]);
    assert_eq!(fields(&resized), ["spec.blockSize"]);
    assert_eq!(fields(&spelled_out), [""; 0]);
    assert_eq!(pool_change_allowed(&old, &moved, false), Ok(()));
}
