//! Schemas: every field of every type, whether it may be left out, and its JSON type.

use std::collections::BTreeSet;
use std::fmt::Debug;

use model::api::cni::{AddResult, Attachment, Request};
use model::api::{
    Action, AddressShow, AddressState, Applied, BlockUse, Doctor, DoctorCheck, Drift, ErrorBody,
    Health, IpamCheck, IpamProblem, IpamShow, NodePath, PoolUse, Release, Released, Rotated,
    Status, Subsystem, TunnelShow, TunnelsShow, WatchEvent,
};
use model::kernel::Mac;
use model::resources::Encryption;
use model::snapshot::Rejected;
use model::state::Problem;
use model::{Cidr, Kind, Metadata};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{bgp, document, explain, flows, resolve};

/// Collects the schemas that were compared, so that none is forgotten.
pub(crate) struct Schemas {
    document: Value,
    seen: BTreeSet<String>,
}

impl Schemas {
    fn schema(&mut self, name: &str) -> Value {
        self.seen.insert(name.to_owned());
        let schema = &self.document["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema {name}");
        schema.clone()
    }

    /// `sample` has every field filled, so that none is skipped.
    pub(crate) fn object<T: Serialize + DeserializeOwned + Debug>(
        &mut self,
        name: &str,
        sample: &T,
    ) {
        let schema = self.schema(name);
        let value = serde_json::to_value(sample).unwrap();
        self.fits(name, &value, &schema);
        let fields = value.as_object().unwrap();
        let known = schema["properties"].as_object().unwrap();
        let keys = |m: &serde_json::Map<String, Value>| m.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(fields), keys(known), "fields of {name}");
        // Required is what cannot be left out.
        let needed: BTreeSet<String> = fields
            .keys()
            .filter(|key| {
                let mut less = fields.clone();
                less.remove(*key);
                serde_json::from_value::<T>(Value::Object(less)).is_err()
            })
            .cloned()
            .collect();
        let required: BTreeSet<String> = schema
            .get("required")
            .map(|r| serde_json::from_value(r.clone()).unwrap())
            .unwrap_or_default();
        assert_eq!(required, needed, "required of {name}");
    }

    pub(crate) fn words<T: Serialize>(&mut self, name: &str, all: &[T]) {
        let words = serde_json::to_value(all).unwrap();
        assert_eq!(self.schema(name)["enum"], words, "{name}");
    }

    /// Whether a value is what a schema says, as far as types, words and references go.
    fn fits(&self, place: &str, value: &Value, schema: &Value) {
        let schema = resolve(&self.document, schema);
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let choice = choices
                .iter()
                .find(|c| (c["type"] == "null") == value.is_null())
                .unwrap();
            return self.fits(place, value, choice);
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        match &schema["type"] {
            Value::Null => return, // anything goes
            Value::String(wanted) => assert_eq!(kind, wanted, "{place}"),
            wanted => assert!(wanted.as_array().unwrap().contains(&json!(kind)), "{place}"),
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            assert!(words.contains(value), "{place}: {value}");
        }
        match value {
            Value::Array(items) => {
                assert!(!items.is_empty(), "{place}: the sample is empty");
                for item in items {
                    self.fits(&format!("{place}[]"), item, &schema["items"]);
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    let known = schema
                        .get("properties")
                        .and_then(|p| p.get(key))
                        .or(schema.get("additionalProperties"));
                    if let Some(known) = known {
                        self.fits(&format!("{place}.{key}"), field, known);
                    }
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn text(s: &str) -> String {
    s.to_owned()
}

pub(crate) fn cidr() -> Cidr {
    "10.0.0.0/26".parse().unwrap()
}

fn made() -> AddResult {
    AddResult {
        host_interface: text("rtr1"),
        host_mac: Some(Mac([2; 6])),
        interface: text("eth0"),
        mac: Some(Mac([2; 6])),
        sandbox: text("/run/netns/a"),
        mtu: 1450,
        ips: vec![cidr()],
        gateways: vec![[169, 254, 1, 1].into()],
    }
}

#[test]
fn schemas_have_the_fields_of_the_types() {
    let tunnel = TunnelShow {
        post_quantum: Some(true),
        node: text("b"),
        path: NodePath::WireGuard,
        last_handshake_seconds: Some(3),
        rx_bytes: Some(1),
        tx_bytes: None,
        mtu: 1440,
        endpoint: Some(([192, 0, 2, 2], 51820).into()),
    };
    let mut s = Schemas {
        document: document(),
        seen: BTreeSet::new(),
    };
    s.words("Plural", &Kind::ALL.map(Kind::plural));
    s.words("Health", &[Health::Ok, Health::Degraded, Health::Failed]);
    s.words(
        "Encryption",
        &[Encryption::Off, Encryption::Preferred, Encryption::Required],
    );
    s.words(
        "Action",
        &[
            Action::Created,
            Action::Configured,
            Action::Unchanged,
            Action::Deleted,
        ],
    );
    s.words(
        "AddressState",
        &[
            AddressState::Free,
            AddressState::Used,
            AddressState::Cooldown,
            AddressState::Reserved,
        ],
    );

    s.object(
        "ErrorBody",
        &ErrorBody {
            error: text("x"),
            retryable: true,
        },
    );
    let subsystem = Subsystem {
        name: text("ipam"),
        state: Health::Ok,
        message: text("x"),
    };
    let rejected = Rejected {
        kind: text("IPPool"),
        name: text("x"),
        message: text("x"),
        standing: true,
    };
    let drift = Drift {
        object: text("x"),
        found: text("missing"),
        at: text("x"),
    };
    let problem = Problem {
        object: text("x"),
        message: text("x"),
    };
    s.object("Subsystem", &subsystem);
    s.object("Rejected", &rejected);
    s.object("Drift", &drift);
    s.object("Problem", &problem);
    s.words(
        "NodePath",
        &[
            NodePath::Direct,
            NodePath::Vxlan,
            NodePath::WireGuard,
            NodePath::Barred,
        ],
    );
    explain::compare(&mut s);
    s.object("TunnelShow", &tunnel);
    s.object(
        "TunnelsShow",
        &TunnelsShow {
            tunnels: vec![tunnel],
            clear_text_bytes: Some(0),
            clear_text_dropped_bytes: Some(0),
        },
    );
    s.object(
        "Rotated",
        &Rotated {
            public_key: text("a"),
            used_after_seconds: 10,
        },
    );
    s.object(
        "Status",
        &Status {
            node: text("a"),
            ready: true,
            in_sync: true,
            revision: 7,
            encryption: Encryption::Off,
            subsystems: vec![subsystem],
            rejected: vec![rejected],
            drift: vec![drift],
            problems: vec![problem],
            workload_mtu: 1450,
            version: text("0.1.0"),
            held: text("2 of 2 keys are gone"),
        },
    );
    s.object(
        "Applied",
        &Applied {
            object: text("IPPool/x"),
            action: Action::Created,
            revision: 7,
            before: Some(json!({})),
            after: Some(json!({})),
        },
    );
    s.object(
        "WatchEvent",
        &WatchEvent {
            event: text("ADDED"),
            object: json!({}),
        },
    );

    flows::compare(&mut s);

    let pool = PoolUse {
        name: text("x"),
        cidr: cidr(),
        capacity: 64,
        used: 1,
        blocks: 1,
    };
    let block = BlockUse {
        cidr: cidr(),
        node: text("a"),
        used: 1,
        free: 63,
    };
    s.object("PoolUse", &pool);
    s.object("BlockUse", &block);
    s.object(
        "IpamShow",
        &IpamShow {
            pools: vec![pool],
            blocks: vec![block],
        },
    );
    s.object(
        "AddressShow",
        &AddressShow {
            ip: [10, 0, 0, 1].into(),
            state: AddressState::Used,
            handle: text("h"),
            node: text("a"),
            namespace: text("default"),
            name: text("x"),
        },
    );
    let problem = IpamProblem {
        kind: text("x"),
        object: text("x"),
        message: text("x"),
    };
    s.object("IpamProblem", &problem);
    s.object(
        "IpamCheck",
        &IpamCheck {
            clean: false,
            problems: vec![problem],
        },
    );
    s.object(
        "Released",
        &Released {
            addresses: vec![[10, 0, 0, 1].into()],
            blocks: vec![cidr()],
        },
    );
    let check = DoctorCheck {
        name: text("x"),
        state: Health::Ok,
        message: text("x"),
        fix: text("x"),
    };
    s.object("DoctorCheck", &check);
    s.object(
        "Doctor",
        &Doctor {
            checks: vec![check],
        },
    );

    let attachment = Attachment {
        container_id: text("c"),
        ifname: text("eth0"),
    };
    s.object("CniAttachment", &attachment);
    s.object("CniAddResult", &made());
    s.object(
        "CniRequest",
        &Request {
            network: text("mesh"),
            container_id: text("c"),
            netns: text("/run/netns/a"),
            ifname: text("eth0"),
            namespace: text("default"),
            name: text("x"),
            kubernetes: true,
            labels: [(text("a"), text("b"))].into(),
            ips: vec![[10, 0, 0, 1].into()],
            mac: Some(Mac([2; 6])),
            ipv4_pools: vec![text("x")],
            ipv6_pools: vec![text("x")],
            sticky: true,
            valid_attachments: vec![attachment],
            previous: Some(made()),
        },
    );
    s.object(
        "Metadata",
        &Metadata {
            name: text("x"),
            namespace: Some(text("default")),
            labels: [(text("a"), text("b"))].into(),
            annotations: [(text("a"), text("b"))].into(),
            resource_version: Some(text("7")),
            creation_timestamp: Some(text("2024-05-01T12:00:00Z")),
            uid: Some(text("x")),
        },
    );
    bgp::compare(&mut s);
    release(&mut s);
    resource(&mut s);

    let all: BTreeSet<String> = s.document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(all, s.seen, "a schema was not compared");
}

/// One key of several, so not an object like the others.
fn release(s: &mut Schemas) {
    let schema = s.schema("Release");
    let mut keys = BTreeSet::new();
    for sample in [
        Release::Ip([10, 0, 0, 1].into()),
        Release::Handle(text("h")),
        Release::Node(text("a")),
    ] {
        let value = serde_json::to_value(&sample).unwrap();
        s.fits("Release", &value, &schema);
        keys.extend(value.as_object().unwrap().keys().cloned());
    }
    let known: BTreeSet<String> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, known);
}

/// The type is an enum of kinds; a sample of one of them shows the frame that all have.
fn resource(s: &mut Schemas) {
    let pool = model::Object::IPPool(model::object::Resource::named(
        "x",
        model::resources::IpPoolSpec::new(cidr()),
    ));
    let value = model::manifest::to_value(&pool);
    let schema = s.schema("Resource");
    s.fits("Resource", &value, &schema);
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(schema["required"], json!(keys));
    let list = json!({"apiVersion": "routerd/v1", "kind": "List", "items": [value]});
    let schema = s.schema("List");
    s.fits("List", &list, &schema);
    assert_eq!(
        schema["properties"]["apiVersion"]["const"],
        model::object::API_VERSION
    );
}
