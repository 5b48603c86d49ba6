//! What the kernel has, from dumps.

mod links;
mod neighbours;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use links::{Found, addresses, link, link_by_name, links};
use model::kernel::{
    Address, KernelState, Link, LinkKind, LinkName, Mac, Observed, Route, RouteKey, RouteTarget,
    TunnelLink, Vxlan,
};
use model::marks;
pub(crate) use neighbours::{fdb, neighbours};
pub(crate) use routes::{Routes, is_local, learnt, matched, resolved, routes, routes_of};

use crate::Error;
use crate::socket::Socket;

/// Names of interfaces by their index.
pub(crate) type Names = BTreeMap<u32, LinkName>;

/// Everything that rtnetlink tells.
pub(crate) fn everything(socket: &mut Socket) -> Result<Observed, Error> {
    let found = links(socket)?;
    let names: Names = found.iter().map(|f| (f.link.index, f.link.name)).collect();
    let mut ours = KernelState::default();
    for f in found
        .iter()
        .filter(|f| marks::is_our_link(f.link.name.as_str()))
    {
        let name = f.link.name;
        match f.link.kind {
            LinkKind::Vxlan(settings) => {
                // Over nothing that has a name here: no device is its own parent, so this one
                // differs from every wanted one and is made anew.
                let parent = f
                    .parent
                    .and_then(|i| names.get(&i))
                    .copied()
                    .unwrap_or(name);
                let (mac, mtu) = (f.link.mac.unwrap_or(Mac([0; 6])), f.link.mtu);
                ours.vxlan.insert(
                    name,
                    Vxlan {
                        name,
                        settings,
                        parent,
                        mac,
                        mtu,
                    },
                );
                ours.fdb.extend(fdb(socket, f.link.index, name)?);
            }
            LinkKind::Veth => {
                ours.workload_links.insert(name);
            }
            LinkKind::Loopback | LinkKind::Other(_) => {
                ours.tunnel = tunnel_link(&f.link).or(ours.tunnel);
            }
        }
        let planned = f.link.addresses.iter().filter(|a| !is_link_local(a.ip));
        ours.addresses.extend(planned.map(|a| (name, *a)));
    }
    ours.neighbours = neighbours(socket, &names, 0)?;
    let Routes { ours: own, aliens } = routes(socket, &names)?;
    ours.routes = own;
    ours.addresses.extend(given_to_others(&found, &ours.routes));
    let links = found.into_iter().map(|f| (f.link.name, f.link)).collect();
    Ok(Observed {
        links,
        ours,
        alien_routes: aliens,
    })
}

/// The addresses that we gave to interfaces of others: the gateway, where a workload of ours is.
fn given_to_others(
    found: &[Found],
    routes: &BTreeMap<RouteKey, Route>,
) -> Vec<(LinkName, Address)> {
    let others = || {
        let others = found.iter();
        others.filter(|f| !marks::is_our_link(f.link.name.as_str()))
    };
    // Every host has an address of the kernel's making, which says so where the kernel can.
    if found.iter().any(|f| !f.protocols.is_empty()) {
        let marked = others().flat_map(|f| f.protocols.iter().map(|p| (f.link.name, p)));
        let ours = marked.filter(|(_, (_, protocol))| *protocol == marks::ROUTE_PROTOCOL);
        return ours.map(|(dev, (address, _))| (dev, *address)).collect();
    }
    let lead_to = leading_to_workloads(routes);
    let of_workloads = others().filter(|f| lead_to.contains(&f.link.name));
    let addresses = of_workloads.flat_map(|f| f.link.addresses.iter().map(|a| (f.link.name, *a)));
    addresses.filter(|(_, a)| marks::is_gateway(a.ip)).collect()
}

/// The link as the device of the encrypted tunnel, if it is that: of the kernel's own kind, or a TUN.
pub(crate) fn tunnel_link(link: &Link) -> Option<TunnelLink> {
    let (name, mtu) = (link.name, link.mtu);
    let is = matches!(link.kind, LinkKind::Other(_)) && name.as_str() == marks::WIREGUARD;
    is.then_some(TunnelLink { name, mtu })
}

/// Interfaces of others that a single address of ours is directly on.
fn leading_to_workloads(routes: &BTreeMap<RouteKey, Route>) -> BTreeSet<LinkName> {
    let on_link = routes.iter().filter_map(|(key, route)| match route.target {
        RouteTarget::Hop(hop) if key.dst.is_host() && hop.via.is_none() => Some(hop.dev),
        _ => None,
    });
    on_link
        .filter(|dev| !marks::is_our_link(dev.as_str()))
        .collect()
}

/// Link-local addresses come with a link, from the kernel or the CNI path; none is planned.
fn is_link_local(ip: std::net::IpAddr) -> bool {
    matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}
