//! All pairs of a node: who a datagram is of, what is due, and how much of it at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::context::{Bucket, Context, IN_FLIGHT, LEAVE, SPREAD, spread};
use super::follower;
use super::kem::KemKey;
use super::leader;
use super::message::{KeyId, Message, Sealed, key_id};
use super::pair::{Pair, PairKeys, PairStatus, PeerSpec, Role};
use crate::entropy::{self, Entropy};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey};
use crate::time::Time;

/// What a node is, for its peers.
#[derive(Debug)]
pub struct Settings {
    /// Its name: of two nodes the one with the lesser name leads.
    pub node: Arc<str>,
    /// The key of its tunnel.
    pub private_key: PrivateKey,
    /// The one before or after it, while it changes.
    pub other_private_key: Option<PrivateKey>,
    /// What others encapsulate to.
    pub kem: KemKey,
    /// A key is replaced before it is older than this.
    pub rotate_every: Duration,
    /// No handshakes at all with who has agreed on no key.
    pub is_required: bool,
}

/// The preshared keys that the device is to have for a peer from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The peer's name.
    pub node: Arc<str>,
    /// Its keys; none: this is nobody's affair any more.
    pub keys: Option<PairKeys>,
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// Its payload.
    pub datagram: Vec<u8>,
}

/// The exchanges of a node.
///
/// After every call take all of [`Exchange::poll_install`], carry it out, and only then send what
/// [`Exchange::poll_transmit`] gives: it may say that the device has those keys. A datagram that cannot be sent
/// counts as lost.
pub struct Exchange {
    settings: Settings,
    entropy: Box<dyn Entropy>,
    ticket_secret: Zeroizing<[u8; KEY_LEN]>,
    pairs: BTreeMap<Arc<str>, Pair>,
    by_key: HashMap<KeyId, Arc<str>>,
    timers: BTreeSet<(Time, Arc<str>)>,
    /// Exchanges that are past their greeting.
    in_flight: usize,
    offers: Bucket,
    installs: BTreeMap<Arc<str>, Option<PairKeys>>,
    transmits: VecDeque<Transmit>,
}

impl Exchange {
    /// One without peers.
    pub fn new(settings: Settings, mut entropy: Box<dyn Entropy>) -> Exchange {
        let ticket_secret = Zeroizing::new(entropy::bytes(&mut *entropy));
        Exchange {
            settings,
            entropy,
            ticket_secret,
            pairs: BTreeMap::new(),
            by_key: HashMap::new(),
            timers: BTreeSet::new(),
            in_flight: 0,
            offers: Bucket::default(),
            installs: BTreeMap::new(),
            transmits: VecDeque::new(),
        }
    }

    /// This node's tunnel has other keys.
    pub fn set_private_keys(&mut self, key: PrivateKey, other: Option<PrivateKey>) {
        (self.settings.private_key, self.settings.other_private_key) = (key, other);
    }

    /// Others encapsulate to another key from now on; what is under way to the old one is done again.
    pub fn set_kem(&mut self, kem: KemKey) {
        self.settings.kem = kem;
    }

    /// Replaces the keys of all pairs, in the time that is given to first words.
    pub fn renew(&mut self, now: Time) {
        let names: Vec<_> = self.pairs.keys().cloned().collect();
        let time = self.spread_time();
        for name in names {
            let at = now + spread(&mut *self.entropy, time);
            if let Some(pair) = self.pairs.get_mut(&name).filter(|p| !p.is_leaving) {
                pair.renew = true;
                pair.due = Some(pair.due.map_or(at, |due| due.min(at)));
            }
            self.arm(&name);
        }
    }

    /// Whether there are no handshakes with who has agreed on no key.
    pub fn set_required(&mut self, now: Time, is_required: bool) {
        if self.settings.is_required == is_required {
            return;
        }
        self.settings.is_required = is_required;
        let names: Vec<_> = self.pairs.keys().cloned().collect();
        for name in names {
            // What is under way may be about to keep what is not to be any more.
            self.stop(&name);
            self.provide(&name);
            if self.pairs.get(&name).is_some_and(|pair| !pair.is_leaving) {
                self.greet(now, &name);
            }
        }
    }

    /// Where there is no key yet: one that nobody has if need be, else none.
    fn provide(&mut self, name: &Arc<str>) {
        let Some(pair) = self.pairs.get_mut(name).filter(|p| !p.is_leaving) else {
            return;
        };
        if self.settings.is_required {
            pair.keys.other.take_if(|key| key.is_none());
            if pair.keys.first.is_none() {
                let next = pair.keys.other.take();
                pair.is_provisional = next.is_none();
                pair.is_agreed = false;
                pair.keys.first =
                    next.unwrap_or_else(|| PresharedKey::new(entropy::bytes(&mut *self.entropy)));
            }
        } else if std::mem::take(&mut pair.is_provisional) {
            pair.keys.first = PresharedKey::none();
        }
        pair.forget_tickets();
        self.install(name);
    }

    /// Who takes part. Pairs that stay go on; a name that another node has now begins anew.
    pub fn set_peers(&mut self, now: Time, mut specs: BTreeMap<Arc<str>, PeerSpec>) {
        let names: Vec<_> = self.pairs.keys().cloned().collect();
        for name in names {
            let Some(pair) = self.pairs.get_mut(&name) else {
                continue;
            };
            match specs.remove(&name) {
                None => self.forget(&name),
                Some(spec) if !pair.is_same(&spec) => {
                    self.forget(&name);
                    specs.insert(name, spec);
                }
                Some(spec) => {
                    let takes_part = spec.encapsulation_key.is_some();
                    pair.spec = spec;
                    if takes_part == pair.is_leaving {
                        match takes_part {
                            true => self.greet(now, &name),
                            false => self.leave(now, &name),
                        }
                    }
                }
            }
        }
        specs.retain(|name, spec| spec.encapsulation_key.is_some() && *name != self.settings.node);
        let new: Vec<_> = specs.keys().cloned().collect();
        for (name, spec) in specs {
            let keys = spec.found.clone().unwrap_or_else(PairKeys::none);
            let leads = self.settings.node < name;
            self.pairs
                .insert(Arc::clone(&name), Pair::new(spec, keys, leads));
        }
        for name in new {
            self.provide(&name);
            self.greet(now, &name);
        }
        self.by_key = (self.pairs.iter())
            .flat_map(|(name, pair)| pair.public_keys().map(|k| (key_id(&k), Arc::clone(name))))
            .collect();
    }

    fn greet(&mut self, now: Time, name: &Arc<str>) {
        let time = self.spread_time();
        let at = now + spread(&mut *self.entropy, time);
        if let Some(pair) = self.pairs.get_mut(name) {
            pair.is_leaving = false;
            pair.retire_at = None;
            pair.due = Some(at);
        }
        self.arm(name);
    }

    /// The pair is to have no key, which the other end may hear later.
    fn leave(&mut self, now: Time, name: &Arc<str>) {
        self.stop(name);
        if let Some(pair) = self.pairs.get_mut(name) {
            let last = std::mem::replace(&mut pair.keys, PairKeys::none()).first;
            pair.keys.other = Some(last).filter(|key| !key.is_none() && !pair.is_provisional);
            pair.is_leaving = true;
            pair.is_agreed = false;
            pair.is_provisional = false;
            pair.forget_tickets();
            (pair.due, pair.retire_at) = (None, Some(now + LEAVE));
        }
        self.install(name);
        self.arm(name);
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.stop(name);
        if let Some(pair) = self.pairs.remove(name) {
            pair.armed
                .map(|at| self.timers.remove(&(at, Arc::clone(name))));
            self.installs.insert(Arc::clone(name), None);
        }
    }

    /// What it leads with this peer, if it does, ends.
    fn stop(&mut self, name: &Arc<str>) {
        let Some(pair) = self.pairs.get_mut(name) else {
            return;
        };
        if let Role::Leader(leader) = &mut pair.role {
            self.in_flight -= usize::from(leader.is_busy());
            *leader = leader::Leader::default();
        }
    }

    /// Takes a datagram that somebody sent.
    pub fn handle_datagram(&mut self, now: Time, source: SocketAddr, datagram: &[u8]) {
        let Some(sealed) = Sealed::parse(datagram) else {
            return;
        };
        let settings = &self.settings;
        let own = std::iter::once(&settings.private_key).chain(&settings.other_private_key);
        let own = own
            .into_iter()
            .find(|key| key_id(&key.public()) == sealed.to);
        let (Some(own), Some(name)) = (own.cloned(), self.by_key.get(&sealed.from).cloned()) else {
            return;
        };
        let opened = self.with(now, &name, |pair, context| {
            let peer = pair.public_keys().find(|k| key_id(k) == sealed.from)?;
            let link = pair.link(&own, &peer)?;
            let message = sealed.open(&link)?;
            if pair.is_leaving {
                return None;
            }
            pair.heard = Some(source);
            let reaction = match &pair.role {
                Role::Leader(_) => leader::handle(pair, &link, message, context),
                Role::Follower(_) => follower::handle(pair, &link, message, context),
            };
            Some((reaction, link))
        });
        let Some((reaction, link)) = opened.flatten() else {
            return;
        };
        for message in &reaction.say {
            let datagram = message.seal(&link, sealed.to, sealed.from);
            self.transmits.push_back(Transmit {
                destination: source,
                datagram,
            });
        }
        if reaction.install {
            self.install(&name);
        }
        self.arm(&name);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, name)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(pair) = self.pairs.get_mut(&name) {
                pair.armed = None;
            }
            self.retire(now, &name);
            self.act(now, &name);
            self.arm(&name);
        }
    }

    fn retire(&mut self, now: Time, name: &Arc<str>) {
        let Some(pair) = self.pairs.get_mut(name) else {
            return;
        };
        if let Role::Follower(follower) = &mut pair.role {
            follower.expire(now);
        }
        if pair.retire_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        pair.keys.other = None;
        pair.forget_tickets();
        match pair.is_leaving {
            true => self.forget(name),
            false => self.install(name),
        }
    }

    fn act(&mut self, now: Time, name: &Arc<str>) {
        let Some(pair) = self.pairs.get_mut(name) else {
            return;
        };
        if pair.due.take_if(|at| *at <= now).is_none() {
            return;
        }
        match &pair.role {
            Role::Follower(_) => {
                let said = self.with(now, name, follower::ask).flatten();
                if let Some((message, tries)) = said {
                    self.send(name, &message, tries);
                }
            }
            Role::Leader(leader) => {
                if leader.is_idle() {
                    self.with(now, name, leader::begin);
                }
                self.say_again(now, name);
            }
        }
    }

    fn say_again(&mut self, now: Time, name: &Arc<str>) {
        let own = self.settings.private_key.clone();
        let said = self.with(now, name, |pair, context| {
            let tries = match &pair.role {
                Role::Leader(leader) => leader.tries,
                Role::Follower(_) => 0,
            };
            let peer = pair.spec.public_key;
            let said = match pair.link(&own, &peer) {
                Some(link) => leader::say_again(pair, &link, context),
                None => leader::give_up(pair, context),
            };
            said.map(|message| (message, tries))
        });
        if let Some((message, tries)) = said.flatten() {
            self.send(name, &message, tries);
        }
    }

    /// Sends something of our own accord.
    fn send(&mut self, name: &Arc<str>, message: &Message, tries: u32) {
        let own = &self.settings.private_key;
        let Some(pair) = self.pairs.get_mut(name) else {
            return;
        };
        let (destination, peer) = (pair.destination(tries), pair.spec.public_key);
        let Some(link) = pair.link(own, &peer) else {
            return;
        };
        let datagram = message.seal(&link, key_id(&own.public()), key_id(&peer));
        self.transmits.push_back(Transmit {
            destination,
            datagram,
        });
    }

    fn with<T>(
        &mut self,
        now: Time,
        name: &Arc<str>,
        act: impl FnOnce(&mut Pair, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let pair = self.pairs.get_mut(name)?;
        let mut context = Context {
            now,
            node: &self.settings.node,
            peer: name,
            kem: &self.settings.kem,
            entropy: &mut *self.entropy,
            ticket_secret: &*self.ticket_secret,
            rotate_every: self.settings.rotate_every,
            has_room: self.in_flight < IN_FLIGHT,
            offers: &mut self.offers,
        };
        let before = pair.is_busy();
        let done = act(pair, &mut context);
        self.in_flight -= usize::from(before);
        self.in_flight += usize::from(pair.is_busy());
        Some(done)
    }

    fn spread_time(&self) -> Duration {
        SPREAD.saturating_mul(u32::try_from(self.pairs.len()).unwrap_or(u32::MAX))
    }

    fn install(&mut self, name: &Arc<str>) {
        if let Some(pair) = self.pairs.get(name) {
            self.installs
                .insert(Arc::clone(name), Some(pair.keys.clone()));
        }
    }

    fn arm(&mut self, name: &Arc<str>) {
        let Some(pair) = self.pairs.get_mut(name) else {
            return;
        };
        let next = pair.next();
        if next == pair.armed {
            return;
        }
        let before = std::mem::replace(&mut pair.armed, next);
        before.map(|at| self.timers.remove(&(at, Arc::clone(name))));
        next.map(|at| self.timers.insert((at, Arc::clone(name))));
    }

    /// When [`Exchange::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Keys that the device is to have.
    pub fn poll_install(&mut self) -> Option<Install> {
        let (node, keys) = self.installs.pop_first()?;
        Some(Install { node, keys })
    }

    /// Something to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// How each pair is, by the peer's name.
    pub fn statuses(&self) -> impl Iterator<Item = (&Arc<str>, PairStatus)> {
        let pairs = self.pairs.iter().filter(|(_, pair)| !pair.is_leaving);
        pairs.map(|(name, pair)| (name, pair.status()))
    }

    /// Whether there is nobody to exchange anything with.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("settings", &self.settings)
            .field("pairs", &self.pairs.len())
            .finish_non_exhaustive()
    }
}
