//! What an operator says about one peer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::{CS6, PORT};
use crate::attributes::NextHop;
use crate::fsm::SessionConfig;
use crate::rib::filter::Filter;
use crate::rib::{Import, NextHopMode};
use crate::speaker::password::Password;

/// How far a peer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// On a link of ours: what we send goes no further.
    #[default]
    Direct,
    /// At most this many hops away, unprotected.
    Multihop(u8),
    /// At most this many hops away, and what comes from further is dropped (GTSM, RFC 5082).
    Security(u8),
}

impl Ttl {
    /// TTL of what we send.
    pub(in crate::speaker) fn sent(self) -> u8 {
        match self {
            Ttl::Direct => 1,
            Ttl::Multihop(hops) => hops,
            Ttl::Security(_) => 255,
        }
    }

    /// Least TTL that is heard.
    pub(in crate::speaker) fn least(self) -> u8 {
        match self {
            Ttl::Security(hops) => 255 - hops.saturating_sub(1),
            Ttl::Direct | Ttl::Multihop(_) => 0,
        }
    }
}

/// BFD with a peer (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// We want to send this often.
    pub transmit: Duration,
    /// We can take packets this often.
    pub receive: Duration,
    /// Packets missed that mean down.
    pub multiplier: u8,
}

impl Default for Bfd {
    /// Down after 900 ms of silence.
    fn default() -> Bfd {
        Bfd {
            transmit: Duration::from_millis(300),
            receive: Duration::from_millis(300),
            multiplier: 3,
        }
    }
}

/// A peer. A change of what only concerns routes (`import`, `export`, `next_hop`, `max_paths`, `client`) or BFD
/// leaves its session alone; any other ends it and makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What is offered and asked for in its session.
    pub session: SessionConfig,
    /// Its address; `::` for the router that advertises itself on `interface`, whose address is not known (an
    /// unnumbered peer).
    pub address: IpAddr,
    /// The interface that it is behind: needed with a link-local address or none.
    pub interface: Option<String>,
    /// Port to connect to.
    pub port: u16,
    /// Our address towards it; by default the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Both sides sign with this.
    pub password: Option<Password>,
    /// How far it may be.
    pub ttl: Ttl,
    /// DSCP of what we send.
    pub dscp: u8,
    /// Held down by an operator: the reason, which it is told.
    pub shutdown: Option<String>,
    /// BFD.
    pub bfd: Option<Bfd>,
    /// How its routes are judged.
    pub import: Import,
    /// Rules for what it hears.
    pub export: Option<Arc<Filter>>,
    /// We reflect routes to and from it (RFC 4456).
    pub client: bool,
    /// Which next hop it hears.
    pub next_hop: NextHopMode,
    /// Our next hop for IPv4; by default the session's address or the first of its interface.
    pub own_v4: Option<Ipv4Addr>,
    /// Our next hop for IPv6; by default the session's address or the first of its interface.
    pub own_v6: Option<NextHop>,
    /// Most paths of a prefix, where several may be sent.
    pub max_paths: u16,
}

impl Peer {
    /// A peer at its defaults.
    pub fn new(session: SessionConfig, address: IpAddr) -> Peer {
        Peer {
            session,
            address,
            interface: None,
            port: PORT,
            local_address: None,
            password: None,
            ttl: Ttl::Direct,
            dscp: CS6,
            shutdown: None,
            bfd: None,
            import: Import::default(),
            export: None,
            client: false,
            next_hop: NextHopMode::default(),
            own_v4: None,
            own_v6: None,
            max_paths: 8,
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        let link_local = matches!(self.address, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let unnumbered = self.is_unnumbered();
        let other_family = |ip: IpAddr| ip.is_ipv4() != self.address.is_ipv4();
        let wrong = [
            (
                !unnumbered && self.address.is_unspecified() || self.address.is_multicast(),
                "its address is no host's",
            ),
            (
                link_local && self.interface.is_none(),
                "its address is link-local: name the interface too",
            ),
            (
                unnumbered && self.password.is_some(),
                "a password needs a peer with an address",
            ),
            (
                self.local_address == Some(self.address),
                "its address is our own",
            ),
            (
                self.local_address.is_some_and(other_family),
                "our address is of another family than its",
            ),
            (self.session.local_as == 0, "our AS is 0"),
            (
                self.session.peer_as == Some(0),
                "its AS is 0: leave it out for any other AS",
            ),
            (
                matches!(self.session.hold.offered, 1 | 2),
                "the hold time is 1 or 2 s: 0 is for none, 3 is the least",
            ),
            (
                self.session.families.enabled().next().is_none(),
                "no family is on",
            ),
            (self.dscp > 63, "the DSCP is above 63"),
            (
                matches!(self.ttl, Ttl::Security(0) | Ttl::Multihop(0)),
                "it is 0 hops away: 1 is for a neighbour on a link",
            ),
            (
                self.bfd
                    .is_some_and(|b| b.multiplier == 0 || b.transmit.is_zero()),
                "BFD needs a multiplier and an interval above 0",
            ),
            (self.client && self.external(), "a client is in our own AS"),
        ];
        match wrong.into_iter().find(|(is, _)| *is) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }

    /// Whether its address is found by router advertisements.
    pub(in crate::speaker) fn is_unnumbered(&self) -> bool {
        self.address == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) && self.interface.is_some()
    }

    fn external(&self) -> bool {
        self.session.peer_as != Some(self.session.local_as)
    }

    /// Whether a session made with `old` can go on with this.
    pub(in crate::speaker) fn keeps_session(&self, old: &Peer) -> bool {
        let only_session = |peer: &Peer| Peer {
            bfd: None,
            import: Import::default(),
            export: None,
            client: false,
            next_hop: NextHopMode::default(),
            own_v4: None,
            own_v6: None,
            max_paths: 0,
            ..peer.clone()
        };
        only_session(self) == only_session(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        let session = SessionConfig::new(64512, Ipv4Addr::new(10, 0, 0, 1), Some(65001));
        Peer::new(session, Ipv4Addr::new(10, 0, 0, 2).into())
    }

    #[test]
    fn only_policy_changes_without_a_new_session() {
        let old = peer();
        let mut policy = old.clone();
        policy.import.allowed_own_as = 1;
        policy.export = Some(Arc::new(Filter::default()));
        policy.bfd = Some(Bfd::default());
        assert!(policy.keeps_session(&old));
        let mut password = old.clone();
        password.password = Password::new(b"x").ok();
        assert!(!password.keeps_session(&old));
        let mut hold = old.clone();
        hold.session.hold.offered = 30;
        assert!(!hold.keeps_session(&old));
    }

    #[test]
    fn the_ttl_says_how_far() {
        assert_eq!((Ttl::Direct.sent(), Ttl::Direct.least()), (1, 0));
        assert_eq!(
            (Ttl::Security(1).sent(), Ttl::Security(1).least()),
            (255, 255)
        );
        assert_eq!(Ttl::Security(3).least(), 253);
        assert_eq!((Ttl::Multihop(4).sent(), Ttl::Multihop(4).least()), (4, 0));
    }
}
