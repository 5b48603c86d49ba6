//! What the kernel has, from dumps.

mod links;
mod neighbours;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use links::{Found, addresses, link, link_by_name, links};
use model::kernel::{
    KernelState, LinkKind, LinkName, Mac, Observed, Route, RouteKey, RouteTarget, Vxlan,
};
use model::marks;
pub(crate) use neighbours::{fdb, neighbours};
pub(crate) use routes::{Routes, is_local, routes, routes_of};

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
            LinkKind::Loopback | LinkKind::Other(_) => {}
        }
        let planned = f.link.addresses.iter().filter(|a| !is_link_local(a.ip));
        ours.addresses.extend(planned.map(|a| (name, *a)));
    }
    ours.neighbours = neighbours(socket, &names, 0)?;
    let Routes { ours: own, aliens } = routes(socket, &names)?;
    ours.routes = own;
    // What we give to an interface of somebody else's: the gateway, where a workload of ours is.
    let lead_to = leading_to_workloads(&ours.routes);
    for f in found.iter().filter(|f| lead_to.contains(&f.link.name)) {
        let gateways = f.link.addresses.iter().filter(|a| marks::is_gateway(a.ip));
        ours.addresses.extend(gateways.map(|a| (f.link.name, *a)));
    }
    let links = found.into_iter().map(|f| (f.link.name, f.link)).collect();
    Ok(Observed {
        links,
        ours,
        alien_routes: aliens,
    })
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
