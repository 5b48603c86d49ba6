//! What concerns the host as a whole: masquerade and kernel switches.

use std::collections::{BTreeMap, BTreeSet};

use model::Family;
use model::kernel::{Guard, LinkName, Nat, TunnelLink};
use model::resources::Encryption;

use crate::Inputs;
use crate::endpoints::WorkloadLink;
use crate::pools::Pools;
use crate::tunnels::Tunnels;

/// Masquerade for the pools that ask for it; disabled ones too, as their workloads go on.
pub(crate) fn nat(pools: &Pools<'_>) -> Option<Nat> {
    let sources: BTreeSet<_> = (pools.iter())
        .filter(|p| p.spec.nat_outgoing)
        .map(|p| p.spec.cidr)
        .collect();
    (!sources.is_empty()).then(|| Nat {
        sources,
        exempt: pools.iter().map(|p| p.spec.cidr).collect(),
    })
}

/// The watch over what leaves in clear, which drops it where everything is to be encrypted. Without encryption
/// all of it is in clear: there is nothing to watch, and every packet would pay for it. `inside` are the
/// interfaces of workloads that are not named as ours are; a way to other hosts is none of them.
pub(crate) fn guard(
    inputs: &Inputs<'_>,
    pools: &Pools<'_>,
    inside: impl Iterator<Item = LinkName>,
) -> Option<Guard> {
    let encryption = inputs.snapshot.encryption();
    let pools: BTreeSet<_> = pools.iter().map(|p| p.spec.cidr).collect();
    let underlay = |link: &LinkName| {
        let mut links = Family::ALL
            .into_iter()
            .filter_map(|f| inputs.underlay.of(f));
        links.any(|l| l.interface == *link)
    };
    let is_watched = encryption != Encryption::Off && !pools.is_empty();
    is_watched.then(|| Guard {
        pools,
        inside: inside.filter(|l| !underlay(l)).collect(),
        drop: encryption == Encryption::Required,
    })
}

/// The kernel switches that forwarding needs.
pub(crate) fn sysctls(
    inputs: &Inputs<'_>,
    tunnels: &Tunnels<'_>,
    wireguard: Option<TunnelLink>,
    workloads: &[WorkloadLink],
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut set = |path: String, value: &str| out.insert(path, value.to_owned());
    set("net/ipv4/ip_forward".to_owned(), "1");
    // Only where IPv6 is used: a kernel started with `ipv6.disable=1` has no such switch.
    if uses_ipv6(inputs) {
        set("net/ipv6/conf/all/forwarding".to_owned(), "1");
        let link = inputs.underlay.of(Family::V6).filter(|_| inputs.accepts_ra);
        if let Some(link) = link {
            // 2: take router advertisements though forwarding is on.
            set(format!("net/ipv6/conf/{}/accept_ra", link.interface), "2");
        }
    }
    for name in tunnels.names() {
        // Loose, also where `all` is strict: answers to a pool of another vxlanMode leave by another device.
        set(format!("net/ipv4/conf/{name}/rp_filter"), "2");
    }
    if let Some(link) = wireguard {
        // Where all else is barred, what comes out must be from where the answer goes: strict. Loose
        // where not: others may encrypt before this node does.
        let filter = match inputs.snapshot.mesh.encryption {
            Encryption::Required => "1",
            Encryption::Off | Encryption::Preferred => "2",
        };
        set(format!("net/ipv4/conf/{}/rp_filter", link.name), filter);
    }
    for link in workloads {
        let strict = if link.may_spoof { "0" } else { "1" };
        set(format!("net/ipv4/conf/{}/rp_filter", link.name), strict);
    }
    out
}

fn uses_ipv6(inputs: &Inputs<'_>) -> bool {
    let pools = inputs.snapshot.pools.values().map(|r| r.spec.cidr);
    // IPv6 sorts last, so the last block alone tells.
    let last = inputs.snapshot.blocks.keys().next_back().copied();
    let endpoints = inputs.snapshot.local_endpoints.values();
    let addresses = endpoints.flat_map(|r| r.spec.ip_networks.iter().copied());
    (pools.chain(last).chain(addresses)).any(|c| c.family() == Family::V6)
}
