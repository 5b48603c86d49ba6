//! Routes as they are shown: page by page, so that a full table neither holds up a session nor fills the memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bgp::speaker::{PeerStatus, Place, RouteInfo, RouteQuery, Speaker, View};
use model::api::{BgpRouteShow, BgpRoutesShow};
use model::bgp::{Bgp, Community, LargeCommunity};
use model::{Cidr, Family};

use super::view::address;

/// About as many routes are in a page.
const PAGE: usize = 2000;

/// Which routes are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutesQuery {
    /// Of one prefix.
    pub prefix: Option<Cidr>,
    /// Of one peer, by address, name or node.
    pub peer: Option<String>,
    /// What peers were told.
    pub advertised: bool,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// How far a listing has come: which of the tables that it is made of, and where in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    table: usize,
    place: Option<Place>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, row) = match self.place {
            None => (0, 0),
            Some(place) if place.family == Family::V4 => (4, place.row),
            Some(place) => (6, place.row),
        };
        write!(f, "{}.{family}.{row}", self.table)
    }
}

/// Not what [`BgpRoutesShow::next`] said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a listing: give what `next` of the page before says")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Cursor, NoCursor> {
        let mut parts = text.split('.');
        let mut number = || parts.next()?.parse::<u32>().ok();
        let (table, family, row) = (number(), number(), number());
        let (Some(table), Some(family), Some(row), None) = (table, family, row, parts.next())
        else {
            return Err(NoCursor);
        };
        let place = |family| Some(Place { family, row });
        Ok(Cursor {
            table: usize::try_from(table).map_err(|_| NoCursor)?,
            place: match family {
                0 => None,
                4 => place(Family::V4),
                6 => place(Family::V6),
                _ => return Err(NoCursor),
            },
        })
    }
}

/// What routes are shown of.
pub(super) struct Source<'a> {
    pub(super) speaker: &'a Speaker,
    pub(super) statuses: &'a [PeerStatus],
    pub(super) plan: Option<&'a Bgp>,
}

impl Source<'_> {
    fn called(&self, status: &PeerStatus) -> String {
        let neighbour = self.plan.and_then(|p| p.peers.get(status.name.as_str()));
        address(status.address, neighbour)
    }

    /// The peers that somebody means by a word.
    fn meant(&self, peer: &str) -> Result<Vec<&PeerStatus>, String> {
        let is = |s: &&PeerStatus| {
            let neighbour = self.plan.and_then(|p| p.peers.get(s.name.as_str()));
            let node = neighbour.and_then(|n| n.node.as_deref());
            s.name == peer
                || self.called(s) == peer
                || s.address.to_string() == peer
                || node == Some(peer)
        };
        let found: Vec<_> = self.statuses.iter().filter(is).collect();
        if found.is_empty() {
            return Err(format!(
                "no BGP peer is called {peer}: see `routerctl bgp peers`"
            ));
        }
        Ok(found)
    }

    /// The tables that a listing is made of, with the peer that was told.
    fn tables(&self, query: &RoutesQuery) -> Result<Vec<(View, Option<String>)>, String> {
        let peers = match &query.peer {
            None if !query.advertised => return Ok(vec![(View::All, None)]),
            None => self.statuses.iter().collect(),
            Some(peer) => self.meant(peer)?,
        };
        let table = |s: &PeerStatus| match query.advertised {
            true => (View::Advertised(s.name.clone()), Some(self.called(s))),
            false => (View::Received(s.name.clone()), None),
        };
        Ok(peers.into_iter().map(table).collect())
    }
}

/// A page of routes. `installed` says which prefixes the kernel has.
pub(super) fn page(
    source: &Source<'_>,
    query: &RoutesQuery,
    installed: impl FnOnce(Vec<Cidr>) -> BTreeSet<Cidr>,
) -> Result<BgpRoutesShow, String> {
    let from = query.after.unwrap_or(Cursor {
        table: 0,
        place: None,
    });
    let mut found: Vec<(Option<String>, RouteInfo)> = Vec::new();
    let mut next = None;
    let mut after = from.place;
    let tables = source.tables(query)?.into_iter().enumerate();
    for (table, (view, told)) in tables.skip(from.table) {
        if found.len() >= PAGE {
            next = Some(Cursor { table, place: None });
            break;
        }
        let asked = RouteQuery {
            prefix: query.prefix,
            limit: PAGE - found.len(),
            after: after.take(),
            ..RouteQuery::new(view)
        };
        let page = source.speaker.routes(asked).map_err(|e| e.to_string())?;
        found.extend(page.routes.into_iter().map(|r| (told.clone(), r)));
        if let Some(place) = page.next {
            let place = Some(place);
            next = Some(Cursor { table, place });
            break;
        }
    }
    found.sort_by_key(|(_, r)| (r.prefix, !r.best));
    let learnt = found.iter().filter(|(_, r)| r.used && r.from.is_some());
    let installed = installed(learnt.map(|(_, r)| r.prefix).collect());
    let names: BTreeMap<&str, String> = (source.statuses.iter())
        .map(|s| (s.name.as_str(), source.called(s)))
        .collect();
    let row = |(told, route): (Option<String>, RouteInfo)| {
        let from = || names.get(route.from.as_deref()?).cloned();
        BgpRouteShow {
            peer: told.or_else(from),
            installed: route.used && route.from.is_some() && installed.contains(&route.prefix),
            next_hop: Some(route.next_hop).filter(|ip| !ip.is_unspecified()),
            communities: communities(&route),
            note: (route.stance.words())
                .filter(|_| route.from.is_some() && !query.advertised)
                .map(str::to_owned),
            prefix: route.prefix,
            local_pref: route.attributes.local_pref,
            med: route.attributes.med,
            as_path: route.attributes.as_path,
            best: route.best,
            filtered: route.filtered,
            stale: route.stale,
        }
    };
    Ok(BgpRoutesShow {
        routes: found.into_iter().map(row).collect(),
        next: next.map(|cursor| cursor.to_string()),
    })
}

fn communities(route: &RouteInfo) -> Vec<String> {
    let standard = route.attributes.communities.iter().copied();
    let large = route.attributes.large_communities.iter();
    let large = large.map(|c| LargeCommunity {
        global: c.global,
        local1: c.local1,
        local2: c.local2,
    });
    let all = standard.map(Community::Standard);
    let all = all.chain(large.map(Community::Large));
    all.map(|c| c.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let place = |family, row| Some(Place { family, row });
        for (table, place) in [
            (0, None),
            (3, place(Family::V4, 0)),
            (12, place(Family::V6, 77)),
        ] {
            let cursor = Cursor { table, place };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            "1",
            "1.4",
            "1.5.0",
            "1.4.0.0",
            "-1.4.0",
            "1.4.4294967296",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
