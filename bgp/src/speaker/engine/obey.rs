//! What sessions want done is done.

use std::net::IpAddr;

use model::Family;
use tracing::{debug, info, warn};

use super::Engine;
use crate::arbiter::Side;
use crate::family::PerFamily;
use crate::fsm::{Down, Input, Negotiated, Output, Reason};
use crate::rib::PeerId;
use crate::speaker::peer::Failure;
use crate::wire::notification::{self, Notification, cease};
use crate::wire::refresh::Refresh;
use crate::wire::update;

/// Subcode of UPDATE Message Error: Optional Attribute Error.
const OPTIONAL_ATTRIBUTE: u8 = 9;
/// Until a peer that had too many prefixes is tried again.
const IDLE_AFTER_TOO_MANY: std::time::Duration = std::time::Duration::from_secs(60);

impl Engine {
    /// `body` is that of the message that was the input.
    pub(super) fn obey(&mut self, id: PeerId, outputs: Vec<(Side, Output)>, body: Option<&[u8]>) {
        for (side, output) in outputs {
            match output {
                Output::Connect => self.connect(id, side),
                Output::Send(message) => {
                    if let Some(peer) = self.peers.get_mut(&id)
                        && let Some(conn) = peer.conns.get_mut(side)
                    {
                        conn.push(&message);
                        peer.traffic.messages_out += 1;
                    }
                }
                Output::Close => {
                    let conn = self.peers.get_mut(&id);
                    let conn = conn.and_then(|p| p.conns.get_mut(side).take());
                    // One that was not made yet has no last words.
                    let conn = conn.filter(|c| c.connecting.is_none());
                    self.lingering.extend(conn.and_then(|c| c.finish(self.now)));
                }
                Output::Arm(timer, time) => {
                    let at = self.now + time;
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.arm(side, timer, Some(at));
                    }
                }
                Output::Disarm(timer) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.arm(side, timer, None);
                    }
                }
                Output::Up(agreed) => self.up(id, side, agreed),
                Output::Down(down) => self.down(id, &down),
                Output::Failed(reason) => self.failed(id, side, &reason),
                Output::Update => {
                    if let Some(body) = body {
                        self.update(id, side, body);
                    }
                }
                Output::Refresh(family, refresh) => self.refresh(id, family, refresh),
            }
        }
    }

    fn up(&mut self, id: PeerId, side: Side, agreed: Box<Negotiated>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let local = peer.conns.get(side).as_ref().and_then(|c| c.local().ok());
        let local = local.map_or(IpAddr::from([0, 0, 0, 0]), |at| at.ip());
        info!(
            peer = peer.name,
            address = %peer.config.address,
            asn = agreed.peer_as,
            hold_seconds = agreed.hold.as_secs(),
            "BGP session is up"
        );
        let rib_config = peer.rib_config(&agreed, local);
        // We have restarted once; the next session is an ordinary one.
        peer.arbiter.set_config(&peer.config.session);
        peer.since = self.now;
        let patience = peer.config.session.max_restart_time;
        let helped = peer.helper.up(&agreed, patience);
        self.rib.peer_up(id, rib_config);
        if let Some(comeback) = &mut self.comeback {
            comeback.waiting().up(id, &agreed);
        }
        peer.up = Some((side, agreed));
        peer.lost = PerFamily::default();
        self.help(id, helped);
    }

    fn down(&mut self, id: PeerId, down: &Down) {
        self.rib.peer_down(id, down.keep);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let words = down.reason.to_string();
        let kept = down.keep.enabled().next().is_some();
        warn!(
            peer = peer.name,
            address = %peer.config.address,
            routes_kept = kept,
            "BGP session is down: {words}"
        );
        peer.down = Some(Failure {
            words,
            at: self.now,
        });
        peer.failure = None;
        peer.up = None;
        peer.since = self.now;
        peer.flaps += 1;
        let helped = peer.helper.down(down);
        self.help(id, helped);
    }

    fn failed(&mut self, id: PeerId, side: Side, reason: &Reason) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let collision = matches!(reason, Reason::Sent(n) | Reason::Received(n)
            if n.code == notification::CEASE && n.subcode == cease::COLLISION);
        // Words about an attempt that never had a connection were found when it failed.
        if collision || *reason == Reason::ConnectFailed {
            return;
        }
        let silent = matches!(reason, Reason::Sent(n) if n.code == notification::HOLD_TIMER);
        let hint = if silent {
            peer.ttl_hint()
        } else {
            String::new()
        };
        let words = format!("{reason}{hint}");
        debug!(peer = peer.name, ?side, "no BGP session: {words}");
        peer.fail(words, self.now);
    }

    fn update(&mut self, id: PeerId, side: Side, body: &[u8]) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((_, agreed)) = peer.up.as_ref().filter(|(up, _)| *up == side) else {
            return;
        };
        peer.traffic.updates_in += 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = match update::split(body, &agreed.context, &mut scratch) {
            Err(notification) => Err(notification),
            Ok(update) => {
                let applied = self.rib.apply(id, &update);
                let faults = update.faults.iter().chain(&applied.faults);
                for fault in faults {
                    peer.traffic.faults += 1;
                    debug!(
                        peer = peer.name,
                        attribute = fault.attribute,
                        cost = ?fault.disposition,
                        "error in an UPDATE: {}",
                        fault.what
                    );
                }
                if peer.traffic.faults == 1 {
                    warn!(
                        peer = peer.name,
                        "the peer sends UPDATEs with errors (RFC 7606)"
                    );
                }
                Ok((update.end_of_rib, applied.too_many, update.disable))
            }
        };
        self.scratch = scratch;
        match outcome {
            Err(notification) => self.input(id, side, Input::Garbled(notification)),
            Ok((end_of_rib, too_many, broken)) => {
                if let Some(family) = end_of_rib {
                    self.end_of_rib(id, family);
                }
                if let Some(family) = broken {
                    self.lose_family(id, side, family);
                } else if let Some(family) = too_many {
                    self.too_many(id, side, family);
                }
            }
        }
    }

    fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(comeback) = &mut self.comeback {
            comeback.waiting().end_of_rib(id, family);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            let helped = peer.helper.end_of_rib(family);
            self.help(id, helped);
        }
    }

    /// Prefixes that cannot be read cost their family for as long as the session lasts (RFC 4760 §7): nobody knows what
    /// they were. A session without another family would carry nothing: it ends, and begins anew with all routes.
    fn lose_family(&mut self, id: PeerId, side: Side, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((_, agreed)) = &mut peer.up else {
            return;
        };
        *agreed.context.families.get_mut(family) = false;
        if agreed.context.families.enabled().next().is_none() {
            let unreadable = Notification::plain(notification::UPDATE, OPTIONAL_ATTRIBUTE);
            return self.input(id, side, Input::Garbled(unreadable));
        }
        warn!(
            peer = peer.name,
            ?family,
            "the peer sent prefixes that cannot be read: the family is not used until the session ends"
        );
        *peer.lost.get_mut(family) = true;
        self.rib.disable_family(id, family);
    }

    /// It would only come back with as many.
    fn too_many(&mut self, id: PeerId, side: Side, family: Family) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let limit = peer.config.import.max_prefixes.get(family).unwrap_or(0);
        warn!(
            peer = peer.name,
            ?family,
            limit,
            "more prefixes than allowed: the session ends"
        );
        // RFC 4486 §4: the family and its limit.
        let mut data = crate::family::afi(family).to_be_bytes().to_vec();
        data.push(crate::family::UNICAST);
        data.extend(limit.to_be_bytes());
        let over = Notification::new(notification::CEASE, cease::MAX_PREFIXES, data.into());
        peer.idle_until = Some(self.now + IDLE_AFTER_TOO_MANY);
        self.input(id, side, Input::Fail(over));
        let quiet = Notification::plain(notification::CEASE, cease::MAX_PREFIXES);
        if let Some(peer) = self.peers.get_mut(&id) {
            let outputs = peer.arbiter.stop(&quiet);
            self.obey(id, outputs, None);
        }
    }

    fn refresh(&mut self, id: PeerId, family: Family, refresh: Refresh) {
        let agreed = self.peers.get(&id).and_then(|p| p.up.as_ref());
        let Some((_, agreed)) = agreed else {
            return;
        };
        match refresh {
            Refresh::Request => self.rib.refresh(id, family, agreed.enhanced_refresh),
            Refresh::Begin => self.rib.mark_stale(id, family),
            Refresh::End => self.rib.sweep_stale(id, family),
        }
    }
}
