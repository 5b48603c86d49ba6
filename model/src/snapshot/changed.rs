//! Which parts of a snapshot an event changed.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of parts of a [`super::Snapshot`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Changed(u16);

impl Changed {
    /// No part.
    pub const NONE: Changed = Changed(0);
    /// `nodes`.
    pub const NODES: Changed = Changed(1);
    /// `pools`.
    pub const POOLS: Changed = Changed(1 << 1);
    /// `reservations`.
    pub const RESERVATIONS: Changed = Changed(1 << 2);
    /// `ipam`.
    pub const IPAM: Changed = Changed(1 << 3);
    /// `mesh`.
    pub const MESH: Changed = Changed(1 << 4);
    /// `namespaces`.
    pub const NAMESPACES: Changed = Changed(1 << 5);
    /// `local_endpoints`.
    pub const LOCAL_ENDPOINTS: Changed = Changed(1 << 6);
    /// `remote_endpoints`.
    pub const REMOTE_ENDPOINTS: Changed = Changed(1 << 7);
    /// `blocks`.
    pub const BLOCKS: Changed = Changed(1 << 8);
    /// `rejected`.
    pub const REJECTED: Changed = Changed(1 << 9);
    /// `bgp_configurations`, `bgp_peers` and `bgp_filters`.
    pub const BGP: Changed = Changed(1 << 10);
    /// `secrets`.
    pub const SECRETS: Changed = Changed(1 << 11);

    /// `tiers` and `policies`.
    pub const POLICIES: Changed = Changed(1 << 12);
    /// `network_sets`.
    pub const NETWORK_SETS: Changed = Changed(1 << 13);
    /// `host_endpoints`.
    pub const HOST_ENDPOINTS: Changed = Changed(1 << 14);

    const NAMES: [(Changed, &'static str); 15] = [
        (Changed::NODES, "nodes"),
        (Changed::POOLS, "pools"),
        (Changed::RESERVATIONS, "reservations"),
        (Changed::IPAM, "ipam"),
        (Changed::MESH, "mesh"),
        (Changed::NAMESPACES, "namespaces"),
        (Changed::LOCAL_ENDPOINTS, "localEndpoints"),
        (Changed::REMOTE_ENDPOINTS, "remoteEndpoints"),
        (Changed::BLOCKS, "blocks"),
        (Changed::REJECTED, "rejected"),
        (Changed::BGP, "bgp"),
        (Changed::SECRETS, "secrets"),
        (Changed::POLICIES, "policies"),
        (Changed::NETWORK_SETS, "networkSets"),
        (Changed::HOST_ENDPOINTS, "hostEndpoints"),
    ];

    /// Whether nothing changed.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any part of `other` changed.
    pub const fn any(self, other: Changed) -> bool {
        self.0 & other.0 != 0
    }

    /// This set when `changed`, else none.
    pub(super) fn when(self, changed: bool) -> Changed {
        if changed { self } else { Changed::NONE }
    }
}

impl BitOr for Changed {
    type Output = Changed;

    fn bitor(self, other: Changed) -> Changed {
        Changed(self.0 | other.0)
    }
}

impl BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Changed) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Changed::NAMES.iter().filter(|(part, _)| self.any(*part));
        f.debug_set().entries(names.map(|(_, name)| name)).finish()
    }
}
