//! Another configuration: who is new, who is gone, and who has to begin anew.

use std::collections::BTreeMap;
use std::net::TcpListener;

use tracing::{info, warn};

use super::Engine;
use crate::rib::{LOCAL, PeerId};
use crate::speaker::bfd::Target;
use crate::speaker::config::{self, Config};
use crate::speaker::error::SpeakerError;
use crate::speaker::peer::Peer;
use crate::speaker::socket;
use crate::wire::notification::{self, Notification, cease};

impl Engine {
    /// Makes the peers those of `new`; a peer that did not change is not disturbed.
    pub(super) fn configure(&mut self, new: Config) -> Result<(), SpeakerError> {
        new.check()?;
        if (new.port, &new.listen) != (self.config.port, &self.config.listen) {
            self.listeners = listeners(&new)?;
            for peer in self.peers.values() {
                demand(&self.listeners, peer, true)?;
            }
        }
        if new.guard != self.config.guard {
            self.rib.set_guard(&new.guard);
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
        let restarted = new.restarted && self.comeback.is_some();
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
    pub(super) fn found_router(&mut self, interface: &str, router: std::net::Ipv6Addr) {
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
        config: &config::Peer,
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
        self.forget_comeback(id);
        if let Some(peer) = self.peers.remove(&id)
            && let Err(e) = demand(&self.listeners, &peer, false)
        {
            warn!("{e}");
        }
    }

    fn change_peer(&mut self, id: PeerId, new: &config::Peer) -> Result<(), SpeakerError> {
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
            self.forget_comeback(id);
        }
        self.start_peer(id);
        Ok(())
    }

    /// A peer that will not come back is not waited for.
    fn forget_comeback(&mut self, id: PeerId) {
        if let Some(comeback) = &mut self.comeback {
            comeback.waiting().forget(id);
        }
    }

    /// What a session that goes on has to know.
    fn change_policy(&mut self, id: PeerId, old: &config::Peer) {
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
}

pub(super) fn listeners(config: &Config) -> Result<Vec<TcpListener>, SpeakerError> {
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
