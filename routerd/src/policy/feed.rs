//! What the snapshot says, as the owner of policy is told it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::kernel::Mac;
use model::object::{ObjectId, Resource};
use model::resources::host_endpoint::ALL_INTERFACES;
use model::resources::{
    EndpointToHostAction, HostEndpointSpec, LiveConnections, RedirectToPeer, WorkloadEndpointSpec,
};
use model::snapshot::{EndpointKey, Snapshot};
use model::{Cidr, Kind};
use policy_ebpf::kernel::Interface;
use policy_ebpf::{Change, feed};

use crate::config::DatastoreConfig;

/// One thing that the owner of policy is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// To the compiler.
    Change(Change),
    /// Where an endpoint of this node is.
    Place(ObjectId, Place),
    /// The mesh-wide settings.
    Wanted(Wanted),
}

/// Where an endpoint is, and what its interface may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its interface; empty where one of `addresses` says which, and `*` for all that are nobody else's.
    pub interface: String,
    /// Of which an interface of the host has one.
    pub addresses: Vec<IpAddr>,
    /// MAC address of the workload; zeros for any.
    pub mac: Mac,
    /// What the workload may send from.
    pub own: Vec<Cidr>,
    /// The host itself is the endpoint.
    pub host: bool,
    /// CNI makes and unmakes its interface.
    pub of_cni: bool,
    /// Frames may pass the host's routing by: it is known what is behind the interface, and answers to what comes from
    /// there are for it.
    pub goes_straight: bool,
}

/// What holds for all endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Workloads may reach their own host, where their policy lets them.
    pub endpoint_to_host: bool,
    /// A live connection goes on until it ends, whatever a changed policy says.
    pub keep_connections: bool,
    /// What goes from one workload of this host to another may pass the host's routing by.
    pub straight: bool,
    /// Protocol and port that no policy of a host closes, for what comes in and for what goes out.
    pub failsafe: [BTreeSet<(u8, u16)>; 2],
}

/// Number of the protocol.
pub const TCP: u8 = 6;

impl Input {
    /// The object that it is about.
    pub fn id(&self) -> Option<ObjectId> {
        let global = |kind, name: &String| ObjectId {
            kind,
            namespace: None,
            name: name.clone(),
        };
        match self {
            Input::Change(Change::Party(id, _) | Change::Policy(id, _)) => Some(id.clone()),
            Input::Change(Change::Namespace(name, _)) => Some(global(Kind::Namespace, name)),
            Input::Change(Change::Tier(name, _)) => Some(global(Kind::Tier, name)),
            _ => None,
        }
    }

    /// That an object is gone.
    pub fn gone(id: &ObjectId) -> Option<Input> {
        feed::gone(id).map(Input::Change)
    }
}

impl Place {
    /// Of a workload.
    pub fn of_workload(endpoint: &Resource<WorkloadEndpointSpec>) -> Place {
        let spec = &endpoint.spec;
        let spoofed = &spec.allow_spoofed_source_prefixes;
        Place {
            interface: spec.interface_name.clone(),
            addresses: Vec::new(),
            mac: spec.mac.unwrap_or(Mac([0; 6])),
            own: spec.ip_networks.iter().chain(spoofed).copied().collect(),
            host: false,
            of_cni: !spec.container_id.is_empty(),
            goes_straight: !spec.container_id.is_empty() && spoofed.is_empty(),
        }
    }

    /// Of the host itself.
    fn of_host(spec: &HostEndpointSpec) -> Place {
        Place {
            interface: spec.interface_name.clone(),
            addresses: spec.expected_ips.clone(),
            mac: Mac([0; 6]),
            own: Vec::new(),
            host: true,
            of_cni: false,
            goes_straight: false,
        }
    }

    /// Whether it is at all interfaces of the host.
    pub(super) fn is_everywhere(&self) -> bool {
        self.host && self.interface == ALL_INTERFACES
    }

    /// Whether an interface is what is here, whatever its number.
    pub(super) fn is_as(&self, interface: &Interface) -> bool {
        let same_name = self.interface == interface.name;
        same_name && self.mac == interface.mac && self.own == interface.own
    }
}

/// What an object says now; nothing for kinds that policy does not look at.
pub fn inputs(snapshot: &Snapshot, node: &str, id: &ObjectId) -> Vec<Input> {
    let change = feed::change(snapshot, node, id).map(Input::Change);
    let place = place(snapshot, node, id).map(|place| Input::Place(id.clone(), place));
    change.into_iter().chain(place).collect()
}

fn place(snapshot: &Snapshot, node: &str, id: &ObjectId) -> Option<Place> {
    match id.kind {
        Kind::WorkloadEndpoint => {
            let key = EndpointKey {
                namespace: id.namespace.as_deref().unwrap_or_default().into(),
                name: id.name.as_str().into(),
            };
            snapshot.local_endpoints.get(&key).map(Place::of_workload)
        }
        Kind::HostEndpoint => {
            let host = snapshot.host_endpoints.get(&id.name)?;
            (host.spec.node == node).then(|| Place::of_host(&host.spec))
        }
        _ => None,
    }
}

/// Everything that a snapshot says. It walks over everybody.
pub fn everything(snapshot: &Snapshot, node: &str) -> Vec<Input> {
    let ids = feed::present(snapshot);
    let each = ids.iter().flat_map(|id| inputs(snapshot, node, id));
    let first = [unknown(snapshot), wanted(snapshot)];
    first.into_iter().chain(each).collect()
}

/// Whether there are policies that nobody can read.
pub fn unknown(snapshot: &Snapshot) -> Input {
    Input::Change(feed::unknown(snapshot))
}

/// What this host has to reach for its store, as protocol and port.
pub fn needs(store: &DatastoreConfig) -> Vec<(u8, u16)> {
    store.ports().map(|port| (TCP, port)).collect()
}

/// The mesh-wide settings. What a node needs to be one is never closed.
pub fn wanted(snapshot: &Snapshot) -> Input {
    let mesh = &snapshot.mesh;
    Input::Wanted(Wanted {
        endpoint_to_host: mesh.default_endpoint_to_host_action != EndpointToHostAction::Drop,
        keep_connections: mesh.live_connections == LiveConnections::Keep,
        straight: mesh.bpf_redirect_to_peer == RedirectToPeer::Enabled,
        failsafe: calc::policy::failsafe(snapshot),
    })
}
