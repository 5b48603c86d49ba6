//! How large packets may be.

use model::Family;
use model::resources::{Encryption, Mtu};

use crate::Inputs;
use crate::peers::Peers;
use crate::pools::Pools;
use crate::problems::Problems;
use crate::{tunnels, wireguard};

/// What VXLAN adds: outer IP header, UDP 8, VXLAN 8 and the inner Ethernet header 14 bytes.
pub(crate) const fn vxlan_overhead(over: Family) -> u32 {
    match over {
        Family::V4 => 20 + 8 + 8 + 14,
        Family::V6 => 40 + 8 + 8 + 14,
    }
}

/// What WireGuard adds: outer IP header, UDP 8, and 32 of its own (header 16, tag 16 bytes).
pub(crate) const fn wireguard_overhead(over: Family) -> u32 {
    match over {
        Family::V4 => 20 + 8 + 32,
        Family::V6 => 40 + 8 + 32,
    }
}

/// MTU where nothing limits it, as on a host without a network.
const DEFAULT: u32 = 1500;
/// Every IPv6 link carries at least this (RFC 8200).
const IPV6_MIN: u32 = 1280;

/// The MTUs decided, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mtus {
    /// Of workload interfaces.
    pub(crate) workload: u32,
    /// As configured, to bound the tunnels too.
    configured: Option<u32>,
}

impl Mtus {
    /// MTU of the VXLAN device over an underlay link of this MTU.
    pub(crate) fn vxlan(&self, over: Family, underlay: u32) -> u32 {
        // The kernel refuses more than fits, whatever is configured.
        let fits = underlay.saturating_sub(vxlan_overhead(over));
        self.configured.map_or(fits, |c| c.min(fits))
    }

    /// MTU of the encrypted tunnel over an underlay link of this MTU.
    pub(crate) fn wireguard(&self, over: Family, underlay: u32) -> u32 {
        let fits = underlay.saturating_sub(wireguard_overhead(over));
        self.configured.map_or(fits, |c| c.min(fits))
    }
}

pub(crate) fn decide(
    inputs: &Inputs<'_>,
    pools: &Pools<'_>,
    peers: &Peers<'_>,
    problems: &mut Problems<'_>,
) -> Mtus {
    let vxlan = tunnels::wanted(inputs, pools, peers);
    let fits = fits(inputs, &vxlan, &wireguard::families(inputs, peers));
    let configured = match inputs.snapshot.mesh.mtu {
        Mtu::Auto => None,
        Mtu::Bytes(n) => Some(n),
    };
    let workload = configured.unwrap_or(fits);
    let mut report = |message| problems.add("MeshConfiguration/default".to_owned(), message);
    if workload > fits {
        report(format!(
            "spec.mtu: {workload} is more than fits on the path from this node; write {fits} or less, or auto"
        ));
    }
    if workload < IPV6_MIN && pools.have(Family::V6) {
        report(format!(
            "spec.mtu: {workload} is less than the {IPV6_MIN} that IPv6 needs; raise it, or the MTU of the underlay"
        ));
    }
    Mtus {
        workload,
        configured,
    }
}

/// The largest packet that goes unfragmented over every way in use.
fn fits(inputs: &Inputs<'_>, vxlan: &[Family], wireguard: &[Family]) -> u32 {
    let link = |f: Family| inputs.underlay.of(f).map(|l| (f, l.mtu));
    let links = || Family::ALL.into_iter().filter_map(link);
    let plain = if vxlan.is_empty() {
        links().map(|(_, mtu)| mtu).min()
    } else {
        links()
            .filter(|(f, _)| vxlan.contains(f))
            .map(|(f, mtu)| mtu.saturating_sub(vxlan_overhead(f)))
            .min()
    };
    let encrypted = links()
        .filter(|(f, _)| wireguard.contains(f))
        .map(|(f, mtu)| mtu.saturating_sub(wireguard_overhead(f)))
        .min();
    let plain = plain.filter(|_| inputs.snapshot.encryption() != Encryption::Required);
    let ways = [plain, encrypted];
    ways.into_iter().flatten().min().unwrap_or(DEFAULT)
}
