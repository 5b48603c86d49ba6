//! The workloads of this node: a host route and a permanent neighbour for each address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use model::kernel::{Address, LinkName, Neighbour, NextHop, Route, RouteKey, RouteTarget};
use model::resources::WorkloadEndpointSpec;
use model::snapshot::Snapshot;
use model::{Cidr, Family, marks};

use crate::Inputs;
use crate::blocks::{Mesh, key, route};
use crate::peers::Peers;
use crate::problems::Problems;

/// What local workloads need.
#[derive(Default)]
pub(crate) struct Local {
    pub(crate) routes: Vec<(RouteKey, Route)>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) links: Vec<WorkloadLink>,
    /// The gateway, on interfaces that the CNI path did not make: who is behind them asks for it.
    pub(crate) gateways: Vec<(LinkName, Address)>,
}

/// The host side of a workload link of ours.
pub(crate) struct WorkloadLink {
    pub(crate) name: LinkName,
    /// The workload may send from foreign addresses.
    pub(crate) may_spoof: bool,
}

/// The endpoints of this node in order of namespace and name.
fn local(snapshot: &Snapshot) -> impl Iterator<Item = (String, &WorkloadEndpointSpec)> {
    (snapshot.local_endpoints.iter()).map(|(k, r)| {
        let object = format!("WorkloadEndpoint/{}/{}", k.namespace, k.name);
        (object, &r.spec)
    })
}

pub(crate) fn decide(
    inputs: &Inputs<'_>,
    peers: &Peers<'_>,
    mesh: &Mesh<'_>,
    problems: &mut Problems<'_>,
) -> Local {
    let mut out = Local::default();
    let mut links = HashMap::new();
    let mut holders = HashMap::new();
    for (object, spec) in local(inputs.snapshot) {
        let name = match interface(inputs, &object, spec, &mut links) {
            Ok(name) => name,
            Err(message) => {
                problems.add(object, message);
                continue;
            }
        };
        // The settings of an interface of the administrator are left alone.
        let ours = marks::is_our_link(name.as_str());
        if ours {
            let may_spoof = !spec.allow_spoofed_source_prefixes.is_empty();
            out.links.push(WorkloadLink { name, may_spoof });
        }
        for net in &spec.ip_networks {
            let ip = match address(net, &object, peers, mesh, &mut holders) {
                Ok(ip) => ip,
                Err(message) => {
                    problems.add(object.clone(), message);
                    continue;
                }
            };
            let hop = NextHop {
                via: None,
                dev: name,
                onlink: false,
            };
            out.routes.push((key(*net), route(RouteTarget::Hop(hop))));
            if !ours {
                out.gateways.push((name, gateway(net.family())));
            }
            if let Some(mac) = spec.mac {
                let dev = name;
                out.neighbours.push(Neighbour { dev, ip, mac });
            }
        }
    }
    out
}

/// The gateway as an address of an interface.
fn gateway(family: Family) -> Address {
    let (ip, prefix) = match family {
        Family::V4 => (marks::GATEWAY_V4.into(), 32),
        Family::V6 => (marks::GATEWAY_V6.into(), 64),
    };
    Address { ip, prefix }
}

/// The interface of an endpoint, if it may have it.
fn interface(
    inputs: &Inputs<'_>,
    object: &str,
    spec: &WorkloadEndpointSpec,
    links: &mut HashMap<LinkName, String>,
) -> Result<LinkName, String> {
    let name: LinkName = spec.interface_name.parse().map_err(|e| {
        format!("spec.interfaceName: {e}; write the name of the interface on this host")
    })?;
    let underlay = |f| inputs.underlay.of(f).is_some_and(|l| l.interface == name);
    let tunnel = [marks::VXLAN_V4, marks::VXLAN_V6, marks::WIREGUARD].contains(&name.as_str());
    if tunnel || Family::ALL.into_iter().any(underlay) {
        return Err(format!(
            "spec.interfaceName: {name} carries the mesh itself; write the interface that leads to the workload"
        ));
    }
    match links.entry(name) {
        Entry::Occupied(first) => Err(format!(
            "spec.interfaceName: {name} is already that of {}; delete one of the two",
            first.get()
        )),
        Entry::Vacant(slot) => {
            slot.insert(object.to_owned());
            Ok(name)
        }
    }
}

/// The address that a network of an endpoint stands for, if the endpoint may have it.
fn address(
    net: &Cidr,
    object: &str,
    peers: &Peers<'_>,
    mesh: &Mesh<'_>,
    holders: &mut HashMap<IpAddr, String>,
) -> Result<IpAddr, String> {
    let ip = net.network();
    if !net.is_host() {
        return Err(format!(
            "spec.ipNetworks: {net} is no single address; write {ip}/{}",
            net.family().bits()
        ));
    }
    if let Some(node) = peers.node_at(ip) {
        return Err(format!(
            "spec.ipNetworks: {ip} is an address of Node/{node} itself; give the workload another"
        ));
    }
    // Every other node goes by IPAM, so going by the endpoint here would only hide the mistake.
    if let Some(node) = mesh.lent.get(&ip) {
        return Err(format!(
            "spec.ipNetworks: {ip} is handed out to a workload on Node/{node}; delete one of the two"
        ));
    }
    match holders.entry(ip) {
        Entry::Occupied(first) => Err(format!(
            "spec.ipNetworks: {ip} is already an address of {}; delete one of the two",
            first.get()
        )),
        Entry::Vacant(slot) => {
            slot.insert(object.to_owned());
            Ok(ip)
        }
    }
}
