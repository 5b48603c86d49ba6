//! Who has addresses and labels: workloads, hosts and network sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Cidr;
use model::object::Resource;
use model::resources::workload_endpoint::{
    EndpointPort, NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL, all_labels,
};
use model::resources::{HostEndpointSpec, NetworkSetSpec, WorkloadEndpointSpec};
use model::snapshot::{EndpointKey, RemoteEndpoint};

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// Something that has addresses and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Labels that selectors see, those of its namespace left out.
    pub labels: Arc<Labels>,
    /// The namespace it lives in.
    pub namespace: Option<Arc<str>>,
    /// Its addresses.
    pub nets: Vec<Cidr>,
    /// Its named ports.
    pub ports: Box<[NamedPort]>,
    /// What is enforced at it.
    pub role: Role,
}

/// What is enforced at a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nothing here: it is a network set, or of another node.
    Elsewhere,
    /// It is a workload of this node.
    Workload,
    /// It is a host endpoint of this node.
    Host {
        /// Whether what no policy is about is let through.
        default_allow: bool,
    },
}

/// A port of an endpoint that rules can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// Its name.
    pub name: Box<str>,
    /// IP protocol number.
    pub protocol: u8,
    /// Port number.
    pub port: u16,
}

impl Party {
    /// A workload of this node.
    pub fn local(resource: &Resource<WorkloadEndpointSpec>) -> Party {
        let Resource { metadata, spec } = resource;
        Party {
            labels: Arc::new(all_labels(metadata, spec)),
            namespace: Some(metadata.namespace.as_deref().unwrap_or_default().into()),
            nets: spec.ip_networks.clone(),
            ports: named(&spec.ports),
            role: Role::Workload,
        }
    }

    /// A workload of another node.
    pub fn remote(key: &EndpointKey, endpoint: &RemoteEndpoint) -> Party {
        Party {
            labels: endpoint.labels.clone(),
            namespace: Some(key.namespace.clone()),
            nets: endpoint.ips.iter().copied().map(Cidr::host).collect(),
            ports: named(&endpoint.ports),
            role: Role::Elsewhere,
        }
    }

    /// A host endpoint, seen from a node.
    pub fn host(resource: &Resource<HostEndpointSpec>, local_node: &str) -> Party {
        let Resource { metadata, spec } = resource;
        let default_allow = spec.default_allow();
        Party {
            labels: Arc::new(own_labels(&metadata.labels)),
            namespace: None,
            nets: spec.expected_ips.iter().copied().map(Cidr::host).collect(),
            ports: named(&spec.ports),
            role: match spec.node == local_node {
                true => Role::Host { default_allow },
                false => Role::Elsewhere,
            },
        }
    }

    /// A network set, of a namespace or global.
    pub fn set(namespace: Option<&str>, resource: &Resource<NetworkSetSpec>) -> Party {
        let mut labels = own_labels(&resource.metadata.labels);
        if let Some(name) = namespace {
            labels.insert(NAMESPACE_LABEL.to_owned(), name.to_owned());
        }
        Party {
            labels: Arc::new(labels),
            namespace: namespace.map(Arc::from),
            nets: resource.spec.nets.clone(),
            ports: [].into(),
            role: Role::Elsewhere,
        }
    }
}

/// The labels of what is no workload, without those that only workloads have.
fn own_labels(labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    for of_workloads in [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL] {
        labels.remove(of_workloads);
    }
    labels
}

/// Those of a protocol that is known; in order, so that equal ones compare equal.
fn named(ports: &[EndpointPort]) -> Box<[NamedPort]> {
    let read = |p: &EndpointPort| {
        Some(NamedPort {
            name: p.name.as_str().into(),
            protocol: p.protocol.number()?,
            port: p.port,
        })
    };
    let mut ports: Vec<_> = ports.iter().filter_map(read).collect();
    ports.sort();
    ports.dedup();
    ports.into()
}
