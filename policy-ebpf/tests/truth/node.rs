//! A node: what it knows of the cluster, and the tables that it compiles of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::object::{Object, ObjectId};
use model::resources::PolicyType;
use model::snapshot::Snapshot;
use model::{Kind, keys, kv::Event, manifest, validate};
use policy_common::classify::{Tuple, Work, classify, identify};
use policy_ebpf::mirror::{Mirror, address};
use policy_ebpf::{Engine, Settings, Update, feed};
use serde_json::{Value, json};

use crate::evaluator::Cluster;

/// The nodes of a cluster; its pods live on them by turns.
pub(crate) const NODES: [&str; 2] = ["one", "two"];

pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) snapshot: Snapshot,
    pub(crate) engine: Engine,
    pub(crate) tables: Mirror,
    revision: i64,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Destination port, or type and code.
    pub(crate) port: u16,
}

impl Node {
    pub(crate) fn new(name: &'static str) -> Node {
        let mut node = Node {
            name,
            snapshot: Snapshot::default(),
            engine: Engine::new(Settings::default()),
            tables: Mirror::default(),
            revision: 0,
        };
        let start = feed::everything(&node.engine, &node.snapshot, name);
        let update = node.engine.apply(start);
        node.tables.update(&update);
        node
    }

    /// Takes objects in as the store tells of them, and compiles them at once.
    pub(crate) fn put(&mut self, objects: &[Object]) -> Update {
        self.fed(objects, |object| Some(manifest::encode_stored(object)))
    }

    pub(crate) fn remove(&mut self, objects: &[Object]) -> Update {
        self.fed(objects, |_| None)
    }

    fn fed(&mut self, objects: &[Object], value: impl Fn(&Object) -> Option<Vec<u8>>) -> Update {
        let mut changes = Vec::new();
        for object in objects {
            self.revision += 1;
            let event = Event {
                key: keys::resource(&object.id()),
                value: value(object),
                revision: self.revision,
            };
            self.snapshot.apply(self.name, &event);
            changes.extend(feed::change(&self.snapshot, self.name, &object.id()));
        }
        assert!(
            self.snapshot.rejected.is_empty(),
            "{:?}",
            self.snapshot.rejected
        );
        let update = self.engine.apply(changes);
        assert_eq!(self.engine.problems().next(), None);
        self.tables.update(&update);
        update
    }

    /// Whether an endpoint of this node lets it pass.
    pub(crate) fn lets(&self, id: &ObjectId, direction: PolicyType, first: &First) -> bool {
        let chains = &self.tables.endpoints[id];
        let number = match direction {
            PolicyType::Ingress => chains.ingress,
            PolicyType::Egress => chains.egress,
        };
        self.says(number, first)
    }

    /// As [`Node::lets`], were staged policies in force.
    #[allow(dead_code)] // the kernel enforces none
    pub(crate) fn would_let(&self, id: &ObjectId, direction: PolicyType, first: &First) -> bool {
        let chains = &self.tables.endpoints[id];
        let (staged, enforced) = match direction {
            PolicyType::Ingress => (chains.staged_ingress, chains.ingress),
            PolicyType::Egress => (chains.staged_egress, chains.egress),
        };
        self.says(if staged == 0 { enforced } else { staged }, first)
    }

    fn says(&self, chain: u32, first: &First) -> bool {
        let mut work = Work {
            tuple: Tuple {
                source: address(first.source),
                destination: address(first.destination),
                source_port: 40_000,
                destination_port: first.port,
                protocol: first.protocol,
                pad: [0; 3],
            },
            ..Work::default()
        };
        identify(&self.tables, &mut work);
        classify(&self.tables, &self.tables.chains[&chain], &mut work);
        work.allowed()
    }
}

/// Reads a manifest as `routerctl apply` does.
pub(crate) fn read(text: &str) -> Vec<Object> {
    let objects = manifest::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for object in &objects {
        validate::validate(object).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    }
    objects
}

pub(crate) fn pod_id(namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// A cluster in our resources.
pub(crate) fn objects(cluster: &Cluster) -> Vec<Object> {
    let mut documents: Vec<Value> = Vec::new();
    for (name, labels) in &cluster.namespaces {
        let mut labels: BTreeMap<_, _> = labels.clone();
        labels.remove("kubernetes.io/metadata.name"); // every namespace has it by itself
        if !labels.is_empty() {
            let metadata = json!({"name": name, "labels": labels});
            documents.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        }
    }
    documents.extend(not_pods());
    for (number, pod) in cluster.pods.iter().enumerate() {
        let port = |(name, protocol, number): &(&str, &str, u16)| json!({"name": name, "protocol": protocol, "port": number});
        let metadata = json!({"namespace": pod.namespace, "name": pod.name, "labels": pod.labels});
        documents.push(json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": "WorkloadEndpoint",
            "metadata": metadata,
            "spec": {
                "orchestrator": "k8s",
                "node": node_of(number),
                "interfaceName": format!("cali{number}"),
                "ipNetworks": pod.addresses,
                "ports": pod.ports.iter().map(port).collect::<Vec<_>>(),
            },
        }));
    }
    documents
        .iter()
        .flat_map(|d| read(&d.to_string()))
        .collect()
}

/// What Kubernetes knows nothing of, with the labels of pods: no policy of its own may take it for one.
fn not_pods() -> [Value; 3] {
    let document = |kind: &str, name: &str, namespace: Option<&str>, spec: Value| {
        json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": "web", "tier": "front"}},
            "spec": spec,
        })
    };
    [
        document(
            "NetworkSet",
            "set",
            Some("shop"),
            json!({"nets": ["203.0.113.0/25", "2001:db8::/64"]}),
        ),
        document(
            "GlobalNetworkSet",
            "set",
            None,
            json!({"nets": ["198.51.100.0/24"]}),
        ),
        document(
            "HostEndpoint",
            "host",
            None,
            json!({"node": "three", "interfaceName": "eth0", "expectedIPs": ["203.0.113.77"]}),
        ),
    ]
}

/// The node that a pod lives on, by its place in the cluster.
pub(crate) fn node_of(number: usize) -> &'static str {
    NODES[number % NODES.len()]
}
