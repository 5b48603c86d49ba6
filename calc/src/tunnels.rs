//! The VXLAN devices of this node and what they need to know of the others.

use std::collections::{BTreeMap, BTreeSet};

use model::Family;
use model::kernel::{Address, FdbEntry, LinkName, Neighbour, Vxlan, VxlanSettings};
use model::marks;
use model::resources::Encryption;

use crate::Inputs;
use crate::mtu::Mtus;
use crate::path::{self, gateway, tunnel_family};
use crate::peers::{Own, Peers};
use crate::pools::Pools;
use crate::problems::Problems;

/// At most one device over each underlay family; each carries IPv4 and IPv6.
pub(crate) struct Tunnels<'a> {
    own: Own<'a>,
    v4: Option<Vxlan>,
    v6: Option<Vxlan>,
}

/// Which next hops of a peer some route uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// The underlay that VXLAN to the peer goes over.
    pub(crate) over: Option<Family>,
    /// IPv4 packets do.
    pub(crate) v4: bool,
    /// IPv6 packets do.
    pub(crate) v6: bool,
}

/// Which devices there should be, ahead of any block: the MTU of workloads follows from it and
/// should not change when the first block of another subnet appears.
pub(crate) fn wanted(inputs: &Inputs<'_>, pools: &Pools<'_>, peers: &Peers<'_>) -> Vec<Family> {
    let own = &peers.own;
    // Nothing goes in clear then.
    if inputs.snapshot.encryption() == Encryption::Required {
        return Vec::new();
    }
    // After the last VXLAN pool is deleted the tunnels stay for what is left in it, if they stood.
    let stood = || {
        own.spec
            .is_some_and(|s| Family::ALL.iter().any(|f| s.tunnel_addr(*f).is_some()))
    };
    let in_use = pools.want_vxlan() || stood() && pools.leave_orphans(inputs.snapshot);
    if !in_use {
        return Vec::new();
    }
    let has = |f: Family| inputs.underlay.of(f).is_some();
    let v6 = has(Family::V6)
        && (!has(Family::V4)
            || peers
                .iter()
                .any(|p| tunnel_family(own, p) == Ok(Family::V6)));
    let wanted = [(Family::V4, has(Family::V4)), (Family::V6, v6)];
    wanted
        .into_iter()
        .filter_map(|(f, is)| is.then_some(f))
        .collect()
}

impl<'a> Tunnels<'a> {
    pub(crate) fn decide(
        inputs: &Inputs<'a>,
        pools: &Pools<'_>,
        peers: &Peers<'a>,
        mtus: &Mtus,
        problems: &mut Problems<'_>,
    ) -> Tunnels<'a> {
        let mut this = Tunnels {
            own: peers.own,
            v4: None,
            v6: None,
        };
        for over in wanted(inputs, pools, peers) {
            let device = this.device(inputs, over, mtus);
            if device.is_none() {
                problems.add(
                    format!("Node/{}", inputs.node),
                    format!("no VXLAN device over {over}: the node has published no MAC address for it; it should within seconds, else see the log of routerd here"),
                );
            }
            match over {
                Family::V4 => this.v4 = device,
                Family::V6 => this.v6 = device,
            }
        }
        for family in Family::ALL.into_iter().filter(|f| pools.have(*f)) {
            if this.iter().next().is_some() && this.source(family).is_none() {
                problems.add(
                    format!("Node/{}", inputs.node),
                    format!(
                        "it has no {family} tunnel address: {}",
                        path::TUNNEL_ADDRESS_MEND
                    ),
                );
            }
        }
        this
    }

    /// The device over an underlay family; `None` until its MAC is published, as others could not reach it.
    fn device(&self, inputs: &Inputs<'_>, over: Family, mtus: &Mtus) -> Option<Vxlan> {
        let (link, mac) = self.own.vtep(over)?;
        let name = match over {
            Family::V4 => marks::VXLAN_V4,
            Family::V6 => marks::VXLAN_V6,
        };
        Some(Vxlan {
            name: name.parse().ok()?,
            settings: VxlanSettings {
                vni: inputs.snapshot.mesh.vxlan_vni,
                port: inputs.snapshot.mesh.vxlan_port,
                local: link.address.ip,
                learning: false,
            },
            parent: link.interface,
            mac,
            mtu: mtus.vxlan(over, link.mtu),
        })
    }

    /// The device over an underlay family.
    pub(crate) fn over(&self, family: Family) -> Option<&Vxlan> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Vxlan> {
        self.v4.iter().chain(&self.v6)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = LinkName> {
        self.iter().map(|d| d.name)
    }

    pub(crate) fn devices(&self) -> BTreeMap<LinkName, Vxlan> {
        self.iter().map(|d| (d.name, *d)).collect()
    }

    /// This node's tunnel address of a family, if some device carries it.
    pub(crate) fn source(&self, family: Family) -> Option<std::net::IpAddr> {
        self.iter().next()?;
        self.own.spec?.tunnel_addr(family)
    }

    /// The tunnel addresses, on each device: none moves when the other device comes or goes.
    pub(crate) fn addresses(&self) -> BTreeSet<(LinkName, Address)> {
        self.iter()
            .flat_map(|d| {
                Family::ALL.into_iter().filter_map(|f| {
                    let ip = self.source(f)?;
                    let prefix = f.bits();
                    Some((d.name, Address { ip, prefix }))
                })
            })
            .collect()
    }

    /// Neighbours and forwarding entries of the peers that some route leads to.
    pub(crate) fn entries(
        &self,
        peers: &Peers<'_>,
        used: &[Used],
    ) -> (Vec<Neighbour>, Vec<FdbEntry>) {
        let mut neighbours = Vec::with_capacity(2 * used.len());
        let mut fdb = Vec::with_capacity(used.len());
        for (peer, used) in peers.iter().zip(used) {
            let Some((over, device)) = used.over.and_then(|o| Some((o, self.over(o)?))) else {
                continue;
            };
            let (dev, mac, dst) = match (peer.spec.vtep_mac(over), peer.underlay(over)) {
                (Some(mac), Some(dst)) => (device.name, mac, dst.ip),
                _ => continue,
            };
            fdb.push(FdbEntry { dev, mac, dst });
            for (family, is) in [(Family::V4, used.v4), (Family::V6, used.v6)] {
                if let Some(ip) = is.then(|| gateway(peer, family, mac).ok()).flatten() {
                    neighbours.push(Neighbour { dev, ip, mac });
                }
            }
        }
        (neighbours, fdb)
    }
}
