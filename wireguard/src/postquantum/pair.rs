//! What is known of a peer: the preshared keys tried for it, and how far an exchange with it is.

use std::net::SocketAddr;
use std::time::Duration;

use model::tunnel::EncapsulationKey;

use super::follower::Follower;
use super::leader::Leader;
use super::message::{KeyId, Message, Names, key_id};
use super::schedule::{Link, NO_NAME, Token};
use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::time::Time;

/// A peer as the mesh says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The key of its tunnel.
    pub public_key: PublicKey,
    /// The one that it will have soon.
    pub next_public_key: Option<PublicKey>,
    /// What to encapsulate to; none: it takes no part.
    pub encapsulation_key: Option<EncapsulationKey>,
    /// Where it receives these datagrams, as far as known.
    pub endpoint: SocketAddr,
    /// What the device has for it, when that is known.
    pub found: Option<PairKeys>,
}

/// The preshared keys that a device tries for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairKeys {
    /// The preferred one; one of zeros: none.
    pub first: PresharedKey,
    /// Tried as well, while they change.
    pub other: Option<PresharedKey>,
}

impl PairKeys {
    /// No preshared key.
    pub fn none() -> PairKeys {
        PairKeys {
            first: PresharedKey::none(),
            other: None,
        }
    }

    /// The one with a name.
    pub(super) fn find(&self, link: &Link, name: &Token) -> Option<&PresharedKey> {
        std::iter::once(&self.first)
            .chain(&self.other)
            .find(|key| link.name(key) == *name)
    }

    pub(super) fn names(&self, link: &Link) -> Names {
        let other = self.other.as_ref();
        [
            link.name(&self.first),
            other.map_or(NO_NAME, |key| link.name(key)),
        ]
    }
}

/// How a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairStatus {
    /// Both ends have the same key, which is post-quantum.
    pub is_agreed: bool,
    /// Handshakes before this moment may have been without one.
    pub since: Option<Time>,
    /// Exchanges with it that have failed since one did not.
    pub failures: u32,
}

pub(super) struct Pair {
    pub(super) spec: PeerSpec,
    pub(super) keys: PairKeys,
    /// The first key was drawn here, so that there are no handshakes: nobody else has it.
    pub(super) is_provisional: bool,
    pub(super) is_agreed: bool,
    pub(super) since: Option<Time>,
    pub(super) failures: u32,
    /// A new key is wanted though nothing is wrong with the one there is.
    pub(super) renew: bool,
    /// Where it was heard last: it may be behind a NAT.
    pub(super) heard: Option<SocketAddr>,
    /// When the other key goes.
    pub(super) retire_at: Option<Time>,
    /// When something is to be done or said.
    pub(super) due: Option<Time>,
    /// The moment that a timer is set for.
    pub(super) armed: Option<Time>,
    /// It takes no part any more; it is forgotten when the other key goes.
    pub(super) is_leaving: bool,
    pub(super) role: Role,
    links: Vec<(KeyId, KeyId, Link)>,
}

pub(super) enum Role {
    Leader(Leader),
    Follower(Follower),
}

impl Pair {
    pub(super) fn new(spec: PeerSpec, keys: PairKeys, leads: bool) -> Pair {
        Pair {
            spec,
            keys,
            is_provisional: false,
            is_agreed: false,
            since: None,
            failures: 0,
            renew: false,
            heard: None,
            retire_at: None,
            due: None,
            armed: None,
            is_leaving: false,
            role: match leads {
                true => Role::Leader(Leader::default()),
                false => Role::Follower(Follower::default()),
            },
            links: Vec::new(),
        }
    }

    pub(super) fn status(&self) -> PairStatus {
        PairStatus {
            is_agreed: self.is_agreed && !self.keys.first.is_none(),
            since: self.since,
            failures: self.failures,
        }
    }

    pub(super) fn public_keys(&self) -> impl Iterator<Item = PublicKey> {
        std::iter::once(self.spec.public_key).chain(self.spec.next_public_key)
    }

    /// Whether `spec` is of the same node: a key that it announced may be its key now.
    pub(super) fn is_same(&self, spec: &PeerSpec) -> bool {
        self.public_keys().any(|key| key == spec.public_key)
    }

    /// The keys are others: what a follower gave a ticket for is no more.
    pub(super) fn forget_tickets(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            follower.forget();
        }
    }

    /// Whether it takes one of the places for exchanges that are led.
    pub(super) fn is_busy(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.is_busy())
    }

    /// When a timer has to ring.
    pub(super) fn next(&self) -> Option<Time> {
        let expires = match &self.role {
            Role::Follower(follower) => follower.expires(),
            Role::Leader(_) => None,
        };
        [self.due, self.retire_at, expires]
            .into_iter()
            .flatten()
            .min()
    }

    /// What authenticates datagrams between two keys; worked out once.
    pub(super) fn link(&mut self, own: &PrivateKey, peer: &PublicKey) -> Option<Link> {
        let ids = (key_id(&own.public()), key_id(peer));
        if let Some((.., link)) = self.links.iter().find(|(a, b, _)| (*a, *b) == ids) {
            return Some(link.clone());
        }
        let link = Link::new(own, peer)?;
        // As many as two nodes can have that both change their keys.
        if self.links.len() >= 4 {
            self.links.remove(0);
        }
        self.links.push((ids.0, ids.1, link.clone()));
        Some(link)
    }

    /// The new key comes first, and what both had stays for a while.
    pub(super) fn adopt(&mut self, now: Time, key: PresharedKey, kept: Option<PresharedKey>) {
        if kept.as_ref().is_none_or(PresharedKey::is_none) {
            self.since = Some(now);
        }
        self.keys = PairKeys {
            first: key,
            other: kept,
        };
        self.is_provisional = false;
        self.retire_at = None;
    }

    /// Both ends have it first.
    pub(super) fn agree(&mut self, now: Time, retire_after: Duration) {
        self.is_agreed = true;
        self.failures = 0;
        self.renew = false;
        self.retire_at = self.keys.other.as_ref().map(|_| now + retire_after);
    }

    /// Where to send something of our own accord.
    pub(super) fn destination(&self, tries: u32) -> SocketAddr {
        match self.heard {
            Some(heard) if tries % 2 == 1 => heard,
            _ => self.spec.endpoint,
        }
    }
}

/// What a side wants done after it has heard something.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    /// Answers, to where what was heard came from.
    pub(super) say: Vec<Message>,
    /// The device is to have other keys first.
    pub(super) install: bool,
}

impl Reaction {
    pub(super) fn say(message: Message) -> Reaction {
        Reaction {
            say: vec![message],
            ..Reaction::default()
        }
    }
}
