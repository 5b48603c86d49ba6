//! What operators are shown.

use std::net::IpAddr;
use std::time::Duration;

use model::{Cidr, Family};

pub use super::peer::Traffic;
use crate::attributes::Attributes;
use crate::bfd;
use crate::family::PerFamily;
use crate::fsm::{Negotiated, State};
use crate::rib::{Counters, Stance};

/// What went wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// In words.
    pub words: String,
    /// How long ago.
    pub ago: Duration,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its AS, where it is known.
    pub asn: Option<u32>,
    /// Where its session is.
    pub state: State,
    /// Why an operator holds it down.
    pub shutdown: Option<String>,
    /// Until it is tried again after it had too many prefixes.
    pub held_back: Option<Duration>,
    /// How long it has been up, or not.
    pub since: Duration,
    /// Why the last session that was up ended.
    pub last_down: Option<LastFailure>,
    /// Why the last attempt since then came to nothing.
    pub last_failure: Option<LastFailure>,
    /// How often an Established session ended.
    pub flaps: u64,
    /// What was agreed on, while it is up.
    pub agreed: Option<Negotiated>,
    /// Families that were agreed on and are not used until the session ends: their prefixes could not be read.
    pub lost: PerFamily<bool>,
    /// Paths held.
    pub routes: PerFamily<Counters>,
    /// Paths that it was told.
    pub advertised: PerFamily<usize>,
    /// Prefixes that it has still to hear about.
    pub pending: PerFamily<usize>,
    /// UPDATEs whose routes were not used: loops, leaks, a wrong first AS.
    pub refused: u64,
    /// Messages.
    pub traffic: Traffic,
    /// Its BFD session, where there is one.
    pub bfd: Option<bfd::State>,
}

/// Which routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// All paths of all prefixes.
    All,
    /// The best path of each prefix.
    Best,
    /// What the peer of this name announced.
    Received(String),
    /// What the peer of this name hears.
    Advertised(String),
}

/// Which routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// From which point of view.
    pub view: View,
    /// Of one family only.
    pub family: Option<Family>,
    /// Of one prefix only.
    pub prefix: Option<Cidr>,
    /// About so many: those of one prefix are not torn apart.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Place>,
}

/// How far a listing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The family.
    pub family: Family,
    /// The first row of it that was not looked at.
    pub row: u32,
}

/// A part of the routes. One that comes or goes between two parts may be missing, or be there twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePage {
    /// By rows, the paths of a prefix together.
    pub routes: Vec<RouteInfo>,
    /// Where the next part begins; `None` at the end. There may be more although this one is empty.
    pub next: Option<Place>,
}

impl RouteQuery {
    /// The first thousand of a view.
    pub fn new(view: View) -> RouteQuery {
        RouteQuery {
            view,
            family: None,
            prefix: None,
            limit: 1000,
            after: None,
        }
    }
}

/// One path of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The prefix.
    pub prefix: Cidr,
    /// The peer that it comes from; `None` for ours.
    pub from: Option<String>,
    /// The identifier of the path, where there are several.
    pub path_id: u32,
    /// Its next hop.
    pub next_hop: IpAddr,
    /// Its attributes, after import, or as they are announced.
    pub attributes: Attributes,
    /// It is the best.
    pub best: bool,
    /// It is used, alone or beside others.
    pub used: bool,
    /// The import filter refuses it, or the guard of our pools.
    pub filtered: bool,
    /// What the guard says of its prefix, where it was learnt.
    pub stance: Stance,
    /// It is from before a restart of its peer.
    pub stale: bool,
}
