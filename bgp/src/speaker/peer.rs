//! One peer of the running speaker: its sessions, connections and deadlines.

use std::time::{Duration, Instant};

use super::config::{Peer as Config, Ttl};
use super::connection::Connection;
use crate::arbiter::{Arbiter, Side};
use crate::bfd;
use crate::family::PerFamily;
use crate::fsm::{Helper, Negotiated, SessionConfig, Timer};
use crate::rib::{Export, PeerConfig, PeerId, PeerKind};

use super::socket;

/// What went over a session's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that came.
    pub messages_in: u64,
    /// Messages that were sent.
    pub messages_out: u64,
    /// Of those that came: UPDATEs.
    pub updates_in: u64,
    /// Errors in UPDATEs that cost less than the session (RFC 7606).
    pub faults: u64,
}

/// What went wrong, and when.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) words: String,
    pub(super) at: Instant,
}

/// A value for each side.
#[derive(Debug, Default)]
pub(super) struct BySide<T> {
    outgoing: T,
    incoming: T,
}

impl<T> BySide<T> {
    pub(super) fn get(&self, side: Side) -> &T {
        match side {
            Side::Outgoing => &self.outgoing,
            Side::Incoming => &self.incoming,
        }
    }

    pub(super) fn get_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Outgoing => &mut self.outgoing,
            Side::Incoming => &mut self.incoming,
        }
    }
}

pub(super) const SIDES: [Side; 2] = [Side::Outgoing, Side::Incoming];

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) name: String,
    /// With the address that was found, where it is unnumbered.
    pub(super) config: Config,
    pub(super) unnumbered: bool,
    pub(super) arbiter: Arbiter,
    pub(super) conns: BySide<Option<Connection>>,
    deadlines: BySide<[Option<Instant>; 4]>,
    pub(super) helper: Helper,
    /// When stale routes go at the latest.
    pub(super) helper_at: Option<Instant>,
    /// When a peer that had too many prefixes is tried again.
    pub(super) idle_until: Option<Instant>,
    /// The Established side, with what it agreed on.
    pub(super) up: Option<(Side, Box<Negotiated>)>,
    /// Families that were agreed on and are not used any more.
    pub(super) lost: PerFamily<bool>,
    /// Since when it is up, or is not.
    pub(super) since: Instant,
    /// Why the last session that was up ended.
    pub(super) down: Option<Failure>,
    /// Why the last attempt came to nothing.
    pub(super) failure: Option<Failure>,
    pub(super) traffic: Traffic,
    pub(super) flaps: u64,
    pub(super) bfd: Option<bfd::State>,
    /// Segments with bad signatures when the attempt began.
    pub(super) bad_signatures: u64,
}

fn place(timer: Timer) -> usize {
    match timer {
        Timer::Retry => 0,
        Timer::Hold => 1,
        Timer::Keepalive => 2,
        Timer::SendHold => 3,
    }
}

impl Peer {
    /// With `restarted`, its first session says that we have restarted and kept forwarding.
    pub(super) fn new(
        id: PeerId,
        name: &str,
        config: Config,
        restarted: bool,
        now: Instant,
    ) -> Peer {
        let session = SessionConfig {
            restarted,
            ..config.session.clone()
        };
        Peer {
            id,
            name: name.to_owned(),
            arbiter: Arbiter::new(session),
            unnumbered: config.is_unnumbered(),
            config,
            conns: BySide::default(),
            deadlines: BySide::default(),
            helper: Helper::default(),
            helper_at: None,
            idle_until: None,
            up: None,
            lost: PerFamily::default(),
            since: now,
            down: None,
            failure: None,
            traffic: Traffic::default(),
            flaps: 0,
            bfd: None,
            bad_signatures: 0,
        }
    }

    pub(super) fn arm(&mut self, side: Side, timer: Timer, at: Option<Instant>) {
        if let Some(slot) = self.deadlines.get_mut(side).get_mut(place(timer)) {
            *slot = at;
        }
    }

    /// A timer of a session that has run out, and stops it.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(Side, Timer)> {
        for side in SIDES {
            for timer in Timer::ALL {
                let slot = self.deadlines.get_mut(side).get_mut(place(timer));
                if let Some(slot) = slot
                    && slot.is_some_and(|at| at <= now)
                {
                    *slot = None;
                    return Some((side, timer));
                }
            }
        }
        None
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let timers = SIDES
            .iter()
            .flat_map(|s| self.deadlines.get(*s).iter().flatten());
        let connecting = SIDES
            .iter()
            .filter_map(|s| self.conns.get(*s).as_ref()?.connecting.as_ref());
        let own = [self.helper_at.as_ref(), self.idle_until.as_ref()];
        let own = own.into_iter().flatten();
        timers.chain(connecting).chain(own).min().copied()
    }

    /// The connection that routes are sent on.
    pub(super) fn route_conn(&mut self) -> Option<&mut Connection> {
        let side = self.up.as_ref()?.0;
        self.conns.get_mut(side).as_mut()
    }

    pub(super) fn fail(&mut self, words: String, now: Instant) {
        self.failure = Some(Failure { words, at: now });
    }

    /// What else silence may mean.
    pub(super) fn ttl_hint(&self) -> String {
        let hint = match self.config.ttl {
            Ttl::Security(1) => {
                "; is the peer on our link, and does it send with a TTL of 255 (TTL security)?"
            }
            Ttl::Security(hops) => {
                return format!(
                    "; is the peer at most {hops} hops away, and does it send with a TTL of 255 (TTL security)?"
                );
            }
            Ttl::Direct => "; is the peer more than one hop away, or does it demand TTL security?",
            Ttl::Multihop(_) => "",
        };
        hint.to_owned()
    }

    /// How long an attempt to connect may take.
    pub(super) fn patience(&self) -> Duration {
        self.config.session.retry.max(Duration::from_secs(3))
    }

    /// What its routes and ours look like in a session whose own end is `local`.
    pub(super) fn export(&self, agreed: &Negotiated, local: std::net::IpAddr) -> Export {
        let (v4, v6) = socket::own_hops(local);
        let kind = match (agreed.context.ibgp, self.config.client) {
            (false, _) => PeerKind::External,
            (true, true) => PeerKind::Client,
            (true, false) => PeerKind::Internal,
        };
        Export {
            kind,
            local_as: self.config.session.local_as,
            context: agreed.context,
            role: self.config.session.role,
            filter: self.config.export.clone(),
            next_hop: self.config.next_hop,
            own_v4: self.config.own_v4.or(v4),
            own_v6: self.config.own_v6.or(v6),
            max_paths: self.config.max_paths,
        }
    }

    /// What the RIB knows of it.
    pub(super) fn rib_config(&self, agreed: &Negotiated, local: std::net::IpAddr) -> PeerConfig {
        PeerConfig {
            address: self.config.address,
            router_id: agreed.peer_id,
            asn: agreed.peer_as,
            import: self.config.import.clone(),
            export: self.export(agreed, local),
        }
    }
}
