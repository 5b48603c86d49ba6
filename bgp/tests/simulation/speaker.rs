//! One speaker: its RIB, its neighbours and what a driver does with their outputs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::arbiter::{Arbiter, Side};
use bgp::attributes::Attributes;
use bgp::fsm::{Deferral, Helper, Negotiated, SessionConfig, Timer};
use bgp::rib::{Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Rib, RibConfig};
use bgp::{Family, NextHop, PerFamily};
use model::Cidr;

use crate::network::ConnId;

pub(crate) fn asn(speaker: usize) -> u32 {
    4_200_000_000 + u32::try_from(speaker).unwrap()
}

/// Not in the order of the numbers.
pub(crate) fn router_id(speaker: usize) -> Ipv4Addr {
    let mixed = u32::try_from(speaker).unwrap().wrapping_mul(0x9e37_79b1) | 1;
    Ipv4Addr::from_bits(0x0a00_0000 | mixed >> 8)
}

pub(crate) fn prefix(speaker: usize, family: Family) -> Cidr {
    let number = u16::try_from(speaker).unwrap();
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Cidr::containing(IpAddr::from([10, high, low, 0]), 24).unwrap(),
        Family::V6 => {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0);
            Cidr::containing(ip.into(), 64).unwrap()
        }
    }
}

pub(crate) struct Neighbour {
    /// The speaker it is, and our place in its list.
    pub(crate) number: usize,
    pub(crate) back: usize,
    pub(crate) arbiter: Arbiter,
    pub(crate) conns: HashMap<Side, ConnId>,
    /// What was armed last: older deadlines are void.
    pub(crate) armed: HashMap<(Side, Timer), u64>,
    pub(crate) helper: Helper,
    pub(crate) helper_armed: u64,
    /// The side that is Established, with what it agreed on.
    pub(crate) up: Option<(Side, Negotiated)>,
}

pub(crate) struct Speaker {
    pub(crate) number: usize,
    pub(crate) rib: Rib,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) deferral: Deferral<usize>,
    /// Counts restarts: events for an earlier life are void.
    pub(crate) life: u64,
}

pub(crate) fn session_config(speaker: usize, neighbour: usize, restarted: bool) -> SessionConfig {
    let mut config = SessionConfig::new(asn(speaker), router_id(speaker), Some(asn(neighbour)));
    config.restarted = restarted;
    config.restart_time = 20;
    config.max_restart_time = Duration::from_secs(20);
    // Differences that have to be negotiated.
    config.extended_message = !speaker.is_multiple_of(3);
    config.extended_next_hop = speaker.is_multiple_of(2);
    config
}

impl Speaker {
    pub(crate) fn new(number: usize, neighbours: &[(usize, usize)], life: u64) -> Speaker {
        let restarted = life > 0;
        let mut rib = Rib::new(RibConfig::new(router_id(number)));
        rib.set_deferred(restarted);
        for family in Family::ALL {
            rib.local_set(&prefix(number, family), &Attributes::default())
                .unwrap();
        }
        let both = PerFamily { v4: true, v6: true };
        let waited = neighbours.iter().enumerate().map(|(at, _)| (at, both));
        let deferral = if restarted {
            Deferral::new(waited)
        } else {
            Deferral::default()
        };
        Speaker {
            number,
            rib,
            deferral,
            life,
            neighbours: neighbours
                .iter()
                .map(|(neighbour, back)| Neighbour {
                    number: *neighbour,
                    back: *back,
                    arbiter: Arbiter::new(session_config(number, *neighbour, restarted)),
                    conns: HashMap::new(),
                    armed: HashMap::new(),
                    helper: Helper::default(),
                    helper_armed: 0,
                    up: None,
                })
                .collect(),
        }
    }

    pub(crate) fn peer_id(at: usize) -> PeerId {
        PeerId(u16::try_from(at + 1).unwrap())
    }

    pub(crate) fn pending(&self, at: usize) -> usize {
        let pending = |family| self.rib.pending(Self::peer_id(at), family);
        pending(Family::V4) + pending(Family::V6)
    }

    pub(crate) fn peer_config(&self, at: usize, agreed: &Negotiated) -> PeerConfig {
        let neighbour = self.neighbours.get(at).unwrap().number;
        let own = router_id(self.number);
        PeerConfig {
            address: router_id(neighbour).into(),
            router_id: agreed.peer_id,
            asn: agreed.peer_as,
            import: Import {
                enforce_first_as: true,
                ..Import::default()
            },
            export: Export {
                kind: PeerKind::External,
                local_as: asn(self.number),
                context: agreed.context,
                role: None,
                filter: None,
                next_hop: NextHopMode::Auto,
                own_v4: Some(own).filter(|_| !agreed.context.extended_next_hop),
                own_v6: Some(NextHop::LinkLocal("fe80::1".parse().unwrap())),
                max_paths: 1,
            },
        }
    }
}
