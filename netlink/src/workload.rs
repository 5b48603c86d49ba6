//! Links of workloads: made, checked and unmade for the CNI verbs.
//!
//! ```text
//!   host                                                   workload's namespace
//!   rtd0123456789ab  ee:ee:ee:ee:ee:ee ──── veth ────  eth0
//!   10.0.0.5 dev rtd0123456789ab scope link            10.0.0.5/32
//!   neighbour 10.0.0.5 ── its MAC, permanent           default via 169.254.1.1 dev eth0 onlink
//!                                                      neighbour 169.254.1.1 ── ee:ee:…, permanent
//! ```
//!
//! Nobody ever asks who has which address: both ends have the other as a permanent neighbour, so
//! the first packet goes out at once. The link is made down with its far end already in the
//! workload's namespace; each side then gets what hangs on the families alone, which can be done
//! while the addresses are being chosen, and in a second batch what hangs on the addresses.

mod plain;
mod ready;
mod side;
mod wanted;

use std::fs::File;
use std::os::fd::AsRawFd;

use model::kernel::{LinkKind, LinkName, Mac};
use model::{Cidr, Family};
use netlink_packet_route::RouteNetlinkMessage as Message;
pub use plain::{PlainAttach, adopt_plain, release_plain};
pub(crate) use wanted::source_check;
pub use wanted::{Object, Side, container_side, host_side, plain_side};

use crate::observe::{self, Names};
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, describe, encode, netns};

/// A workload's link as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadAttach {
    /// Path of the workload's network namespace.
    pub netns: String,
    /// The interface in there, such as `eth0`.
    pub container_ifname: LinkName,
    /// The host's end.
    pub host_ifname: LinkName,
    /// Ethernet address of the workload's end.
    pub mac: Mac,
    /// Ethernet address of the host's end: [`model::marks::GATEWAY_MAC`].
    pub host_mac: Mac,
    /// MTU of both ends, bytes; at least 1280 with an IPv6 address.
    pub mtu: u32,
    /// The workload's addresses, each a /32 or /128.
    pub ips: Vec<Cidr>,
}

/// A workload's link as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Index of the host's end.
    pub host_index: u32,
    /// Index of the workload's end, in its namespace.
    pub container_index: u32,
    /// False when all was as it should be already.
    pub created: bool,
}

/// A difference between what a workload's link should be and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// What, in the words of `ip`.
    pub object: String,
    /// As it should be.
    pub expected: String,
    /// As it is.
    pub found: String,
}

impl std::fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.object, self.expected, self.found
        )
    }
}

/// A workload's link with all but its addresses and the ways to them.
///
/// To be given to [`finish`], or removed by [`detach`].
#[derive(Debug)]
pub struct Prepared {
    host: End,
    container: End,
    families: Vec<Family>,
}

/// One end of a pair: its index, and a socket of its namespace, which stays so on any thread.
#[derive(Debug)]
struct End {
    socket: Socket,
    index: u32,
}

/// Called with the index of the host's end as soon as there is one.
pub type Guard<'a> = &'a dyn Fn(u32) -> Ready;
/// Waits until whoever guards a link is ready. Nothing can pass the link before; an error ends the attempt.
pub type Ready = Box<dyn FnOnce() -> Result<(), String>>;

/// For links that nobody watches.
pub fn unguarded(_: u32) -> Ready {
    Box::new(|| Ok(()))
}

/// Makes what needs no address to be known, for a workload with addresses of these families. `None`
/// when there is a link of that name: that is [`attach`]'s to judge.
///
/// # Errors
/// When it cannot be made; nothing is left then.
pub fn prepare(
    w: &WorkloadAttach,
    families: &[Family],
    guard: Guard<'_>,
) -> Result<Option<Prepared>, Error> {
    validate_mtu(w, families)?;
    let namespace = netns::open(&w.netns)?;
    let mut socket = open()?;
    if observe::link_by_name(&mut socket, w.host_ifname.as_str())?.is_some() {
        return Ok(None);
    }
    make(socket, w, &namespace, families, guard).map(Some)
}

/// Makes the rest of a workload's link.
///
/// # Errors
/// When anything cannot be made. All that was made is removed again, the pair as well.
pub fn finish(pair: Prepared, w: &WorkloadAttach, guard: Guard<'_>) -> Result<Attached, Error> {
    if pair.families != wanted::families(&w.ips) {
        // It would have a way out that it has no address for, or lack one.
        detach(w.host_ifname)?;
        return attach(w, guard);
    }
    let valid = validate_ips(&describe::link(&w.host_ifname), &w.ips);
    undone(w, valid.and_then(|()| complete(pair, w)))
}

/// Removes what was made where the rest could not be.
fn undone<T>(w: &WorkloadAttach, done: Result<T, Error>) -> Result<T, Error> {
    done.inspect_err(|_| {
        if let Err(e) = detach(w.host_ifname) {
            tracing::warn!(link = %w.host_ifname, error = %e, "a half-made link stays behind");
        }
    })
}

/// Makes a workload's link. What is left of an attempt that did not end is removed first.
///
/// # Errors
/// When anything cannot be made. All that was made is removed again, and nothing else was touched.
pub fn attach(w: &WorkloadAttach, guard: Guard<'_>) -> Result<Attached, Error> {
    let families = wanted::families(&w.ips);
    validate_ips(&describe::link(&w.host_ifname), &w.ips)?;
    validate_mtu(w, &families)?;
    let namespace = netns::open(&w.netns)?;
    let mut socket = open()?;
    if let Some(attached) = make_way(&mut socket, w, &namespace)? {
        wait(w, guard(attached.host_index))?;
        return Ok(attached);
    }
    finish(make(socket, w, &namespace, &families, guard)?, w, guard)
}

/// Gives the link that stands if it is as wanted; else removes what an earlier attempt left.
fn make_way(
    socket: &mut Socket,
    w: &WorkloadAttach,
    namespace: &File,
) -> Result<Option<Attached>, Error> {
    let Some(host) = observe::link_by_name(socket, w.host_ifname.as_str())? else {
        return Ok(None);
    };
    if host.link.kind != LinkKind::Veth {
        return Err(Error::Invalid {
            object: describe::link(&w.host_ifname),
            message: "it exists and is no veth link: remove it".to_owned(),
        });
    }
    let attached = standing(socket, w, namespace)?;
    if attached.is_none() {
        tracing::debug!(link = %w.host_ifname, "removing what an earlier attempt left");
        detach(w.host_ifname)?;
    }
    Ok(attached)
}

/// Deletes a workload's link with all that hangs on it, on both sides. Done when there is none.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(host_ifname: LinkName) -> Result<(), Error> {
    let (message, flags) = encode::delete_link(host_ifname.as_str());
    let answer = open()?.send(&mut Batch::of(&message, flags)).pop();
    match answer.unwrap_or(Ok(())) {
        Err(Refusal {
            errno: libc::ENODEV,
            ..
        }) => Ok(()),
        answer => answer.map_err(|e| e.during("delete", describe::link(&host_ifname))),
    }
}

/// Compares a workload's link with what it should be.
///
/// # Errors
/// All differences, one for what could not be looked at included.
pub fn check(w: &WorkloadAttach) -> Result<(), Vec<Discrepancy>> {
    let looked =
        netns::open(&w.netns).and_then(|namespace| differences(&mut open()?, w, &namespace));
    match looked {
        Ok(look) if look.differences.is_empty() => Ok(()),
        Ok(look) => Err(look.differences),
        Err(e) => Err(vec![Discrepancy {
            object: describe::link(&w.host_ifname),
            expected: "can be looked at".to_owned(),
            found: e.to_string(),
        }]),
    }
}

fn wait(w: &WorkloadAttach, ready: Ready) -> Result<(), Error> {
    ready().map_err(|message| invalid(&describe::link(&w.host_ifname), message))
}

fn open() -> Result<Socket, Error> {
    Socket::open(netlink_sys::protocols::NETLINK_ROUTE).map_err(|e| e.during("open", "rtnetlink"))
}

fn invalid(object: &str, message: String) -> Error {
    Error::Invalid {
        object: object.to_owned(),
        message,
    }
}

fn validate_ips(object: &str, ips: &[Cidr]) -> Result<(), Error> {
    match ips.iter().find(|ip| !ip.is_host()) {
        Some(ip) => {
            let message = format!("address {ip}: write a single address, /32 or /128");
            Err(invalid(object, message))
        }
        None => Ok(()),
    }
}

fn validate_mtu(w: &WorkloadAttach, families: &[Family]) -> Result<(), Error> {
    let least = match families.contains(&Family::V6) {
        true => ("IPv6", 1280),
        false => ("IPv4", 68),
    };
    let (mtu, (family, least)) = (w.mtu, least);
    if mtu >= least {
        return Ok(());
    }
    let message = format!("mtu {mtu}: {family} needs {least} at least");
    Err(invalid(&describe::link(&w.host_ifname), message))
}

fn index_of(socket: &mut Socket, name: LinkName) -> Result<u32, Error> {
    let found = observe::link_by_name(socket, name.as_str())?;
    let missing = || Refusal::errno(libc::ENODEV).during("get", describe::link(&name));
    Ok(found.ok_or_else(missing)?.link.index)
}

fn create(socket: &mut Socket, w: &WorkloadAttach, namespace: &File) -> Result<(), Error> {
    let (message, flags) = encode::create_veth(w, namespace.as_raw_fd());
    let created = socket
        .send(&mut Batch::of(&message, flags))
        .pop()
        .unwrap_or(Ok(()));
    created.map_err(|e| {
        let object = format!("link {} with peer {}", w.host_ifname, w.container_ifname);
        e.during("create", object)
    })
}

/// The pair, and what of it needs no address.
fn make(
    mut socket: Socket,
    w: &WorkloadAttach,
    namespace: &File,
    families: &[Family],
    guard: Guard<'_>,
) -> Result<Prepared, Error> {
    create(&mut socket, w, namespace)?;
    let made = begin(&mut socket, w, namespace, families, guard);
    let (index, container) = undone(w, made)?;
    Ok(Prepared {
        host: End { socket, index },
        container,
        families: families.to_vec(),
    })
}

fn begin(
    socket: &mut Socket,
    w: &WorkloadAttach,
    namespace: &File,
    families: &[Family],
    guard: Guard<'_>,
) -> Result<(u32, End), Error> {
    let host_index = index_of(socket, w.host_ifname)?;
    let ready = guard(host_index);
    let base = wanted::container_base(w, families);
    let container = netns::within(namespace, || {
        let mut socket = open()?;
        let index = index_of(&mut socket, base.link)?;
        side::write_sysctls(&base)?;
        let (message, flags) = loopback_up();
        let _ = socket.send(&mut Batch::of(&message, flags));
        side::all_done(side::send(&mut socket, index, &base, true), base.link)?;
        Ok(End { socket, index })
    })?;
    // Down so far.
    wait(w, ready)?;
    send_host(socket, host_index, &wanted::host_base(w, families))?;
    Ok((host_index, container))
}

/// The addresses, the ways to them, and the kernel's word that packets pass.
fn complete(mut pair: Prepared, w: &WorkloadAttach) -> Result<Attached, Error> {
    send_host(&mut pair.host.socket, pair.host.index, &wanted::host_own(w))?;
    let own = wanted::container_own(w);
    let End { socket, index } = &mut pair.container;
    side::all_done(side::send(socket, *index, &own, true), own.link)?;
    ready::addresses(socket, &own)?;
    // The end that was up first is the last that the kernel activates.
    ready::carrier(socket, own.link)?;
    Ok(Attached {
        host_index: pair.host.index,
        container_index: pair.container.index,
        created: true,
    })
}

/// Not every runtime does it, and every workload expects it.
fn loopback_up() -> (Message, u16) {
    let mut m = encode::link_message(side::LOOPBACK);
    encode::set_up(&mut m);
    encode::set_link(m)
}

/// Makes a host side. A route in the way is replaced when it is ours, as when an address moved
/// here from another node; another's is never touched.
fn send_host(socket: &mut Socket, index: u32, side: &Side) -> Result<(), Error> {
    side::write_sysctls(side)?;
    let sent = side::send(socket, index, side, false);
    let taken = |(_, answer): &(&Object, Result<(), Refusal>)| {
        matches!(
            answer,
            Err(Refusal {
                errno: libc::EEXIST,
                ..
            })
        )
    };
    if !sent.iter().any(taken) {
        return side::all_done(sent, side.link);
    }
    let names: Names = observe::links(socket)?
        .into_iter()
        .map(|f| (f.link.index, f.link.name))
        .collect();
    let there = observe::routes(socket, &names)?;
    for object in &side.objects {
        if let Object::Route(key, _) = object
            && let Some(protocol) = there.aliens.get(key)
        {
            return Err(Error::Invalid {
                object: object.describe(side.link),
                message: format!("a route with protocol {protocol} is in the way: remove it"),
            });
        }
    }
    side::all_done(side::send(socket, index, side, true), side.link)
}

/// Both sides looked at.
struct Look {
    differences: Vec<Discrepancy>,
    host_index: u32,
    container_index: u32,
    /// The two ends belong together.
    paired: bool,
    /// The workload has addresses of another attempt.
    more_addresses: bool,
}

fn differences(socket: &mut Socket, w: &WorkloadAttach, namespace: &File) -> Result<Look, Error> {
    let (host_side, container_side) = (host_side(w), container_side(w));
    let host = side::read(socket, w.host_ifname)?;
    let (mut found, container, more_addresses) = netns::within(namespace, || {
        let present = side::read(&mut open()?, w.container_ifname)?;
        let found = side::compare(&container_side, present.as_ref());
        let more = present
            .as_ref()
            .is_some_and(|p| p.has_more_addresses(&container_side));
        Ok((found, present.map(|p| p.link), more))
    })?;
    let mut differences = side::compare(&host_side, host.as_ref());
    differences.append(&mut found);
    let host = host.map(|h| h.link);
    let index = |found: &Option<observe::Found>| found.as_ref().map_or(0, |f| f.link.index);
    let (host_index, container_index) = (index(&host), index(&container));
    let peer = |found: &Option<observe::Found>| {
        found
            .as_ref()
            .filter(|f| f.peer_namespace.is_some())
            .and_then(|f| f.peer)
    };
    let paired = peer(&host) == Some(container_index) && peer(&container) == Some(host_index);
    if host.is_some() && container.is_some() && !paired {
        differences.push(Discrepancy {
            object: describe::link(&w.container_ifname),
            expected: format!("the other end of {}", w.host_ifname),
            found: "another link".to_owned(),
        });
    }
    Ok(Look {
        differences,
        host_index,
        container_index,
        paired,
        more_addresses,
    })
}

/// The link, when it is there and as it should be.
fn standing(
    socket: &mut Socket,
    w: &WorkloadAttach,
    namespace: &File,
) -> Result<Option<Attached>, Error> {
    let look = differences(socket, w, namespace)?;
    let (host_index, container_index) = (look.host_index, look.container_index);
    let right = look.differences.is_empty() && look.paired && !look.more_addresses;
    Ok(right.then_some(Attached {
        host_index,
        container_index,
        created: false,
    }))
}
