//! Interfaces that somebody else makes: only what the host needs to reach who is behind them is ours.

use model::Cidr;
use model::kernel::{LinkName, Mac};

use super::wanted::{Object, plain_side};
use super::{index_of, open, send_host, validate_ips};
use crate::socket::Batch;
use crate::{Error, describe, encode, observe};

/// An interface that somebody else made, such as a virtual machine's tap device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainAttach {
    /// The interface on the host.
    pub interface: LinkName,
    /// Ethernet address of the workload behind it.
    pub mac: Mac,
    /// The workload's addresses, each a /32 or /128.
    pub ips: Vec<Cidr>,
}

/// Makes the host's part for an interface that somebody else made; its index.
///
/// # Errors
/// When there is no such interface, or anything cannot be made.
pub fn adopt_plain(p: &PlainAttach) -> Result<u32, Error> {
    validate_ips(&describe::link(&p.interface), &p.ips)?;
    let mut socket = open()?;
    let index = index_of(&mut socket, p.interface)?;
    send_host(&mut socket, index, &plain_side(p))?;
    Ok(index)
}

/// Deletes what [`adopt_plain`] made, but for the interface's switches. Done when all is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn release_plain(p: &PlainAttach) -> Result<(), Error> {
    let mut socket = open()?;
    let Some(found) = observe::link_by_name(&mut socket, p.interface.as_str())? else {
        return Ok(());
    };
    let index = found.link.index;
    for object in plain_side(p).objects {
        let (message, flags) = match &object {
            Object::Route(key, route) => encode::delete_route(key, route, &|_| index),
            Object::Neighbour(n) => encode::delete_neighbour(index, n.ip, n.mac),
            Object::Address(a) => encode::delete_address(index, *a),
            Object::Sysctl(..) | Object::Up { .. } => continue,
        };
        let answer = socket
            .send(&mut Batch::of(&message, flags))
            .pop()
            .unwrap_or(Ok(()));
        let gone = [libc::ESRCH, libc::ENOENT, libc::ENODEV, libc::EADDRNOTAVAIL];
        if let Err(e) = answer
            && !gone.contains(&e.errno)
        {
            return Err(e.during("delete", object.describe(p.interface)));
        }
    }
    Ok(())
}
