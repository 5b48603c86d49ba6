//! UPDATE: where its prefixes are and what its errors cost (RFC 4271 §4.3, RFC 7606).
//!
//! This is the part of RFC 7606 that needs no attribute's value: lengths, flags of the attributes that carry
//! prefixes, what is missing and what came twice. [`super::block`] has the part that needs values; it runs
//! once for each distinct block.

mod mp;
mod preview;

use std::net::Ipv4Addr;

use model::Family;

use super::nlri::Nlri;
use super::{Context, Disposition, Fault, Notification, Reader, notification};
use crate::attributes::{NextHop, Tlv, Tlvs, code, flag};
use crate::prefix::{V4, V6};
pub use preview::preview;

/// Most attributes in one UPDATE; more are treated as withdrawn.
const MAX_ATTRIBUTES: usize = 128;

/// Prefixes of an MP attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpNlri<'a> {
    /// IPv4 prefixes.
    V4(Nlri<'a, V4>),
    /// IPv6 prefixes.
    V6(Nlri<'a, V6>),
}

impl MpNlri<'_> {
    /// Their family.
    pub fn family(&self) -> Family {
        match self {
            MpNlri::V4(_) => Family::V4,
            MpNlri::V6(_) => Family::V6,
        }
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        match self {
            MpNlri::V4(nlri) => nlri.is_empty(),
            MpNlri::V6(nlri) => nlri.is_empty(),
        }
    }
}

/// An UPDATE, its prefixes found and its attributes gathered but not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// IPv4 prefixes withdrawn in the message's own field.
    pub withdrawn: Nlri<'a, V4>,
    /// IPv4 prefixes announced in the message's own field, with the next hop of NEXT_HOP.
    pub announced: Nlri<'a, V4>,
    /// NEXT_HOP.
    pub next_hop: Option<Ipv4Addr>,
    /// MP_UNREACH_NLRI of a negotiated family.
    pub mp_withdrawn: Option<MpNlri<'a>>,
    /// MP_REACH_NLRI of a negotiated family.
    pub mp_announced: Option<(MpNlri<'a>, NextHop)>,
    /// The attributes but NEXT_HOP and the MP ones, as received, each type once.
    pub block: &'a [u8],
    /// Errors found. What is announced counts as withdrawn when [`Update::treat_as_withdraw`] says so.
    pub faults: Vec<Fault>,
    /// A family that this session must not use any more (RFC 7606 §2).
    pub disable: Option<Family>,
    /// Set when this is the end of a family's initial routes (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
}

impl Update<'_> {
    /// Whether what is announced counts as withdrawn.
    pub fn treat_as_withdraw(&self) -> bool {
        let strong = |f: &Fault| f.disposition == Disposition::TreatAsWithdraw;
        self.faults.iter().any(strong)
    }

    /// Whether a prefix is announced.
    pub fn announces(&self) -> bool {
        let mp = self.mp_announced.as_ref();
        !self.announced.is_empty() || mp.is_some_and(|(nlri, _)| !nlri.is_empty())
    }
}

fn reset(subcode: u8) -> Notification {
    Notification::plain(notification::UPDATE, subcode)
}

fn withdraw(attribute: u8, subcode: u8, what: &'static str) -> Fault {
    Fault {
        attribute,
        disposition: Disposition::TreatAsWithdraw,
        subcode,
        what,
    }
}

/// The walk over the attributes.
struct Walk<'a, 'c> {
    context: &'c Context,
    seen: [bool; 256],
    update: Update<'a>,
}

impl<'a> Walk<'a, '_> {
    fn attribute(
        &mut self,
        tlv: Tlv<'a>,
        block: &mut Vec<u8>,
        raw: &[u8],
    ) -> Result<(), Notification> {
        let seen = self.seen.get_mut(usize::from(tlv.code));
        if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
            if matches!(tlv.code, code::MP_REACH | code::MP_UNREACH) {
                return Err(reset(1));
            }
            self.update.faults.push(Fault {
                attribute: tlv.code,
                disposition: Disposition::AttributeDiscard,
                subcode: 1,
                what: "came twice: the first is used",
            });
            return Ok(());
        }
        match tlv.code {
            code::MP_REACH => mp::reach(tlv, self.context, &mut self.update),
            code::MP_UNREACH => mp::unreach(tlv, self.context, &mut self.update),
            code::NEXT_HOP => {
                self.next_hop(tlv);
                Ok(())
            }
            _ => {
                block.extend_from_slice(raw);
                Ok(())
            }
        }
    }

    fn next_hop(&mut self, tlv: Tlv<'_>) {
        let fault = if tlv.flags & (flag::OPTIONAL | flag::TRANSITIVE) != flag::TRANSITIVE {
            withdraw(code::NEXT_HOP, 4, "NEXT_HOP has wrong flags")
        } else if let &[a, b, c, d] = tlv.value {
            let ip = Ipv4Addr::new(a, b, c, d);
            if is_host(ip) {
                self.update.next_hop = Some(ip);
                return;
            }
            withdraw(code::NEXT_HOP, 8, "NEXT_HOP is no host's address")
        } else {
            withdraw(code::NEXT_HOP, 5, "NEXT_HOP is not 4 bytes long")
        };
        self.update.faults.push(fault);
    }

    /// What must be there and is not (RFC 7606 §3 (d)).
    fn missing(&mut self) {
        if !self.update.announces() {
            return;
        }
        let body = !self.update.announced.is_empty();
        let wanted = [
            (code::ORIGIN, true, "ORIGIN is missing"),
            (code::AS_PATH, true, "AS_PATH is missing"),
            (code::NEXT_HOP, body, "NEXT_HOP is missing"),
        ];
        for (attribute, wanted, what) in wanted {
            let seen = self.seen.get(usize::from(attribute)) == Some(&true);
            if wanted && !seen {
                self.update.faults.push(withdraw(attribute, 3, what));
            }
        }
    }
}

/// Whether packets can be sent to `ip` as to one host.
fn is_host(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
}

/// Splits an UPDATE's body. `scratch` is overwritten and lends its memory to [`Update::block`].
///
/// # Errors
///
/// The NOTIFICATION that ends the session, when its prefixes cannot be found (RFC 7606 §3, §5).
pub fn split<'a>(
    body: &'a [u8],
    context: &Context,
    scratch: &'a mut Vec<u8>,
) -> Result<Update<'a>, Notification> {
    let mut reader = Reader(body);
    let mut field = || {
        let len = reader.u16()?;
        reader.take(usize::from(len))
    };
    let (Some(withdrawn), Some(attributes)) = (field(), field()) else {
        return Err(reset(1));
    };
    let add_path = context.add_path_in.v4;
    let (Some(withdrawn), Some(announced)) = (
        Nlri::parse(withdrawn, add_path),
        Nlri::parse(reader.0, add_path),
    ) else {
        return Err(reset(10));
    };
    // A family that was not agreed on is not used, wherever its prefixes stand.
    let agreed = |nlri| {
        if context.families.v4 {
            nlri
        } else {
            Nlri::default()
        }
    };
    let (withdrawn, announced) = (agreed(withdrawn), agreed(announced));
    let mut walk = Walk {
        context,
        seen: [false; 256],
        update: Update {
            withdrawn,
            announced,
            next_hop: None,
            mp_withdrawn: None,
            mp_announced: None,
            block: &[],
            faults: Vec::new(),
            disable: None,
            end_of_rib: None,
        },
    };
    scratch.clear();
    let mut tlvs = Tlvs(attributes);
    let mut count = 0;
    loop {
        let before = tlvs.rest();
        let Some(tlv) = tlvs.next() else { break };
        count += 1;
        let raw = before.get(..before.len() - tlvs.rest().len());
        walk.attribute(tlv, scratch, raw.unwrap_or_default())?;
    }
    overrun(tlvs.rest(), &mut walk.update)?;
    if count > MAX_ATTRIBUTES {
        walk.update
            .faults
            .push(withdraw(0, 1, "too many attributes"));
    }
    walk.missing();
    let mut update = walk.update;
    if body.len() == 4 && context.families.v4 {
        update.end_of_rib = Some(Family::V4);
    } else if update.withdrawn.is_empty() && !update.announces() && scratch.is_empty() {
        let empty = update.mp_withdrawn.filter(MpNlri::is_empty);
        update.end_of_rib = empty.map(|nlri| nlri.family());
    }
    update.block = scratch;
    Ok(update)
}

/// An attribute that does not fit into what is left (RFC 7606 §4). Prefixes inside it cannot be found.
fn overrun(rest: &[u8], update: &mut Update<'_>) -> Result<(), Notification> {
    let code = match rest {
        [] => return Ok(()),
        [_, code, ..] => *code,
        [_] => 0,
    };
    if matches!(code, code::MP_REACH | code::MP_UNREACH) {
        return Err(reset(9));
    }
    let what = "an attribute is longer than the attributes' field";
    update.faults.push(withdraw(code, 1, what));
    Ok(())
}
