//! Next hops: the neighbour on a link that packets for one go to.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use model::kernel::{LinkName, NextHop, RouteTarget};
use model::marks;

use super::Way;
use crate::observe::{self, Names};
use crate::plan::hops;
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, encode};

/// A neighbour on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hop {
    /// As it is shown.
    pub(super) hop: NextHop,
    /// Index of its interface.
    pub(super) index: u32,
}

/// What was asked of the kernel, until something changes there.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: HashMap<Way, Result<Vec<Hop>, Refusal>>,
    names: Option<Names>,
    indexes: BTreeMap<LinkName, u32>,
}

/// A route by these, as it is observed.
pub(super) fn target(hops: &[Hop]) -> RouteTarget {
    match hops {
        [one] => RouteTarget::Hop(one.hop),
        several => RouteTarget::Multipath(several.iter().map(|h| h.hop).collect()),
    }
}

impl Resolver {
    /// Asks anew from now on.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.names = None;
    }

    /// Asks anew about what led nowhere, perhaps by an interface that is newer than what is known.
    pub(super) fn retry(&mut self) {
        let before = self.known.len();
        self.known.retain(|_, resolved| resolved.is_ok());
        if self.known.len() < before {
            self.names = None;
        }
    }

    /// Names of interfaces by index.
    pub(super) fn names(&mut self, socket: &mut Socket) -> Result<&Names, Error> {
        if self.names.is_none() {
            let links = observe::links(socket)?;
            let names: Names = links.iter().map(|f| (f.link.index, f.link.name)).collect();
            self.indexes = names.iter().map(|(index, name)| (*name, *index)).collect();
            self.names = Some(names);
        }
        Ok(self.names.get_or_insert_default())
    }

    /// The neighbours of all ways, sorted. One way that leads nowhere does not keep the others from being used.
    pub(super) fn resolve(
        &mut self,
        socket: &mut Socket,
        ways: &[Way],
    ) -> Result<Vec<Hop>, Refusal> {
        let (mut hops, mut failed) = (Vec::new(), None);
        for way in ways {
            let resolved = match self.known.get(way) {
                Some(known) => known.clone(),
                None => {
                    let resolved = self.ask(socket, way);
                    self.known.insert(*way, resolved.clone());
                    resolved
                }
            };
            match resolved {
                Ok(found) => hops.extend(found),
                Err(e) => failed = Some(e),
            }
        }
        hops.sort_unstable();
        hops.dedup();
        match failed {
            Some(e) if hops.is_empty() => Err(e),
            _ => Ok(hops),
        }
    }

    fn ask(&mut self, socket: &mut Socket, way: &Way) -> Result<Vec<Hop>, Refusal> {
        let words = |text: &str| Refusal {
            errno: libc::ENETUNREACH,
            text: Some(format!("next hop {}: {text}", way.gateway)),
        };
        let names = self.names(socket).map_err(|e| words(&e.to_string()))?;
        let link_local = matches!(way.gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let found = match way.interface {
            Some(dev) => vec![NextHop {
                via: Some(way.gateway),
                dev,
                onlink: false,
            }],
            None if link_local => return Err(words("it is link-local, and on no known interface")),
            None => {
                let mut request = Batch::of(&encode::get_fib(way.gateway), 0);
                let answer = socket.get(&mut request, |_, p| observe::resolved(p, names));
                let (protocol, target) = match answer {
                    Ok(Some(Some(found))) => found,
                    Ok(_) => return Err(words("it is no neighbour's address")),
                    Err(e) => return Err(e),
                };
                if protocol == marks::BGP_ROUTE_PROTOCOL {
                    return Err(words("only a learnt route leads there"));
                }
                let on_link = |hop: &NextHop| NextHop {
                    via: Some(hop.via.unwrap_or(way.gateway)),
                    ..*hop
                };
                hops(&target).iter().map(on_link).collect()
            }
        };
        if found.is_empty() {
            return Err(words("no way leads there"));
        }
        let indexed = found.into_iter().map(|hop| {
            let index = self.indexes.get(&hop.dev).copied();
            let index = index.ok_or_else(|| words(&format!("there is no interface {}", hop.dev)));
            Ok(Hop { hop, index: index? })
        });
        indexed.collect()
    }
}
