//! What the kernel does with each operation.

use std::net::IpAddr;

use model::kernel::{Link, LinkKind, LinkName, NextHop, Op, Route, RouteKey, RouteTarget, Vxlan};
use model::{Cidr, Family};

use super::FakeKernel;
use crate::Refusal;
use crate::plan::{hops, sysctl_link};

type Outcome = Result<(), Refusal>;

fn no(errno: i32) -> Outcome {
    Err(Refusal::errno(errno))
}

pub(super) fn apply(k: &mut FakeKernel, op: &Op) -> Outcome {
    match op {
        Op::CreateVxlan(v) => create_vxlan(k, v),
        Op::SetMtu(dev, mtu) => {
            link(k, *dev)?.mtu = *mtu;
            vxlan(k, *dev, |v| v.mtu = *mtu)
        }
        Op::SetMac(dev, mac) => {
            link(k, *dev)?.mac = Some(*mac);
            // NETDEV_CHANGEADDR flushes permanent neighbours, too.
            k.state.neighbours.retain(|n| n.dev != *dev);
            vxlan(k, *dev, |v| v.mac = *mac)
        }
        Op::SetUp(dev) => {
            let link = link(k, *dev)?;
            (link.up, link.running) = (true, true);
            Ok(())
        }
        Op::DeleteLink(dev) => {
            delete_link(k, *dev);
            Ok(())
        }
        Op::AddAddress(dev, address) => {
            link(k, *dev)?;
            match k.state.addresses.insert((*dev, *address)) {
                true => Ok(()),
                false => no(libc::EEXIST),
            }
        }
        Op::DeleteAddress(dev, address) => {
            k.state.addresses.remove(&(*dev, *address));
            // Routes that prefer a source which is gone go, too.
            if !is_local(k, address.ip) {
                k.state.routes.retain(|_, r| r.src != Some(address.ip));
            }
            Ok(())
        }
        Op::AddRoute(key, route) => {
            if k.state.routes.contains_key(key) || k.alien_routes.contains_key(key) {
                return no(libc::EEXIST);
            }
            put_route(k, key, route)
        }
        Op::ReplaceRoute(key, route) => {
            put_route(k, key, route)?;
            k.alien_routes.remove(key);
            Ok(())
        }
        Op::DeleteRoute(key, route) => {
            if k.state
                .routes
                .get(key)
                .is_some_and(|r| r.protocol == route.protocol)
            {
                k.state.routes.remove(key);
            }
            Ok(())
        }
        Op::SetNeighbour(n) => {
            link(k, n.dev)?;
            k.state
                .neighbours
                .retain(|o| (o.dev, o.ip) != (n.dev, n.ip));
            k.state.neighbours.insert(*n);
            Ok(())
        }
        Op::DeleteNeighbour(n) => {
            k.state
                .neighbours
                .retain(|o| (o.dev, o.ip) != (n.dev, n.ip));
            Ok(())
        }
        Op::SetFdb(e) => {
            link(k, e.dev)?;
            match k.state.vxlan.get(&e.dev) {
                None => return no(libc::EOPNOTSUPP),
                Some(v) if Family::of(v.settings.local) != Family::of(e.dst) => {
                    return no(libc::EAFNOSUPPORT);
                }
                Some(_) => {}
            }
            // NLM_F_REPLACE replaces the first destination of the address.
            let first = k
                .state
                .fdb
                .iter()
                .find(|o| (o.dev, o.mac) == (e.dev, e.mac))
                .copied();
            if let Some(first) = first.filter(|_| !k.state.fdb.contains(e)) {
                k.state.fdb.remove(&first);
            }
            k.state.fdb.insert(*e);
            Ok(())
        }
        Op::DeleteFdb(e) => {
            k.state.fdb.remove(e);
            Ok(())
        }
        Op::SetNat(nat) => {
            k.state.nat = Some(nat.clone());
            Ok(())
        }
        Op::DeleteNat => {
            k.state.nat = None;
            Ok(())
        }
        Op::SetGuard(guard) => {
            k.state.guard = Some(guard.clone());
            Ok(())
        }
        Op::DeleteGuard => {
            k.state.guard = None;
            Ok(())
        }
        Op::SetSysctl(path, value) => {
            if sysctl_link(path).is_some_and(|l| !k.links.contains_key(&l)) {
                return no(libc::ENOENT);
            }
            k.state.sysctls.insert(path.clone(), value.clone());
            Ok(())
        }
    }
}

fn link(k: &mut FakeKernel, name: LinkName) -> Result<&mut Link, Refusal> {
    k.links.get_mut(&name).ok_or(Refusal::errno(libc::ENODEV))
}

fn vxlan(k: &mut FakeKernel, name: LinkName, change: impl FnOnce(&mut Vxlan)) -> Outcome {
    if let Some(v) = k.state.vxlan.get_mut(&name) {
        change(v);
    }
    Ok(())
}

fn create_vxlan(k: &mut FakeKernel, v: &Vxlan) -> Outcome {
    let id = |v: &Vxlan| {
        (
            v.settings.vni,
            v.settings.port,
            Family::of(v.settings.local),
        )
    };
    if !k.links.contains_key(&v.parent) {
        return no(libc::ENODEV);
    }
    if k.links.contains_key(&v.name) || k.state.vxlan.values().any(|o| id(o) == id(v)) {
        return no(libc::EEXIST);
    }
    if v.settings.vni >= 1 << 24 {
        return no(libc::ERANGE);
    }
    let link = Link {
        name: v.name,
        index: 0,
        mac: Some(v.mac),
        mtu: v.mtu,
        up: true,
        running: true,
        kind: LinkKind::Vxlan(v.settings),
        addresses: Vec::new(),
    };
    k.add_link(link);
    k.state.vxlan.insert(v.name, *v);
    Ok(())
}

/// Deletes a link with all that hangs on it, VXLAN devices over it included.
pub(super) fn delete_link(k: &mut FakeKernel, name: LinkName) {
    k.links.remove(&name);
    k.state.vxlan.remove(&name);
    k.state.workload_links.remove(&name);
    k.state.addresses.retain(|(dev, _)| *dev != name);
    k.state.neighbours.retain(|n| n.dev != name);
    k.state.fdb.retain(|e| e.dev != name);
    k.state
        .sysctls
        .retain(|path, _| sysctl_link(path) != Some(name));
    for routes in [&mut k.state.routes, &mut k.alien_routes] {
        routes.retain(|_, route| {
            let left: Vec<NextHop> = hops(&route.target)
                .iter()
                .filter(|h| h.dev != name)
                .copied()
                .collect();
            match (&route.target, left.as_slice()) {
                (RouteTarget::Blackhole | RouteTarget::Unreachable, _) => true,
                (_, []) => false,
                (_, [hop]) => {
                    route.target = RouteTarget::Hop(*hop);
                    true
                }
                _ => {
                    route.target = RouteTarget::Multipath(left);
                    true
                }
            }
        });
    }
    let over: Vec<LinkName> = k
        .state
        .vxlan
        .values()
        .filter(|v| v.parent == name)
        .map(|v| v.name)
        .collect();
    for name in over {
        delete_link(k, name);
    }
}

fn is_local(k: &FakeKernel, ip: IpAddr) -> bool {
    k.links
        .values()
        .flat_map(|l| &l.addresses)
        .any(|a| a.ip == ip)
        || k.state.addresses.iter().any(|(_, a)| a.ip == ip)
}

fn put_route(k: &mut FakeKernel, key: &RouteKey, route: &Route) -> Outcome {
    for hop in hops(&route.target) {
        let link = k.links.get(&hop.dev).ok_or(Refusal::errno(libc::ENODEV))?;
        if !link.up {
            return no(libc::ENETDOWN);
        }
        if let Some(via) = hop.via
            && !hop.onlink
            && !reachable(k, hop.dev, via)
        {
            return no(if via.is_ipv4() {
                libc::ENETUNREACH
            } else {
                libc::EHOSTUNREACH
            });
        }
    }
    if route.src.is_some_and(|src| !is_local(k, src)) {
        return no(libc::EINVAL);
    }
    k.state.routes.insert(*key, route.clone());
    Ok(())
}

/// Whether a gateway lies on the link: in a subnet of it, or behind a route straight out of it.
fn reachable(k: &FakeKernel, dev: LinkName, via: IpAddr) -> bool {
    if matches!(via, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return true;
    }
    let of_link = k.links.get(&dev).into_iter().flat_map(|l| &l.addresses);
    let ours = k
        .state
        .addresses
        .iter()
        .filter(|(d, _)| *d == dev)
        .map(|(_, a)| a);
    let subnet = of_link
        .chain(ours)
        .any(|a| Cidr::containing(a.ip, a.prefix).is_some_and(|c| !c.is_host() && c.contains(via)));
    let direct = NextHop {
        via: None,
        dev,
        onlink: false,
    };
    subnet
        || k.state
            .routes
            .iter()
            .chain(&k.alien_routes)
            .any(|(key, r)| hops(&r.target).contains(&direct) && key.dst.contains(via))
}
