//! Making what a side needs, and comparing it with what is there.

use std::collections::BTreeSet;

use model::kernel::{Address, LinkName, Neighbour};

use super::Discrepancy;
use super::wanted::{Object, Side};
use crate::observe::{self, Found, Names, Routes};
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, describe, encode, sysctl};

/// `IFINDEX` of the loopback interface, in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// An answer, with the object it is about.
type Sent<'a> = Vec<(&'a Object, Result<(), Refusal>)>;

/// Writes the switches of a side, in the namespace of this thread.
pub(super) fn write_sysctls(side: &Side) -> Result<(), Error> {
    for object in &side.objects {
        if let Object::Sysctl(path, value) = object {
            sysctl::ensure(path, value)?;
        }
    }
    Ok(())
}

/// Makes the other objects of a side in one batch.
///
/// Routes are added, or put in place of those there are where `replace` says so.
pub(super) fn send<'a>(socket: &mut Socket, index: u32, side: &'a Side, replace: bool) -> Sent<'a> {
    let (mut batch, mut objects) = (Batch::default(), Vec::new());
    for object in &side.objects {
        for (message, flags) in requests(object, index, replace) {
            batch.push(&message, flags);
            objects.push(object);
        }
    }
    let answers = socket.send(&mut batch);
    objects
        .into_iter()
        .zip(answers)
        .filter(|(object, answer)| !tolerated(object, answer))
        .collect()
}

/// Without IPv6 in the kernel there are no addresses of its making to be kept from. Where IPv6
/// is needed, its addresses fail as well.
fn tolerated(object: &Object, answer: &Result<(), Refusal>) -> bool {
    matches!(object, Object::Up { .. })
        && matches!(
            answer,
            Err(Refusal {
                errno: libc::EAFNOSUPPORT,
                ..
            })
        )
}

fn requests(
    object: &Object,
    index: u32,
    replace: bool,
) -> Vec<(netlink_packet_route::RouteNetlinkMessage, u16)> {
    use netlink_packet_route::RouteNetlinkMessage as Message;
    match object {
        Object::Sysctl(..) => vec![],
        Object::Up { .. } => encode::bring_up(index).into(),
        Object::Address(a) => {
            vec![(
                Message::NewAddress(encode::address(index, *a)),
                encode::flags::REPLACE,
            )]
        }
        Object::Neighbour(n) => vec![encode::set_neighbour(index, n.ip, n.mac)],
        Object::Route(key, route) => {
            let message = Message::NewRoute(encode::route(key, route, &|_| index));
            let flags = if replace {
                encode::flags::REPLACE
            } else {
                encode::flags::ADD
            };
            vec![(message, flags)]
        }
    }
}

/// Fails with the first that failed.
pub(super) fn all_done(sent: Sent<'_>, link: LinkName) -> Result<(), Error> {
    for (object, answer) in sent {
        answer.map_err(|e| e.during("set", object.describe(link)))?;
    }
    Ok(())
}

/// What there is of a side.
pub(super) struct Present {
    pub(super) link: Found,
    addresses: Vec<Address>,
    neighbours: BTreeSet<Neighbour>,
    routes: Routes,
}

/// Reads a side; `None` when there is no such link.
pub(super) fn read(socket: &mut Socket, name: LinkName) -> Result<Option<Present>, Error> {
    let Some(link) = observe::link_by_name(socket, name.as_str())? else {
        return Ok(None);
    };
    let index = link.link.index;
    let names = Names::from([(index, name)]);
    let addresses = observe::addresses(socket, index)?
        .into_iter()
        .map(|on| on.address)
        .collect();
    let neighbours = observe::neighbours(socket, &names, index)?;
    let routes = observe::routes_of(socket, &names, index)?;
    Ok(Some(Present {
        link,
        addresses,
        neighbours,
        routes,
    }))
}

impl Present {
    /// Whether it has addresses that the side does not need: what is left of another attempt.
    pub(super) fn has_more_addresses(&self, side: &Side) -> bool {
        self.addresses
            .iter()
            .any(|a| !side.objects.contains(&Object::Address(*a)))
    }
}

/// What of a side is missing or different. Switches are read in the namespace of this thread.
pub(super) fn compare(side: &Side, present: Option<&Present>) -> Vec<Discrepancy> {
    let Some(present) = present else {
        return vec![Discrepancy {
            object: describe::link(&side.link),
            expected: "there".to_owned(),
            found: "missing".to_owned(),
        }];
    };
    side.objects
        .iter()
        .filter_map(|object| difference(side.link, object, present))
        .collect()
}

fn difference(dev: LinkName, object: &Object, present: &Present) -> Option<Discrepancy> {
    let (expected, found) = match object {
        Object::Sysctl(path, value) => {
            let found = match sysctl::read(path) {
                Ok(found) => found.unwrap_or_else(|| "missing".to_owned()),
                Err(e) => e.to_string(),
            };
            (value.clone(), found)
        }
        Object::Up { mac, mtu } => {
            let found = &present.link.link;
            let mut wanted = found.clone();
            wanted.up = true;
            wanted.mac = mac.or(found.mac);
            wanted.mtu = mtu.unwrap_or(found.mtu);
            (describe::link_state(&wanted), describe::link_state(found))
        }
        Object::Address(a) => there(present.addresses.contains(a)),
        Object::Neighbour(n) => {
            let found = present.neighbours.iter().find(|f| f.ip == n.ip);
            let text = found.map_or_else(|| "missing".to_owned(), |f| f.mac.to_string());
            (n.mac.to_string(), text)
        }
        Object::Route(key, route) => {
            let found = match (present.routes.ours.get(key), present.routes.aliens.get(key)) {
                (Some(found), _) => describe::route(key, found),
                (None, Some(protocol)) => format!("a route with protocol {protocol}"),
                (None, None) => "missing".to_owned(),
            };
            (describe::route(key, route), found)
        }
    };
    let object = object.describe(dev);
    (expected != found).then_some(Discrepancy {
        object,
        expected,
        found,
    })
}

fn there(found: bool) -> (String, String) {
    let found = if found { "there" } else { "missing" };
    ("there".to_owned(), found.to_owned())
}
