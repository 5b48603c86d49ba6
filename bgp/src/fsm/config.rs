//! What an operator says about a session.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::family::PerFamily;
use crate::wire::open::{AddPath, Capabilities, GracefulRestart, Open, RestartFamily, Role};

/// Hold times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Seconds offered in our OPEN: 0 for no KEEPALIVEs, or at least 3.
    pub offered: u16,
    /// Least that we accept of the neighbour, where it is not 0.
    pub least: u16,
}

impl Default for Hold {
    fn default() -> Hold {
        Hold {
            offered: 9,
            least: 3,
        }
    }
}

/// What an operator says about a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionConfig {
    /// Our AS towards this neighbour.
    pub local_as: u32,
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// The AS that the neighbour has to have; `None` for any other than ours (an unnumbered neighbour).
    pub peer_as: Option<u32>,
    /// Hold times.
    pub hold: Hold,
    /// Families offered.
    pub families: PerFamily<bool>,
    /// Several paths of a prefix, offered by family.
    pub add_path: PerFamily<AddPath>,
    /// IPv6 next hops for IPv4 prefixes, offered.
    pub extended_next_hop: bool,
    /// Long messages, offered.
    pub extended_message: bool,
    /// Our role.
    pub role: Option<Role>,
    /// Whether a neighbour that does not say its role is refused (RFC 9234 §4.2, strict mode).
    pub strict_role: bool,
    /// Seconds for which neighbours should keep our routes while we restart; 0 offers no graceful restart.
    pub restart_time: u16,
    /// Longest time for which a neighbour's routes live on while it restarts.
    pub max_restart_time: Duration,
    /// Whether we have just restarted and kept forwarding.
    pub restarted: bool,
    /// Wait for the neighbour to connect.
    pub passive: bool,
    /// Time between attempts to connect; the driver's jitter is between three quarters of it and all of it.
    pub retry: Duration,
}

impl SessionConfig {
    /// Everything at its default.
    pub fn new(local_as: u32, router_id: Ipv4Addr, peer_as: Option<u32>) -> SessionConfig {
        SessionConfig {
            local_as,
            router_id,
            peer_as,
            hold: Hold::default(),
            families: PerFamily { v4: true, v6: true },
            add_path: PerFamily::default(),
            extended_next_hop: false,
            extended_message: true,
            role: None,
            strict_role: false,
            restart_time: 120,
            max_restart_time: Duration::from_secs(120),
            restarted: false,
            passive: false,
            retry: Duration::from_secs(5),
        }
    }

    /// Our OPEN.
    pub fn open(&self) -> Open {
        let restart = GracefulRestart {
            restarted: self.restarted,
            notification: true,
            time: self.restart_time,
            families: PerFamily::from_fn(|family| RestartFamily {
                covered: *self.families.get(family),
                forwarding: *self.families.get(family) && self.restarted,
            }),
        };
        let external = self.peer_as != Some(self.local_as);
        Open {
            asn: self.local_as,
            hold_time: self.hold.offered,
            id: self.router_id,
            capabilities: Capabilities {
                families: self.families,
                as4: Some(self.local_as),
                refresh: true,
                enhanced_refresh: true,
                extended_message: self.extended_message,
                extended_next_hop: self.extended_next_hop,
                add_path: self.add_path,
                graceful_restart: (self.restart_time > 0).then_some(restart),
                role: self.role.filter(|_| external),
            },
        }
    }
}
