//! The interfaces of the host, as an endpoint of policy has them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::Cidr;
use model::kernel::Mac;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::libc::ARPHRD_ETHER;
use nix::net::if_::InterfaceFlags;
use policy_ebpf::kernel::Interface;

struct Link {
    interface: Interface,
    has_frames: bool,
}

/// All of them.
pub(super) fn all() -> Vec<Interface> {
    read().into_iter().map(|link| link.interface).collect()
}

/// Those that carry Ethernet, without the loopback one.
pub(super) fn of_ethernet() -> Vec<Interface> {
    let all = read().into_iter().filter(|link| link.has_frames);
    all.map(|link| link.interface).collect()
}

/// The interface that has one of these addresses.
pub(super) fn with_address(wanted: &[IpAddr]) -> Option<String> {
    let mut all = getifaddrs().ok()?;
    let found = all.find(|i| address(i).is_some_and(|a| wanted.contains(&a)))?;
    Some(found.interface_name)
}

fn read() -> Vec<Link> {
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    let mut addresses: BTreeMap<String, Vec<Cidr>> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        if let Some(ip) = address(&entry) {
            let own = addresses.entry(entry.interface_name).or_default();
            own.push(Cidr::host(ip));
            continue;
        }
        let link = entry.address.as_ref().and_then(|a| a.as_link_addr());
        let Some((ifindex, kind)) = link.map(|a| (a.ifindex(), a.hatype())) else {
            continue;
        };
        let interface = Interface {
            name: entry.interface_name.clone(),
            ifindex: u32::try_from(ifindex).unwrap_or_default(),
            mac: Mac([0; 6]),
            own: Vec::new(),
            host: true,
            mtu: 0,
        };
        let loops = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let has_frames = kind == ARPHRD_ETHER && !loops;
        let link = Link {
            interface,
            has_frames,
        };
        links.insert(entry.interface_name, link);
    }
    for (name, mut own) in addresses {
        if let Some(link) = links.get_mut(&name) {
            own.sort_unstable();
            own.dedup();
            link.interface.own = own;
        }
    }
    links.into_values().collect()
}

fn address(entry: &InterfaceAddress) -> Option<IpAddr> {
    let address = entry.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}
