//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), with their next hops (RFC 2545, RFC 8950).
//!
//! A family in which something cannot be read is not used any more in the session (RFC 7606 §7.11): what it
//! announced cannot be known, so it cannot be treated as withdrawn.

use std::net::Ipv6Addr;

use model::Family;

use super::{Fault, MpNlri, Update, is_host, reset};
use crate::attributes::{NextHop, Tlv, code, flag};
use crate::family;
use crate::wire::nlri::Nlri;
use crate::wire::{Context, Disposition, Notification, Reader};

fn disable(family: Family, attribute: u8, what: &'static str, update: &mut Update<'_>) {
    update.disable = Some(family);
    update.faults.push(Fault {
        attribute,
        disposition: Disposition::DisableFamily,
        subcode: 9,
        what,
    });
}

fn parse<'a>(family: Family, bytes: &'a [u8], context: &Context) -> Option<MpNlri<'a>> {
    let add_path = *context.add_path_in.get(family);
    Some(match family {
        Family::V4 => MpNlri::V4(Nlri::parse(bytes, add_path)?),
        Family::V6 => MpNlri::V6(Nlri::parse(bytes, add_path)?),
    })
}

/// The family of an attribute's first three bytes. An attribute too short to say is fatal.
fn negotiated(reader: &mut Reader<'_>, context: &Context) -> Result<Option<Family>, Notification> {
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
        return Err(reset(9));
    };
    let family = family::from_wire(afi, safi);
    Ok(family.filter(|f| *context.families.get(*f)))
}

/// Where the prefixes of MP_UNREACH_NLRI stand.
pub(super) fn prefixes_of_unreach(value: &[u8]) -> Option<(Family, &[u8])> {
    let mut reader = Reader(value);
    let family = family::from_wire(reader.u16()?, reader.u8()?)?;
    Some((family, reader.0))
}

/// Where the prefixes of MP_REACH_NLRI stand.
pub(super) fn prefixes_of_reach(value: &[u8]) -> Option<(Family, &[u8])> {
    let (family, rest) = prefixes_of_unreach(value)?;
    let mut reader = Reader(rest);
    let hop = reader.u8()?;
    reader.take(usize::from(hop))?;
    reader.u8()?;
    Some((family, reader.0))
}

fn flags_are_right(tlv: Tlv<'_>) -> bool {
    tlv.flags & (flag::OPTIONAL | flag::TRANSITIVE) == flag::OPTIONAL
}

pub(super) fn unreach<'a>(
    tlv: Tlv<'a>,
    context: &Context,
    update: &mut Update<'a>,
) -> Result<(), Notification> {
    let mut reader = Reader(tlv.value);
    let Some(family) = negotiated(&mut reader, context)? else {
        return Ok(());
    };
    if !flags_are_right(tlv) {
        disable(
            family,
            code::MP_UNREACH,
            "MP_UNREACH_NLRI has wrong flags",
            update,
        );
        return Ok(());
    }
    match parse(family, reader.0, context) {
        Some(nlri) => update.mp_withdrawn = Some(nlri),
        None => disable(
            family,
            code::MP_UNREACH,
            "a withdrawn prefix cannot be read",
            update,
        ),
    }
    Ok(())
}

pub(super) fn reach<'a>(
    tlv: Tlv<'a>,
    context: &Context,
    update: &mut Update<'a>,
) -> Result<(), Notification> {
    let mut reader = Reader(tlv.value);
    let family = negotiated(&mut reader, context)?;
    if tlv.value.len() < 5 {
        return Err(reset(9));
    }
    let Some(family) = family else {
        return Ok(());
    };
    let mut wrong = |what| disable(family, code::MP_REACH, what, update);
    if !flags_are_right(tlv) {
        wrong("MP_REACH_NLRI has wrong flags");
        return Ok(());
    }
    let hop = reader.u8().and_then(|len| reader.take(usize::from(len)));
    // One reserved byte follows, which is ignored.
    let (Some(hop), Some(_)) = (hop, reader.u8()) else {
        wrong("the next hop is longer than its attribute");
        return Ok(());
    };
    let hop = match next_hop(family, hop, context) {
        Ok(hop) => hop,
        Err(what) => {
            wrong(what);
            return Ok(());
        }
    };
    let Some(nlri) = parse(family, reader.0, context) else {
        wrong("an announced prefix cannot be read");
        return Ok(());
    };
    match hop {
        Some(hop) => update.mp_announced = Some((nlri, hop)),
        None => {
            // The prefixes can be read, so only they pay (RFC 7606 §7.3 for the same error in NEXT_HOP).
            let what = "the next hop is no host's address";
            update.faults.push(super::withdraw(code::MP_REACH, 8, what));
            let nowhere = NextHop::LinkLocal(Ipv6Addr::UNSPECIFIED);
            update.mp_announced = Some((nlri, nowhere));
        }
    }
    Ok(())
}

/// The next hop; `Ok(None)` for one that has the right length and is no host's address.
fn next_hop(
    family: Family,
    bytes: &[u8],
    context: &Context,
) -> Result<Option<NextHop>, &'static str> {
    let mut reader = Reader(bytes);
    if bytes.len() == 4 && family == Family::V4 {
        let ip = reader
            .array::<4>()
            .map(Into::into)
            .filter(|ip| is_host(*ip));
        return Ok(ip.map(NextHop::V4));
    }
    let allowed = family == Family::V6 || context.extended_next_hop;
    if !allowed || !matches!(bytes.len(), 16 | 32) {
        return Err("the next hop's length does not fit the family");
    }
    let first = reader.array::<16>().map(Ipv6Addr::from);
    let second = reader.array::<16>().map(Ipv6Addr::from);
    let link_local = [second, first]
        .into_iter()
        .flatten()
        .find(Ipv6Addr::is_unicast_link_local);
    let global = first.filter(|ip| {
        !(ip.is_unspecified()
            || ip.is_loopback()
            || ip.is_multicast()
            || ip.is_unicast_link_local()
            || ip.to_ipv4_mapped().is_some())
    });
    Ok(match (global, link_local) {
        (Some(global), link_local) => Some(NextHop::V6 { global, link_local }),
        (None, Some(ip)) => Some(NextHop::LinkLocal(ip)),
        (None, None) => None,
    })
}
