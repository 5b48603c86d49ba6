//! What the owner of the speaker asks for.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Instant;

use model::Cidr;
use nix::poll::PollFlags;
use tracing::{info, warn};

use super::{Dice, End, Engine};
use crate::attributes::Attributes;
use crate::fsm::{Deferral, Input};
use crate::rib::{LOCAL, PeerId, Rib, RibConfig};
use crate::speaker::bfd::{BfdThread, Target};
use crate::speaker::config::Config;
use crate::speaker::error::SpeakerError;
use crate::speaker::mailbox::Receiver;
use crate::speaker::peer::{Peer, SIDES};
use crate::speaker::routers::Routers;
use crate::speaker::routes::Job;
use crate::speaker::{Command, Goodbye, socket};
use crate::wire::notification::{self, Notification, cease};

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
        let now = Instant::now();
        let deferral_at = config.restarted.then(|| now + config.deferral);
        let listeners = listeners(&config)?;
        let mut engine = Engine {
            config: Config {
                peers: BTreeMap::new(),
                ..config.clone()
            },
            rib,
            peers: BTreeMap::new(),
            listeners,
            lingering: Vec::new(),
            commands,
            announced: BTreeMap::new(),
            routes,
            routes_busy: false,
            settled: false,
            bfd,
            routers,
            deferral: Deferral::new([]),
            deferral_at,
            dice: Dice::new(),
            now,
            more_to_send: false,
            scratch: Vec::new(),
        };
        engine.configure(config)?;
        let peers = engine.peers.values();
        if engine.config.restarted {
            engine.deferral = Deferral::new(peers.map(|p| (p.id, p.config.session.families)));
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
            Command::Written => self.routes_busy = false,
            Command::Bfd(id, state, event) => self.bfd_changed(id, state, event),
            Command::Router(interface, router) => self.found_router(&interface, router),
            Command::Stop(goodbye) => return Some(End::Stop(goodbye)),
        }
        None
    }

    fn id_of(&self, name: &str) -> Result<PeerId, SpeakerError> {
        let peer = self.peers.values().find(|p| p.name == name);
        peer.map(|p| p.id)
            .ok_or_else(|| SpeakerError::NoPeer(name.to_owned()))
    }

    /// Ends a session and makes it anew.
    fn restart_peer(&mut self, id: PeerId, why: &Notification) {
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

    /// Makes the peers those of `new`; a peer that did not change is not disturbed.
    fn configure(&mut self, new: Config) -> Result<(), SpeakerError> {
        new.check()?;
        if (new.port, &new.listen) != (self.config.port, &self.config.listen) {
            self.listeners = listeners(&new)?;
            for peer in self.peers.values() {
                demand(&self.listeners, peer, true)?;
            }
        }
        let gone: Vec<PeerId> = self
            .peers
            .values()
            .filter(|p| !new.peers.contains_key(&p.name))
            .map(|p| p.id)
            .collect();
        for id in gone {
            self.remove_peer(id);
        }
        let restarted = new.restarted && self.deferral_at.is_some();
        for (name, config) in &new.peers {
            match self.id_of(name) {
                Ok(id) => self.change_peer(id, config)?,
                Err(_) => self.add_peer(name, config, restarted)?,
            }
        }
        self.config = Config {
            peers: BTreeMap::new(),
            ..new
        };
        self.bfd.watch(self.bfd_targets());
        let unnumbered = self.peers.values().filter(|p| p.unnumbered);
        let links = unnumbered.filter_map(|p| p.config.interface.clone());
        self.routers.watch(links.collect());
        Ok(())
    }

    /// An unnumbered peer has an address, or another one.
    fn found_router(&mut self, interface: &str, router: std::net::Ipv6Addr) {
        let mut peers = self.peers.values_mut().filter(|p| p.unnumbered);
        let here = |p: &&mut Peer| p.config.interface.as_deref() == Some(interface);
        let Some(peer) = peers.find(here).filter(|p| p.config.address != router) else {
            return;
        };
        if peer.up.is_some() {
            return; // One of several on the link: the first stays.
        }
        info!(peer = peer.name, interface, "router {router} is the peer");
        let id = peer.id;
        peer.config.address = router.into();
        let why = Notification::plain(notification::CEASE, cease::CONFIG_CHANGE);
        self.restart_peer(id, &why);
        self.bfd.watch(self.bfd_targets());
    }

    fn add_peer(
        &mut self,
        name: &str,
        config: &crate::speaker::Peer,
        restarted: bool,
    ) -> Result<(), SpeakerError> {
        let free = (LOCAL.0 + 1..=u16::MAX).map(PeerId);
        let Some(id) = free.into_iter().find(|id| !self.peers.contains_key(id)) else {
            return Ok(()); // Config::check() has counted them.
        };
        let peer = Peer::new(id, name, config.clone(), restarted, self.now);
        demand(&self.listeners, &peer, true)?;
        self.peers.insert(id, peer);
        self.start_peer(id);
        Ok(())
    }

    fn remove_peer(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        info!(peer = peer.name, "BGP peer is not configured any more");
        let why = Notification::plain(notification::CEASE, cease::DECONFIGURED);
        let outputs = peer.arbiter.stop(&why);
        self.obey(id, outputs, None);
        self.rib.peer_remove(id);
        self.deferral.forget(id);
        if let Some(peer) = self.peers.remove(&id)
            && let Err(e) = demand(&self.listeners, &peer, false)
        {
            warn!("{e}");
        }
    }

    fn change_peer(&mut self, id: PeerId, new: &crate::speaker::Peer) -> Result<(), SpeakerError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        let mut new = new.clone();
        if new.is_unnumbered() && peer.unnumbered && new.interface == peer.config.interface {
            new.address = peer.config.address;
        }
        let new = &new;
        peer.unnumbered =
            new.is_unnumbered() || peer.unnumbered && new.address == peer.config.address;
        if peer.config == *new {
            return Ok(());
        }
        let old = std::mem::replace(&mut peer.config, new.clone());
        if new.keeps_session(&old) {
            self.change_policy(id, &old);
            return Ok(());
        }
        if (old.address, &old.password) != (new.address, &new.password) {
            let before = Peer::new(id, &peer.name, old, false, self.now);
            demand(&self.listeners, &before, false)?;
            demand(&self.listeners, peer, true)?;
        }
        let why = match &new.shutdown {
            Some(reason) => Notification::with_reason(cease::ADMIN_SHUTDOWN, reason),
            None => Notification::plain(notification::CEASE, cease::CONFIG_CHANGE),
        };
        let outputs = peer.arbiter.stop(&why);
        peer.arbiter.set_config(&new.session);
        peer.idle_until = None;
        self.obey(id, outputs, None);
        // What was kept for the return of the peer as it was is not waited for.
        self.rib.peer_down(id, crate::PerFamily::default());
        if new.shutdown.is_some() {
            self.deferral.forget(id);
        }
        self.start_peer(id);
        Ok(())
    }

    /// What a session that goes on has to know.
    fn change_policy(&mut self, id: PeerId, old: &crate::speaker::Peer) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Some((side, agreed)) = &peer.up else {
            return;
        };
        let local = peer.conns.get(*side).as_ref().and_then(|c| c.local().ok());
        if let Some(local) = local {
            self.rib.set_export(id, &peer.export(agreed, local.ip()));
        }
        if peer.config.import != old.import {
            self.rib.set_import(id, peer.config.import.clone());
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

    fn bfd_targets(&self) -> Vec<Target> {
        let wanted = |p: &&Peer| p.config.shutdown.is_none() && !p.config.is_unnumbered();
        let wanted = self.peers.values().filter(wanted);
        wanted
            .filter_map(|peer| {
                Some(Target {
                    peer: peer.id,
                    address: peer.config.address,
                    local: peer.config.local_address,
                    interface: peer.config.interface.clone(),
                    ttl: peer.config.ttl,
                    bfd: peer.config.bfd?,
                })
            })
            .collect()
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

fn listeners(config: &Config) -> Result<Vec<TcpListener>, SpeakerError> {
    let Some(port) = config.port else {
        return Ok(Vec::new());
    };
    let at = config.listen.iter().map(|ip| (*ip, port).into());
    at.map(|address| {
        socket::listen(address).map_err(|source| SpeakerError::Listen { address, source })
    })
    .collect()
}

/// Sets a peer's password on the listeners of its family, or takes it away.
fn demand(listeners: &[TcpListener], peer: &Peer, on: bool) -> Result<(), SpeakerError> {
    if peer.config.password.is_none() {
        return Ok(());
    }
    let same_family = |l: &&TcpListener| {
        let at = l.local_addr();
        at.is_ok_and(|at| at.is_ipv4() == peer.config.address.is_ipv4())
    };
    for listener in listeners.iter().filter(same_family) {
        let done = socket::demand_signature(listener, &peer.config, on);
        done.map_err(|source| SpeakerError::Password {
            peer: peer.name.clone(),
            source,
        })?;
    }
    Ok(())
}
