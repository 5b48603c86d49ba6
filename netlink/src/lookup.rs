//! Asks the kernel what becomes of one packet: the route it goes by, and the entries that this leads to.
//!
//! Nothing is changed. For a packet of a workload the kernel is asked as if it came in by the workload's interface, so
//! that rules, the reverse-path filter and the forwarding switch have their say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kernel::{FdbEntry, Link, LinkName, Nat, Neighbour, Route, RouteKey};

use crate::nft::Nftables;
use crate::observe::{self, Names};
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, encode};

/// Reads single things of the network namespace of the thread that opened it.
pub struct Lookup {
    socket: Socket,
    names: Names,
    links: BTreeMap<LinkName, Link>,
}

/// The packet that a way is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where it goes.
    pub destination: IpAddr,
    /// Where it comes from; none for whatever this host would choose.
    pub source: Option<IpAddr>,
    /// The interface that it comes in by; none where this host makes it.
    pub came_by: Option<LinkName>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It goes by this route.
    Route(RouteKey, Route),
    /// It is for this host itself.
    Local,
    /// It is dropped, silently.
    Blackhole,
    /// It is dropped, and the sender is told; also where forwarding is off.
    Unreachable,
    /// There is no route.
    Nothing,
    /// An answer to its source would not go back the way it came: the reverse-path filter drops it.
    Martian,
    /// By something that has no name here, such as a route of another type.
    Other,
}

impl Lookup {
    /// Opens the kernel and reads the names of its interfaces.
    ///
    /// # Errors
    /// When there is no rtnetlink, or it does not answer.
    pub fn open() -> Result<Lookup, Error> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE);
        let mut socket = socket.map_err(|e| e.during("open", "rtnetlink"))?;
        let found = observe::links(&mut socket)?;
        let names = found.iter().map(|f| (f.link.index, f.link.name)).collect();
        let links = found.into_iter().map(|f| (f.link.name, f.link)).collect();
        Ok(Lookup {
            socket,
            names,
            links,
        })
    }

    /// An interface.
    pub fn link(&self, name: LinkName) -> Option<&Link> {
        self.links.get(&name)
    }

    /// What becomes of a packet.
    ///
    /// # Errors
    /// When the kernel does not say, or there is no such interface.
    pub fn route(&mut self, asked: &Asked) -> Result<Found, Error> {
        let failed = |e: Refusal| e.during("get", format!("route to {}", asked.destination));
        let index = match asked.came_by {
            None => None,
            Some(name) => {
                let link = self.links.get(&name);
                Some(
                    link.ok_or_else(|| failed(Refusal::errno(libc::ENODEV)))?
                        .index,
                )
            }
        };
        let mut request = Batch::of(&encode::get_way(asked, index), 0);
        let names = &self.names;
        let answer = self
            .socket
            .get(&mut request, |_, payload| observe::matched(payload, names));
        match answer {
            Ok(found) => Ok(found.unwrap_or(Found::Other)),
            Err(e) => match e.errno {
                // Of what comes in it may mean that the source is wrong.
                libc::EINVAL if asked.came_by.is_some() => {
                    let anybody = Asked {
                        source: None,
                        came_by: None,
                        ..*asked
                    };
                    Ok(match self.route(&anybody)? {
                        Found::Blackhole => Found::Blackhole,
                        _ => Found::Martian,
                    })
                }
                libc::EINVAL => Ok(Found::Blackhole),
                libc::EHOSTUNREACH | libc::EACCES => Ok(Found::Unreachable),
                libc::ENETUNREACH => Ok(Found::Nothing),
                libc::EXDEV => Ok(Found::Martian),
                _ => Err(failed(e)),
            },
        }
    }

    /// Whether a permanent neighbour is there; else what is, if anything has the address.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn neighbour(&mut self, wanted: &Neighbour) -> Result<Option<Neighbour>, Error> {
        let Some(index) = self.links.get(&wanted.dev).map(|l| l.index) else {
            return Ok(None);
        };
        let found = observe::neighbours(&mut self.socket, &self.names, index)?;
        Ok(found.into_iter().find(|n| n.ip == wanted.ip))
    }

    /// The forwarding entry of a VXLAN device for an Ethernet address.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn fdb(&mut self, wanted: &FdbEntry) -> Result<Option<FdbEntry>, Error> {
        let Some(index) = self.links.get(&wanted.dev).map(|l| l.index) else {
            return Ok(None);
        };
        let found = observe::fdb(&mut self.socket, index, wanted.dev)?;
        Ok(found.into_iter().find(|e| e.mac == wanted.mac))
    }

    /// What is masqueraded; none without a table of ours, or without nftables.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn nat(&mut self) -> Result<Option<Nat>, Error> {
        match Nftables::open() {
            Ok(mut nftables) => nftables.observe(),
            Err(_) => Ok(None),
        }
    }
}
