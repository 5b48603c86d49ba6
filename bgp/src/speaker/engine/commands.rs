//! What the owner of the speaker asks for.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Instant;

use model::Cidr;
use nix::poll::PollFlags;
use tracing::{info, warn};

use super::comeback::Comeback;
use super::reconfigure::listeners;
use super::{Dice, End, Engine};
use crate::attributes::Attributes;
use crate::fsm::{Deferral, Input};
use crate::rib::{PeerId, Rib, RibConfig};
use crate::speaker::bfd::BfdThread;
use crate::speaker::config::Config;
use crate::speaker::error::SpeakerError;
use crate::speaker::mailbox::Receiver;
use crate::speaker::peer::SIDES;
use crate::speaker::routers::Routers;
use crate::speaker::routes::Job;
use crate::speaker::{Command, Goodbye};
use crate::wire::notification::{Notification, cease};

impl Engine {
    pub(in crate::speaker) fn new(
        config: Config,
        commands: Receiver<Command>,
        routes: mpsc::Sender<Job>,
        bfd: BfdThread,
        routers: Routers,
    ) -> Result<Engine, SpeakerError> {
        config.check()?;
        let mut rib_config = RibConfig::new(config.router_id);
        rib_config.cluster_id = config.cluster_id.unwrap_or(rib_config.cluster_id);
        rib_config.decision = config.decision;
        let mut rib = Rib::new(rib_config);
        rib.set_deferred(config.restarted);
        rib.set_guard(&config.guard);
        let now = Instant::now();
        let comeback = Comeback::new(&config, now);
        let listeners = listeners(&config)?;
        let mut engine = Engine {
            config: Config {
                peers: BTreeMap::new(),
                ..config.clone()
            },
            rib,
            peers: BTreeMap::new(),
            listeners,
            accept_at: None,
            lingering: Vec::new(),
            commands,
            announced: BTreeMap::new(),
            routes,
            routes_busy: 0,
            settled: false,
            bfd,
            routers,
            comeback,
            dice: Dice::new(),
            now,
            more_to_send: false,
            scratch: Vec::new(),
        };
        engine.configure(config)?;
        if let Some(comeback) = &mut engine.comeback {
            let peers = engine.peers.values();
            let peers = peers.map(|p| (p.id, p.config.session.families));
            comeback.wait_for(Deferral::new(peers));
        }
        Ok(engine)
    }

    /// `Some` when the thread has to end.
    pub(super) fn command(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Configure(config, answer) => {
                let _ = answer.send(self.configure(*config));
            }
            Command::Announce(routes, answer) => {
                let _ = answer.send(self.announce(routes));
            }
            Command::Peers(answer) => {
                let _ = answer.send(self.statuses());
            }
            Command::Routes(query, answer) => {
                let _ = answer.send(self.find_routes(&query));
            }
            Command::Refresh(name, family, answer) => {
                let asked = self.id_of(&name).map(|id| self.ask_refresh(id, family));
                let _ = answer.send(asked);
            }
            Command::Reset(name, reason, answer) => {
                let reset = self.id_of(&name).map(|id| {
                    let words = Notification::with_reason(cease::ADMIN_RESET, &reason);
                    self.restart_peer(id, &words);
                });
                let _ = answer.send(reset);
            }
            Command::Written => self.routes_busy = self.routes_busy.saturating_sub(1),
            Command::Bfd(id, state, event) => self.bfd_changed(id, state, event),
            Command::Router(interface, router) => self.found_router(&interface, router),
            Command::Stop(goodbye) => return Some(End::Stop(goodbye)),
        }
        None
    }

    pub(super) fn id_of(&self, name: &str) -> Result<PeerId, SpeakerError> {
        let peer = self.peers.values().find(|p| p.name == name);
        peer.map(|p| p.id)
            .ok_or_else(|| SpeakerError::NoPeer(name.to_owned()))
    }

    /// Ends a session and makes it anew.
    pub(super) fn restart_peer(&mut self, id: PeerId, why: &Notification) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.idle_until = None;
            let outputs = peer.arbiter.stop(why);
            self.obey(id, outputs, None);
            self.start_peer(id);
        }
    }

    fn ask_refresh(&mut self, id: PeerId, family: model::Family) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let Some((side, _)) = &peer.up else {
            return false;
        };
        let side = *side;
        let message = peer.arbiter.session(side).ask_refresh(family);
        match (message, peer.conns.get_mut(side)) {
            (Some(message), Some(conn)) => {
                conn.push(&message);
                true
            }
            _ => false,
        }
    }

    fn announce(&mut self, routes: BTreeMap<Cidr, Attributes>) -> Result<(), SpeakerError> {
        for (prefix, attributes) in &routes {
            if self.announced.get(prefix) != Some(attributes) {
                let set = self.rib.local_set(prefix, attributes);
                set.map_err(|source| SpeakerError::Route {
                    prefix: *prefix,
                    source,
                })?;
            }
        }
        for prefix in self.announced.keys().filter(|p| !routes.contains_key(p)) {
            self.rib.local_remove(prefix);
        }
        self.announced = routes;
        Ok(())
    }

    fn bfd_changed(
        &mut self,
        id: PeerId,
        state: crate::bfd::State,
        event: Option<crate::bfd::Event>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.bfd = Some(state);
        match event {
            Some(crate::bfd::Event::Up) => info!(peer = peer.name, "BFD session is up"),
            Some(crate::bfd::Event::Down { diagnostic, admin }) => {
                warn!(peer = peer.name, admin, "BFD session is down: {diagnostic}");
                if !admin {
                    for side in SIDES {
                        self.input(id, side, Input::BfdDown);
                    }
                }
            }
            None => {}
        }
    }

    /// The last words of the process.
    pub(super) fn stop(&mut self, goodbye: &Goodbye) {
        let Goodbye::Shutdown(reason) = goodbye else {
            // Without a word neighbours take it for a restart and keep our routes (RFC 4724).
            return;
        };
        let why = Notification::with_reason(cease::ADMIN_SHUTDOWN, reason);
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id) {
                let outputs = peer.arbiter.stop(&why);
                self.obey(id, outputs, None);
            }
        }
        // Until the others have closed too, at most as long as a connection lingers.
        while !self.lingering.is_empty() {
            for (source, flags) in self.wait() {
                if let super::Source::Linger(at) = source
                    && flags.intersects(PollFlags::all())
                    && let Some(linger) = self.lingering.get_mut(at)
                    && !linger.drain()
                {
                    linger.until = self.now;
                }
            }
            let now = Instant::now();
            self.lingering.retain(|l| l.until > now);
        }
    }
}
