//! Whom to watch, and how far away.

use std::net::IpAddr;

use crate::bfd::Hops;
use crate::rib::PeerId;
use crate::speaker::config::{Bfd, Ttl};

/// Single hop.
const PORT: u16 = 3784;
/// Several hops.
const MULTIHOP_PORT: u16 = 4784;
/// A peer to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::speaker) struct Target {
    pub(in crate::speaker) peer: PeerId,
    pub(in crate::speaker) address: IpAddr,
    pub(in crate::speaker) local: Option<IpAddr>,
    pub(in crate::speaker) interface: Option<String>,
    pub(in crate::speaker) ttl: Ttl,
    pub(in crate::speaker) bfd: Bfd,
}

impl Target {
    pub(super) fn port(&self) -> u16 {
        match self.ttl {
            Ttl::Direct | Ttl::Security(1) => PORT,
            Ttl::Multihop(_) | Ttl::Security(_) => MULTIHOP_PORT,
        }
    }

    pub(super) fn hops(&self) -> Hops {
        match self.ttl {
            Ttl::Direct | Ttl::Security(1) => Hops::Single,
            Ttl::Multihop(hops) | Ttl::Security(hops) => Hops::Multi {
                min_ttl: 255 - hops.saturating_sub(1),
            },
        }
    }

    /// Whether only the intervals differ.
    pub(super) fn same_path(&self, other: &Target) -> bool {
        let with = |target: &Target| Target {
            bfd: Bfd {
                multiplier: self.bfd.multiplier,
                ..Bfd::default()
            },
            ..target.clone()
        };
        with(self) == with(other) && self.bfd.multiplier == other.bfd.multiplier
    }
}
